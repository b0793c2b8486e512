"""Bootstrap over clips: confidence intervals, and tests whether two models differ.

Clips, not frames, are drawn with replacement, because the frames of a clip are dependent (a cluster
bootstrap). A statistic is a function of how often each clip was drawn, [clip], and returns one
number; or of many draws at once, [draw, clip], and returns one for each. Several queries about one
clip, such as its captions in retrieval, are drawn together with it: `unit` is the clip of each.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int, Num
from scipy.sparse import csr_array

SUMS = 1 << 22  # numbers in memory at once, over several draws: 32 MB
ROUNDING = 1e-12  # of a difference between two statistics that are equal
ClipStatistic = Callable[[Int[np.ndarray, "*draw clip"]], Float[np.ndarray, "*draw"]]


def bootstrap(
    statistic: ClipStatistic, n_clips: int, *, n_resamples: int, seed: int
) -> tuple[float, float]:
    """Return the 95 % percentile interval of a statistic over bootstrap draws of the clips.

    Draws for which the statistic is nan, because it is not defined on them, are left out.

    Args:
        statistic: see the module's docstring.
        n_clips: how many there are, and how many are drawn each time.
        n_resamples: number of draws.
        seed: of the draws; the same seed gives the same draws.

    Returns:
        Its lower and its upper end; nan if no draw has a value.

    >>> correct = np.array([0.0, 1.0, 1.0, 1.0])
    >>> low, high = bootstrap(clip_mean(correct), 4, n_resamples=1000, seed=0)
    >>> (float(low), float(high))
    (0.25, 1.0)
    """
    values = statistic(_draws(n_clips, n_resamples, seed))
    values = values[~np.isnan(values)]
    if not len(values):
        return np.nan, np.nan
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def paired_test(
    statistic: ClipStatistic, other: ClipStatistic, n_clips: int, *, n_resamples: int, seed: int
) -> dict[str, float]:
    """Test whether two models differ on the same clips; both are evaluated on the same draws.

    Two models tend to fail on the same clips, so the interval of the difference is narrower than
    their own intervals suggest.

    Args:
        statistic: of the one model.
        other: of the other.
        n_clips: how many there are, and how many are drawn each time.
        n_resamples: number of draws.
        seed: of the draws.

    Returns:
        difference       statistic - other, on the clips as they are
        low, high        95 % percentile interval of the difference over the draws
        p_value          min(1, 2 * (1 + k) / (1 + n)), where n is the number of draws on which both
                         are defined, and k counts those whose difference is on the rarer side of
                         zero; a difference of zero (to 1e-12, for rounding) counts to both sides

        The p-value says how sure the sign of the difference is; it is at least 2 / (1 + n). All but
        the first are nan where no draw has a value.
    """
    draws = _draws(n_clips, n_resamples, seed)
    differences = statistic(draws) - other(draws)
    differences = differences[~np.isnan(differences)]
    once = np.ones(n_clips, dtype=int)
    result = {"difference": float(statistic(once) - other(once))}
    if not len(differences):
        return result | {"low": np.nan, "high": np.nan, "p_value": np.nan}
    low, high = np.quantile(differences, [0.025, 0.975])
    rarer = min((differences <= ROUNDING).sum(), (differences >= -ROUNDING).sum())
    p_value = min(1.0, 2 * (1 + rarer) / (1 + len(differences)))
    return result | {"low": float(low), "high": float(high), "p_value": float(p_value)}


def each_draw(of_one: Callable[[Int[np.ndarray, "clip"]], float]) -> ClipStatistic:
    """Make a statistic from a function of one draw."""

    def statistic(times_drawn: Int[np.ndarray, "*draw clip"]) -> Float[np.ndarray, "*draw"]:
        if times_drawn.ndim == 1:
            return np.array(of_one(times_drawn), dtype=float)
        return np.array([of_one(times) for times in times_drawn], dtype=float)

    return statistic


def clip_sum(
    counts: Num[np.ndarray, "clip *rest"], of: Callable[[np.ndarray], float]
) -> ClipStatistic:
    """Make a statistic from a function `of` sums over clips, such as F1 of counts.

    >>> correct_and_all = np.array([[1, 2], [0, 2]])
    >>> float(clip_sum(correct_and_all, lambda n: n[0] / n[1])(np.array([2, 0])))
    0.5
    """
    return each_draw(lambda times_drawn: float(of(np.tensordot(times_drawn, counts, axes=1))))


def clip_mean(values: Num[np.ndarray, "clip"]) -> ClipStatistic:
    """Make a statistic of the mean of one number per clip; nan is left out."""
    has = ~np.isnan(values)

    def statistic(times_drawn: Int[np.ndarray, "*draw clip"]) -> Float[np.ndarray, "*draw"]:
        times = np.atleast_2d(times_drawn)[:, has]
        return ratio(times @ values[has], times.sum(axis=1)).reshape(times_drawn.shape[:-1])

    return statistic


def query_mean(
    values: Num[np.ndarray, "query"], unit: Int[np.ndarray, "query"], n_clips: int
) -> ClipStatistic:
    """Make a statistic of the mean over queries, of which a clip has none, one or several.

    >>> correct, clip = np.array([1.0, 1.0, 0.0]), np.array([0, 0, 1])
    >>> float(query_mean(correct, clip, 2)(np.array([1, 2])))
    0.5
    """
    total = np.bincount(unit, values, n_clips)
    n_queries = np.bincount(unit, minlength=n_clips)

    def statistic(times_drawn: Int[np.ndarray, "*draw clip"]) -> Float[np.ndarray, "*draw"]:
        times = np.atleast_2d(times_drawn)
        return ratio(times @ total, times @ n_queries).reshape(times_drawn.shape[:-1])

    return statistic


def group_mean(values: Num[np.ndarray, "clip"], group: Int[np.ndarray, "clip"]) -> ClipStatistic:
    """Make a statistic of the mean over groups, such as folds or classes, of each group's mean.

    A group without a clip in a draw is left out of it.

    >>> correct, fold = np.array([1.0, 1.0, 0.0]), np.array([1, 1, 2])
    >>> float(group_mean(correct, fold)(np.array([1, 1, 1])))
    0.5
    """
    _, column = np.unique(group, return_inverse=True)
    n_groups = int(column.max(initial=-1)) + 1
    cells = np.arange(len(column)), column
    size = csr_array((np.ones(len(column)), cells), shape=(len(column), n_groups))
    total = csr_array((values.astype(float), cells), shape=size.shape)

    def statistic(times_drawn: Int[np.ndarray, "*draw clip"]) -> Float[np.ndarray, "*draw"]:
        times = np.atleast_2d(times_drawn)
        n_drawn = times @ size
        mean = np.where(n_drawn > 0, times @ total / np.maximum(n_drawn, 1), 0.0)
        return ratio(mean.sum(axis=1), (n_drawn > 0).sum(axis=1)).reshape(times_drawn.shape[:-1])

    return statistic


def query_median(
    values: Num[np.ndarray, "query"], unit: Int[np.ndarray, "query"], n_clips: int
) -> ClipStatistic:
    """Make a statistic of the median over queries, such as that of ranks; see `query_mean`.

    >>> rank, clip = np.array([1.0, 3.0, 9.0]), np.array([0, 0, 1])
    >>> float(query_median(rank, clip, 2)(np.array([1, 1])))
    3.0
    """
    distinct, place = np.unique(values, return_inverse=True)
    ones = np.ones(len(place))
    n_queries = csr_array((ones, (place, unit)), shape=(len(distinct), n_clips))

    def statistic(times_drawn: Int[np.ndarray, "*draw clip"]) -> Float[np.ndarray, "*draw"]:
        times = np.atleast_2d(times_drawn).T.astype(float)
        median = np.full(times.shape[1], np.nan)
        for block in blocks(times.shape[1], len(distinct)):
            # How many are at most each value; of an even number the mean of the middle two counts.
            passed = np.cumsum(n_queries @ np.ascontiguousarray(times[:, block]), axis=0)
            n = passed[-1] if len(passed) else np.zeros(passed.shape[1])
            some = n > 0
            middle = [(passed <= half).sum(axis=0)[some] for half in ((n - 1) // 2, n // 2)]
            of_draw = np.full(len(n), np.nan)
            of_draw[some] = (distinct[middle[0]] + distinct[middle[1]]) / 2
            median[block] = of_draw
        return median.reshape(times_drawn.shape[:-1])

    return statistic


def blocks(n_draws: int, n_sums: int) -> Iterator[slice]:
    """Yield slices of the draws, such that one slice needs at most `SUMS` numbers of memory.

    A draw needs `n_sums` numbers; a slice has at least one draw.
    """
    n_at_once = max(1, SUMS // max(1, n_sums))
    for first in range(0, n_draws, n_at_once):
        yield slice(first, first + n_at_once)


def _draws(n_clips: int, n_resamples: int, seed: int) -> Int[np.ndarray, "draw clip"]:
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_clips, np.full(n_clips, 1 / n_clips), size=n_resamples)


def ratio(part: Num[np.ndarray, "draw"], of: Num[np.ndarray, "draw"]) -> Float[np.ndarray, "draw"]:
    """Return part / of; nan, without a warning, where `of` is 0."""
    return np.where(of > 0, part / np.where(of > 0, of, 1), np.nan)
