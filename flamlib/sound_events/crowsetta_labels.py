"""Label files of bioacoustics and phonetics that the package crowsetta reads.

    suffix        of
    .TextGrid     Praat; intervals without a label are pauses, points have no duration
    .phn .wrd     TIMIT, in samples of the recording beside it
    .not.mat      evsonganaly
    .xml .mat     BirdsongRecognition and SongAnnotationGUI, of many recordings; only where named

Its other formats are read without it: tables (`simple-seq`, `generic-seq`), Raven's and Audacity's.
"""

import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flamlib.sound_events.raw_events import RawEvent

BESIDE = (".textgrid", ".phn", ".wrd", ".not.mat")  # may stand beside the recording they are of
FORMATS = {
    ".textgrid": "textgrid",
    ".phn": "timit",
    ".wrd": "timit",
    ".not.mat": "notmat",
    ".mat": "yarden",
    ".xml": "birdsong-recognition-dataset",
}
IN_SAMPLES = ("timit", "birdsong-recognition-dataset")
OF_MANY = ("yarden", "birdsong-recognition-dataset")  # recordings, which they name


def format_of(path: Path) -> str | None:
    """Return crowsetta's name for the format of a file, by its suffix; None if there is none.

    >>> [format_of(Path(name)) for name in ("bird.cbin.not.mat", "a.TextGrid", "a.txt")]
    ['notmat', 'textgrid', None]
    """
    name = path.name.lower()
    return next((FORMATS[suffix] for suffix in FORMATS if name.endswith(suffix)), None)


def read(path: Path) -> Mapping[str, list[RawEvent]]:
    """Read the labels of each recording, by its name; "" is the one that a file is named after.

    Raises ModuleNotFoundError without crowsetta, with the command that installs it; and ValueError,
    naming the file, if it is not of the format of its suffix.
    """
    try:
        import crowsetta  # seconds of import, and few need it
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{path}: crowsetta reads this format: pip install "flamlib[crowsetta]"'
        ) from error
    name = format_of(path)
    path.stat()  # which says that a file is not there as others do
    try:
        with warnings.catch_warnings(action="ignore"):  # of what the error says
            file = crowsetta.formats.by_name(name).from_file(path)
            if name == "textgrid":  # of which `to_annot` leaves out the points
                return {"": list(_in_tiers(file.tiers, path))}
            found = file.to_annot(round_times=False)
    except Exception as error:  # whatever its parsers stumble upon
        counted = ", or the recording in which it counts samples is missing"
        why = counted if name in IN_SAMPLES else ""
        raise ValueError(f"{path}: not a file of {name}{why} ({error})") from error
    labels: dict[str, list[RawEvent]] = defaultdict(list)
    for annotation in found if isinstance(found, list) else [found]:
        recording = Path(annotation.notated_path).name if name in OF_MANY else ""
        labels[recording] += _labels(annotation, path)
    return labels


def _in_tiers(tiers: Iterable[Any], path: Path) -> Iterator[RawEvent]:
    """The labels of a TextGrid, in which a quotation mark inside a label stands twice."""
    for tier in tiers:
        marks = [(each.xmin, each.xmax, each.text) for each in getattr(tier, "intervals", ())]
        marks += [(each.number, each.number, each.mark) for each in getattr(tier, "points", ())]
        for number, (onset, offset, label) in enumerate(marks, start=1):
            if label.strip():
                where = f"{path}, tier {tier.name!r}, label {number}"
                yield RawEvent(where, float(onset), float(offset), label.replace('""', '"'))


def _labels(annotation: Any, path: Path) -> Iterator[RawEvent]:
    sequences = annotation.seq if isinstance(annotation.seq, list) else [annotation.seq]
    segments = (segment for sequence in sequences for segment in sequence.segments)
    for number, segment in enumerate(segments, start=1):
        if segment.label.strip():
            where = f"{path}, label {number}"
            yield RawEvent(where, float(segment.onset_s), float(segment.offset_s), segment.label)
