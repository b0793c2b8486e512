"""Detections against events, judged by how much they overlap, at every threshold at once.

At a threshold, the detections of a caption are the runs of frames that score at least that much
(`runs`); the last one ends with its clip. With |.| for seconds,

    a detection d is relevant   if  |d ∩ events of its caption| >= dtc_threshold * |d|
    an event e is found         if  |e ∩ relevant detections|   >= gtc_threshold * |e|

A detection that is not relevant is a false alarm. It is also a cross-trigger on every other caption
c of which

                                    |d ∩ events of c|           >= cttc_threshold * |d|

How many alarms and found events there are changes only where the threshold meets a score. `changes`
lists by how much; sorted and summed, they are the counts at every threshold (Ebbers et al., ICASSP
2022).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from flamlib.events import Event, merge
from flamlib.runs import Runs, every_run

# Seconds are compared in whole microseconds, as sed_scores_eval does by default: a run of exactly
# 0.7 of an event must count at a threshold of 0.7 although neither is a binary fraction.
PER_S = 1e6

CHUNK = 1 << 17  # scores worked on at once: few enough to stay in the processor's cache


class Events(NamedTuple):
    """All events in order of clip and caption; both as numbers, counted from 0.

    Events of one caption in one clip neither overlap nor touch.
    """

    clip: Int[np.ndarray, "event"]
    caption: Int[np.ndarray, "event"]
    onset: Float[np.ndarray, "event"]
    offset: Float[np.ndarray, "event"]

    def of_clips(self, first: int, stop: int) -> "Events":
        """The events of the clips [first, stop), which are counted from 0 again."""
        at = slice(*np.searchsorted(self.clip, [first, stop]))
        return Events(self.clip[at] - first, *(field[at] for field in self[1:]))


def event_table(
    clips: Sequence[str],
    captions: Sequence[str],
    ground_truth: Mapping[str, Sequence[tuple]],
    durations: Mapping[str, float],
) -> Events:
    """The events (onset, offset, caption) of all clips, those that overlap or touch joined.

    Raises ValueError naming clip and event where an event ends before it starts or after its clip,
    or its caption is not in the list; and where the clips are not the same everywhere.
    """
    for name, given in (("ground_truth", ground_truth), ("durations", durations)):
        missing, unknown = sorted(set(clips) - set(given)), sorted(set(given) - set(clips))
        if missing or unknown:
            raise ValueError(
                f"scores and {name} are not of the same clips: missing in {name} {missing[:5]}, "
                f"without scores {unknown[:5]} (a clip in which nothing sounds has an empty list)"
            )
    column = {caption: i for i, caption in enumerate(captions)}
    rows = []
    for i, clip in enumerate(clips):
        events = [Event(*event) for event in ground_truth[clip]]
        for event in events:
            if event.caption not in column:
                raise ValueError(f"clip {clip!r}, {event}: there are no scores of this caption")
            if not 0 <= event.onset < event.offset:
                raise ValueError(f"clip {clip!r}, {event}: expected 0 <= onset < offset")
            # Tables round to some decimals what durations give in full.
            if not event.offset <= durations[clip] + 1 / PER_S:
                raise ValueError(f"clip {clip!r}, {event}: the clip is {durations[clip]} s long")
        rows += [(i, column[e.caption], e.onset, e.offset) for e in merge(events)]
    clip, caption, onset, offset = np.array(sorted(rows), dtype=float).reshape(-1, 4).T
    return Events(clip.astype(int), caption.astype(int), onset, offset)


def changes(
    scores: Sequence[Float[np.ndarray, "frame caption"]],
    frame_edges: Float[np.ndarray, "edge"],
    events: Events,
    asked: Int[np.ndarray, "asked"],
    *,
    clip_s: Float[np.ndarray, "clip"],
    dtc_threshold: float,
    gtc_threshold: float,
    cttc_threshold: float | None,
    price: Float[np.ndarray, "caption"],
) -> tuple[
    Float[np.ndarray, "asked point"],
    Float[np.ndarray, "asked point"],
    Int[np.ndarray, "asked point"],
]:
    """At which thresholds the counts of some captions change, and by how much.

    Returns (threshold, change in false alarms, change in events found) for the captions in `asked`,
    column numbers in rising order, over all clips and in no particular order of thresholds. All
    clips have the same `frame_edges`; `clip_s` says how long each is in truth. A
    cross-trigger on caption c counts as `price[c]` more false alarms.
    """
    n_frames = len(frame_edges) - 1
    shape = (len(asked), len(scores), n_frames)
    threshold = np.empty(shape, dtype=np.result_type(*{s.dtype for s in scores}))
    alarms, found = np.empty(shape), np.empty(shape, dtype=np.int16)

    step = max(1, CHUNK // (n_frames * len(asked)))
    for first in range(0, len(scores), step):
        clips = slice(first, first + step)
        chunk = np.stack([s[:, asked] for s in scores[clips]], axis=1)
        runs = every_run(chunk.reshape(n_frames, -1))
        here, ends = events.of_clips(first, first + step), clip_s[clips]
        judged = runs, frame_edges, ends, here, asked
        false, newly_found = _judge(*judged, dtc_threshold, gtc_threshold)
        if cttc_threshold is not None:
            false *= 1 + _cross_triggers(*judged, cttc_threshold, price)
        # A frame at -inf joins last and is never detected: what it would change, it does not.
        detected = runs.threshold > -np.inf
        for whole, part in (
            (threshold, runs.threshold),
            (alarms, runs.change(false) * detected),
            (found, newly_found * detected),
        ):
            whole[:, clips] = part.reshape(chunk.shape).transpose(2, 1, 0)
    return tuple(whole.reshape(len(asked), -1) for whole in (threshold, alarms, found))


def _judge(
    runs: Runs,
    frame_edges: Float[np.ndarray, "edge"],
    clip_s: Float[np.ndarray, "clip"],
    events: Events,
    asked: Int[np.ndarray, "asked"],
    dtc_threshold: float,
    gtc_threshold: float,
) -> tuple[Float[np.ndarray, "rank column"], Int[np.ndarray, "rank column"]]:
    """For each run, whether it is a false alarm (1) or relevant (0), and how many more events are
    found when it begins to exist."""
    false = np.ones(runs.start.shape)
    newly_found = np.zeros(runs.start.shape, dtype=np.int16)
    clip, caption, onset, offset = (field[np.isin(events.caption, asked)] for field in events)
    if not len(clip):
        return false, newly_found

    # From here on one column per event; those of one clip and caption, a pair, are neighbours.
    column = clip * len(asked) + np.searchsorted(asked, caption)
    pair, first, pair_of = np.unique(column, return_index=True, return_inverse=True)
    runs = runs.of_columns(column)
    start_s, stop_s = _span(runs, frame_edges, clip_s[clip])
    overlap_s = np.maximum(np.minimum(stop_s, offset) - np.maximum(start_s, onset), 0.0)

    in_events_s = np.add.reduceat(overlap_s, first, axis=1)
    relevant = _reaches(in_events_s, dtc_threshold * (stop_s - start_s)[:, first])
    false[:, pair] = ~relevant

    covered_s = np.cumsum(runs.change(overlap_s * relevant[:, pair_of]), axis=0)
    is_found = _reaches(covered_s, gtc_threshold * (offset - onset)).astype(np.int16)
    newly_found[:, pair] = np.add.reduceat(np.diff(is_found, axis=0, prepend=0), first, axis=1)
    return false, newly_found


def _cross_triggers(
    runs: Runs,
    frame_edges: Float[np.ndarray, "edge"],
    clip_s: Float[np.ndarray, "clip"],
    events: Events,
    asked: Int[np.ndarray, "asked"],
    cttc_threshold: float,
    price: Float[np.ndarray, "caption"],
) -> Float[np.ndarray, "rank column"]:
    """What each run, unless it is relevant, costs in false alarms for triggering on other captions.

    Only the total over the other captions is kept, not a table of caption by caption: that is what
    makes this cheap.
    """
    cost = np.zeros(runs.start.shape)
    start_s, stop_s = _span(runs, frame_edges, np.repeat(clip_s, len(asked)))
    needed_s = cttc_threshold * (stop_s - start_s)
    for clip in np.unique(events.clip).tolist():
        _, caption, onset, offset = events.of_clips(clip, clip + 1)
        sounding, first = np.unique(caption, return_index=True)
        # Seconds of each sounding caption from the clip's start to every edge: a difference of two
        # of them is its overlap with the run in between.
        elapsed_s = np.clip(frame_edges - onset[:, None], 0.0, (offset - onset)[:, None])
        elapsed_s = np.add.reduceat(elapsed_s, first, axis=0)

        at = slice(clip * len(asked), (clip + 1) * len(asked))
        for seconds, other in zip(elapsed_s, sounding, strict=True):
            overlap_s = seconds.take(runs.stop[:, at]) - seconds.take(runs.start[:, at])
            triggered = _reaches(overlap_s, needed_s[:, at])
            cost[:, at] += triggered * np.where(asked == other, 0.0, price[other])
    return cost


def _span(
    runs: Runs, frame_edges: Float[np.ndarray, "edge"], clip_s: Float[np.ndarray, "column"]
) -> tuple[Float[np.ndarray, "rank column"], Float[np.ndarray, "rank column"]]:
    """From when to when each run lasts; what begins in its clip ends with it."""
    start_s, stop_s = frame_edges[runs.start], frame_edges[runs.stop]
    return start_s, np.where(start_s < clip_s, np.minimum(stop_s, clip_s), stop_s)


def _reaches(
    seconds: Float[np.ndarray, "*shape"], needed_s: Float[np.ndarray, "*#shape"]
) -> Bool[np.ndarray, "*shape"]:
    """Which durations are at least as long as needed, to the microsecond."""
    return np.rint(seconds * PER_S) >= np.rint(needed_s * PER_S)
