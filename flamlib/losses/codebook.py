"""The equations of MGA-CLAP: one codebook for sound and text (Li et al., ACM MM 2024,
arXiv:2408.07919).

Frames and words are both described by how much of each codeword is in them, and what a whole clip
or caption has in common with a codeword is what its best frame or word has. So a clip can only be
like a caption through codewords that some frame and some word share, though training never says
when anything sounds.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def sparsemax(logits: Float[Tensor, "row code"]) -> Float[Tensor, "row code"]:
    """The point of the simplex that is nearest to each row (Martins & Astudillo, 2016).

        share = argmin over p >= 0, sum p = 1 of |p - logits|^2 = max(logits - tau, 0)

    with the tau for which a row sums to one. As softmax does it keeps the order and ignores a
    shift; unlike softmax it is exactly zero where a code is far behind the best.
    """
    logits = logits.float()
    logits = logits - logits.amax(dim=1, keepdim=True).detach()
    largest = logits.sort(dim=1, descending=True).values
    n = torch.arange(1, logits.shape[1] + 1, device=logits.device)
    # tau if the n largest are the ones that are not zero, and whether the last of them is not.
    tau = (largest.cumsum(dim=1) - 1) / n
    n_positive = (largest > tau).sum(dim=1, keepdim=True)
    return (logits - tau.gather(1, n_positive - 1)).clamp(min=0)


def aggregate(
    steps: Float[Tensor, "item step dim"],
    known: Bool[Tensor, "item step"],
    codes: Float[Tensor, "code dim"],
    *,
    temperature: float,
    floor: float | None = None,
) -> Float[Tensor, "item dim"]:
    """One vector for a sequence of frames or words, a mixture of codewords.

        affinity[i, k] = max over known t of <steps[i, t], codes[k]> / (sqrt(dim) * temperature)
        vector[i]      = sum over k of sparsemax(affinity[i])[k] * codes[k]

    Steps that are not known, the padding of shorter sequences, have no part in it; each item needs
    one that is. With a `floor` no affinity is lower than that.
    """
    # In float32 whatever the precision of the towers: a temperature of a thousand leaves
    # differences in the fourth decimal, of which the sparsemax is made.
    with torch.autocast(steps.device.type, enabled=False):
        codes = codes.float()
        affinity = steps.float() @ codes.T / (math.sqrt(codes.shape[1]) * temperature)
        affinity = affinity.masked_fill(~known[:, :, None], -torch.inf).amax(dim=1)
        if floor is not None:
            affinity = affinity.clamp(min=floor)
        return sparsemax(affinity) @ codes


def hard_negative_loss(
    clip_emb: Float[Tensor, "clip dim"],
    caption_emb: Float[Tensor, "clip dim"],
    log_temperature: Float[Tensor, ""],
    *,
    hardness: float,
) -> Float[Tensor, ""]:
    """InfoNCE, in nats, in which a negative counts the more the more it is mistaken for the truth.

        logit[i, j]  = exp(log_temperature) * <clip_emb[i], caption_emb[j]>
        weight[i, j] = (n - 1) * exp(hardness * logit[i, j])
                       / sum over k != j of exp(hardness * logit[i, k]),   weight[i, i] = 1
        loss[i]      = -logit[i, i] + log sum over j of weight[i, j] * exp(logit[i, j])

    Mean over i, and over both directions. Without hardness every weight is one and this is
    `losses.clip_loss`. Gradients also go through the weights. A lone pair has no negatives: zero,
    as for no pair at all.
    """
    logits = log_temperature.exp() * (clip_emb @ caption_emb.T).float()
    return (_reweighted(logits, hardness) + _reweighted(logits.T, hardness)) / 2


def l1_l2_loss(emb: Float[Tensor, "item dim"]) -> Float[Tensor, ""]:
    """The mean magnitude of a batch of embeddings over their norm, which is least where few
    dimensions carry them.

        loss = mean over i, d of |emb[i, d]| / sqrt(sum over i, d of emb[i, d]^2)

    Of no embeddings at all it is zero.
    """
    if not emb.numel():
        return emb.sum()
    return emb.abs().mean() / emb.norm()


def _reweighted(logits: Float[Tensor, "item item"], hardness: float) -> Float[Tensor, ""]:
    """One direction of `hard_negative_loss`: the truth is on the diagonal."""
    n = len(logits)
    if n <= 1:
        return 0 * logits.sum()
    hard = hardness * logits
    log_weight = math.log(n - 1) + hard - _logsumexp_of_others(hard)
    own = torch.eye(n, dtype=torch.bool, device=logits.device)
    log_weight = log_weight.masked_fill(own, 0.0)
    return (torch.logsumexp(log_weight + logits, dim=1) - logits.diagonal()).mean()


def _logsumexp_of_others(x: Float[Tensor, "row column"]) -> Float[Tensor, "row column"]:
    """log sum over k != j of exp(x[i, k]); a difference of sums would leave nothing of it where
    x[i, j] outweighs them all."""
    none = torch.full_like(x[:, :1], -torch.inf)
    before = torch.cat([none, x.logcumsumexp(dim=1)[:, :-1]], dim=1)
    after = torch.cat([x.flip(1).logcumsumexp(dim=1).flip(1)[:, 1:], none], dim=1)
    return torch.logaddexp(before, after)
