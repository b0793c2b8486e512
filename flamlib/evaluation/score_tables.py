"""Score tables of any system in a folder, as the metrics take them: one table a clip, as
sed_scores_eval has it, with ground truth and durations as DCASE has them.

    SCORES_DIR/<clip>.tsv    onset  offset  <caption> …          one row per frame, gapless
    GROUND_TRUTH             filename  onset  offset  event_label  (`labels` reads others, too)
    DURATIONS                filename  duration                  in seconds

*Clips.* The durations say which clips there are. File names count without folder and suffix. A clip
that the ground truth does not list is one in which nothing sounds.

*Captions.* Those of the ground truth and of the tables; labels that read the same are one caption.
What is not asked of a clip is unknown there, unless it sounds: then it is missed.

*Frames* may have any length, also different ones: they are cut where any clip has an edge, which
changes no metric of detections. A score of -inf is never a detection. Rows that begin after the end
of a clip are left out; a table that ends early has no score for the rest, but for what is less than
its last row: that row then lasts until the clip ends. Scores are held in single precision.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from flamlib import texts
from flamlib.metrics.clip_scores import ClipScores, FrameTable
from flamlib.sound_events import detection, labels, raw_events
from flamlib.sound_events.event_tables import clip_of
from flamlib.sound_events.events import Event
from flamlib.sound_events.raw_events import RawEvent
from flamlib.storage import tables

PER_S = 1e6  # times are told apart by whole microseconds
FEW = 5  # names in a note or an error
PACKED = 1 << 23  # scores of tables that are in one piece of memory: 32 MB
MAX_CELLS = 1 << 33  # scores of a system, in frames of one length: 32 GB


@dataclass(frozen=True, eq=False)
class TableScores(ClipScores):
    """Scores of clips in frames of any length.

    `frame_s` is the longest frame, for the reader; what counts are the edges. A frame is active as
    in `events.active_frames`.

    Attributes:
        frame_edges: seconds, of a clip as long as the longest; a shorter one ends earlier.
    """

    frame_edges: Float[np.ndarray, "edge"]

    def edges(self, duration_s: float) -> Float[np.ndarray, "edge"]:
        """Return the edges of the frames of a clip that is so long, in seconds."""
        return _until(self.frame_edges, duration_s)

    def active(
        self, events: Sequence[Event], duration_s: float
    ) -> Bool[np.ndarray, "frame caption"]:
        """Return which captions are active in which frames of a clip that is so long."""
        edges, column = self.edges(duration_s), {c: j for j, c in enumerate(self.captions)}
        active = np.zeros((len(edges) - 1, len(self.captions)), dtype=bool)
        for onset, offset, caption in events:
            overlap = np.minimum(offset, edges[1:]) - np.maximum(onset, edges[:-1])
            needed = np.minimum(np.diff(edges), offset - onset) / 2 - 1e-9
            active[:, column[caption]] |= (overlap >= needed) & (overlap > 0)
        return active

    @cached_property
    def by_frame(self) -> FrameTable:
        """The frames of all clips; what has no score is last by a number, as rankings want it."""
        table = super().by_frame
        np.maximum(table.scores, np.finfo(table.scores.dtype).min, out=table.scores)
        return table


@dataclass(frozen=True)
class Notes:
    """What was left out or changed: how often, and the first few names.

    Attributes:
        of: names, by what happened to them.
    """

    of: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, names: Iterable[str]) -> None:
        """Note that this happened to all of these."""
        names = list(names)
        if names:
            self.of.setdefault(what, []).extend(names)

    def lines(self) -> list[str]:
        """Return a line for each thing that happened."""
        return [f"{len(names)} {what}: {_listed(names)}" for what, names in self.of.items()]


class Reference(NamedTuple):
    """Ground truth and durations by clip, and the spelling of each caption by `texts.key`."""

    durations: dict[str, float]
    events: dict[str, list[Event]]
    spelling: dict[str, str]
    notes: Notes


class Table(NamedTuple):
    """The score table of a clip: its rows, their edges in microseconds, and its columns."""

    scores: Float[np.ndarray, "row caption"]
    edges: Int[np.ndarray, "edge"]
    captions: list[str]


class System(NamedTuple):
    """The tables of a system by clip; its captions are spelled as in the ground truth."""

    tables: dict[str, Table]
    notes: Notes


def read_reference(ground_truth: str | Path, durations: str | Path) -> Reference:
    """Read ground truth and durations.

    Events that overlap are joined, and cut at the end of their clip; both is noted.

    Raises ValueError, naming file and line, for tables of another form, and for an event in a clip
    without a duration; and if nothing sounds at all.
    """
    notes, seconds = Notes(), _read_durations(durations)
    raw: dict[str, list[RawEvent]] = {clip: [] for clip in seconds}
    file = labels.read(ground_truth)
    if file.events.get(""):
        raise ValueError(f"{ground_truth}: no column filename, so its events are of no clip")
    for name, events in file.events.items():
        clip = clip_of(name)
        if not (clip or events):
            continue  # an empty file
        if clip not in raw:
            where = events[0].where if events else str(ground_truth)
            raise ValueError(
                f"{where}: {name!r} has no duration in {durations}, which has "
                f"{_listed(list(seconds))}"
            )
        raw[clip] += events
    notes.add("clips that the ground truth does not list, so nothing sounds in them",
              sorted(seconds.keys() - {clip_of(name) for name in file.events}))  # fmt: skip
    spelled = texts.spellings(e.caption for events in raw.values() for e in events)
    events = {}
    for clip, of_clip in raw.items():
        one_spelling = [e._replace(caption=spelled[e.caption]) for e in of_clip]
        events[clip], repairs = raw_events.repair(one_spelling, seconds[clip])
        for kind in repairs:
            notes.add(_REPAIRS[kind], [clip])
    if not any(events.values()):
        raise ValueError(f"{ground_truth}: nothing sounds in any clip, so nothing can be evaluated")
    spelling = {texts.key(caption): caption for caption in spelled.values()}
    return Reference(seconds, events, spelling, notes)


_REPAIRS = {
    "zero_length": "clips with events without a duration, which are left out",
    "beyond": "clips with events after their end, which are left out",
    "clipped": "clips with events beyond their end, which are cut there",
    "merged": "clips with events of a caption that overlap, which are joined",
}


def read_system(folder: str | Path, reference: Reference) -> System:
    """Read the score tables of a system, of those clips that have a duration.

    Raises ValueError, naming file and row, for a table of another form or with a score that is no
    number; and if there is no table of any clip, or none of the captions that sound.
    """
    folder, notes = Path(folder), Notes()
    if not folder.is_dir():
        raise ValueError(f"{folder}: not a folder of score tables, one <clip>.tsv for each clip")
    paths = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    notes.add("files that are no .tsv", [p.name for p in paths if p.suffix.lower() != ".tsv"])
    paths = [path for path in paths if path.suffix.lower() == ".tsv"]
    by_clip = {texts.composed(path.name[: -len(".tsv")]): path for path in paths}
    notes.add("tables of clips without a duration", sorted(by_clip.keys() - reference.durations))
    notes.add("clips without a table, which are left out",
              sorted(reference.durations.keys() - by_clip))  # fmt: skip
    clips = [clip for clip in reference.durations if clip in by_clip]
    if not clips:
        raise ValueError(
            f"{folder}: no table of any clip with a duration; it has "
            f"{_listed([path.name for path in paths])}, expected "
            f"{_listed([f'{clip}.tsv' for clip in reference.durations])}"
        )
    read: dict[str, Table] = {}
    captions, loose, n_loose = _Captions(reference.spelling), [], 0
    for clip in clips:
        read[clip] = _read_table(by_clip[clip], reference.durations[clip], captions, notes)
        loose.append(clip)
        n_loose += read[clip].scores.size
        if n_loose >= PACKED or clip == clips[-1]:
            _pack(read, loose)
            loose, n_loose = [], 0
    asked = {caption for table in read.values() for caption in table.captions}
    sounding = set(reference.spelling.values())
    if not asked & sounding:
        raise ValueError(
            f"{folder}: no table has a column of a caption that sounds; columns are "
            f"{_listed(sorted(asked))}, labels {_listed(sorted(sounding))}"
        )
    notes.add("captions without scores, whose events are all missed", sorted(sounding - asked))
    if len({frozenset(table.captions) for table in read.values()}) > 1:
        notes.add(
            "captions that are not in every table; where they are not, they are left out, and "
            "missed if they sound",
            sorted(asked - set.intersection(*(set(t.captions) for t in read.values()))),
        )
    return System(read, notes)


def align(systems: Mapping[str, System], reference: Reference) -> dict[str, TableScores]:
    """Return the scores of systems on the same clips and captions: the clips that all have.

    Tables leave their system as they are taken over, so that memory has room for one copy.

    Raises ValueError if there is none, or nothing sounds in them.
    """
    shared = set.intersection(*(set(system.tables) for system in systems.values()))
    clips = [clip for clip in reference.durations if clip in shared]
    events = [reference.events[clip] for clip in clips]
    if not any(events):
        raise ValueError(
            f"{', '.join(systems)}: nothing sounds in the {len(clips)} clips that have scores"
        )
    sounding = {event.caption for of_clip in events for event in of_clip}
    asked = {c for of in systems.values() for clip in clips for c in of.tables[clip].captions}
    captions = list(dict.fromkeys(sorted(sounding) + sorted(asked)))
    durations = [reference.durations[clip] for clip in clips]
    return {
        name: _align(system.tables, clips, captions, durations, events)
        for name, system in systems.items()
    }


def _read_durations(path: str | Path) -> dict[str, float]:
    rows = tables.read(path, ("filename", "duration"), filled=("filename",))
    tables.check_unique(rows, "filename", key=clip_of)
    seconds = {}
    for row in rows:
        seconds[clip_of(row["filename"])] = row.number("duration")
        if not row.number("duration") > 0:
            raise ValueError(f"{row.where}: a duration of {row['duration']} s, expected above 0")
    if not seconds:
        raise ValueError(f"{path}: no row, so there are no clips to evaluate")
    return seconds


class _Captions:
    """The captions of tables, whose columns are most often those of the table before."""

    def __init__(self, spelling: Mapping[str, str]) -> None:
        self._spelling = dict(spelling)
        self._of_columns: dict[tuple[str, ...], list[str]] = {}

    def of(self, columns: Sequence[str]) -> list[str]:
        """Return the captions of columns, spelled as where they were first met."""
        given = tuple(columns)
        if given not in self._of_columns:
            self._of_columns[given] = [
                self._spelling.setdefault(texts.key(c), texts.normal(c)) for c in columns
            ]
        return self._of_columns[given]


def _read_table(path: Path, duration_s: float, captions_of: _Captions, notes: Notes) -> Table:
    scores, edges_s, columns = detection.read_scores(path)
    captions = captions_of.of(columns)
    if len(set(captions)) < len(captions):
        twice = min(caption for caption in captions if captions.count(caption) > 1)
        raise ValueError(f"{path}: {twice!r} has two columns")
    if not np.isfinite(edges_s).all() or (np.diff(edges_s) <= 0).any():
        row = 2 + int(np.argmin(np.append(np.diff(edges_s) > 0, False)))
        raise ValueError(f"{path}, row {row}: onset and offset must be seconds that rise")
    wrong = np.isnan(scores) | (scores == np.inf)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"{path}, row {row + 2}: the score of {columns[column]!r} is {scores[row, column]}; "
            "expected a number, or -inf for what is never detected"
        )
    edges = np.rint(edges_s * PER_S).astype(np.int64)
    end, last = round(duration_s * PER_S), edges[-1] - edges[-2]
    if edges[0] > last:
        raise ValueError(f"{path}: its first row begins at {edges_s[0]} s, not where the clip does")
    edges[0] = 0
    if edges[-1] > end + last:
        notes.add("tables that go on after the end of their clip", [path.name])
    elif edges[-1] < end - last:
        notes.add("tables that end before their clip, the rest is never detected", [path.name])
    return Table(scores.astype(np.float32), edges, captions)


def _pack(read: dict[str, Table], clips: Sequence[str]) -> None:
    """Move the scores of some clips into one piece, which the system has back once it is free.

    What is freed in small pieces it often has not.
    """
    parts = [read[clip].scores for clip in clips]
    whole = np.concatenate([part.ravel() for part in parts])
    edges = np.cumsum([part.size for part in parts])[:-1]
    for clip, part, of_clip in zip(clips, np.split(whole, edges), parts, strict=True):
        read[clip] = read[clip]._replace(scores=part.reshape(of_clip.shape))


def _align(
    read: dict[str, Table],
    clips: Sequence[str],
    captions: Sequence[str],
    durations: Sequence[float],
    events: Sequence[Sequence[Event]],
) -> TableScores:
    """Bring the tables of a system to common frames and columns."""
    ticks = _common_edges([read[clip] for clip in clips], durations)
    if len(clips) * len(ticks) * len(captions) > MAX_CELLS:
        raise ValueError(
            f"the rows of the tables begin at {len(ticks) - 1} different times: {len(clips)} clips "
            f"and {len(captions)} captions are too many for that; write them in frames of one "
            "length"
        )
    frame_edges = ticks / PER_S
    column = {caption: j for j, caption in enumerate(captions)}
    known = np.ones((len(clips), len(captions)), dtype=bool)
    n_rows = [len(_until(frame_edges, duration_s)) - 1 for duration_s in durations]
    whole = np.empty((sum(n_rows), len(captions)), np.float32)
    scores = np.split(whole, np.cumsum(n_rows)[:-1])
    for i, (clip, duration_s) in enumerate(zip(clips, durations, strict=True)):
        table = read.pop(clip)
        n_frames = n_rows[i]
        rows = np.searchsorted(table.edges[:-1], ticks[:n_frames] + 1, side="right") - 1
        columns = [column[caption] for caption in table.captions]
        sounding = {column[event.caption] for event in events[i]}
        known[i, [j for j in range(len(captions)) if j not in sounding]] = False
        known[i, columns] = True
        scores[i][:] = -np.inf
        scores[i][:, columns] = table.scores[rows]
        scores[i][ticks[:n_frames] + 1 >= _end(table, duration_s)] = -np.inf
    frame_s = float(np.diff(frame_edges).max())
    return TableScores(clips, captions, frame_s, durations, scores, events, known, frame_edges)


def _common_edges(read: Sequence[Table], durations: Sequence[float]) -> Int[np.ndarray, "edge"]:
    """Return the edges of all tables, but for those at the ends of clips, in microseconds."""
    ends = [round(duration_s * PER_S) for duration_s in durations]
    inside: set[int] = {0}
    for table, duration_s, end in zip(read, durations, ends, strict=True):
        inside.update(table.edges[1:-1][table.edges[1:-1] < end].tolist())
        if _end(table, duration_s) < end:
            inside.add(_end(table, duration_s))
    edges = np.array(sorted(inside), dtype=np.int64)
    # The same time is now and then written with another last digit.
    edges = edges[np.append(True, np.diff(edges) > 1)]
    return np.append(edges, max(max(ends), edges[-1] + 1))


def _end(table: Table, duration_s: float) -> int:
    """Where the scores of a clip end: with it, if less than the last row is missing."""
    end = round(duration_s * PER_S)
    return end if end - table.edges[-1] <= np.diff(table.edges)[-1] else int(table.edges[-1])


def _until(edges: Float[np.ndarray, "edge"], duration_s: float) -> Float[np.ndarray, "_"]:
    """Return the edges of those frames that begin before a clip ends; the last one ends with it."""
    n_frames = max(1, int(np.searchsorted(edges[:-1], duration_s - 1 / PER_S)))
    mine = edges[: n_frames + 1].copy()
    mine[-1] = max(min(mine[-1], duration_s), mine[-2] + 1 / PER_S)
    return mine


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return (", ".join(map(str, names[:FEW])) or "none") + more
