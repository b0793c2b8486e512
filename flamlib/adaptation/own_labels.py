"""Labelled recordings of a user: which there are, and a model's output of them beside the truth.

Labels come in any form that `labels` reads. They are taken to be complete: a caption that any of
them has is absent wherever else it is not marked, in all of the recordings. A recording in which
nothing sounds has an empty label file, or a row of its name alone.

Decisions of a review, a table with the columns filename, onset, offset, event_label and `review`
("yes", "no", or empty for what nobody looked at), or a selection table of Raven with a column
`Review`, say nothing of what is outside its rows: each row becomes a clip of its own, in which its
own caption alone is known.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from tqdm import tqdm

from flamlib import texts
from flamlib.metrics.clip_scores import ClipScores
from flamlib.sound_events import labels, raw_events, recording_names, reviews
from flamlib.sound_events.events import Event, frame_edges
from flamlib.sound_events.raw_events import RawEvent
from flamlib.storage import tables
from flamlib.waveforms import audio, collection

CUT_S = 300.0  # longer recordings are cut, outside events, so that clips are padded little


@dataclass(frozen=True)
class Labelled:
    """A recording and what is known of it.

    Attributes:
        path: the recording.
        labels: the file that it is known from.
        events: what sounds in it, all of it, or what was reviewed.
        decisions: of a review: for each event whether it is there; None for complete labels.
    """

    path: Path
    labels: Path
    events: Sequence[RawEvent]
    decisions: Sequence[bool] | None = None


class LabelledFrames(NamedTuple):
    """A labelled recording with what a model says of its frames.

    Attributes:
        path: the recording.
        events: as of `Labelled`, in seconds of the recording; of complete labels also joined.
        decisions: as of `Labelled`.
        duration_s: of the recording.
        values: a row per frame: scores, or an embedding.
    """

    path: Path
    events: Sequence[Event]
    decisions: Sequence[bool] | None
    duration_s: float
    values: Float[np.ndarray, "frame value"]


class Clips(NamedTuple):
    """Labelled recordings as clips, in order: long ones are cut, reviewed events are their own.

    Attributes:
        scores: of the clips, and what is true of them.
        of: number of the recording of each clip.
        reviewed: whether it is a reviewed event, of which one caption alone is known.
    """

    scores: ClipScores
    of: Int[np.ndarray, "clip"]
    reviewed: Bool[np.ndarray, "clip"]


def find(
    sources: Iterable[str | Path], folder: str | Path | None = None
) -> tuple[list[Labelled], dict[str, str]]:
    """Find labelled recordings.

    Args:
        sources: label files, and folders of recordings with label files named after them.
        folder: where the recordings are that a label file names; None: beside the label file.

    Returns:
        The recordings, and what cannot be used: names, each with the reason.

    Raises:
        FileNotFoundError: a source that is not there.
        ValueError: a label file that cannot be read, or no labelled recording at all.
    """
    found: list[Labelled] = []
    skipped: dict[str, str] = {}
    for source in map(Path, sources):
        if source.is_dir():
            _find_in(source, found, skipped)
        else:
            _find_named(source, Path(folder) if folder else source.parent, found, skipped)
    seen: dict[tuple[Path, bool], Path] = {}
    for each in found:
        key = each.path.resolve(), each.decisions is None
        if seen.setdefault(key, each.labels) != each.labels:
            raise ValueError(f"{each.path}: labelled twice, in {seen[key]} and in {each.labels}")
    if not found:
        why = "".join(f"; {name}: {reason}" for name, reason in list(skipped.items())[:1])
        raise ValueError(
            f"no labelled recording in {', '.join(map(str, sources))}{why}: expected recordings "
            "with label files named after them, or a table that names recordings beside it; labels "
            "that lie apart from the recordings are given as files, not as a folder"
        )
    return found, skipped


def captions_of(found: Iterable[Labelled]) -> list[str]:
    """Return the captions of all labels, in order; of those that read the same the first."""
    spelled = texts.spellings(event.caption for each in found for event in each.events)
    return sorted(set(spelled.values()))


def read(
    found: Sequence[Labelled],
    captions: Sequence[str],
    values_of: Callable[[Path], tuple[Float[np.ndarray, "frame value"], float]],
    *,
    progress: bool = False,
) -> tuple[list[LabelledFrames], dict[str, str]]:
    """Read labelled recordings, and what a model says of their frames.

    Args:
        found: from `find`.
        captions: spellings of their captions, from `captions_of`.
        values_of: returns values of the frames of a recording, and its duration in seconds.
        progress: whether to show a progress bar.

    Returns:
        Those that can be read, and for each of the others the reason.

    Raises:
        ValueError: none can be read.
    """
    by_key = {texts.key(caption): caption for caption in captions}
    recordings, skipped = [], {}
    for each in tqdm(found, "recordings", disable=not progress):
        try:
            values, duration_s = values_of(each.path)
            named = [e._replace(caption=by_key[texts.key(e.caption)]) for e in each.events]
            if each.decisions is None:
                events, decisions = raw_events.repair(named, duration_s)[0], None
            else:
                inside = [
                    (Event(e.onset, min(e.offset, duration_s), e.caption), yes)
                    for e, yes in zip(named, each.decisions, strict=True)
                    if e.onset < min(e.offset, duration_s)
                ]
                events, decisions = [e for e, _ in inside], [yes for _, yes in inside]
        except (audio.Unreadable, OSError, ValueError) as error:
            skipped[str(each.path)] = audio.reason(error)
        else:
            recordings.append(LabelledFrames(each.path, events, decisions, duration_s, values))
    if not recordings:
        name, why = next(iter(skipped.items()))
        raise ValueError(f"none of the labelled recordings can be used; {name}: {why}")
    return recordings, skipped


def clips_of(
    recordings: Sequence[LabelledFrames], captions: Sequence[str], frame_s: float
) -> Clips:
    """Return the scores of recordings as clips.

    Args:
        recordings: with a score of each caption as values.
        captions: of the scores.
        frame_s: seconds of a frame.
    """
    of, durations, scores, truth, known = [], [], [], [], []
    for number, each in enumerate(recordings):
        if each.decisions is None:
            parts = [(*part, None, True) for part in _cuts(each, frame_s)]
        else:
            parts = [
                (*_frames(e, each, frame_s), e.caption, yes)
                for e, yes in zip(each.events, each.decisions, strict=True)
            ]
        for first, stop, caption, yes in parts:
            start_s, stop_s = first * frame_s, min(stop * frame_s, each.duration_s)
            if caption is None:
                events = [
                    Event(max(e.onset - start_s, 0.0), min(e.offset, stop_s) - start_s, e.caption)
                    for e in each.events
                    if e.offset > start_s and e.onset < stop_s
                ]
                known.append([True] * len(captions))
            else:
                events = [Event(0.0, stop_s - start_s, caption)] if yes else []
                known.append([caption == other for other in captions])
            of.append(number)
            durations.append(stop_s - start_s)
            scores.append(each.values[first:stop])
            truth.append(events)
    table = np.array(known, dtype=bool).reshape(len(of), len(captions))
    names = [f"{recordings[number].path} {i}" for i, number in enumerate(of)]
    reviewed = np.array([recordings[number].decisions is not None for number in of], dtype=bool)
    clips = ClipScores(names, list(captions), frame_s, durations, scores, truth, table)
    return Clips(clips, np.array(of, dtype=int), reviewed)


def _find_in(folder: Path, found: list[Labelled], skipped: dict[str, str]) -> None:
    """The recordings of a folder that have label files named after them."""
    recordings, closed = collection.find(folder)
    skipped |= {str(path): why for path, why in closed.items()}
    files = labels.files_of(folder, below=True)
    for path in recordings:
        try:
            file = labels.pick(labels.named_after(path.relative_to(folder), files))
            if file is None:
                skipped[str(path)] = "no labels"
            else:
                found.append(Labelled(path, file.path, file.of(path)))
        except ValueError as error:
            skipped[str(path)] = str(error)


def _find_named(source: Path, folder: Path, found: list[Labelled], skipped: dict[str, str]) -> None:
    """The recordings that a label file names, or the one that it is named after."""
    if reviews.column_of(tables.first_fields(source)):
        by_name = _read_review(source)
    else:
        file = labels.read(source)
        if file.scored:
            raise ValueError(
                f"{source}: detections of a model, not labels; add a column review with yes or no"
            )
        by_name = {name: (events, None) for name, events in file.events.items()}
    finder, below = tables.FileFinder(folder), None
    for name, (events, decisions) in by_name.items():
        path = finder.find(name) if name else None
        if path is None:
            if below is None:
                below = collection.find(folder)[0]
            if name:
                alike = _by_name(name, {str(each): each for each in below})
            else:  # its folders may be those of the recordings, as what `flam detect` writes
                of_file = str(source.with_name(labels.stem(source)))
                alike = _by_name(of_file, {str(each.relative_to(folder)): each for each in below})
            path = alike[0] if len(alike) == 1 else None
        if path is not None:
            found.append(Labelled(path, source, events, decisions))
        elif alike:
            skipped[name or str(source)] = f"{alike[0]} and {alike[1]}: which of them is it?"
        else:
            skipped[name or str(source)] = f"no recording of that name in {folder}"


def _by_name(name: str, paths: Mapping[str, Path]) -> list[Path]:
    """The recordings of this stem, which have names; of several those whose folders are alike."""
    wanted = recording_names.as_path(name)
    stem = wanted.stem if collection.is_named_as_audio(wanted.name) else wanted.name
    alike = {recording_names.as_path(n): p for n, p in paths.items()}
    alike = {n: p for n, p in alike.items() if texts.composed(p.stem) == stem}
    found = recording_names.matching(wanted, list(alike)) if len(alike) > 1 else [*alike]
    return [alike[each] for each in found]


def _read_review(path: Path) -> dict[str, tuple[list[RawEvent], list[bool]]]:
    """The reviewed events of each recording, and the decisions."""
    column = reviews.column_of(tables.first_fields(path))
    rows = tables.read(path, (column,), short_rows=True)
    decisions = {row.where: reviews.decision(row) for row in rows}
    by_name: dict[str, tuple[list[RawEvent], list[bool]]] = {}
    for name, events in labels.read(path, rejected=True).events.items():
        reviewed = [event for event in events if decisions[event.where] is not None]
        if reviewed:
            by_name[name] = reviewed, [bool(decisions[event.where]) for event in reviewed]
    return by_name


def _cuts(recording: LabelledFrames, frame_s: float) -> list[tuple[int, int]]:
    """First and last frame of the parts of a recording; no event is cut."""
    n_frames, parts, first = len(recording.values), [], 0
    size = round(CUT_S / frame_s)
    while n_frames - first > 1.5 * size:
        stop = first + size
        # Events in order may overlap, so one that reaches on may be met after others.
        while reaching := [
            e for e in recording.events if e.onset < stop * frame_s < e.offset and stop < n_frames
        ]:
            stop = min(n_frames, int(np.ceil(max(e.offset for e in reaching) / frame_s)))
        parts.append((first, stop))
        first = stop
    if first < n_frames:
        parts.append((first, n_frames))
    return parts


def _frames(event: Event, recording: LabelledFrames, frame_s: float) -> tuple[int, int]:
    """First and last frame of which at least half lies in an event; one at least."""
    edges = frame_edges(recording.duration_s, frame_s)
    middles = (edges[:-1] + edges[1:]) / 2
    first, stop = np.searchsorted(middles, [event.onset, event.offset])
    first = min(int(first), len(middles) - 1)
    return first, max(int(stop), first + 1)
