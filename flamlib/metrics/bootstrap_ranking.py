"""Frames under other draws of clips: ranked by score, or claimed at the best threshold.

AUROC, its part and average precision change only where an active frame is passed, so all that a
draw needs is how many frames stand above each active one, by clip:

    n_above(active frame) = sum over clips of times_drawn * frames of the clip at or above it

which for all draws is one product of a sparse matrix and the draws.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from flamlib.metrics.bootstrap import ClipStatistic, blocks, ratio
from flamlib.metrics.ranking import known_mask


def clip_auroc(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    clip_of_frame: Int[np.ndarray, "frame"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
    *,
    pooled: bool,
) -> ClipStatistic:
    """`frame_auroc`, macro or pooled, as a statistic for `bootstrap`."""

    def auroc(passed: _Passed) -> Float[np.ndarray, "draw"]:
        beaten_or_equal = passed.n_silent - passed.silent_above
        beaten = passed.n_silent - passed.silent
        won_twice = (np.diff(passed.active, axis=0) * (beaten + beaten_or_equal)).sum(axis=0)
        return ratio(won_twice, 2 * passed.n_active * passed.n_silent)

    return _of_rankings(_rankings(scores, active, clip_of_frame, known, pooled=pooled), auroc)


def clip_average_precision(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    clip_of_frame: Int[np.ndarray, "frame"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
) -> ClipStatistic:
    """The macro `average_precision` as a statistic for `bootstrap`."""

    def precision(passed: _Passed) -> Float[np.ndarray, "draw"]:
        right = passed.active[1:]
        at_threshold = right / np.maximum(right + passed.silent, 1)
        found = ratio((np.diff(passed.active, axis=0) * at_threshold).sum(axis=0), passed.n_active)
        return np.where(passed.n_silent > 0, found, np.nan)

    return _of_rankings(_rankings(scores, active, clip_of_frame, known), precision)


def clip_partial_auroc(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    clip_of_frame: Int[np.ndarray, "frame"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
    *,
    max_fpr: float,
) -> ClipStatistic:
    """The "macro" of `partial_auroc` as a statistic for `bootstrap`."""

    def area(passed: _Passed) -> Float[np.ndarray, "draw"]:
        silent = np.maximum(passed.n_silent, 1)
        tpr = passed.active / np.maximum(passed.n_active, 1)
        # The curve runs level to `before` each threshold, and straight on to `behind` it.
        before, behind = passed.silent_above / silent, passed.silent / silent
        level_from = np.concatenate([np.zeros((1, len(silent))), behind])
        level_to = np.concatenate([before, np.ones((1, len(silent)))])
        level = np.minimum(level_to, max_fpr) - np.minimum(level_from, max_fpr)
        width = np.minimum(behind, max_fpr) - np.minimum(before, max_fpr)
        rise = np.diff(tpr, axis=0) * width / np.where(behind > before, behind - before, 1.0)
        found = (tpr * level).sum(axis=0) + ((tpr[:-1] + rise / 2) * width).sum(axis=0)
        both = (passed.n_active > 0) & (passed.n_silent > 0)
        return np.where(both, found / max_fpr, np.nan)

    return _of_rankings(_rankings(scores, active, clip_of_frame, known), area)


def clip_best_f1(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    clip_of_frame: Int[np.ndarray, "frame"],
    thresholds: Float[np.ndarray, "threshold"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
) -> ClipStatistic:
    """The highest "f1_macro" of `decisions.f1_over_thresholds` as a statistic for `bootstrap`: the
    threshold is the best one of each draw."""
    known = known_mask(scores, active, known)
    n_clips, n = int(clip_of_frame.max(initial=-1)) + 1, len(thresholds) + 1
    passed = np.searchsorted(thresholds.astype(scores.dtype), scores, side="right")

    def by_clip(caption: int, which: Bool[np.ndarray, "frame"]) -> Float[np.ndarray, "clip n"]:
        """How many frames reach no threshold or more, one or more, …"""
        at = clip_of_frame[which] * n + passed[which, caption]
        counts = np.bincount(at, minlength=n_clips * n).reshape(n_clips, n)
        return counts[:, ::-1].cumsum(axis=1)[:, ::-1].astype(float)

    def statistic(times_drawn: Int[np.ndarray, "*draw clip"]) -> Float[np.ndarray, "*draw"]:
        times = np.atleast_2d(times_drawn).astype(float)
        total, n_heard = np.zeros((len(times), len(thresholds))), np.zeros(len(times))
        for caption, (is_active, is_known) in enumerate(zip(active.T, known.T, strict=True)):
            right = times @ by_clip(caption, is_known & is_active)
            claimed = times @ by_clip(caption, is_known)
            n_active = right[:, 0]
            heard = n_active > 0
            either = np.where(heard, n_active, 1.0)[:, None] + claimed[:, 1:]
            total += np.where(heard[:, None], 2 * right[:, 1:] / either, 0.0)
            n_heard += heard
        return ratio(total.max(axis=1), n_heard).reshape(times_drawn.shape[:-1])

    return statistic


class _Ranking(NamedTuple):
    """The frames of a column by the distinct scores of its active ones, falling: how many of each
    clip are active with that score; are silent and reach it, but not the one before; are silent
    with just that score."""

    active: csr_array  # [threshold, clip], as the next two
    silent: csr_array
    equal: csr_array
    n_active: Int[np.ndarray, "clip"]
    n_silent: Int[np.ndarray, "clip"]


class _Passed(NamedTuple):
    """How many frames of a draw's clips reach each threshold, falling; `active` begins with none.
    `silent_above` are those that exceed it."""

    active: Float[np.ndarray, "threshold+1 draw"]
    silent: Float[np.ndarray, "threshold draw"]
    silent_above: Float[np.ndarray, "threshold draw"]
    n_active: Float[np.ndarray, "draw"]
    n_silent: Float[np.ndarray, "draw"]


def _rankings(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    clip_of_frame: Int[np.ndarray, "frame"],
    known: Bool[np.ndarray, "frame caption"] | None,
    *,
    pooled: bool = False,
) -> list[_Ranking]:
    """One for each caption, or one for all of them together."""
    known = known_mask(scores, active, known)
    n_clips = int(clip_of_frame.max(initial=-1)) + 1
    if pooled:
        clip = np.broadcast_to(clip_of_frame[:, None], scores.shape)[known]
        return [_ranking(scores[known], active[known], clip, n_clips)]
    return [
        _ranking(score[is_known], is_active[is_known], clip_of_frame[is_known], n_clips)
        for score, is_active, is_known in zip(scores.T, active.T, known.T, strict=True)
    ]


def _ranking(
    score: Float[np.ndarray, "frame"],
    active: Bool[np.ndarray, "frame"],
    clip: Int[np.ndarray, "frame"],
    n_clips: int,
) -> _Ranking:
    thresholds = np.unique(score[active])  # rising
    # The highest threshold that a frame reaches, counted from the top.
    place = len(thresholds) - np.searchsorted(thresholds, score, side="right")
    reaches = place < len(thresholds)
    equals = reaches.copy()
    equals[reaches] = score[reaches] == thresholds[::-1][place[reaches]]

    def counted(which: Bool[np.ndarray, "frame"]) -> csr_array:
        at = place[which], clip[which]
        return csr_array((np.ones(len(at[0])), at), shape=(len(thresholds), n_clips))

    return _Ranking(
        counted(active),
        counted(~active & reaches),
        counted(~active & equals),
        np.bincount(clip[active], minlength=n_clips),
        np.bincount(clip[~active], minlength=n_clips),
    )


def _passed(ranking: _Ranking, times: Float[np.ndarray, "clip draw"]) -> _Passed:
    silent = np.cumsum(ranking.silent @ times, axis=0)
    active = np.cumsum(ranking.active @ times, axis=0)
    return _Passed(
        np.concatenate([np.zeros((1, times.shape[1])), active]),
        silent,
        silent - ranking.equal @ times,
        ranking.n_active @ times,
        ranking.n_silent @ times,
    )


def _of_rankings(
    rankings: list[_Ranking], of: Callable[[_Passed], Float[np.ndarray, "draw"]]
) -> ClipStatistic:
    """The mean over columns of what `of` makes of them, but for those where it is nan."""

    def statistic(times_drawn: Int[np.ndarray, "*draw clip"]) -> Float[np.ndarray, "*draw"]:
        times = np.atleast_2d(times_drawn).T.astype(float)
        total, n = np.zeros((2, times.shape[1]))
        for ranking in rankings:
            for at in blocks(times.shape[1], ranking.active.shape[0]):
                value = of(_passed(ranking, np.ascontiguousarray(times[:, at])))
                is_number = ~np.isnan(value)
                total[at] += np.where(is_number, value, 0.0)
                n[at] += is_number
        return ratio(total, n).reshape(times_drawn.shape[:-1])

    return statistic
