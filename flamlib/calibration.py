"""Is what is claimed with probability p true a fraction p of the time?"""

import numpy as np
from jaxtyping import Bool, Float


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
