"""Selection tables of Raven, which BirdNET and other detectors write, too."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePath, PurePosixPath

from flamlib import texts
from flamlib.sound_events import recording_names, reviews
from flamlib.sound_events.raw_events import RawEvent, check
from flamlib.storage import tables
from flamlib.storage.tables import Row

# Columns: of the times; that may have the labels, the first of them first; of Raven's own.
TIMES = ("Begin Time (s)", "End Time (s)")
LABELS = (
    *("annotation", "annotations", "label", "labels", "event_label", "class", "species"),
    *("common name", "call type", "call", "sound", "sound type", "tag", "type"),
)
OWN = {
    *("selection", "view", "channel", "begin file", "end file", "begin path", "end path"),
    *("begin clock time", "end clock time", "begin date", "end date", "begin date time"),
    *("species code", "score", "confidence", "review", "notes", "comments"),
}


def read(path: Path, *, rejected: bool) -> tuple[dict[str, list[RawEvent]], bool]:
    """Return the events of each recording of a selection table, and whether they have scores.

    A selection counts once, also for two views. Of several recordings opened as one, `File Offset
    (s)` is the onset in `Begin Path`, or else in `Begin File`; in tables that were joined, where
    selections are numbered anew, times are those of each. In a recording whose only row is
    BirdNET's "nocall", by name and by code, nothing sounds.

    Args:
        path: the table, which has the columns `TIMES`.
        rejected: return what a review says is not there, too.

    Raises:
        ValueError: naming file and line, for what cannot be an event, and for a table of several
            recordings that does not say when in which.
    """
    rows = tables.read(path, TIMES, short_rows=True)
    if not rows:
        return {"": []}, False
    names = {name.lower(): name for name in rows[0].fields}
    label, scored_by = _label_column(rows), names.keys() & {"score", "confidence"}
    scored = any(
        (v := tables.filled(rows, names[name])) and tables.are_numbers(v) for name in scored_by
    )
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
        begin, end = (row.number(column) for column in TIMES)
        onset = row.number(offset_column) if offset_column else begin
        offset = onset + (end - begin) if offset_column else end
        event = check(RawEvent(row.where, onset, offset, texts.normal(row[label])))
        if abs(starts.setdefault(begun, begin - onset) - (begin - onset)) > 0.1:
            raise ValueError(
                f"{row.where}: several recordings are called {begun}; add the column 'Begin Path'"
            )
        selection = row.fields.get(names.get("selection", ""), "")
        of_recording.setdefault((selection, *event[1:]), event)
    return {name: list(of.values()) for name, of in events.items()}, scored


def _are_joined(rows: Sequence[Row], begun_in: Sequence[PurePath], column: str | None) -> bool:
    """Whether selections are numbered anew: tables of recordings, each with its own times."""
    files, times = defaultdict(set), defaultdict(set)
    for row, begun in zip(rows, begun_in, strict=True):
        files[number := row.fields.get(column, "").strip()].add(begun)
        times[number].add(row[TIMES[0]])
    if len(set(begun_in)) > 1:
        return any(number and len(of) > 1 for number, of in files.items())
    return begun_in[0].name == "" and len(times["1"]) > 1 and len(files) > 1


def _label_column(rows: Sequence[Row]) -> str:
    """The column of labels: one of `LABELS`, or the only text that is not Raven's own."""
    names = {name.lower(): name for name in rows[0].fields}
    known = [names[name] for name in LABELS if name in names]
    others = [
        name
        for name in rows[0].fields
        if name.lower() not in OWN
        and not name.endswith(")")  # a measurement and its unit
        and not tables.are_numbers(tables.filled(rows, name))
    ]
    if not known and len(others) != 1:
        raise ValueError(
            f"{rows[0].where}: which column has the labels? Call it Annotation; found "
            f"{list(rows[0].fields)}"
        )
    return (known or others)[0]
