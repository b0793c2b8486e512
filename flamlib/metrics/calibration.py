"""Calibration: whether events predicted with probability p occur a fraction p of the time.

A reliability diagram shows it by bins of the probability; the expected calibration error (ECE), the
Brier score and the cross-entropy in nats are one number each.
"""

import numpy as np
from jaxtyping import Bool, Float, Int


def reliability(
    prob: Float[np.ndarray, "*shape"], active: Bool[np.ndarray, "*shape"], n_bins: int = 15
) -> dict[str, np.ndarray]:
    """Return the bins of a reliability diagram.

    Bin k holds the probabilities in [k, k + 1) / n_bins, the last one 1 as well. Select the known
    frames first: `prob[known], active[known]`.

    Returns:
        Of each bin its "centre", the "mean_prob" of its frames, the "frequency" with which these
        are active, and their "count"; nan where there are none.
    """
    prob, active = _probabilities(prob, active)
    one = np.zeros(len(prob), dtype=int)
    return reliability_of(bin_sums(prob, active, one, n_clips=1, n_bins=n_bins)[0])


def bin_sums(
    prob: Float[np.ndarray, "*shape"],
    active: Bool[np.ndarray, "*shape"],
    clip: Int[np.ndarray, "*shape"],
    *,
    n_clips: int,
    n_bins: int,
) -> Float[np.ndarray, "clip 4 bin"]:
    """Return sums over the frames of each clip and bin of probability, which add up over clips.

    Args:
        prob: predicted probabilities, in [0, 1].
        active: ground truth.
        clip: number of the clip of each frame.
        n_clips: how many clips there are.
        n_bins: as in `reliability`.

    Returns:
        Of each clip and bin the number of frames, the sum of their probabilities, how many are
        active, and the sum of (prob - active)^2; `reliability_of`, `ece_of` and `brier_of` take
        these, summed over clips.
    """
    prob, active = _probabilities(prob, active)
    row = clip.ravel() * n_bins + np.minimum((prob * n_bins).astype(int), n_bins - 1)
    sums = [
        np.bincount(row, weight, n_clips * n_bins).reshape(n_clips, n_bins)
        for weight in (np.ones(len(prob)), prob, active, (prob - active) ** 2)
    ]
    return np.stack(sums, axis=1)


def reliability_of(sums: Float[np.ndarray, "4 bin"]) -> dict[str, np.ndarray]:
    """Return `reliability` from the sums of `bin_sums`."""
    count, prob, n_active, _ = sums
    at_least_one = np.where(count > 0, count, np.nan)
    return {
        "centre": (np.arange(len(count)) + 0.5) / len(count),
        "mean_prob": prob / at_least_one,
        "frequency": n_active / at_least_one,
        "count": count.astype(int),
    }


def ece_of(sums: Float[np.ndarray, "4 bin"]) -> float:
    """Return `expected_calibration_error` from the sums of `bin_sums`; nan without frames."""
    count, prob, n_active, _ = sums
    return float(np.abs(prob - n_active).sum() / count.sum()) if count.any() else np.nan


def brier_of(sums: Float[np.ndarray, "4 bin"]) -> float:
    """Return `brier` from the sums of `bin_sums`; nan without frames."""
    count, _, _, squared_error = sums
    return float(squared_error.sum() / count.sum()) if count.any() else np.nan


def expected_calibration_error(
    prob: Float[np.ndarray, "*shape"], active: Bool[np.ndarray, "*shape"], n_bins: int = 15
) -> float:
    """Return the expected calibration error (Guo et al. 2017, arXiv:1706.04599); 0 is perfect.

        ECE = sum over bins of count / total * |frequency - mean_prob|

    A model that always predicts the base rate has an ECE of 0 as well: read it beside AUROC.
    """
    bins = reliability(prob, active, n_bins)
    gap = np.abs(bins["frequency"] - bins["mean_prob"])
    return float(np.nansum(gap * bins["count"]) / bins["count"].sum())


def brier(prob: Float[np.ndarray, "*shape"], active: Bool[np.ndarray, "*shape"]) -> float:
    """Return the Brier score, the mean of (prob - active)^2; 0 is perfect.

    It measures calibration and discrimination in one number.
    """
    prob, active = _probabilities(prob, active)
    return float(np.mean((prob - active) ** 2))


def nats(
    logit: Float[np.ndarray, "*#shape"], active: Bool[np.ndarray, "*#shape"]
) -> Float[np.ndarray, "*shape"]:
    """Return the cross-entropy of each frame, in nats: -log of the probability of what is true.

    It is the loss that training has for frames, without weights. Less is better; a frame that is
    active with probability p costs -log p, so certainty that is wrong has no bound.
    """
    logit = np.asarray(logit, dtype=np.float64)
    return np.logaddexp(0.0, logit) - logit * active


def _probabilities(
    prob: Float[np.ndarray, "*shape"], active: Bool[np.ndarray, "*shape"]
) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Return both flattened, in double precision: sums of 20 million floats go wrong in single."""
    prob, active = prob.astype(np.float64).ravel(), active.ravel()
    if not len(prob) or len(prob) != len(active):
        raise ValueError(f"{len(prob)} probabilities for {len(active)} labels, expected one each")
    if not ((prob >= 0) & (prob <= 1)).all():
        raise ValueError("probabilities must be in [0, 1]: are these logits or cosines?")
    return prob, active
