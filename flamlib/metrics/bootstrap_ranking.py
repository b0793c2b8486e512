"""Bootstrap of ranking metrics (AUROC, partial AUROC, average precision) and of the best F1.

These metrics depend on the scores only through how many frames are ranked at or above each active
frame. That is a sum over clips, so a draw of clips only has to weight it:

    n_above(active frame) = sum over clips of times_drawn * frames of the clip at or above it

which for all draws together is one product of a sparse matrix and the draws.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise, starmap
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from flamlib.metrics.bootstrap import ClipStatistic, blocks, ratio
from flamlib.metrics.ranking import known_mask

BLOCK = 1 << 22  # scores that are ranked at once: 0.3 GB


def clip_auroc(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    clip_of_frame: Int[np.ndarray, "frame"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
    *,
    pooled: bool,
) -> ClipStatistic:
    """Make a statistic of the mean of `ranking.caption_auroc`.

    Args:
        scores: the frames of all clips, one below the other.
        active: ground truth.
        clip_of_frame: number of each frame's clip, from 0.
        known: False for frames to leave out; None: there are none.
        pooled: the pooled AUROC instead of the mean over captions.
    """

    def auroc(passed: _Passed) -> Float[np.ndarray, "draw"]:
        below_or_equal = passed.n_inactive - passed.inactive_above
        below = passed.n_inactive - passed.inactive
        won_twice = (np.diff(passed.active, axis=0) * (below + below_or_equal)).sum(axis=0)
        return ratio(won_twice, 2 * passed.n_active * passed.n_inactive)

    return _mean_over_rankings(
        _rankings(scores, active, clip_of_frame, known, pooled=pooled), auroc
    )


def clip_average_precision(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    clip_of_frame: Int[np.ndarray, "frame"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
) -> ClipStatistic:
    """Make a statistic of the mean of `ranking.average_precision`.

    Args:
        scores: the frames of all clips, one below the other.
        active: ground truth.
        clip_of_frame: number of each frame's clip, from 0.
        known: False for frames to leave out; None: there are none.
    """

    def precision(passed: _Passed) -> Float[np.ndarray, "draw"]:
        tp = passed.active[1:]
        at_threshold = tp / np.maximum(tp + passed.inactive, 1)
        value = ratio((np.diff(passed.active, axis=0) * at_threshold).sum(axis=0), passed.n_active)
        return np.where(passed.n_inactive > 0, value, np.nan)

    return _mean_over_rankings(_rankings(scores, active, clip_of_frame, known), precision)


def clip_partial_auroc(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    clip_of_frame: Int[np.ndarray, "frame"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
    *,
    max_fpr: float,
) -> ClipStatistic:
    """Make a statistic of the mean of `ranking.partial_auroc`, over `max_fpr`.

    Args:
        scores: the frames of all clips, one below the other.
        active: ground truth.
        clip_of_frame: number of each frame's clip, from 0.
        known: False for frames to leave out; None: there are none.
        max_fpr: in (0, 1].
    """

    def area(passed: _Passed) -> Float[np.ndarray, "draw"]:
        inactive = np.maximum(passed.n_inactive, 1)
        tpr = passed.active / np.maximum(passed.n_active, 1)
        # The curve is level up to the FPR `before` each threshold, then linear to that `behind` it.
        before, behind = passed.inactive_above / inactive, passed.inactive / inactive
        level_from = np.concatenate([np.zeros((1, len(inactive))), behind])
        level_to = np.concatenate([before, np.ones((1, len(inactive)))])
        level = np.minimum(level_to, max_fpr) - np.minimum(level_from, max_fpr)
        width = np.minimum(behind, max_fpr) - np.minimum(before, max_fpr)
        rise = np.diff(tpr, axis=0) * width / np.where(behind > before, behind - before, 1.0)
        value = (tpr * level).sum(axis=0) + ((tpr[:-1] + rise / 2) * width).sum(axis=0)
        both = (passed.n_active > 0) & (passed.n_inactive > 0)
        return np.where(both, value / max_fpr, np.nan)

    return _mean_over_rankings(_rankings(scores, active, clip_of_frame, known), area)


def clip_best_f1(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    clip_of_frame: Int[np.ndarray, "frame"],
    thresholds: Float[np.ndarray, "threshold"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
) -> ClipStatistic:
    """Make a statistic of the highest "f1_macro" of `f1.f1_over_thresholds`.

    The threshold is the best one of each draw.

    Args:
        scores: the frames of all clips, one below the other.
        active: ground truth.
        clip_of_frame: number of each frame's clip, from 0.
        thresholds: in rising order.
        known: False for frames to leave out; None: there are none.
    """
    known = known_mask(scores, active, known)
    n_clips, n = int(clip_of_frame.max(initial=-1)) + 1, len(thresholds) + 1
    in_their_precision = thresholds.astype(scores.dtype)

    def by_clip(caption: int, selected: Bool[np.ndarray, "frame"]) -> Float[np.ndarray, "clip n"]:
        """Count the frames that reach at least 0, 1, … of the thresholds."""
        passed = np.searchsorted(in_their_precision, scores[selected, caption], side="right")
        cell = clip_of_frame[selected] * n + passed
        counts = np.bincount(cell, minlength=n_clips * n).reshape(n_clips, n)
        return counts[:, ::-1].cumsum(axis=1)[:, ::-1].astype(float)

    def statistic(times_drawn: Int[np.ndarray, "*draw clip"]) -> Float[np.ndarray, "*draw"]:
        times = np.atleast_2d(times_drawn).astype(float)
        total, n_captions = np.zeros((len(times), len(thresholds))), np.zeros(len(times))
        for caption, (is_active, is_known) in enumerate(zip(active.T, known.T, strict=True)):
            tp = times @ by_clip(caption, is_known & is_active)
            detected = times @ by_clip(caption, is_known)
            n_active = tp[:, 0]
            has_events = n_active > 0
            either = np.where(has_events, n_active, 1.0)[:, None] + detected[:, 1:]
            total += np.where(has_events[:, None], 2 * tp[:, 1:] / either, 0.0)
            n_captions += has_events
        return ratio(total.max(axis=1), n_captions).reshape(times_drawn.shape[:-1])

    return statistic


class _Ranking(NamedTuple):
    """Frames of one caption, or of all together, counted by threshold and clip.

    Thresholds are the distinct scores of its active frames, in descending order.

    Attributes:
        active: active frames of exactly the threshold, the sum of these matrices [threshold, clip],
            each of some of the frames; so are the next two.
        inactive: inactive frames that reach the threshold, but not the next higher one.
        equal: inactive frames of exactly the threshold (ties).
        n_active: all active frames.
        n_inactive: all inactive frames.
    """

    active: list[csr_array]
    inactive: list[csr_array]
    equal: list[csr_array]
    n_active: Int[np.ndarray, "clip"]
    n_inactive: Int[np.ndarray, "clip"]


class _Passed(NamedTuple):
    """Frames of the clips of each draw that reach each threshold, in descending order.

    Attributes:
        active: active frames; the first row is 0, above all thresholds.
        inactive: inactive frames that reach it.
        inactive_above: inactive frames that exceed it.
        n_active: all active frames.
        n_inactive: all inactive frames.
    """

    active: Float[np.ndarray, "threshold+1 draw"]
    inactive: Float[np.ndarray, "threshold draw"]
    inactive_above: Float[np.ndarray, "threshold draw"]
    n_active: Float[np.ndarray, "draw"]
    n_inactive: Float[np.ndarray, "draw"]


def _rankings(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    clip_of_frame: Int[np.ndarray, "frame"],
    known: Bool[np.ndarray, "frame caption"] | None,
    *,
    pooled: bool = False,
) -> Callable[[], Iterator[_Ranking]]:
    """Return what makes a ranking for each caption, or one for all of them together.

    One after the other: a ranking takes some eight bytes a score.
    """
    known = known_mask(scores, active, known)
    n_clips, n_captions = int(clip_of_frame.max(initial=-1)) + 1, scores.shape[1]
    ends = [0, n_captions] if pooled else range(n_captions + 1)

    def each() -> Iterator[_Ranking]:
        for columns in starmap(slice, pairwise(ends)):
            of_columns = (scores[:, columns], active[:, columns], known[:, columns])
            yield _ranking(*of_columns, clip_of_frame, n_clips)

    return each


def _ranking(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    known: Bool[np.ndarray, "frame caption"],
    clip_of_frame: Int[np.ndarray, "frame"],
    n_clips: int,
) -> _Ranking:
    thresholds = np.unique(scores[active & known])  # rising
    found = _Ranking([], [], [], *np.zeros((2, n_clips), dtype=int))

    def count(cells: tuple[Int[np.ndarray, "_"], Int[np.ndarray, "_"]]) -> csr_array:
        ones = np.ones(len(cells[0]), dtype=np.float32)  # their sums are exact up to 2 ** 24
        return csr_array((ones, cells), shape=(len(thresholds), n_clips))

    n_at_once = max(1, BLOCK // max(1, scores.shape[1]))
    for first in range(0, max(1, len(scores)), n_at_once):
        rows = slice(first, first + n_at_once)
        is_known = known[rows]
        score, is_active = scores[rows][is_known], active[rows][is_known]
        clip = clip_of_frame[rows].astype(np.int32)
        clip = np.broadcast_to(clip[:, None], is_known.shape)[is_known]
        # The highest threshold that a frame reaches, counted from the top.
        rank = len(thresholds) - np.searchsorted(thresholds, score, side="right").astype(np.int32)
        reaches = ~is_active & (rank < len(thresholds))
        equals = reaches.copy()
        equals[reaches] = score[reaches] == thresholds[::-1][rank[reaches]]
        for counts, of in (
            (found.active, is_active),
            (found.inactive, reaches),
            (found.equal, equals),
        ):
            counts.append(count((rank[of], clip[of])))
        found.n_active[:] += np.bincount(clip[is_active], minlength=n_clips)
        found.n_inactive[:] += np.bincount(clip[~is_active], minlength=n_clips)
    return found


def _passed(ranking: _Ranking, times: Float[np.ndarray, "clip draw"]) -> _Passed:
    def drawn(counts: list[csr_array]) -> Float[np.ndarray, "threshold draw"]:
        return sum(of_some @ times for of_some in counts)

    inactive = np.cumsum(drawn(ranking.inactive), axis=0)
    active = np.cumsum(drawn(ranking.active), axis=0)
    return _Passed(
        np.concatenate([np.zeros((1, times.shape[1])), active]),
        inactive,
        inactive - drawn(ranking.equal),
        ranking.n_active @ times,
        ranking.n_inactive @ times,
    )


def _mean_over_rankings(
    rankings: Callable[[], Iterator[_Ranking]],
    metric: Callable[[_Passed], Float[np.ndarray, "draw"]],
) -> ClipStatistic:
    """Make a statistic of the mean of a metric over rankings, without those where it is nan."""

    def statistic(times_drawn: Int[np.ndarray, "*draw clip"]) -> Float[np.ndarray, "*draw"]:
        times = np.atleast_2d(times_drawn).T.astype(float)
        total, n = np.zeros((2, times.shape[1]))
        for ranking in rankings():
            for block in blocks(times.shape[1], ranking.active[0].shape[0]):
                value = metric(_passed(ranking, np.ascontiguousarray(times[:, block])))
                is_number = ~np.isnan(value)
                total[block] += np.where(is_number, value, 0.0)
                n[block] += is_number
        return ratio(total, n).reshape(times_drawn.shape[:-1])

    return statistic
