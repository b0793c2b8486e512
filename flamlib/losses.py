"""The three losses of FLAM and its unbiased score (Wu et al., ICML 2025, arXiv:2505.05335).

Axes are clip, caption, frame, dim, in that order. Embeddings are unit vectors. `logit_scale` and
`logit_bias` are the multiplier and the shift themselves, one per caption.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def frame_logits(
    frame_emb: Float[Tensor, "clip frame dim"],
    caption_emb: Float[Tensor, "caption dim"],
    logit_scale: Float[Tensor, "caption"],
    logit_bias: Float[Tensor, "caption"],
) -> Float[Tensor, "clip caption frame"]:
    """Log-odds that a caption sounds in a frame.

    logit[i, j, l] = logit_scale[j] * <frame_emb[i, l], caption_emb[j]> + logit_bias[j]
    """
    cosine = torch.einsum("ild,jd->ijl", frame_emb, caption_emb)
    return logit_scale[:, None] * cosine + logit_bias[:, None]


def framewise_loss(
    logits: Float[Tensor, "clip caption frame"],
    active: Bool[Tensor, "clip caption frame"],
    known: Bool[Tensor, "clip caption"],
) -> Float[Tensor, ""]:
    """Mean binary cross-entropy, in nats, over the frames of the known pairs.

        loss = mean over known (i, j) and all l of  -log sigmoid(z[i, j, l] * logit[i, j, l])

    with z = +1 where active and -1 elsewhere. Pass logits whose bias is detached: the bias is the
    prior's, fitted by `prior_loss` alone. Without any known pair the loss is zero.
    """
    # Unknown pairs leave the count as well as the sum; otherwise the step size would depend on
    # how many captions a batch happens to hold. The sigmoid is taken in float32 whatever the
    # precision of the towers: near the prior, bf16 cannot tell 0.99 from 1.
    nats = F.binary_cross_entropy_with_logits(logits.float(), active.float(), reduction="none")
    n_known = known.sum() * logits.shape[2]
    return (nats * known[:, :, None]).sum() / n_known.clamp(min=1)


def prior_loss(
    logit_bias: Float[Tensor, "caption"],
    active: Bool[Tensor, "clip caption frame"],
    known: Bool[Tensor, "clip caption"],
) -> Float[Tensor, ""]:
    """Cross-entropy, in nats, of the share of a caption's known frames in which it sounds.

        rate[j] = mean over known i and all l of active[i, j, l]
        loss = mean over j with any known pair of
               -rate[j] * log sigmoid(bias[j]) - (1 - rate[j]) * log sigmoid(-bias[j])

    Its minimum is at bias[j] = log(rate[j] / (1 - rate[j])).
    """
    n_known = known.sum(dim=0)
    n_active = (active & known[:, :, None]).sum(dim=(0, 2))
    rate = n_active / (n_known * active.shape[2]).clamp(min=1)
    nats = F.binary_cross_entropy_with_logits(logit_bias.float(), rate.float(), reduction="none")
    labelled = n_known > 0
    return (nats * labelled).sum() / labelled.sum().clamp(min=1)


def clip_loss(
    clip_emb: Float[Tensor, "clip dim"],
    caption_emb: Float[Tensor, "clip dim"],
    log_temperature: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE, in nats: clip i belongs to caption i and to no other of the batch.

        logit[i, j] = exp(log_temperature) * <clip_emb[i], caption_emb[j]>
        loss = (cross_entropy(logit, diagonal) + cross_entropy(logit transposed, diagonal)) / 2

    As in CLIP, the learned parameter is the logarithm of a multiplier: it starts at log(1 / 0.07).
    """
    logits = log_temperature.exp() * (clip_emb @ caption_emb.T).float()
    target = torch.arange(len(clip_emb), device=clip_emb.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def unbiased_score(
    logits: Float[Tensor, "clip caption frame"], logit_bias: Float[Tensor, "caption"]
) -> Float[Tensor, "clip caption frame"]:
    """How much more probable the caption is in this frame than anywhere, as a share of both.

        score = p / (p + prior),  p = sigmoid(logit),  prior = sigmoid(bias)
              = sigmoid(log sigmoid(logit) - log sigmoid(bias))

    The second form neither overflows nor divides by zero. A frame that says nothing about the
    caption (logit = bias) scores one half, however rare the caption is.
    """
    return torch.sigmoid(F.logsigmoid(logits) - F.logsigmoid(logit_bias)[:, None])
