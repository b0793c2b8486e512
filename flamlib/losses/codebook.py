"""The equations of MGA-CLAP: one codebook for audio and text (Li et al., ACM MM 2024,
arXiv:2408.07919).

Frames and words are compared with the same codewords. The affinity of a whole clip or caption to a
codeword is that of its best frame or word. So a clip can resemble a caption only through codewords
that some frame and some word share, although training labels do not say when anything sounds.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def sparsemax(logits: Float[Tensor, "row code"]) -> Float[Tensor, "row code"]:
    """Project each row onto the probability simplex (Martins & Astudillo, 2016).

        p = argmin over p >= 0, sum p = 1 of |p - logits|^2 = max(logits - tau, 0)

    with the tau for which a row sums to one. Like softmax it keeps the order and is invariant to
    shifts; unlike softmax it is exactly zero where a logit is far below the largest.
    """
    logits = logits.float()
    logits = logits - logits.amax(dim=1, keepdim=True).detach()

    def tau(positive: Tensor) -> Tensor:
        """The tau if exactly these are positive."""
        kept = torch.where(positive, logits, 0).sum(dim=1, keepdim=True)
        return (kept - 1) / positive.sum(dim=1, keepdim=True)

    with torch.no_grad():
        positive = torch.ones_like(logits, dtype=torch.bool)
        if logits.device.type == "cpu":
            # From all of them down: what is not above the tau of more is not above that of fewer
            # (Michelot, 1986). A few passes, where sorting thousands takes ten times as long.
            while not torch.equal(fewer := positive & (logits > tau(positive)), positive):
                positive = fewer
        else:  # without waiting for the outcome of a pass
            falling = logits.sort(dim=1, descending=True).values
            counts = torch.arange(1, logits.shape[1] + 1, device=logits.device)
            n_positive = (1 + counts * falling > falling.cumsum(dim=1)).sum(dim=1, keepdim=True)
            positive = logits >= falling.gather(1, n_positive - 1)
    return (logits - tau(positive)).clamp(min=0)


def aggregate(
    steps: Float[Tensor, "item step dim"],
    known: Bool[Tensor, "item step"],
    codes: Float[Tensor, "code dim"],
    *,
    temperature: float,
    floor: float | None = None,
) -> Float[Tensor, "item dim"]:
    """Represent a sequence of frames or words by a weighted sum of codewords.

        affinity[i, k] = max over known t of <steps[i, t], codes[k]> / (sqrt(dim) * temperature)
        vector[i]      = sum over k of sparsemax(affinity[i])[k] * codes[k]

    Args:
        steps: Features of frames or words.
        known: False for padding, which does not contribute; each item needs a known step.
        codes: The codebook.
        temperature: Divides the affinities.
        floor: Lowest affinity. Default: none.

    Returns:
        A vector for each item.
    """
    # In float32 whatever the precision of the towers: with a temperature of a thousand, affinities
    # differ in the fourth decimal. Their gradients need no more than those of the towers.
    device = steps.device.type
    in_bf16 = (
        torch.amp.is_autocast_available(device)
        and torch.is_autocast_enabled(device)
        and torch.get_autocast_dtype(device) is torch.bfloat16
    )
    with torch.autocast(device, enabled=False):
        steps, codes = steps.float(), codes.float()
        dtype = torch.bfloat16 if in_bf16 else torch.float32
        length = math.sqrt(codes.shape[1]) * temperature
        if device == "cpu":  # of known steps alone
            affinity = steps.new_full((*known.shape, len(codes)), -torch.inf)
            affinity[known] = _Dot.apply(steps[known], codes, dtype) / length
        else:  # where it would have to wait until it is known how many there are
            dot = _Dot.apply(steps.flatten(0, 1), codes, dtype).unflatten(0, known.shape)
            affinity = (dot / length).masked_fill(~known[..., None], -torch.inf)
        affinity = affinity.amax(dim=1)
        if floor is not None:
            affinity = affinity.clamp(min=floor)
        return sparsemax(affinity) @ codes


class _Dot(torch.autograd.Function):
    """Products of all rows with all codes, whose gradients are computed in another precision."""

    @staticmethod
    def forward(ctx, rows: Tensor, codes: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(rows, codes)
        ctx.dtype = dtype
        return rows @ codes.T

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, codes = (x.to(ctx.dtype) for x in ctx.saved_tensors)
        slope = slope.to(ctx.dtype)
        return (slope @ codes).float(), (slope.T @ rows).float(), None


def hard_negative_loss(
    clip_emb: Float[Tensor, "clip dim"],
    caption_emb: Float[Tensor, "clip dim"],
    log_temperature: Float[Tensor, ""],
    *,
    hardness: float,
) -> Float[Tensor, ""]:
    """Compute InfoNCE, in nats, with negatives weighted by how similar they are.

        logit[i, j]  = exp(log_temperature) * <clip_emb[i], caption_emb[j]>
        weight[i, j] = (n - 1) * exp(hardness * logit[i, j])
                       / sum over k != j of exp(hardness * logit[i, k]),   weight[i, i] = 1
        loss[i]      = -logit[i, i] + log sum over j of weight[i, j] * exp(logit[i, j])

    The result is the mean over i, and over both directions.

    Args:
        clip_emb: Unit vectors of clips.
        caption_emb: Unit vectors of their captions, in the same order.
        log_temperature: Logarithm of the multiplier.
        hardness: With 0, all weights are one and this is `frame_wise.clip_loss`. Gradients also go
            through the weights.

    Returns:
        The loss; zero for fewer than two pairs, which have no negatives.
    """
    logits = log_temperature.exp() * (clip_emb @ caption_emb.T).float()
    return (_reweighted(logits, hardness) + _reweighted(logits.T, hardness)) / 2


def l1_l2_loss(emb: Float[Tensor, "item dim"]) -> Float[Tensor, ""]:
    """Compute the ratio of the L1 to the L2 norm of a batch of embeddings, per element.

        loss = mean over i, d of |emb[i, d]| / sqrt(sum over i, d of emb[i, d]^2)

    It is smallest if few dimensions are non-zero. Without embeddings it is zero.
    """
    if not emb.numel():
        return emb.sum()
    return emb.abs().mean() / emb.norm()


def _reweighted(logits: Float[Tensor, "item item"], hardness: float) -> Float[Tensor, ""]:
    """Compute one direction of `hard_negative_loss`; positives are on the diagonal."""
    n = len(logits)
    if n <= 1:
        return 0 * logits.sum()
    hard = hardness * logits
    log_weight = math.log(n - 1) + hard - _logsumexp_of_others(hard)
    own = torch.eye(n, dtype=torch.bool, device=logits.device)
    log_weight = log_weight.masked_fill(own, 0.0)
    return (torch.logsumexp(log_weight + logits, dim=1) - logits.diagonal()).mean()


def _logsumexp_of_others(x: Float[Tensor, "row column"]) -> Float[Tensor, "row column"]:
    """Compute log sum over k != j of exp(x[i, k]), without the cancellation of a difference."""
    none = torch.full_like(x[:, :1], -torch.inf)
    before = torch.cat([none, x.logcumsumexp(dim=1)[:, :-1]], dim=1)
    after = torch.cat([x.flip(1).logcumsumexp(dim=1).flip(1)[:, 1:], none], dim=1)
    return torch.logaddexp(before, after)
