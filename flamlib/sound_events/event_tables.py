"""Tables of detected events in the formats of the tools that people look at them with.

    tsv, csv    filename onset offset event_label score, as DCASE has it
    jsonl       the same, an object a line
    parquet     the same, for pandas and the like
    audacity    a label track
    raven       a selection table
    vtt         WebVTT, captions of a player

The first four hold any number of recordings, of the others there is one for each recording.
"""

import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from flamlib import texts
from flamlib.sound_events import detection
from flamlib.sound_events.detection import COLUMNS, Detection
from flamlib.storage import tables
from flamlib.waveforms import collection

RAVEN_COLUMNS = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"),
    *("Low Freq (Hz)", "High Freq (Hz)", "Annotation", "Score"),
)
_SUFFIX = re.compile(r"(?<=.)\.[A-Za-z]\w{0,4}$")  # of a recording; names may end in a number


class Found(NamedTuple):
    """What was found in a recording.

    Attributes:
        name: Of the recording, as tables have it.
        detections: In order of onset.
        sample_rate: Of the recording, in hertz.
        channel: The one that was heard, counted from 1.
    """

    name: str
    detections: Sequence[Detection]
    sample_rate: int
    channel: int = 1


class Format(NamedTuple):
    """A format of tables.

    Attributes:
        suffix: Of its files.
        is_joint: Whether a table holds more than one recording.
        encode: Turns what was found into the bytes of a file.
        is_text: Whether these are UTF-8.
        packages: What `encode` needs beside what every installation has.
    """

    suffix: str
    is_joint: bool
    encode: Callable[[Sequence[Found]], bytes]
    is_text: bool = True
    packages: tuple[str, ...] = ()


def clip_of(filename: str) -> str:
    """Return the name of a clip: its file name, composed, without its last suffix and folders.

    >>> clip_of("audio/Y-0.5_10.000.wav"), clip_of("Y-0.5_10.000")
    ('Y-0.5_10.000', 'Y-0.5_10.000')
    """
    name = PurePosixPath(texts.composed(filename.replace("\\", "/").strip())).name
    return _SUFFIX.sub("", name)


def on_one_line(text: str) -> str:
    """Return a text as a table holds it: as `detection.table_rows` writes the name of a recording.

    Names of files may have tabs, line breaks and bytes of any encoding, and cells of tables none.

    >>> on_one_line("new\\n\\tline.wav")
    'new  line.wav'
    """
    return re.sub(r"[\t\r\n]", " ", collection.printable(text))


def _separated(delimiter: str, found: Sequence[Found]) -> bytes:
    rows = [COLUMNS]
    for name, detections, *_ in found:
        rows += detection.table_rows(detections, filename=name)
    return tables.to_text(rows, delimiter).encode()


def _values(found: Sequence[Found]) -> list[dict[str, str | float]]:
    return [
        dict(zip(COLUMNS, (name, d.onset, d.offset, d.caption, d.score), strict=True))
        for name, detections, *_ in found
        for d in detections
    ]


def _json_lines(found: Sequence[Found]) -> bytes:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in _values(found)]
    return "".join(lines).encode()


def _parquet(found: Sequence[Found]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    kinds = {name: pyarrow.float64() for name in COLUMNS} | {
        name: pyarrow.string() for name in ("filename", "event_label")
    }
    table = pyarrow.Table.from_pylist(_values(found), schema=pyarrow.schema(kinds))
    out = io.BytesIO()
    pyarrow.parquet.write_table(table, out)
    return out.getvalue()


def _audacity(found: Sequence[Found]) -> bytes:
    return "".join(detection.to_audacity_labels(each.detections) for each in found).encode()


def _raven(found: Sequence[Found]) -> bytes:
    """A selection table of Raven: times in seconds, the whole range of frequencies."""
    rows, number = [RAVEN_COLUMNS], 0
    for each in found:
        for d in each.detections:
            number += 1
            rows.append(
                (
                    *(str(number), "Spectrogram 1", str(each.channel)),
                    *(f"{d.onset:.6f}", f"{d.offset:.6f}", "0.0", f"{each.sample_rate / 2:.1f}"),
                    *(texts.normal(d.caption), f"{d.score:.4f}"),
                )
            )
    return "".join("\t".join(row) + "\n" for row in rows).encode()


def _web_vtt(found: Sequence[Found]) -> bytes:
    cues = ["WEBVTT\n"]
    for each in found:
        for d in each.detections:
            text = texts.normal(d.caption)
            for letter, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
                text = text.replace(letter, escaped)
            cues.append(f"{_clock(d.onset)} --> {_clock(d.offset)}\n{text} ({d.score:.2f})\n")
    return "\n".join(cues).encode()


def _clock(time_s: float) -> str:
    """A time as WebVTT has it: hours, minutes and seconds with thousandths.

    >>> _clock(3661.5)
    '01:01:01.500'
    """
    thousandths = round(time_s * 1000)
    minutes, seconds = divmod(thousandths, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds / 1000:06.3f}"


FORMATS = {
    "tsv": Format(".tsv", True, lambda found: _separated("\t", found)),
    "csv": Format(".csv", True, lambda found: _separated(",", found)),
    "jsonl": Format(".jsonl", True, _json_lines),
    "parquet": Format(".parquet", True, _parquet, is_text=False, packages=("pyarrow",)),
    "audacity": Format(".txt", False, _audacity),
    "raven": Format(".Table.1.selections.txt", False, _raven),
    "vtt": Format(".vtt", False, _web_vtt),
}
JOINT = tuple(name for name, form in FORMATS.items() if form.is_joint)
BY_SUFFIX = ("tsv", "csv", "jsonl", "parquet", "vtt")  # others share theirs


def format_of(path: str | Path | None, formats: Sequence[str] = BY_SUFFIX) -> str:
    """Return which of these formats a file's suffix stands for, in any case; tsv if for none.

    >>> [format_of(name) for name in ("a.CSV", "a.vtt", "a.txt", "a", None)]
    ['csv', 'vtt', 'tsv', 'tsv', 'tsv']
    """
    suffix = Path(path or "").suffix.lower()
    return next((name for name in formats if FORMATS[name].suffix == suffix), "tsv")
