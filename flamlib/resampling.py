"""Intervals and tests: what would other draws of as many clips have given?

Clips, not frames, are drawn with replacement, because the frames of a clip are alike. A statistic
gets how often each clip was drawn, [clip], and gives one number; or many draws at once, [draw,
clip], and gives one for each.

*Rankings.* AUROC, its part and average precision change only where an active frame is passed, so
all that a draw needs is how many frames stand above each active one, by clip:

    n_above(active frame) = sum over clips of times_drawn * frames of the clip at or above it

which for all draws is one product of a sparse matrix and the draws.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from scipy.sparse import csr_array

from flamlib.ranking import known_mask

ClipStatistic = Callable[[Int[np.ndarray, "*draw clip"]], Float[np.ndarray, "*draw"]]
SUMS = 1 << 22  # of one column in memory at once: 32 MB


def bootstrap(
    statistic: ClipStatistic, n_clips: int, *, n_resamples: int, seed: int
) -> tuple[float, float]:
    """95 % percentile interval of a statistic under other draws of as many clips.

    Clips, not frames, are drawn with replacement, because the frames of a clip are alike. A draw
    of which the statistic is nan (nothing to judge in it) is left out.

    >>> heard = np.array([0.0, 1.0, 1.0, 1.0])
    >>> low, high = bootstrap(clip_mean(heard), 4, n_resamples=1000, seed=0)
    >>> (float(low), float(high))
    (0.25, 1.0)
    """
    values = statistic(_draws(n_clips, n_resamples, seed))
    values = values[~np.isnan(values)]
    if not len(values):
        return np.nan, np.nan
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def paired_bootstrap(
    statistic: ClipStatistic, other: ClipStatistic, n_clips: int, *, n_resamples: int, seed: int
) -> tuple[float, float]:
    """The same interval of `statistic - other`, both taken on the same draw of clips.

    Two models tend to find the same clips hard, so this is narrower than their own intervals
    suggest. If it does not hold 0, the models differ.
    """
    return bootstrap(
        lambda times_drawn: statistic(times_drawn) - other(times_drawn),
        n_clips,
        n_resamples=n_resamples,
        seed=seed,
    )


def paired_test(
    statistic: ClipStatistic, other: ClipStatistic, n_clips: int, *, n_resamples: int, seed: int
) -> dict[str, float]:
    """Do two models differ, on the same clips? Both are taken on the same draws.

        difference       statistic - other, on the clips as they are
        low, high        95 % of the draws' differences lie between them
        p_value          min(1, 2 * (1 + k) / (1 + n_resamples)), where k is the number of draws on
                         the rarer side of zero, a difference of exactly zero counting to both

    The p-value asks how surely the sign of the difference is known; it cannot be smaller than
    2 / (1 + n_resamples). All are nan where no draw has anything to judge.
    """
    draws = _draws(n_clips, n_resamples, seed)
    differences = statistic(draws) - other(draws)
    differences = differences[~np.isnan(differences)]
    once = np.ones(n_clips, dtype=int)
    found = {"difference": float(statistic(once) - other(once))}
    if not len(differences):
        return found | {"low": np.nan, "high": np.nan, "p_value": np.nan}
    low, high = np.quantile(differences, [0.025, 0.975])
    rarer = min((differences <= 0).sum(), (differences >= 0).sum())
    p_value = min(1.0, 2 * (1 + rarer) / (1 + len(differences)))
    return found | {"low": float(low), "high": float(high), "p_value": float(p_value)}


def each_draw(of_one: Callable[[Int[np.ndarray, "clip"]], float]) -> ClipStatistic:
    """A statistic from a function of one draw."""

    def statistic(times_drawn: Int[np.ndarray, "*draw clip"]) -> Float[np.ndarray, "*draw"]:
        if times_drawn.ndim == 1:
            return np.array(of_one(times_drawn), dtype=float)
        return np.array([of_one(times) for times in times_drawn], dtype=float)

    return statistic


def clip_sum(
    counts: Num[np.ndarray, "clip *rest"], of: Callable[[np.ndarray], float]
) -> ClipStatistic:
    """A number `of` sums over clips, such as F1 of counts or accuracy of hits, as a statistic.

    >>> right_and_asked = np.array([[1, 2], [0, 2]])
    >>> float(clip_sum(right_and_asked, lambda n: n[0] / n[1])(np.array([2, 0])))
    0.5
    """
    return each_draw(lambda times_drawn: float(of(np.tensordot(times_drawn, counts, axes=1))))


def clip_mean(values: Num[np.ndarray, "clip"]) -> ClipStatistic:
    """The mean of one number per clip, as a statistic for `bootstrap`; nan is left out."""
    has = ~np.isnan(values)

    def statistic(times_drawn: Int[np.ndarray, "*draw clip"]) -> Float[np.ndarray, "*draw"]:
        times = np.atleast_2d(times_drawn)[:, has]
        return _ratio(times @ values[has], times.sum(axis=1)).reshape(times_drawn.shape[:-1])

    return statistic


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
        return _ratio(won_twice, 2 * passed.n_active * passed.n_silent)

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
        found = _ratio((np.diff(passed.active, axis=0) * at_threshold).sum(axis=0), passed.n_active)
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
        return _ratio(total.max(axis=1), n_heard).reshape(times_drawn.shape[:-1])

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
            for at in _blocks(times.shape[1], ranking.active.shape[0]):
                value = of(_passed(ranking, np.ascontiguousarray(times[:, at])))
                is_number = ~np.isnan(value)
                total[at] += np.where(is_number, value, 0.0)
                n[at] += is_number
        return _ratio(total, n).reshape(times_drawn.shape[:-1])

    return statistic


def _blocks(n_draws: int, n_thresholds: int) -> Iterator[slice]:
    """Draws, so many at once that their sums take bounded memory."""
    n_at_once = max(1, SUMS // max(1, n_thresholds))
    for first in range(0, n_draws, n_at_once):
        yield slice(first, first + n_at_once)


def _draws(n_clips: int, n_resamples: int, seed: int) -> Int[np.ndarray, "draw clip"]:
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_clips, np.full(n_clips, 1 / n_clips), size=n_resamples)


def _ratio(part: Num[np.ndarray, "draw"], of: Num[np.ndarray, "draw"]) -> Float[np.ndarray, "draw"]:
    """Their ratio; nan, without a warning, for a part of nothing."""
    return np.where(of > 0, part / np.where(of > 0, of, 1), np.nan)
