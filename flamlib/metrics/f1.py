"""Detections at a threshold: are they right, and is nothing missed? F1 of frames, segments, events.

    F1 = 2 * TP / (2 * TP + FP + FN)

*Detected* means a score of at least the threshold. A caption that never sounds has no F1 and leaves
the macro mean ("n_skipped"), but what is claimed of it counts as false in the pooled figure. A
caption that sounds and is never detected has an F1 of 0. (sed_eval leaves it out of its class-wise
mean of events unless asked for `zero_score`.)
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from flamlib.metrics.ranking import known_mask, mean_of_known
from flamlib.metrics.segments import PER_S, active_segments, count

Clips = Mapping[str, Sequence[tuple]]


def f1_over_thresholds(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    thresholds: Float[np.ndarray, "threshold"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
) -> dict[str, float | int | np.ndarray]:
    """Frame-wise F1 when one threshold serves all captions, for each of several in rising order.

    "f1_macro" and "f1_pooled" go with "threshold"; "best_macro" and "best_pooled" are the (lowest)
    thresholds at which they are highest. Chosen on the clips it is then reported for, a best
    threshold flatters.
    """
    known = known_mask(scores, active, known)
    if not len(thresholds) or (np.diff(thresholds) <= 0).any():
        raise ValueError("thresholds must be given in rising order, at least one")
    # In the scores' own precision, as `scores >= threshold` would compare them.
    n_passed = np.searchsorted(thresholds.astype(scores.dtype), scores, side="right")

    def detected(chosen: Bool[np.ndarray, "frame caption"]) -> Int[np.ndarray, "caption threshold"]:
        counts = [
            np.bincount(passed[which], minlength=len(thresholds) + 1)
            for passed, which in zip(n_passed.T, chosen.T, strict=True)
        ]
        return np.cumsum(np.array(counts)[:, ::-1], axis=1)[:, ::-1][:, 1:]

    tp, fp = detected(known & active), detected(known & ~active)
    n_active = (known & active).sum(axis=0)
    heard = n_active > 0
    f1 = 2 * tp[heard] / (tp[heard] + fp[heard] + n_active[heard, None])
    n_claimed_or_active = (tp + fp).sum(axis=0) + n_active.sum()
    nan = np.full(len(thresholds), np.nan)
    macro = f1.mean(axis=0) if heard.any() else nan
    pooled = 2 * tp.sum(axis=0) / n_claimed_or_active if heard.any() else nan
    return {
        "threshold": thresholds,
        "f1_macro": macro,
        "f1_pooled": pooled,
        "best_macro": float(thresholds[np.argmax(macro)]),
        "best_pooled": float(thresholds[np.argmax(pooled)]),
        "n_skipped": int((~heard).sum()),
    }


def segment_f1(
    claims: Clips,
    truth: Clips,
    captions: Sequence[str],
    durations: Mapping[str, float],
    *,
    segment_s: float,
) -> dict[str, float | int | np.ndarray]:
    """F1 of segments: whether each caption sounds anywhere in them, see `segments`.

    `claims[clip]` and `truth[clip]` are events (onset, offset, caption, …) in seconds, possibly
    none; both hold the clips of `durations`. See `f1_of` for what is returned.
    """
    counts = []
    for clip in _clips(claims, truth, durations):
        n_segments = count(durations[clip], segment_s)
        claimed, active = (
            active_segments(events, captions, n_segments=n_segments, segment_s=segment_s)
            for events in (claims[clip], truth[clip])
        )
        counts.append([(claimed & active).sum(axis=0), claimed.sum(axis=0), active.sum(axis=0)])
    return f1_of(np.array(counts).transpose(0, 2, 1))


def event_f1(
    claims: Clips,
    truth: Clips,
    captions: Sequence[str],
    *,
    onset_collar_s: float,
    offset_collar_s: float,
    offset_collar_rate: float,
) -> dict[str, float | int | np.ndarray]:
    """F1 of whole events: a claim is right if it meets an event of its caption at both ends,

        |onset of claim - onset of event|   <= onset_collar_s
        |offset of claim - offset of event| <= max(offset_collar_s,
                                                   offset_collar_rate * duration of event)

    to the microsecond. An event meets at most one claim and the reverse, as many as can be.
    Arguments and result are those of `segment_f1`; a claim of a caption not in `captions` raises
    ValueError, as does an event of one.
    """
    clips = _clips(claims, truth)
    column = {caption: i for i, caption in enumerate(captions)}
    counts = np.zeros((len(clips), len(captions), 3), dtype=int)
    for i, clip in enumerate(clips):
        claimed, actual = (_by_column(clip, of[clip], column) for of in (claims, truth))
        for j, events in actual.items():
            counts[i, j, 2] = len(events)
            if j in claimed:
                near = _meet(
                    claimed[j], events, onset_collar_s, offset_collar_s, offset_collar_rate
                )
                matched = maximum_bipartite_matching(csr_array(near), perm_type="column")
                counts[i, j, 0] = (matched >= 0).sum()
        for j, events in claimed.items():
            counts[i, j, 1] = len(events)
    return f1_of(counts)


def f1_of(counts: Int[np.ndarray, "clip caption 3"]) -> dict[str, float | int | np.ndarray]:
    """F1 from how many are right, claimed and actual, of each caption in each clip.

    "f1_macro" is the mean over captions of "per_caption" (nan for one that never sounds), with
    "precision_pooled" and "recall_pooled" beside "f1_pooled"; "counts" is what was given, for
    intervals.
    """
    right, claimed, actual = counts.sum(axis=0).T
    heard = actual > 0
    per_caption = np.full(len(actual), np.nan)
    per_caption[heard] = 2 * right[heard] / (claimed[heard] + actual[heard])
    n_right, n_claimed, n_actual = (int(n.sum()) for n in (right, claimed, actual))
    return {
        "f1_macro": mean_of_known(per_caption),
        "f1_pooled": 2 * n_right / (n_claimed + n_actual) if n_actual else np.nan,
        "precision_pooled": n_right / n_claimed if n_claimed else np.nan,
        "recall_pooled": n_right / n_actual if n_actual else np.nan,
        "per_caption": per_caption,
        "n_skipped": int((~heard).sum()),
        "counts": counts,
    }


def _clips(claims: Clips, truth: Clips, *others: Mapping[str, float]) -> list[str]:
    """The clips, which must be the same everywhere and at least one."""
    if not truth or any(set(given) != set(truth) for given in (claims, *others)):
        raise ValueError("claims, truth and durations must be of the same clips, at least one")
    return list(truth)


def _by_column(
    clip: str, events: Iterable[tuple], column: Mapping[str, int]
) -> dict[int, Float[np.ndarray, "event 2"]]:
    """Onsets and offsets by caption."""
    rows: dict[int, list] = {}
    for onset, offset, caption, *_ in events:
        if caption not in column:
            raise ValueError(f"clip {clip!r}: {caption!r} is not among the captions")
        rows.setdefault(column[caption], []).append((onset, offset))
    return {j: np.array(times, dtype=float) for j, times in rows.items()}


def _meet(
    claimed: Float[np.ndarray, "claim 2"],
    events: Float[np.ndarray, "event 2"],
    onset_collar_s: float,
    offset_collar_s: float,
    offset_collar_rate: float,
) -> Bool[np.ndarray, "event claim"]:
    """Which claims meet which events at both ends."""
    apart = np.rint(np.abs(events[:, None] - claimed[None]) * PER_S)
    allowed = np.maximum(offset_collar_s, offset_collar_rate * (events[:, 1] - events[:, 0]))
    at_onset = apart[:, :, 0] <= np.rint(onset_collar_s * PER_S)
    return at_onset & (apart[:, :, 1] <= np.rint(allowed * PER_S)[:, None])
