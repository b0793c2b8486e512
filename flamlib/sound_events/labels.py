"""Read the label files of annotation tools: when what sounds in a recording, or in many.

    kind                       a row of it
    Audacity label track       0.5  1.25  a dog barks
    Raven selection table      columns Begin Time (s), End Time (s) and one with the label
    table of DCASE and ours    filename  onset  offset  event_label; the file name, and the header
                               line, may be absent
    of opensoundscape          audio_file  start_time  end_time  annotation
    of crowsetta               notated_path  onset_s  offset_s  label
    of BirdNET, as .csv        File  Start (s)  End (s)  Common name
    JAMS                       namespaces scaper, sound_event (foreground alone) and tag_open

The content decides what kind a file is, and the suffix for what `crowsetta_labels` reads. Text is
read as `flamlib.storage.tables` reads it.

Every event has finite times, 0 <= onset <= offset, and a label. One without a duration, such as a
point label, is left out by `repair`, as no frame of it sounds.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from flamlib import texts
from flamlib.sound_events import crowsetta_labels, jams, recording_names, reviews
from flamlib.sound_events.events import Event, merge
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
RAVEN_TIMES = ("Begin Time (s)", "End Time (s)")
RAVEN_LABELS = (
    *("annotation", "annotations", "label", "labels", "event_label", "class", "species"),
    *("common name", "call type", "call", "sound", "sound type", "tag", "type"),
)
RAVEN_OWN = {
    *("selection", "view", "channel", "begin file", "end file", "begin path", "end path"),
    *("begin clock time", "end clock time", "begin date", "end date", "begin date time"),
    *("species code", "score", "confidence", "review", "notes", "comments"),
}
# Behind the name of a recording, as in a.Table.1.selections.txt and a.wav.not.mat.
MORE_NAME = re.compile(r"\.[^.]+(\.\d+)?\.selections?(\.table)?$|\.BirdNET\.results$|\.not$")
OUR_SCORE = re.compile(r"(.+) \((0\.\d\d|1\.00)\)")  # the label that `flam detect` writes


class NoLabels(ValueError):
    """A file that is of none of the kinds that can be read."""


class RawEvent(NamedTuple):
    """An event as a file has it, before `repair`; `where` is file and line, or file and number."""

    where: str
    onset: float
    offset: float
    caption: str


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
        return LabelFile(path, {n: [check(RawEvent(*label)) for label in of] for n, of in found})
    first = tables.first_line(path)
    if path.suffix.lower() == ".jams" or first.startswith("{"):
        return LabelFile(path, {"": _read_jams(path)})
    fields = tables.first_fields(path)
    if set(RAVEN_TIMES) <= set(fields):
        return _read_raven(path, rejected)
    if columns := next((names for names in TABLES if set(names[1:]) <= set(fields)), None):
        rows = tables.read(path, columns[1:], short_rows=True)
        column = "Confidence" if columns[-1] == "Common name" else "score"
        scored = column in fields and _are_times(_filled(rows, column))
        return LabelFile(path, _by_recording(rows, columns, rejected), scored)
    if len(fields) == 4 and _are_times(fields[1:3]):
        rows = tables.read(path, TABLES[0], header=False, short_rows=True)
        return LabelFile(path, _by_recording(rows, TABLES[0]))
    if not first or fields[0] == "\\" or _are_times(fields[:2]):
        return _read_track(path)
    raise NoLabels(
        f"{path}: not an Audacity label track, a Raven selection table, JAMS, or a table with the "
        f"columns onset, offset and event_label; its first line is {first[:80]!r}"
    )


def repair(
    events: Iterable[RawEvent], duration_s: float | None
) -> tuple[list[Event], Counter[str]]:
    """Return events of a recording as frames and metrics can use them, and what was changed.

    They are joined and in order. `duration_s` is the length of the recording, None if that is not
    known. An event that ends by half a sample later than the recording ends with it, which is no
    repair. The repairs are counted by kind: `zero_length`, an event that ends where it begins, and
    `beyond`, one that begins after the end, are dropped; one that is `clipped` reached beyond the
    end; events that are `merged` overlapped or touched one of the same caption.

    Raises ValueError, naming file and line, for an event that `check` refuses.
    """
    end_s = float("inf") if duration_s is None else duration_s
    kept, repairs = [], Counter()
    for event in events:
        check(event)
        if event.onset == event.offset:
            repairs["zero_length"] += 1
        elif event.onset >= end_s:
            repairs["beyond"] += 1
        else:
            repairs["clipped"] += event.offset > end_s + jams.GRACE_S
            kept.append(Event(event.onset, min(event.offset, end_s), event.caption))
    merged = merge(kept)
    repairs["merged"] += len(kept) - len(merged)
    return merged, +repairs


def check(event: RawEvent) -> RawEvent:
    """Return the event. Raises ValueError if it is not 0 <= onset <= offset, or has no label."""
    if not 0 <= event.onset <= event.offset < float("inf"):
        raise ValueError(
            f"{event.where}: an event from {event.onset} to {event.offset} s; expected "
            "0 <= onset <= offset"
        )
    if not event.caption.strip():
        raise ValueError(f"{event.where}: an event without a label")
    return event


def files_of(folder: str | Path, *, below: bool = False) -> dict[str, list[Path]]:
    """Return the files of a folder that may be label files, by the recording they are named after.

    Those of `a.wav` are `a.jams`, `a.txt`, `a.tsv`, `a.csv`, `a.ann` or `a.TextGrid` and the like,
    the same with `a.wav` for `a`, and what Raven and BirdNET write: `a.Table.1.selections.txt`,
    `a.BirdNET.selection.table.txt`, `a.BirdNET.results.csv`. If `below`, also those in folders
    below it count.

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


def _read_track(path: Path) -> LabelFile:
    """An Audacity label track; a line that begins with a backslash is a range of frequencies."""
    rows = tables.read(path, TABLES[0][1:], header=False, short_rows=True)
    events = [_event(row) for row in rows if row["onset"].strip() != "\\"]
    ours = [OUR_SCORE.fullmatch(event.caption) for event in events]
    scored = bool(ours) and all(ours)
    if scored:
        events = [e._replace(caption=m[1]) for e, m in zip(events, ours, strict=True)]
    return LabelFile(path, {"": events}, scored)


def _read_raven(path: Path, rejected: bool) -> LabelFile:
    """A Raven selection table.

    A selection counts once, also for two views. Of several recordings opened as one, `File Offset
    (s)` is the onset in `Begin Path`, or else in `Begin File`; in tables that were joined, where
    selections are numbered anew, times are those of each. In a recording whose only row is
    BirdNET's "nocall", by name and by code, nothing sounds.
    """
    rows = tables.read(path, RAVEN_TIMES, short_rows=True)
    if not rows:
        return LabelFile(path, {"": []})
    names = {name.lower(): name for name in rows[0].fields}
    label, scored_by = _raven_label(rows), names.keys() & {"score", "confidence"}
    scored = any((v := _filled(rows, names[name])) and _are_times(v) for name in scored_by)
    columns = [names[name] for name in ("begin path", "begin file") if name in names]
    begun_in = [
        recording_names.as_path(next(filter(None, (row[c].strip() for c in columns)), ""))
        for row in rows
    ]
    named, offset_column = set(begun_in), names.get("file offset (s)") if columns else None
    is_by_name = len({path.stem for path in named}) == len(named)
    own_times = not offset_column and _are_joined(rows, begun_in, names.get("selection"))
    if own_times and len(named) == 1:
        raise ValueError(
            f"{path}: tables of several recordings, joined; a column 'Begin File' has to name them"
        )
    if len(named) > 1 and offset_column is None and not own_times:
        raise ValueError(
            f"{path}: its times count from the beginning of the first of {len(named)} "
            "recordings; add the column 'File Offset (s)' in Raven and save it again"
        )
    events: dict[str, dict[tuple, RawEvent]] = defaultdict(dict)
    starts: dict[PurePosixPath, float] = {}
    for row, begun in zip(rows, begun_in, strict=True):
        of_recording = events[begun.name if is_by_name else str(begun)]
        is_nothing = row[label] == row.fields.get(names.get("species code", "")) == "nocall"
        if is_nothing or (reviews.is_rejected(row) and not rejected):
            continue
        begin, end = (row.number(column) for column in RAVEN_TIMES)
        onset = row.number(offset_column) if offset_column else begin
        offset = onset + (end - begin) if offset_column else end
        event = check(RawEvent(row.where, onset, offset, texts.normal(row[label])))
        if abs(starts.setdefault(begun, begin - onset) - (begin - onset)) > 0.1:
            raise ValueError(
                f"{row.where}: several recordings are called {begun}; add the column 'Begin Path'"
            )
        selection = row.fields.get(names.get("selection", ""), "")
        of_recording.setdefault((selection, *event[1:]), event)
    return LabelFile(path, {name: list(of.values()) for name, of in events.items()}, scored)


def _are_joined(rows: Sequence[Row], begun_in: Sequence[PurePath], column: str | None) -> bool:
    """Whether selections are numbered anew: tables of recordings, each with its own times."""
    files, times = defaultdict(set), defaultdict(set)
    for row, begun in zip(rows, begun_in, strict=True):
        files[number := row.fields.get(column, "").strip()].add(begun)
        times[number].add(row[RAVEN_TIMES[0]])
    if len(set(begun_in)) > 1:
        return any(number and len(of) > 1 for number, of in files.items())
    return begun_in[0].name == "" and len(times["1"]) > 1 and len(files) > 1


def _raven_label(rows: Sequence[Row]) -> str:
    """The column of labels: one of `RAVEN_LABELS`, or the only text that is not Raven's own."""
    names = {name.lower(): name for name in rows[0].fields}
    known = [names[name] for name in RAVEN_LABELS if name in names]
    others = [
        name
        for name in rows[0].fields
        if name.lower() not in RAVEN_OWN
        and not name.endswith(")")  # a measurement and its unit
        and not _are_times(_filled(rows, name))
    ]
    if not known and len(others) != 1:
        raise ValueError(
            f"{rows[0].where}: which column has the labels? Call it Annotation; found "
            f"{list(rows[0].fields)}"
        )
    return (known or others)[0]


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


def _filled(rows: Sequence[Row], column: str) -> list[str]:
    return [value for row in rows if (value := row[column].strip())]


def _are_times(fields: Sequence[str]) -> bool:
    """Whether these look like numbers, with a decimal comma too, so that the row is told of it."""
    return all(
        re.fullmatch(r"[-+]?(\d[\d.,]*|\.\d+)([eE][-+]?\d+)?", field, re.ASCII) for field in fields
    )


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
