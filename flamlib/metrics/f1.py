"""F1 of detections at a threshold: frame-wise, of segments, and of events by collars.

    precision = TP / (TP + FP),  recall = TP / (TP + FN)
    F1        = 2 * TP / (2 * TP + FP + FN), their harmonic mean

*Detected* means a score of at least the threshold. "macro" is the mean of the captions' F1,
"pooled" the F1 of the summed counts (micro average). A caption without events has no F1 and leaves
the macro mean, but its detections count as false positives in the pooled F1. A
caption that has events and is never detected has an F1 of 0. (sed_eval leaves it out of its
class-wise mean of events, unless told `empty_system_output_handling="zero_score"`.)

Segment-based and collar-based (event-based) F1 are those of Mesaros et al., "Metrics for polyphonic
sound event detection", Applied Sciences 2016, as sed_eval computes them.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Real
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from flamlib.metrics import segments
from flamlib.metrics.ranking import known_mask, mean_of_known
from flamlib.metrics.segments import PER_S, active_segments

EventsByClip = Mapping[str, Sequence[tuple]]


def f1_over_thresholds(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    thresholds: Float[np.ndarray, "threshold"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
) -> dict[str, float | np.ndarray]:
    """Return frame-wise F1 at several thresholds, each of them used for all captions.

    Args:
        scores: the frames of all clips, one below the other.
        active: ground truth.
        thresholds: in rising order.
        known: False for frames to leave out; None: there are none.

    Returns:
        "threshold", with "f1_macro" at each, and "best_macro", the (lowest) threshold at which this
        is highest. Chosen on the clips it is then reported for, the best threshold gives an F1 that
        is too optimistic.

    Raises:
        ValueError: for thresholds in another order, or scores of another shape or that are NaN.
    """
    known = known_mask(scores, active, known)
    if not len(thresholds) or (np.diff(thresholds) <= 0).any():
        raise ValueError("thresholds must be in rising order, at least one")
    return f1_of_passed(passed_thresholds(scores, active, thresholds, known), thresholds)


def passed_thresholds(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    thresholds: Float[np.ndarray, "threshold"],
    known: Bool[np.ndarray, "frame caption"],
) -> Int[np.ndarray, "caption 2 n"]:
    """Count the active and the inactive frames that reach at least 0, 1, … of the thresholds.

    Args:
        scores: see `f1_over_thresholds`, as all others.
        active: ground truth.
        thresholds: in rising order.
        known: False for frames to leave out.
    """
    counts = np.empty((scores.shape[1], 2, len(thresholds) + 1), dtype=int)
    # In the scores' own precision, as `scores >= threshold` would compare them.
    thresholds = thresholds.astype(scores.dtype)
    columns = zip(counts, scores.T, active.T, known.T, strict=True)
    for of_caption, score, is_active, is_known in columns:
        for count, selected in zip(of_caption, (is_active, ~is_active), strict=True):
            rising = np.sort(score[is_known & selected])
            count[0] = len(rising)
            count[1:] = len(rising) - np.searchsorted(rising, thresholds, side="left")
    return counts


def f1_of_passed(
    passed: Real[np.ndarray, "caption 2 n"], thresholds: Float[np.ndarray, "threshold"]
) -> dict[str, float | np.ndarray]:
    """Return what `f1_over_thresholds` does from counts of `passed_thresholds`, weighted or not."""
    tp, fp = passed[:, 0, 1:], passed[:, 1, 1:]
    n_active = passed[:, 0, 0]
    has_events = n_active > 0
    f1 = 2 * tp[has_events] / (tp[has_events] + fp[has_events] + n_active[has_events, None])
    macro = f1.mean(axis=0) if has_events.any() else np.full(len(thresholds), np.nan)
    return {
        "threshold": thresholds,
        "f1_macro": macro,
        "best_macro": float(thresholds[np.argmax(macro)]),
    }


def segment_f1(
    detections: EventsByClip,
    ground_truth: EventsByClip,
    captions: Sequence[str],
    durations: Mapping[str, float],
    *,
    segment_s: float,
) -> dict[str, float | int | np.ndarray]:
    """Return segment-based F1: whether a caption is active anywhere in a segment, see `segments`.

    Args:
        detections: of each clip events (onset, offset, caption, …) in seconds, possibly none.
        ground_truth: the same; both hold the clips of `durations`.
        captions: those to be counted.
        durations: seconds of each clip.
        segment_s: seconds of a segment.

    Returns:
        See `f1_of_counts`.

    Raises:
        ValueError: if the clips are not the same everywhere.
    """
    counts = []
    for clip in _clips(detections, ground_truth, durations):
        n_segments = segments.count(durations[clip], segment_s)
        detected, active = (
            active_segments(events, captions, n_segments=n_segments, segment_s=segment_s)
            for events in (detections[clip], ground_truth[clip])
        )
        counts.append([(detected & active).sum(axis=0), detected.sum(axis=0), active.sum(axis=0)])
    return f1_of_counts(np.array(counts).transpose(0, 2, 1))


def event_f1(
    detections: EventsByClip,
    ground_truth: EventsByClip,
    captions: Sequence[str],
    *,
    onset_collar_s: float,
    offset_collar_s: float,
    offset_collar_rate: float,
) -> dict[str, float | int | np.ndarray]:
    """Return collar-based F1: a detection matches an event of its caption if

        |onset of detection - onset of event|   <= onset_collar_s
        |offset of detection - offset of event| <= max(offset_collar_s,
                                                       offset_collar_rate * duration of event)

    to the microsecond. Each event matches at most one detection and the reverse; of all such
    matchings the largest counts.

    Args:
        detections: of each clip events (onset, offset, caption, …) in seconds, possibly none.
        ground_truth: the same, of the same clips.
        captions: all that occur in either.
        onset_collar_s: seconds.
        offset_collar_s: seconds.
        offset_collar_rate: share of the event's duration.

    Returns:
        See `f1_of_counts`.

    Raises:
        ValueError: for other clips, or a caption that is not in `captions`.
    """
    clips = _clips(detections, ground_truth)
    column = {caption: i for i, caption in enumerate(captions)}
    counts = np.zeros((len(clips), len(captions), 3), dtype=int)
    for i, clip in enumerate(clips):
        detected, actual = (
            _by_column(clip, events[clip], column) for events in (detections, ground_truth)
        )
        for j, events in actual.items():
            counts[i, j, 2] = len(events)
            if j in detected:
                near = _within_collars(
                    detected[j], events, onset_collar_s, offset_collar_s, offset_collar_rate
                )
                matched = maximum_bipartite_matching(csr_array(near), perm_type="column")
                counts[i, j, 0] = (matched >= 0).sum()
        for j, events in detected.items():
            counts[i, j, 1] = len(events)
    return f1_of_counts(counts)


def f1_of_counts(counts: Int[np.ndarray, "clip caption 3"]) -> dict[str, float | int | np.ndarray]:
    """Return F1 from the counts of true positives, of all detected and of all actual items.

    Returns:
        "f1_macro", the mean over captions of "per_caption" (nan for one without events);
        "f1_pooled"; "counts", as given, for bootstrap intervals.
    """
    tp, detected, actual = counts.sum(axis=0).T
    has_events = actual > 0
    per_caption = np.full(len(actual), np.nan)
    per_caption[has_events] = 2 * tp[has_events] / (detected[has_events] + actual[has_events])
    n_tp, n_detected, n_actual = (int(n.sum()) for n in (tp, detected, actual))
    return {
        "f1_macro": mean_of_known(per_caption),
        "f1_pooled": 2 * n_tp / (n_detected + n_actual) if n_actual else np.nan,
        "per_caption": per_caption,
        "counts": counts,
    }


def _clips(
    detections: EventsByClip, ground_truth: EventsByClip, *others: Mapping[str, float]
) -> list[str]:
    """Return the clips, which must be the same everywhere and at least one."""
    if not ground_truth or any(set(given) != set(ground_truth) for given in (detections, *others)):
        raise ValueError(
            "detections, ground_truth and durations must be of the same clips, at least one"
        )
    return list(ground_truth)


def _by_column(
    clip: str, events: Iterable[tuple], column: Mapping[str, int]
) -> dict[int, Float[np.ndarray, "event 2"]]:
    """Return onsets and offsets by caption."""
    rows: dict[int, list] = {}
    for onset, offset, caption, *_ in events:
        if caption not in column:
            raise ValueError(f"clip {clip!r}: {caption!r} is not among the captions")
        rows.setdefault(column[caption], []).append((onset, offset))
    return {j: np.array(times, dtype=float) for j, times in rows.items()}


def _within_collars(
    detected: Float[np.ndarray, "detection 2"],
    events: Float[np.ndarray, "event 2"],
    onset_collar_s: float,
    offset_collar_s: float,
    offset_collar_rate: float,
) -> Bool[np.ndarray, "event detection"]:
    """Return which detections match which events at both ends."""
    apart = np.rint(np.abs(events[:, None] - detected[None]) * PER_S)
    allowed = np.maximum(offset_collar_s, offset_collar_rate * (events[:, 1] - events[:, 0]))
    at_onset = apart[:, :, 0] <= np.rint(onset_collar_s * PER_S)
    return at_onset & (apart[:, :, 1] <= np.rint(allowed * PER_S)[:, None])
