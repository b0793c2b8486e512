"""Detections and events matched by how much they overlap, at every threshold at once.

At a threshold, the detections of a caption are the runs of frames that score at least that much
(`runs`); the last one ends with its clip. With |.| for seconds,

    a detection d is relevant   if  |d ∩ events of its caption| >= dtc_threshold * |d|
    an event e is detected      if  |e ∩ relevant detections|   >= gtc_threshold * |e|

A detection that is not relevant is a false alarm. It is also a cross-trigger on every other caption
c of which

                                    |d ∩ events of c|           >= cttc_threshold * |d|

The numbers of false alarms and of detected events change only where the threshold equals a score.
`changes` lists by how much; sorted and summed, they are the counts at every threshold (Ebbers et
al., ICASSP 2022).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from flamlib.sound_events.events import Event, merge
from flamlib.sound_events.runs import Runs, every_run

# Seconds are compared in whole microseconds, as sed_scores_eval does by default: a run of exactly
# 0.7 of an event must count at a threshold of 0.7 although neither is a binary fraction.
PER_S = 1e6

CHUNK = 1 << 17  # scores processed at once: few enough to stay in the processor's cache


class Events(NamedTuple):
    """All events in order of clip and caption, both as numbers counted from 0.

    Events of one caption in one clip neither overlap nor touch.
    """

    clip: Int[np.ndarray, "event"]
    caption: Int[np.ndarray, "event"]
    onset: Float[np.ndarray, "event"]
    offset: Float[np.ndarray, "event"]

    def of_clips(self, first: int, stop: int) -> "Events":
        """Return the events of the clips [first, stop), which are counted from 0 again."""
        rows = slice(*np.searchsorted(self.clip, [first, stop]))
        return Events(
            self.clip[rows] - first, self.caption[rows], self.onset[rows], self.offset[rows]
        )


def event_table(
    clips: Sequence[str],
    captions: Sequence[str],
    ground_truth: Mapping[str, Sequence[tuple]],
    durations: Mapping[str, float],
) -> Events:
    """Return the events of all clips as one table; those that overlap or touch are joined.

    Args:
        clips: names, in the order of their numbers.
        captions: names, in the order of their numbers.
        ground_truth: of each clip its events (onset, offset, caption) in seconds, possibly none.
        durations: seconds of each clip.

    Raises:
        ValueError: naming clip and event, where an event ends before it starts or after its clip,
            or its caption is not listed; and where the clips are not the same everywhere.
    """
    for name, given in (("ground_truth", ground_truth), ("durations", durations)):
        missing, unknown = sorted(set(clips) - set(given)), sorted(set(given) - set(clips))
        if missing or unknown:
            raise ValueError(
                f"scores and {name} are not of the same clips: missing in {name} {missing[:5]}, "
                f"without scores {unknown[:5]} (a clip without events has an empty list)"
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
    columns: Int[np.ndarray, "column"],
    *,
    clip_s: Float[np.ndarray, "clip"],
    dtc_threshold: float,
    gtc_threshold: float,
    cttc_threshold: float | None,
    cross_trigger_cost: Float[np.ndarray, "caption"],
) -> tuple[
    Float[np.ndarray, "column point"],
    Float[np.ndarray, "column point"],
    Int[np.ndarray, "column point"],
]:
    """Return at which thresholds the counts of some captions change, and by how much.

    Args:
        scores: of each clip, all of the same frames.
        frame_edges: seconds, the same for all clips.
        events: ground truth of all captions.
        columns: numbers of the captions whose counts are wanted, in rising order.
        clip_s: durations; a detection ends with its clip although the frames may go on.
        dtc_threshold: see the module's docstring, as the next two.
        gtc_threshold: in (0, 1].
        cttc_threshold: in (0, 1]; None: there are no cross-triggers.
        cross_trigger_cost: a cross-trigger on caption c counts as this many more false alarms.

    Returns:
        Threshold, change in false alarms and change in detected events, over all clips and in no
        particular order of thresholds.
    """
    n_frames = len(frame_edges) - 1
    shape = (len(columns), len(scores), n_frames)
    threshold = np.empty(shape, dtype=np.result_type(*{s.dtype for s in scores}))
    false_alarms, detected = np.empty(shape), np.empty(shape, dtype=np.int16)

    step = max(1, CHUNK // (n_frames * len(columns)))
    for first in range(0, len(scores), step):
        clips = slice(first, first + step)
        chunk = np.stack([s[:, columns] for s in scores[clips]], axis=1)
        runs = every_run(chunk.reshape(n_frames, -1))
        here, ends = events.of_clips(first, first + step), clip_s[clips]
        given = runs, frame_edges, ends, here, columns
        false, newly_detected = _match(*given, dtc_threshold, gtc_threshold)
        if cttc_threshold is not None:
            false *= 1 + _cross_triggers(*given, cttc_threshold, cross_trigger_cost)
        # A frame at -inf is added last and never detected, so it changes nothing.
        exists = runs.threshold > -np.inf
        for whole, of_chunk in (
            (threshold, runs.threshold),
            (false_alarms, runs.change(false) * exists),
            (detected, newly_detected * exists),
        ):
            whole[:, clips] = of_chunk.reshape(chunk.shape).transpose(2, 1, 0)
    return tuple(whole.reshape(len(columns), -1) for whole in (threshold, false_alarms, detected))


def _match(
    runs: Runs,
    frame_edges: Float[np.ndarray, "edge"],
    clip_s: Float[np.ndarray, "clip"],
    events: Events,
    columns: Int[np.ndarray, "column"],
    dtc_threshold: float,
    gtc_threshold: float,
) -> tuple[Float[np.ndarray, "rank run_column"], Int[np.ndarray, "rank run_column"]]:
    """Return for each run whether it is a false alarm (1) or relevant (0), and how many more events
    are detected when it appears. The columns of runs are all pairs of clip and caption."""
    false = np.ones(runs.start.shape)
    newly_detected = np.zeros(runs.start.shape, dtype=np.int16)
    wanted = np.isin(events.caption, columns)
    clip, onset, offset = events.clip[wanted], events.onset[wanted], events.offset[wanted]
    if not len(clip):
        return false, newly_detected

    # From here on one column per event; those of one clip and caption, a pair, are neighbours.
    column = clip * len(columns) + np.searchsorted(columns, events.caption[wanted])
    pair, first, pair_of = np.unique(column, return_index=True, return_inverse=True)
    runs = runs.of_columns(column)
    start_s, stop_s = _span(runs, frame_edges, clip_s[clip])
    overlap_s = np.maximum(np.minimum(stop_s, offset) - np.maximum(start_s, onset), 0.0)

    in_events_s = np.add.reduceat(overlap_s, first, axis=1)
    relevant = _reaches(in_events_s, dtc_threshold * (stop_s - start_s)[:, first])
    false[:, pair] = ~relevant

    covered_s = np.cumsum(runs.change(overlap_s * relevant[:, pair_of]), axis=0)
    is_detected = _reaches(covered_s, gtc_threshold * (offset - onset)).astype(np.int16)
    newly_detected[:, pair] = np.add.reduceat(
        np.diff(is_detected, axis=0, prepend=0), first, axis=1
    )
    return false, newly_detected


def _cross_triggers(
    runs: Runs,
    frame_edges: Float[np.ndarray, "edge"],
    clip_s: Float[np.ndarray, "clip"],
    events: Events,
    columns: Int[np.ndarray, "column"],
    cttc_threshold: float,
    cross_trigger_cost: Float[np.ndarray, "caption"],
) -> Float[np.ndarray, "rank run_column"]:
    """Return how many false alarms the cross-triggers of each run count as, if it is not relevant.

    Only the total over the other captions is kept, not a table of caption by caption: that is what
    makes this cheap.
    """
    cost = np.zeros(runs.start.shape)
    start_s, stop_s = _span(runs, frame_edges, np.repeat(clip_s, len(columns)))
    needed_s = cttc_threshold * (stop_s - start_s)
    for clip in np.unique(events.clip).tolist():
        here = events.of_clips(clip, clip + 1)
        active, first = np.unique(here.caption, return_index=True)
        # Seconds of each active caption from the clip's start to every edge: a difference of two
        # of them is its overlap with the run in between.
        event_s = here.offset - here.onset
        elapsed_s = np.clip(frame_edges - here.onset[:, None], 0.0, event_s[:, None])
        elapsed_s = np.add.reduceat(elapsed_s, first, axis=0)

        of_clip = slice(clip * len(columns), (clip + 1) * len(columns))
        for seconds, other in zip(elapsed_s, active, strict=True):
            overlap_s = seconds.take(runs.stop[:, of_clip]) - seconds.take(runs.start[:, of_clip])
            triggered = _reaches(overlap_s, needed_s[:, of_clip])
            cost_on_other = np.where(columns == other, 0.0, cross_trigger_cost[other])
            cost[:, of_clip] += triggered * cost_on_other
    return cost


def _span(
    runs: Runs, frame_edges: Float[np.ndarray, "edge"], clip_s: Float[np.ndarray, "column"]
) -> tuple[Float[np.ndarray, "rank column"], Float[np.ndarray, "rank column"]]:
    """Return start and stop of each run in seconds; what starts within its clip ends with it."""
    start_s, stop_s = frame_edges[runs.start], frame_edges[runs.stop]
    return start_s, np.where(start_s < clip_s, np.minimum(stop_s, clip_s), stop_s)


def _reaches(
    seconds: Float[np.ndarray, "*shape"], needed_s: Float[np.ndarray, "*#shape"]
) -> Bool[np.ndarray, "*shape"]:
    """Return which durations are at least as long as needed, to the microsecond."""
    return np.rint(seconds * PER_S) >= np.rint(needed_s * PER_S)
