"""Scores and truths to numbers: are captions told apart, found, ranked and believed?

Arrays in, numbers out: no function here knows a model or a file. Scores come first, truths second.

*Macro and pooled.* A macro mean gives every caption the same weight and does not mind if one
caption's scores are higher than another's. A pooled figure throws the frames of all captions
together, so it also asks that scores mean the same for all of them.

*What is left out.* A frame that is not `known` leaves the count altogether. A caption whose known
frames are all active or all silent has no ranking to judge: it is nan, takes no part in the macro
mean, and is counted in `n_skipped`. torchmetrics counts it as 0, which lowers the mean.

*Detected* means a score of at least the threshold.

PSDS is long enough for modules of its own: `psds`, `intersections`, `runs`.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from scipy.sparse import csr_array
from sklearn.metrics import average_precision_score

from flamlib.psds import psds

__all__ = [
    "average_precision",
    "bootstrap",
    "brier",
    "clip_auroc",
    "clip_mean",
    "expected_calibration_error",
    "f1_over_thresholds",
    "frame_auroc",
    "paired_bootstrap",
    "psds",
    "reliability",
    "retrieval",
]

SIMILARITIES = 1 << 22  # in memory at once while ranking: 32 MB
TIE = 1e-9  # of a cosine: equal embeddings may differ by rounding in a matrix product

ClipStatistic = Callable[[Int[np.ndarray, "clip"]], float]


def frame_auroc(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
) -> dict[str, float | int | np.ndarray]:
    """How often an active frame scores higher than a silent one; a tie counts half.

        AUROC = (pairs with active > silent + 1/2 * pairs with active = silent)
                / (active frames * silent frames)

    over all pairs of an active and a silent frame, of one caption ("per_caption", nan where there
    is no pair; "macro" is their mean, "n_skipped" says how many are left out) or of any captions
    ("pooled"). The frames of all clips stand below one another. Exact: nothing is binned.
    """
    known = _known(scores, active, known)
    per_caption = np.array(
        [
            _auroc(score[is_known & is_active], score[is_known & ~is_active])
            for score, is_active, is_known in zip(scores.T, active.T, known.T, strict=True)
        ]
    )
    return {
        "macro": _mean_of_known(per_caption),
        "pooled": _auroc(scores[known & active], scores[known & ~active]),
        "per_caption": per_caption,
        "n_skipped": int(np.isnan(per_caption).sum()),
    }


def average_precision(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
) -> dict[str, float | int | np.ndarray]:
    """Precision averaged over recall, sum over thresholds of (recall gained) * precision.

    "macro" is the mean over captions, often called mAP. Unlike AUROC it depends on how rare a
    caption is: a model that knows nothing scores the fraction of active frames.
    """
    known = _known(scores, active, known)
    per_caption = np.full(scores.shape[1], np.nan)
    for caption, is_known in enumerate(known.T):
        score, is_active = scores[is_known, caption], active[is_known, caption]
        if is_active.any() and not is_active.all():
            per_caption[caption] = average_precision_score(is_active, score)
    return {
        "macro": _mean_of_known(per_caption),
        "per_caption": per_caption,
        "n_skipped": int(np.isnan(per_caption).sum()),
    }


def f1_over_thresholds(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    thresholds: Float[np.ndarray, "threshold"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
) -> dict[str, float | int | np.ndarray]:
    """Frame-wise F1 when one threshold serves all captions, for each of several in rising order.

        F1 = 2 * TP / (2 * TP + FP + FN)

    "f1_macro" and "f1_pooled" go with "threshold"; "best_macro" and "best_pooled" are the (lowest)
    thresholds at which they are highest. Chosen on the clips it is then reported for, a best
    threshold flatters. A caption that is never active has no F1 and leaves the macro mean
    ("n_skipped"), but its false positives count in the pooled figure.
    """
    known = _known(scores, active, known)
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


def reliability(
    prob: Float[np.ndarray, "*shape"], active: Bool[np.ndarray, "*shape"], n_bins: int = 15
) -> dict[str, np.ndarray]:
    """Is what is claimed with probability p true a fraction p of the time?

    Bin k holds the probabilities in [k, k + 1) / n_bins, the last one 1 as well. For each: its
    "centre", the "mean_prob" claimed, the "frequency" with which it was true, and the "count" of
    frames; nan where there are none. Select the known frames first: `prob[known], active[known]`.
    """
    prob, active = _probabilities(prob, active)
    bin_of = np.minimum((prob * n_bins).astype(int), n_bins - 1)
    count = np.bincount(bin_of, minlength=n_bins)
    at_least_one = np.where(count > 0, count, np.nan)
    return {
        "centre": (np.arange(n_bins) + 0.5) / n_bins,
        "mean_prob": np.bincount(bin_of, prob, minlength=n_bins) / at_least_one,
        "frequency": np.bincount(bin_of, active, minlength=n_bins) / at_least_one,
        "count": count,
    }


def expected_calibration_error(
    prob: Float[np.ndarray, "*shape"], active: Bool[np.ndarray, "*shape"], n_bins: int = 15
) -> float:
    """Mean over frames of how far their bin's claim is from the truth; 0 is perfect.

        ECE = sum over bins of count / total * |frequency - mean_prob|

    A model that always claims the base rate scores 0 as well: read it beside AUROC.
    """
    bins = reliability(prob, active, n_bins)
    gap = np.abs(bins["frequency"] - bins["mean_prob"])
    return float(np.nansum(gap * bins["count"]) / bins["count"].sum())


def brier(prob: Float[np.ndarray, "*shape"], active: Bool[np.ndarray, "*shape"]) -> float:
    """Mean of (prob - active)^2: calibration and discrimination in one; 0 is perfect."""
    prob, active = _probabilities(prob, active)
    return float(np.mean((prob - active) ** 2))


def retrieval(
    clip_emb: Float[np.ndarray, "clip dim"],
    caption_emb: Float[np.ndarray, "caption dim"],
    clip_of_caption: Int[np.ndarray, "caption"] | None = None,
    *,
    relevant: Bool[np.ndarray, "caption clip"] | None = None,
) -> dict[str, float]:
    """Search of clips by caption (`t2a_`) and of captions by clip (`a2t_`), by dot product.

    What is right is given by `clip_of_caption`, the one clip that each caption describes, or by
    `relevant`, when a caption is true of several. A clip may have any number of captions. For each
    direction, over the queries that have a right answer ("n"):

        r1 r5 r10     fraction whose best-placed right answer is among the first 1, 5, 10
        median_rank   of the best-placed right answer, counted from 1
        map10         mean of 1 / min(R, 10) * sum of i / rank of the i-th right answer, over those
                      among the first 10, where R is the number of right answers

    Ties are lost: a wrong answer that is just as similar is placed before the right one, so a model
    that gives every clip one embedding finds nothing. (LAION-CLAP's script, which sorts, lets such
    a model win by chance; its logged a2t mAP@10 also leaves the ranks of a clip's captions unsorted
    and is higher than ours.)
    """
    if (clip_of_caption is None) == (relevant is None):
        raise ValueError("give either clip_of_caption or relevant")
    if relevant is None:
        n_captions, n_clips = len(caption_emb), len(clip_emb)
        if ((clip_of_caption < 0) | (clip_of_caption >= n_clips)).any():
            raise ValueError(f"clip_of_caption points beyond the {n_clips} clips there are")
        one_each = np.ones(n_captions, dtype=bool)
        rows = np.arange(n_captions)
        is_right = csr_array((one_each, (rows, clip_of_caption)), shape=(n_captions, n_clips))
    else:
        is_right = csr_array(relevant)
    for name, emb in (("clip_emb", clip_emb), ("caption_emb", caption_emb)):
        if not np.isfinite(emb).all():
            raise ValueError(f"{name} is not finite in row {np.argwhere(~np.isfinite(emb))[0][0]}")
    by_caption = _search(caption_emb, clip_emb, is_right)
    by_clip = _search(clip_emb, caption_emb, csr_array(is_right.T))
    return {
        **{f"t2a_{name}": value for name, value in by_caption.items()},
        **{f"a2t_{name}": value for name, value in by_clip.items()},
    }


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


def clip_mean(values: Num[np.ndarray, "clip"]) -> ClipStatistic:
    """The mean of one number per clip, as a statistic for `bootstrap`."""
    return lambda times_drawn: float(np.average(values, weights=times_drawn))


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
    known = _known(scores, active, known)
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
        return _mean_of_known(np.array([_drawn_auroc(times_drawn, *r) for r in rankings]))

    return statistic


def _auroc(above: Float[np.ndarray, "active"], below: Float[np.ndarray, "silent"]) -> float:
    """How often a value of `above` is higher than one of `below`, a tie counting half."""
    if not len(above) or not len(below):
        return np.nan
    # Sorted needles as well: the search then walks through memory instead of jumping.
    above, below = np.sort(above), np.sort(below)
    won = np.searchsorted(below, above, side="left").sum()
    won_or_tied = np.searchsorted(below, above, side="right").sum()
    return float(int(won + won_or_tied) / (2 * len(above) * len(below)))


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


def _search(
    query_emb: Float[np.ndarray, "query dim"],
    item_emb: Float[np.ndarray, "item dim"],
    is_right: csr_array,
) -> dict[str, float]:
    """Retrieval of items by queries; `is_right` is [query, item]."""
    n_right = np.diff(is_right.indptr)
    asked, n_right = np.flatnonzero(n_right), n_right[n_right > 0]
    item_emb = item_emb.astype(np.float64)
    first_rank, average_precision = np.empty(len(asked)), np.empty(len(asked))
    n_at_once = max(1, SIMILARITIES // len(item_emb))
    for start in range(0, len(asked), n_at_once):
        at = slice(start, start + n_at_once)
        similarity = query_emb[asked[at]].astype(np.float64) @ item_emb.T
        query, item = is_right[asked[at]].nonzero()
        place = np.arange(len(query)) - np.searchsorted(query, query)
        right = np.full((len(similarity), n_right[at].max()), -np.inf)
        right[query, place] = similarity[query, item]
        similarity[query, item] = -np.inf  # which leaves the wrong answers

        # No right answer beyond the tenth can be among the first ten.
        right = np.sort(right, axis=1)[:, :-11:-1]
        precision = np.zeros(right.shape)
        for i, sims in enumerate(right.T):
            rank = i + 1 + np.count_nonzero(similarity >= sims[:, None] - TIE, axis=1)
            precision[:, i] = (i + 1) / rank * ((rank <= 10) & (i < n_right[at]))
            if i == 0:
                first_rank[at] = rank
        average_precision[at] = precision.sum(axis=1) / np.minimum(n_right[at], 10)
    return {
        "r1": _mean_of_known(first_rank <= 1),
        "r5": _mean_of_known(first_rank <= 5),
        "r10": _mean_of_known(first_rank <= 10),
        "map10": _mean_of_known(average_precision),
        "median_rank": float(np.median(first_rank)) if len(asked) else np.nan,
        "n": len(asked),
    }


def _known(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    known: Bool[np.ndarray, "frame caption"] | None,
) -> Bool[np.ndarray, "frame caption"]:
    """The mask to use, after a look at the scores under it."""
    known = np.ones(scores.shape, dtype=bool) if known is None else known
    if not scores.shape == active.shape == known.shape:
        raise ValueError(
            f"scores {scores.shape}, active {active.shape} and known {known.shape} must be of one "
            "shape, [frame, caption]"
        )
    if (np.isnan(scores) & known).any():
        frame, caption = np.argwhere(np.isnan(scores) & known)[0]
        raise ValueError(f"the score in row {frame}, column {caption} is NaN")
    return known


def _probabilities(
    prob: Float[np.ndarray, "*shape"], active: Bool[np.ndarray, "*shape"]
) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Both in one row, in double precision: sums of 20 million floats go wrong in single."""
    prob, active = prob.astype(np.float64).ravel(), active.ravel()
    if not len(prob) or len(prob) != len(active):
        raise ValueError(f"{len(prob)} probabilities for {len(active)} truths")
    if not ((prob >= 0) & (prob <= 1)).all():
        raise ValueError("probabilities must be in [0, 1]: are these logits or cosines?")
    return prob, active


def _mean_of_known(values: np.ndarray) -> float:
    """The mean of what is not nan; nan, without a warning, if that is nothing."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else np.nan
