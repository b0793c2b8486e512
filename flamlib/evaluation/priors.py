"""What one can claim without hearing anything: the bar that probabilities have to clear.

A prior is the log-odds of a caption, the same in every frame of every clip. In nats a frame
(`calibration.nats`) a model is compared with three of them:

    constant  one for all captions, of the share of active frames in a reference
    caption   each caption's own, of its share in the reference, as if one more clip were known in
              which it is active at the constant's share; a caption that is active nowhere in the
              reference has the constant
    oracle    each caption's own share in the clips that are evaluated, which nobody knows before:
              no claim that is the same in all frames of a caption costs less

The reference are the validation mixtures. They have few captions in common with the evaluated
split, and none with that of unseen captions, where `caption` is `constant`.
"""

import numpy as np
from jaxtyping import Float

from flamlib.evaluation.splits import EvalSplit, SplitLogits
from flamlib.metrics import calibration


def nats_by_clip(
    logits: Float[np.ndarray, "#clip caption #frame"], split: EvalSplit
) -> Float[np.ndarray, "clip 2"]:
    """Return of each clip the sum of `calibration.nats` over its known frames, and their number."""
    nats = calibration.nats(logits, split.active).sum(axis=2)
    n_frames = split.known.sum(axis=1) * split.active.shape[2]
    return np.stack([np.where(split.known, nats, 0.0).sum(axis=1), n_frames], axis=1)


def prior_logits(
    split: EvalSplit, reference: EvalSplit
) -> dict[str, Float[np.ndarray, "1 caption 1"]]:
    """Return the priors of a split by name, see the module's docstring."""
    n_active, n_known = _counts(reference)
    share = n_active.sum() / n_known.sum()
    clip = reference.active.shape[2]
    own = dict(zip(reference.captions, (n_active + clip * share) / (n_known + clip), strict=True))
    heard = {c for c, n in zip(reference.captions, n_active, strict=True) if n}
    n_active, n_known = _counts(split)
    priors = {
        "constant": [share] * len(split.captions),
        "caption": [own[c] if c in heard else share for c in split.captions],
        "oracle": n_active / np.maximum(n_known, 1),
    }
    # The log-odds of a caption that is never active, or always, are infinite.
    clipped = {name: np.clip(p, 1e-9, 1 - 1e-9) for name, p in priors.items()}
    return {name: (np.log(p) - np.log1p(-p))[None, :, None] for name, p in clipped.items()}


def compute(logits: SplitLogits, reference: EvalSplit) -> dict[str, float]:
    """Return `nats` a frame of a model, `nats_<prior>` of each prior, and `nats_gain`.

    The gain is that over the constant prior: below zero the model is worse than knowing nothing.
    """
    split = logits.split
    of = {"nats": logits.logits} | {
        f"nats_{name}": prior for name, prior in prior_logits(split, reference).items()
    }
    nats = {name: mean_nats(nats_by_clip(logit, split).sum(axis=0)) for name, logit in of.items()}
    return nats | {"nats_gain": nats["nats_constant"] - nats["nats"]}


def gain_by_clip(logits: SplitLogits, reference: EvalSplit) -> Float[np.ndarray, "clip 2"]:
    """Return of each clip the summed gain over the constant prior, and the number of frames."""
    split = logits.split
    constant = nats_by_clip(prior_logits(split, reference)["constant"], split)
    return constant - nats_by_clip(logits.logits, split) * np.array([1, 0])


def mean_nats(sums: Float[np.ndarray, "2"]) -> float:
    """Return the mean of a sum of `nats_by_clip` or `gain_by_clip` over clips; nan of no frames."""
    return float(sums[0] / sums[1]) if sums[1] else np.nan


def _counts(
    split: EvalSplit,
) -> tuple[Float[np.ndarray, "caption"], Float[np.ndarray, "caption"]]:
    """Return the active and the known frames of each caption."""
    n_active = np.where(split.known, split.active.sum(axis=2), 0).sum(axis=0)
    return n_active.astype(float), split.known.sum(axis=0) * float(split.active.shape[2])
