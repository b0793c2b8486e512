"""Ranking of active above inactive frames: AUROC, partial AUROC and average precision.

*Macro and pooled.* A macro mean gives every caption the same weight and does not depend on whether
one caption's scores are higher than another's. A pooled metric ranks the frames of all captions
together (micro average), so it also asks that scores mean the same for all of them.

*What is left out.* A frame that is not `known` leaves every count. A caption whose known frames are
all active or all inactive has no ranking: its value is nan, which leaves the macro mean, that of
`mean_of_known`. torchmetrics counts it as 0, which lowers the mean.
"""

import itertools
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.metrics import average_precision_score


def caption_auroc(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
) -> Float[np.ndarray, "caption"]:
    """Return the area under the ROC of each caption; nan where there is no pair.

        AUROC = (pairs with active > inactive + 1/2 * pairs with active = inactive)
                / (active frames * inactive frames)

    over all pairs of an active and an inactive frame (the Mann-Whitney statistic). Exact: no bins.

    Args:
        scores: the frames of all clips, one below the other.
        active: ground truth.
        known: False for frames to leave out; None: there are none.
    """
    known = known_mask(scores, active, known)
    return np.array(
        [
            pooled_auroc(score[is_known & is_active], [score[is_known & ~is_active]])
            for score, is_active, is_known in zip(scores.T, active.T, known.T, strict=True)
        ]
    )


def auroc_by_clip(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    clip_of_frame: Int[np.ndarray, "frame"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
) -> Float[np.ndarray, "clip"]:
    """Return the AUROC within each clip, over pairs of any of its frames and captions.

    It measures what `caption_auroc` does not: whether within one recording active captions and
    frames rank above inactive ones. nan for a clip where all is active or all inactive.

    Args:
        scores: the frames of all clips, one below the other.
        active: ground truth.
        clip_of_frame: number of each frame's clip, from 0.
        known: False for frames to leave out; None: there are none.
    """
    known = known_mask(scores, active, known)
    order = np.argsort(clip_of_frame, kind="stable")
    edges = np.searchsorted(clip_of_frame[order], np.arange(clip_of_frame.max(initial=-1) + 2))
    per_clip = np.full(len(edges) - 1, np.nan)
    for clip, (first, stop) in enumerate(itertools.pairwise(edges)):
        rows = order[first:stop]
        score, is_active, is_known = scores[rows], active[rows], known[rows]
        per_clip[clip] = pooled_auroc(score[is_known & is_active], [score[is_known & ~is_active]])
    return per_clip


def partial_auroc(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
    *,
    max_fpr: float,
) -> Float[np.ndarray, "caption"]:
    """Return the area under the ROC of each caption up to a false positive rate, not normalised.

        area = integral of TPR over FPR from 0 to max_fpr, linear between thresholds

    It is usually normalised, to area / max_fpr (chance is max_fpr / 2; sed_scores_eval, DCASE) or
    by `mcclish`. With segments of one second for frames and a `max_fpr` of 0.1, the mean over
    captions of the former is the MPAUC of DCASE 2024 task 4 on MAESTRO.

    Args:
        scores: the frames of all clips, one below the other.
        active: ground truth.
        known: False for frames to leave out; None: there are none.
        max_fpr: in (0, 1].
    """
    known = known_mask(scores, active, known)
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr must be in (0, 1], got {max_fpr}")
    return np.array(
        [
            _area_to(score[is_known], is_active[is_known], max_fpr)
            for score, is_active, is_known in zip(scores.T, active.T, known.T, strict=True)
        ]
    )


def mcclish(
    area: Float[np.ndarray, "*shape"] | float, max_fpr: float
) -> Float[np.ndarray, "*shape"] | float:
    """Return a partial area under the ROC in McClish's normalisation, as scikit-learn has it.

    Chance is 1/2. "Analyzing a portion of the ROC curve", 1989.
    """
    chance = max_fpr**2 / 2
    return 0.5 * (1 + (area - chance) / (max_fpr - chance))


def average_precision(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    known: Bool[np.ndarray, "frame caption"] | None = None,
) -> Float[np.ndarray, "caption"]:
    """Return the average precision of each caption, the area under its precision-recall curve:

        AP = sum over thresholds, falling, of (recall - recall at the threshold before) * precision

    as scikit-learn computes it. Unlike AUROC it depends on how rare a caption is: random scores
    give the fraction of active frames. The mean over captions is often called mAP. nan where all
    known frames are active, or none.
    """
    known = known_mask(scores, active, known)
    per_caption = np.full(scores.shape[1], np.nan)
    for caption, is_known in enumerate(known.T):
        score, is_active = scores[is_known, caption], active[is_known, caption]
        if is_active.any() and not is_active.all():
            per_caption[caption] = average_precision_score(is_active, score)
    return per_caption


def pooled_auroc(
    above: Float[np.ndarray, "active"], below: Iterable[Float[np.ndarray, "_"]]
) -> float:
    """Return how often an active frame scores above an inactive one; a tie counts half.

    nan where there is no pair.

    Args:
        above: scores of the active frames; they are sorted in place.
        below: those of the inactive ones, of a large set a part at a time; sorted in place, too.
    """
    if not len(above):
        return np.nan
    # Sorted needles as well: the search then walks through memory instead of jumping.
    above.sort()
    won_twice = n_below = 0
    for part in below:
        part.sort()
        won_twice += int(np.searchsorted(part, above, side="left").sum())
        won_twice += int(np.searchsorted(part, above, side="right").sum())
        n_below += len(part)
    return float(won_twice / (2 * len(above) * n_below)) if n_below else np.nan


def _area_to(
    score: Float[np.ndarray, "frame"], active: Bool[np.ndarray, "frame"], max_fpr: float
) -> float:
    """Return the area under one caption's ROC from 0 to `max_fpr`; nan where there is none."""
    order = np.argsort(-score, kind="stable")
    score, active = score[order], active[order]
    # The curve has a point where all of several equal scores have been passed.
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)) if len(score) else order
    n_true = np.cumsum(active)[last]
    return roc_area(n_true, last + 1 - n_true, max_fpr)


def roc_area(
    n_true: Int[np.ndarray, "threshold"], n_false: Int[np.ndarray, "threshold"], max_fpr: float
) -> float:
    """Return the area under a ROC from 0 to `max_fpr`, linear between thresholds.

    `n_true` and `n_false` count the active and the inactive frames that reach each threshold, from
    the highest down. nan where there are no frames of either kind.
    """
    if not len(n_true) or not n_true[-1] or not n_false[-1]:
        return np.nan
    tpr, fpr = np.append(0.0, n_true / n_true[-1]), np.append(0.0, n_false / n_false[-1])
    inside = np.searchsorted(fpr, max_fpr, side="right")
    at_end = np.interp(max_fpr, fpr[inside - 1 : inside + 1], tpr[inside - 1 : inside + 1])
    return float(np.trapezoid(np.append(tpr[:inside], at_end), np.append(fpr[:inside], max_fpr)))


def known_mask(
    scores: Float[np.ndarray, "frame caption"],
    active: Bool[np.ndarray, "frame caption"],
    known: Bool[np.ndarray, "frame caption"] | None,
) -> Bool[np.ndarray, "frame caption"]:
    """Return `known`, or a mask that is True everywhere for None, once the arguments are checked.

    Raises ValueError for arrays of different shapes and for NaN among the known scores.
    """
    known = np.broadcast_to(True, scores.shape) if known is None else known
    if not scores.shape == active.shape == known.shape:
        raise ValueError(
            f"scores {scores.shape}, active {active.shape} and known {known.shape} must be of one "
            "shape, [frame, caption]"
        )
    if (np.isnan(scores) & known).any():
        frame, caption = np.argwhere(np.isnan(scores) & known)[0]
        raise ValueError(f"the score in row {frame}, column {caption} is NaN")
    return known


def mean_of_known(values: np.ndarray) -> float:
    """Return the mean of the values that are not nan; nan, without a warning, if there are none."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else np.nan
