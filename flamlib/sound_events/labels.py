"""Read the label files of annotation tools: when what sounds in a recording, or in many.

    kind                       a row of it
    Audacity label track       0.5  1.25  a dog barks
    Raven selection table      columns Begin Time (s), End Time (s) and one with the label
    table of DCASE and ours    filename  onset  offset  event_label; the file name, and the header
                               line, may be absent
    of opensoundscape          audio_file  start_time  end_time  annotation
    of crowsetta               notated_path  onset_s  offset_s  label
    of BirdNET, as .csv        File  Start (s)  End (s)  Common name
      for Kaleidoscope         INDIR  FOLDER  IN FILE  OFFSET  DURATION  common_name
      for Audacity             0.0  3.0  Turdus merula, Eurasian Blackbird  0.93
    JAMS                       namespaces scaper, sound_event (foreground alone) and tag_open

The content decides what kind a file is, and the suffix for what `crowsetta_labels` reads. Text is
read as `flamlib.storage.tables` reads it.

Every event has finite times, 0 <= onset <= offset, and a label. One without a duration, such as a
point label, is left out by `repair`, as no frame of it sounds.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from flamlib import texts
from flamlib.sound_events import crowsetta_labels, jams, raven_tables, recording_names, reviews
from flamlib.sound_events.raw_events import RawEvent, check
from flamlib.storage import tables
from flamlib.storage.tables import Row

SUFFIXES = (".jams", ".txt", ".tsv", ".csv", ".ann", *crowsetta_labels.BESIDE)
NAMESPACES = ("scaper", "sound_event", "tag_open")  # of JAMS; the first that a file has is read
TABLES = (  # the columns for our filename, onset, offset and event_label; the first may be absent
    ("filename", "onset", "offset", "event_label"),
    ("audio_file", "start_time", "end_time", "annotation"),
    ("notated_path", "onset_s", "offset_s", "label"),
    ("File", "Start (s)", "End (s)", "Common name"),
)
KALEIDOSCOPE = ("INDIR", "FOLDER", "IN FILE", "OFFSET", "DURATION", "common_name")
BIRDNET_TRACK = ("onset", "offset", "event_label", "confidence")
# Behind the name of a recording, as in a.Table.1.selections.txt and a.wav.not.mat.
MORE_NAME = re.compile(
    r"\.[^.]+(\.\d+)?\.selections?(\.table)?$|\.BirdNET\.results(\.kaleidoscope)?$|\.not$"
)
OUR_SCORE = re.compile(r"(.+) \((0\.\d\d|1\.00)\)")  # the label that `flam detect` writes


class NoLabels(ValueError):
    """A file that is of none of the kinds that can be read."""


@dataclass(frozen=True)
class LabelFile:
    """The content of a label file.

    Attributes:
        path: the file.
        events: of each recording, by its name; "" stands for the recording of a file that names
            none. A recording in which nothing sounds may have an empty list.
        scored: whether it holds a model's detections with their scores.
    """

    path: Path
    events: Mapping[str, Sequence[RawEvent]]
    scored: bool = False

    def of(self, recording: str | Path) -> Sequence[RawEvent]:
        """Return the events of a recording: the file has its path, or else its name or its stem.

        Of a path the file may have the end alone, with its folders separated by `/` or `\\`.

        Raises ValueError if the file has events of other recordings alone, or of several that may
        be meant.
        """
        if set(self.events) <= {""}:
            return self.events.get("", ())
        wanted = recording_names.as_path(str(recording))
        named: dict[PurePosixPath, list[RawEvent]] = defaultdict(list)
        for name, events in self.events.items():
            named[recording_names.as_path(name)] += events
        matching = recording_names.matching(wanted, list(named))
        if not matching:
            raise ValueError(
                f"{self.path}: has labels of {_listed(self.events)} and not of {wanted.name}"
            )
        if len(matching) > 1:
            raise ValueError(
                f"{self.path}: which of {_listed(map(str, matching))} is {recording}? Add folders"
            )
        return named[matching[0]]


def read(path: str | Path, *, rejected: bool = False) -> LabelFile:
    """Read a label file of one of the kinds above.

    What a review says is not there (`reviews`) is left out, unless it is asked for by `rejected`.

    Raises FileNotFoundError if there is none; NoLabels, a ValueError, for a file of another kind,
    naming what it holds; and ValueError, naming file and line, for what cannot be an event: no
    label, times that are no numbers, or not 0 <= onset <= offset.
    """
    path = Path(path)
    if crowsetta_labels.format_of(path):
        found = crowsetta_labels.read(path).items()
        return LabelFile(path, {n: [check(event) for event in of] for n, of in found})
    first = tables.first_line(path)
    if path.suffix.lower() == ".jams" or first.startswith("{"):
        return LabelFile(path, {"": _read_jams(path)})
    fields = tables.first_fields(path)
    if set(raven_tables.TIMES) <= set(fields):
        return LabelFile(path, *raven_tables.read(path, rejected=rejected))
    if columns := next((names for names in TABLES if set(names[1:]) <= set(fields)), None):
        rows = tables.read(path, columns[1:], short_rows=True)
        column = "Confidence" if columns[-1] == "Common name" else "score"
        scored = column in fields and tables.are_numbers(tables.filled(rows, column))
        return LabelFile(path, _by_recording(rows, columns, rejected), scored)
    if set(KALEIDOSCOPE) <= set(fields):
        return _read_kaleidoscope(path, rejected)
    if is_birdnet_track(fields):
        return _read_birdnet_track(path)
    if len(fields) == 4 and tables.are_numbers(fields[1:3]):
        rows = tables.read(path, TABLES[0], header=False, short_rows=True)
        return LabelFile(path, _by_recording(rows, TABLES[0]))
    if not first or fields[0] == "\\" or tables.are_numbers(fields[:2]):
        return _read_track(path)
    raise NoLabels(
        f"{path}: not an Audacity label track, a Raven selection table, JAMS, or a table with the "
        f"columns onset, offset and event_label; its first line is {first[:80]!r}"
    )


def files_of(folder: str | Path, *, below: bool = False) -> dict[str, list[Path]]:
    """Return the files of a folder that may be label files, by the recording they are named after.

    Those of `a.wav` are `a.jams`, `a.txt`, `a.tsv`, `a.csv`, `a.ann` or `a.TextGrid` and the like,
    the same with `a.wav` for `a`, and what Raven and BirdNET write: `a.Table.1.selections.txt`,
    `a.BirdNET.selection.table.txt`, `a.BirdNET.results.csv` and the like. If `below`, also those in
    folders below it count.

    Returns their paths, by the path of the recording in the folder without suffix (or with it, for
    `a.wav.txt`).
    """
    folder = Path(folder)
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*") if below else folder.iterdir()):
        is_named = path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")
        if is_named and path.is_file():
            named = path.relative_to(folder).with_name(stem(path)).as_posix()
            found[texts.composed(named)].append(path)
    return dict(found)


def pick(paths: Iterable[Path], *, scored: bool = False) -> LabelFile | None:
    """Read the one of some files that holds the labels of a recording; None if none does.

    Notes do not count, and a model's detections, which have scores, only if `scored`, where nothing
    else is there. Of a JAMS file and a text, both of which scaper writes, the JAMS is taken.

    Raises ValueError for labels that cannot be read, and if two texts hold some.
    """
    found: list[LabelFile] = []
    for path in sorted(paths, key=lambda path: path.suffix.lower() != ".jams"):
        if found and found[0].path.suffix.lower() == ".jams":
            break
        try:
            found.append(read(path))
        except NoLabels:
            continue
    found = [file for file in found if not file.scored] or (found if scored else [])
    if len(found) > 1:
        raise ValueError(f"{found[0].path} and {found[1].path}: which of them has the labels?")
    return found[0] if found else None


def beside(recording: str | Path) -> LabelFile | None:
    """Return the labels beside a recording, None without any; see `files_of`; raises as `pick`."""
    recording = Path(recording)
    return pick(named_after(PurePath(recording.name), files_of(recording.parent)))


def named_after(recording: PurePath, files: Mapping[str, Sequence[Path]]) -> list[Path]:
    """Return those of `files_of` a folder that are named after a recording, a path in it."""
    names = [texts.composed(path.as_posix()) for path in (recording.with_suffix(""), recording)]
    return [path for name in names for path in files.get(name, ())]


def stem(path: str | Path) -> str:
    """Return the name, without suffix, of the recording that a label file is named after.

    >>> [stem(name) for name in ("a.txt", "b.Table.1.selections.txt", "Yid_30.000_40.000.jams")]
    ['a', 'b', 'Yid_30.000_40.000']
    """
    return MORE_NAME.sub("", Path(path).stem)


def is_birdnet_track(fields: Sequence[str]) -> bool:
    """Return whether a line is of a label track for Audacity as BirdNET writes it, with scores."""
    return len(fields) == 4 and tables.are_numbers([*fields[:2], fields[3]])


def _read_birdnet_track(path: Path) -> LabelFile:
    """BirdNET's labels are the scientific name and the common one, which its other tables have."""
    rows = tables.read(path, BIRDNET_TRACK, header=False, short_rows=True)
    events = [_event(row) for row in rows]
    if path.stem.endswith(".BirdNET.results"):
        common = [event.caption.partition(", ")[2] or event.caption for event in events]
        events = [e._replace(caption=name) for e, name in zip(events, common, strict=True)]
    return LabelFile(path, {"": events}, scored=True)


def _read_kaleidoscope(path: Path, rejected: bool) -> LabelFile:
    """BirdNET's table for Kaleidoscope: of a recording the folders are in columns of their own."""
    rows = tables.read(path, KALEIDOSCOPE, short_rows=True)
    ours = []
    for row in rows:
        recording = "/".join(filter(None, (row[name].strip() for name in KALEIDOSCOPE[:3])))
        end = row.number("OFFSET") + row.number("DURATION")
        values = (recording, row["OFFSET"], str(end), row["common_name"])
        ours.append(Row(row.where, {**row.fields, **dict(zip(TABLES[0], values, strict=True))}))
    scored = bool(rows) and "confidence" in rows[0].fields
    return LabelFile(path, _by_recording(ours, TABLES[0], rejected), scored)


def _read_track(path: Path) -> LabelFile:
    """An Audacity label track; a line that begins with a backslash is a range of frequencies."""
    rows = tables.read(path, TABLES[0][1:], header=False, short_rows=True)
    events = [_event(row) for row in rows if row["onset"].strip() != "\\"]
    ours = [OUR_SCORE.fullmatch(event.caption) for event in events]
    scored = bool(ours) and all(ours)
    if scored:
        events = [e._replace(caption=m[1]) for e, m in zip(events, ours, strict=True)]
    return LabelFile(path, {"": events}, scored)


def _read_jams(path: Path) -> list[RawEvent]:
    """The events of a JAMS file; of scaper's those in the foreground.

    The duration is that of the observation: the one in its value is from before time-stretching.
    """
    try:
        by_namespace = jams.observations(path)
        namespace = next((name for name in NAMESPACES if name in by_namespace), None)
        rows = list(jams.rows(path, by_namespace[namespace], namespace)) if namespace else []
    except UnicodeDecodeError as error:
        raise NoLabels(f"{path}: not UTF-8 text ({error})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NoLabels(f"{path}: not a JAMS file of events ({error!r})") from error
    if namespace is None:
        raise NoLabels(
            f"{path}: no annotation in the namespaces {', '.join(NAMESPACES)}; it has "
            f"{', '.join(by_namespace) or 'none'}"
        )
    return [_event(row) for row in rows]


def _by_recording(
    rows: Iterable[Row], columns: Sequence[str], rejected: bool = False
) -> dict[str, list[RawEvent]]:
    """The events of each recording; a row of its name alone is one in which nothing sounds."""
    recording, *of_event = columns
    events: dict[str, list[RawEvent]] = {}
    for row in rows:
        of_recording = events.setdefault(row.fields.get(recording, "").strip(), [])
        if reviews.is_rejected(row) and not rejected:
            continue
        if recording not in row.fields or any(row[name].strip() for name in of_event):
            of_recording.append(_event(row, of_event))
    return events


def _event(row: Row, columns: Sequence[str] = TABLES[0][1:]) -> RawEvent:
    begin, end, label = columns
    onset = row.number(begin)
    offset = row.number(end) if end in row.fields else onset + row.number("duration")
    return check(RawEvent(row.where, onset, offset, texts.normal(row[label])))


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
