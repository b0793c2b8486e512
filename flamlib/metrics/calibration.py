"""Is what is claimed with probability p true a fraction p of the time?"""

import numpy as np
from jaxtyping import Bool, Float, Int


def reliability(
    prob: Float[np.ndarray, "*shape"], active: Bool[np.ndarray, "*shape"], n_bins: int = 15
) -> dict[str, np.ndarray]:
    """Is what is claimed with probability p true a fraction p of the time?

    Bin k holds the probabilities in [k, k + 1) / n_bins, the last one 1 as well. For each: its
    "centre", the "mean_prob" claimed, the "frequency" with which it was true, and the "count" of
    frames; nan where there are none. Select the known frames first: `prob[known], active[known]`.
    """
    prob, active = _probabilities(prob, active)
    one = np.zeros(len(prob), dtype=int)
    return reliability_of(claims(prob, active, one, n_clips=1, n_bins=n_bins)[0])


def claims(
    prob: Float[np.ndarray, "*shape"],
    active: Bool[np.ndarray, "*shape"],
    clip: Int[np.ndarray, "*shape"],
    *,
    n_clips: int,
    n_bins: int,
) -> Float[np.ndarray, "clip 4 bin"]:
    """What was claimed in each clip, by bin of the probability, in sums that clips can be added by:
    how many frames, the sum of their probabilities, how many are true, the sum of
    (prob - active)^2. `reliability_of`, `ece_of` and `brier_of` take such sums."""
    prob, active = _probabilities(prob, active)
    row = clip.ravel() * n_bins + np.minimum((prob * n_bins).astype(int), n_bins - 1)
    sums = [
        np.bincount(row, weight, n_clips * n_bins).reshape(n_clips, n_bins)
        for weight in (np.ones(len(prob)), prob, active, (prob - active) ** 2)
    ]
    return np.stack(sums, axis=1)


def reliability_of(sums: Float[np.ndarray, "4 bin"]) -> dict[str, np.ndarray]:
    """`reliability` of what `claims` summed up."""
    count, claimed, true, _ = sums
    at_least_one = np.where(count > 0, count, np.nan)
    return {
        "centre": (np.arange(len(count)) + 0.5) / len(count),
        "mean_prob": claimed / at_least_one,
        "frequency": true / at_least_one,
        "count": count.astype(int),
    }


def ece_of(sums: Float[np.ndarray, "4 bin"]) -> float:
    """`expected_calibration_error` of what `claims` summed up; nan of nothing."""
    count, claimed, true, _ = sums
    return float(np.abs(claimed - true).sum() / count.sum()) if count.any() else np.nan


def brier_of(sums: Float[np.ndarray, "4 bin"]) -> float:
    """`brier` of what `claims` summed up; nan of nothing."""
    count, *_, error = sums
    return float(error.sum() / count.sum()) if count.any() else np.nan


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
