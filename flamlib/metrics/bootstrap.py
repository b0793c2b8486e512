"""Intervals and tests: what would other draws of as many clips have given?

Clips, not frames, are drawn with replacement, because the frames of a clip are alike. A statistic
gets how often each clip was drawn, [clip], and gives one number; or many draws at once, [draw,
clip], and gives one for each. Where many things were asked of a clip, such as its captions in a
search, they are drawn with it: `unit` says which clip each belongs to.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int, Num
from scipy.sparse import csr_array

SUMS = 1 << 22  # of many draws in memory at once: 32 MB
ROUNDING = 1e-12  # of a difference between two statistics that are equal
ClipStatistic = Callable[[Int[np.ndarray, "*draw clip"]], Float[np.ndarray, "*draw"]]


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
        p_value          min(1, 2 * (1 + k) / (1 + n)), where n is the number of draws that have
                         anything to judge, and k of those on the rarer side of zero, a difference
                         of zero (to 1e-12: sums may end a hair apart) counting to both

    The p-value asks how surely the sign of the difference is known; it cannot be smaller than
    2 / (1 + n). All are nan where no draw has anything to judge.
    """
    draws = _draws(n_clips, n_resamples, seed)
    differences = statistic(draws) - other(draws)
    differences = differences[~np.isnan(differences)]
    once = np.ones(n_clips, dtype=int)
    found = {"difference": float(statistic(once) - other(once))}
    if not len(differences):
        return found | {"low": np.nan, "high": np.nan, "p_value": np.nan}
    low, high = np.quantile(differences, [0.025, 0.975])
    rarer = min((differences <= ROUNDING).sum(), (differences >= -ROUNDING).sum())
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
        return ratio(times @ values[has], times.sum(axis=1)).reshape(times_drawn.shape[:-1])

    return statistic


def clip_share(
    values: Num[np.ndarray, "asked"], unit: Int[np.ndarray, "asked"], n_clips: int
) -> ClipStatistic:
    """The mean of what was asked of clips, none or many times of each, as a statistic.

    >>> found, clip = np.array([1.0, 1.0, 0.0]), np.array([0, 0, 1])
    >>> float(clip_share(found, clip, 2)(np.array([1, 2])))
    0.5
    """
    total = np.bincount(unit, values, n_clips)
    n_asked = np.bincount(unit, minlength=n_clips)

    def statistic(times_drawn: Int[np.ndarray, "*draw clip"]) -> Float[np.ndarray, "*draw"]:
        times = np.atleast_2d(times_drawn)
        return ratio(times @ total, times @ n_asked).reshape(times_drawn.shape[:-1])

    return statistic


def clip_group_mean(
    values: Num[np.ndarray, "clip"], group: Int[np.ndarray, "clip"]
) -> ClipStatistic:
    """The mean over groups of clips, such as folds or classes, of the mean of each, as a statistic.

    A group of which a draw has no clip is left out of it.

    >>> right, fold = np.array([1.0, 1.0, 0.0]), np.array([1, 1, 2])
    >>> float(clip_group_mean(right, fold)(np.array([1, 1, 1])))
    0.5
    """
    _, column = np.unique(group, return_inverse=True)
    n_groups = int(column.max(initial=-1)) + 1
    at = np.arange(len(column)), column
    size = csr_array((np.ones(len(column)), at), shape=(len(column), n_groups))
    total = csr_array((values.astype(float), at), shape=size.shape)

    def statistic(times_drawn: Int[np.ndarray, "*draw clip"]) -> Float[np.ndarray, "*draw"]:
        times = np.atleast_2d(times_drawn)
        n_drawn = times @ size
        mean = np.where(n_drawn > 0, times @ total / np.maximum(n_drawn, 1), 0.0)
        return ratio(mean.sum(axis=1), (n_drawn > 0).sum(axis=1)).reshape(times_drawn.shape[:-1])

    return statistic


def clip_median(
    values: Num[np.ndarray, "asked"], unit: Int[np.ndarray, "asked"], n_clips: int
) -> ClipStatistic:
    """The median of what was asked of clips, such as ranks, as a statistic; see `clip_share`.

    >>> rank, clip = np.array([1.0, 3.0, 9.0]), np.array([0, 0, 1])
    >>> float(clip_median(rank, clip, 2)(np.array([1, 1])))
    3.0
    """
    distinct, place = np.unique(values, return_inverse=True)
    ones = np.ones(len(place))
    asked = csr_array((ones, (place, unit)), shape=(len(distinct), n_clips))

    def statistic(times_drawn: Int[np.ndarray, "*draw clip"]) -> Float[np.ndarray, "*draw"]:
        times = np.atleast_2d(times_drawn).T.astype(float)
        median = np.full(times.shape[1], np.nan)
        for at in blocks(times.shape[1], len(distinct)):
            # How many are at most each value; of an even number the middle two count alike.
            passed = np.cumsum(asked @ np.ascontiguousarray(times[:, at]), axis=0)
            n = passed[-1] if len(passed) else np.zeros(passed.shape[1])
            some = n > 0
            middle = [(passed <= half).sum(axis=0)[some] for half in ((n - 1) // 2, n // 2)]
            found = np.full(len(n), np.nan)
            found[some] = (distinct[middle[0]] + distinct[middle[1]]) / 2
            median[at] = found
        return median.reshape(times_drawn.shape[:-1])

    return statistic


def blocks(n_draws: int, n_sums: int) -> Iterator[slice]:
    """Draws, so many at once that the sums of each, so many, take bounded memory."""
    n_at_once = max(1, SUMS // max(1, n_sums))
    for first in range(0, n_draws, n_at_once):
        yield slice(first, first + n_at_once)


def _draws(n_clips: int, n_resamples: int, seed: int) -> Int[np.ndarray, "draw clip"]:
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_clips, np.full(n_clips, 1 / n_clips), size=n_resamples)


def ratio(part: Num[np.ndarray, "draw"], of: Num[np.ndarray, "draw"]) -> Float[np.ndarray, "draw"]:
    """Their ratio; nan, without a warning, for a part of nothing."""
    return np.where(of > 0, part / np.where(of > 0, of, 1), np.nan)
