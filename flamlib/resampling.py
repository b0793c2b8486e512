"""Intervals and tests: what would other draws of as many clips have given?

Clips, not frames, are drawn with replacement, because the frames of a clip are alike. A statistic
gets how often each clip was drawn, [clip], and gives one number.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from flamlib.ranking import known_mask, mean_of_known, roc_area

ClipStatistic = Callable[[Int[np.ndarray, "clip"]], float]


def bootstrap(
    statistic: ClipStatistic, n_clips: int, *, n_resamples: int, seed: int
) -> tuple[float, float]:
    """95 % percentile interval of a statistic under other draws of as many clips.

    Clips, not frames, are drawn with replacement, because the frames of a clip are alike.
    `statistic` gets how often each clip was drawn, [clip], and gives one number; nan (nothing to
    judge in this draw) is left out.

    >>> heard = np.array([0.0, 1.0, 1.0, 1.0])
    >>> low, high = bootstrap(clip_mean(heard), 4, n_resamples=1000, seed=0)
    >>> (float(low), float(high))
    (0.25, 1.0)
    """
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(n_clips, np.full(n_clips, 1 / n_clips), size=n_resamples)
    values = np.array([statistic(times_drawn) for times_drawn in draws])
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
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(n_clips, np.full(n_clips, 1 / n_clips), size=n_resamples)
    differences = np.array([statistic(times) - other(times) for times in draws])
    differences = differences[~np.isnan(differences)]
    once = np.ones(n_clips, dtype=int)
    found = {"difference": float(statistic(once) - other(once))}
    if not len(differences):
        return found | {"low": np.nan, "high": np.nan, "p_value": np.nan}
    low, high = np.quantile(differences, [0.025, 0.975])
    rarer = min((differences <= 0).sum(), (differences >= 0).sum())
    p_value = min(1.0, 2 * (1 + rarer) / (1 + len(differences)))
    return found | {"low": float(low), "high": float(high), "p_value": float(p_value)}


def clip_sum(
    counts: Num[np.ndarray, "clip *rest"], of: Callable[[np.ndarray], float]
) -> ClipStatistic:
    """A number `of` sums over clips, such as F1 of counts or accuracy of hits, as a statistic.

    >>> right_and_asked = np.array([[1, 2], [0, 2]])
    >>> clip_sum(right_and_asked, lambda n: n[0] / n[1])(np.array([2, 0]))
    0.5
    """
    return lambda times_drawn: float(of(np.tensordot(times_drawn, counts, axes=1)))


def clip_mean(values: Num[np.ndarray, "clip"]) -> ClipStatistic:
    """The mean of one number per clip, as a statistic for `bootstrap`; nan is left out."""
    has = ~np.isnan(values)

    def statistic(times_drawn: Int[np.ndarray, "clip"]) -> float:
        n = times_drawn[has].sum()
        return float(values[has] @ times_drawn[has] / n) if n else np.nan

    return statistic


def clip_auroc(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    clip_of_frame: Int[np.ndarray, "frame"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
    *,
    pooled: bool,
) -> ClipStatistic:
    """`frame_auroc`, macro or pooled, as a statistic for `bootstrap`.

    The scores are sorted once; a draw then only weighs the frames by how often their clip came.
    """
    known = known_mask(scores, active, known)
    clip_of = np.broadcast_to(clip_of_frame[:, None], scores.shape)
    if pooled:
        columns = [(scores[known], active[known], clip_of[known])]
    else:
        columns = [
            (score[is_known], is_active[is_known], clip_of_frame[is_known])
            for score, is_active, is_known in zip(scores.T, active.T, known.T, strict=True)
        ]
    rankings = [_ranked_clips(*column) for column in columns]

    def statistic(times_drawn: Int[np.ndarray, "clip"]) -> float:
        return mean_of_known(np.array([_drawn_auroc(times_drawn, *r) for r in rankings]))

    return statistic


def clip_average_precision(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    clip_of_frame: Int[np.ndarray, "frame"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
) -> ClipStatistic:
    """The macro `average_precision` as a statistic for `bootstrap`."""
    known = known_mask(scores, active, known)
    rankings = _falling(scores, active, clip_of_frame, known)

    def statistic(times_drawn: Int[np.ndarray, "clip"]) -> float:
        return mean_of_known(np.array([_drawn_precision(times_drawn, *r) for r in rankings]))

    return statistic


def clip_partial_auroc(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    clip_of_frame: Int[np.ndarray, "frame"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
    *,
    max_fpr: float,
) -> ClipStatistic:
    """The "macro" of `partial_auroc` as a statistic for `bootstrap`."""
    known = known_mask(scores, active, known)
    rankings = _falling(scores, active, clip_of_frame, known)

    def statistic(times_drawn: Int[np.ndarray, "clip"]) -> float:
        areas = [_drawn_area(times_drawn, *ranking, max_fpr) for ranking in rankings]
        return mean_of_known(np.array(areas)) / max_fpr

    return statistic


def _falling(scores, active, clip_of_frame, known) -> list[tuple[np.ndarray, ...]]:
    """For each caption, clip and truth of its known frames in falling order of score, and where
    the last of equal scores stand."""
    rankings = []
    for score, is_active, is_known in zip(scores.T, active.T, known.T, strict=True):
        rows = np.flatnonzero(is_known)
        rows = rows[np.argsort(-score[rows], kind="stable")]
        last = np.flatnonzero(np.append(score[rows][1:] != score[rows][:-1], True))
        rankings.append((clip_of_frame[rows], is_active[rows], last if len(rows) else rows))
    return rankings


def _drawn_area(
    times_drawn: Int[np.ndarray, "clip"],
    clip: Int[np.ndarray, "frame"],
    active: Bool[np.ndarray, "frame"],
    last: Int[np.ndarray, "threshold"],
    max_fpr: float,
) -> float:
    weight = times_drawn[clip]
    passed, right = np.cumsum(weight)[last], np.cumsum(weight * active)[last]
    if not len(last):
        return np.nan
    return roc_area(right, passed - right, max_fpr)


def _drawn_precision(
    times_drawn: Int[np.ndarray, "clip"],
    clip: Int[np.ndarray, "frame"],
    active: Bool[np.ndarray, "frame"],
    last: Int[np.ndarray, "threshold"],
) -> float:
    """Average precision of frames in falling order of score, the `last` of equal ones marked."""
    weight = times_drawn[clip]
    passed, right = np.cumsum(weight)[last], np.cumsum(weight * active)[last]
    if not len(last) or right[-1] in (0, passed[-1]):
        return np.nan
    gained = np.diff(right, prepend=0) / right[-1]
    return float(gained @ (right / np.maximum(passed, 1)))


def _ranked_clips(
    score: Float[np.ndarray, "frame"],
    active: Bool[np.ndarray, "frame"],
    clip: Int[np.ndarray, "frame"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The clips of the active frames and those of the silent ones in order of score; and for each
    active frame, how many silent ones it beats and how many it beats or equals."""
    order = np.flatnonzero(~active)[np.argsort(score[~active])]
    beaten, beaten_or_equal = (
        np.searchsorted(score[order], score[active], side=side) for side in ("left", "right")
    )
    return clip[active], clip[order], beaten, beaten_or_equal


def _drawn_auroc(
    times_drawn: Int[np.ndarray, "clip"],
    active_clip: Int[np.ndarray, "active"],
    silent_clip: Int[np.ndarray, "silent"],
    beaten: Int[np.ndarray, "active"],
    beaten_or_equal: Int[np.ndarray, "active"],
) -> float:
    """AUROC when each frame stands for as many as its clip was drawn."""
    n_silent = np.append(0, np.cumsum(times_drawn[silent_clip]))
    n_active = times_drawn[active_clip]
    n_pairs = int(n_active.sum()) * int(n_silent[-1])
    if not n_pairs:
        return np.nan
    return int(n_active @ (n_silent[beaten] + n_silent[beaten_or_equal])) / (2 * n_pairs)
