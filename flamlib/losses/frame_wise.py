"""The losses of FLAM and its unbiased score (Wu et al., ICML 2025, arXiv:2505.05335).

Axes are clip, caption, frame, dim, in that order. Embeddings are unit vectors. `logit_scale` and
`logit_bias` are one number per caption: the multiplier of the cosine, and the log-odds of the
caption's prior.

Each loss is defined twice: as its formula, and as `sharded_` version over the clips and captions of
all processes, computed in tiles (`flamlib.losses.tiled`). A sharded loss returns this process's
share. The mean of the shares is the loss, and the mean of their gradients, which data-parallel
training computes, is its gradient: N processes do what one would do with all their clips. All
processes must call it, with the same upstream gradient.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from flamlib.compute import few_rows
from flamlib.losses import tiled
from flamlib.losses.sharding import Ring
from flamlib.losses.tiled import Labels, caption_keys


def frame_logits(
    frame_emb: Float[Tensor, "clip frame dim"],
    caption_emb: Float[Tensor, "caption dim"],
    logit_scale: Float[Tensor, "caption"],
    logit_bias: Float[Tensor, "caption"],
) -> Float[Tensor, "clip caption frame"]:
    """Compute the log-odds that a caption sounds in a frame.

        logit[i, j, l] = logit_scale[j] * <frame_emb[i, l], caption_emb[j]> + logit_bias[j]

    Args:
        frame_emb: Unit vectors of frames.
        caption_emb: Unit vectors of captions.
        logit_scale: Above 0.
        logit_bias: Log-odds of the prior.

    Returns:
        Logits, `[clip, caption, frame]`.
    """
    cosine = few_rows.cosines(frame_emb, caption_emb)
    return logit_scale[:, None] * cosine + logit_bias[:, None]


def framewise_loss(
    logits: Float[Tensor, "clip caption frame"],
    active: Bool[Tensor, "clip caption frame"],
    known: Bool[Tensor, "clip caption"],
) -> Float[Tensor, ""]:
    """Compute the mean binary cross-entropy, in nats, over the frames of the known pairs.

        loss = mean over known (i, j) and all l of  -log sigmoid(z[i, j, l] * logit[i, j, l])

    with z = +1 where active and -1 elsewhere. Pass logits whose bias is detached: the bias is
    fitted by `prior_loss` alone. Without any known pair the loss is zero.
    """
    # The mean is over known pairs only; else the step size would depend on how many captions a
    # batch happens to have. The sigmoid is in float32 whatever the precision of the towers: near
    # the prior, bf16 cannot tell 0.99 from 1.
    nats = F.binary_cross_entropy_with_logits(logits.float(), active.float(), reduction="none")
    n_known = known.sum() * logits.shape[2]
    return (nats * known[:, :, None]).sum() / n_known.clamp(min=1)


def prior_loss(
    logit_bias: Float[Tensor, "caption"],
    active: Bool[Tensor, "clip caption frame"],
    known: Bool[Tensor, "clip caption"],
) -> Float[Tensor, ""]:
    """Compute the cross-entropy, in nats, of the prior with how often a caption is active.

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
    """Compute the symmetric InfoNCE loss, in nats: clip i belongs to caption i only.

        logit[i, j] = exp(log_temperature) * <clip_emb[i], caption_emb[j]>
        loss = (cross_entropy(logit, diagonal) + cross_entropy(logit transposed, diagonal)) / 2

    As in CLIP, the learned parameter is the logarithm of a multiplier: it starts at log(1 / 0.07).
    """
    logits = log_temperature.exp() * (clip_emb @ caption_emb.T).float()
    target = torch.arange(len(clip_emb), device=clip_emb.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def clip_sigmoid_loss(
    clip_emb: Float[Tensor, "clip dim"],
    caption_emb: Float[Tensor, "clip dim"],
    log_temperature: Float[Tensor, ""],
    captions: Sequence[str],
) -> Float[Tensor, ""]:
    """Compute SigLIP's loss of whole clips, in nats: each pair by itself (arXiv:2303.15343).

        logit[i, j] = exp(log_temperature) * <clip_emb[i], caption_emb[j]> - log(n - 1)
        loss = 1 / n * sum over i, j of -log sigmoid(z[i, j] * logit[i, j])

    with z = +1 where captions i and j are the same text and -1 elsewhere. SigLIP learns the bias;
    here it is the log-odds of the one right caption among n; of one pair alone it is 0.

    Args:
        clip_emb: Unit vectors of clips.
        caption_emb: Unit vectors of their captions, in the same order.
        log_temperature: Logarithm of the multiplier.
        captions: Texts of the captions.
    """
    n = len(clip_emb)
    logits = log_temperature.exp() * (clip_emb @ caption_emb.T).float() - _odds_against(n)
    right = torch.tensor([[float(a == b) for b in captions] for a in captions]).reshape(n, n)
    nats = F.binary_cross_entropy_with_logits(logits, right.to(logits), reduction="sum")
    return nats / max(n, 1)


def sharded_framewise_loss(
    frame_emb: Float[Tensor, "clip frame dim"],
    caption_emb: Float[Tensor, "caption dim"],
    logit_scale: Float[Tensor, "caption"],
    logit_bias: Float[Tensor, "caption"],
    captions: Sequence[str],
    labels: Labels,
    *,
    tile: int | None = None,
) -> Float[Tensor, ""]:
    """Compute `framewise_loss` of the clips with the captions of all processes.

        loss = mean over all clips i, captions j known in them and frames l of all processes of
               -log sigmoid(z[i, j, l] * logit[i, j, l])

    With labels for every caption of every process it equals `framewise_loss` of the whole, up to
    rounding. Memory beyond inputs and gradients is that of one tile.

    Args:
        frame_emb: Of this process's clips.
        caption_emb: Of this process's captions.
        logit_scale: Of this process's captions.
        logit_bias: Of this process's captions; detach it, as for `framewise_loss`.
        captions: Texts of this process's captions. Equal texts have equal labels, whichever process
            they are on.
        labels: Labels of this process's clips. A caption of any process without labels here is
            inactive in all of this process's clips, so a caption that sounds in a clip must be
            among the labels of the clip's process.
        tile: Clips and captions per tile; default: `default_tile`.

    Returns:
        This process's share, see above.

    Raises:
        ValueError: Sizes that do not fit each other.
    """
    n_clips, n_frames = frame_emb.shape[:2]
    if len(captions) != len(caption_emb) or labels.active.shape[::2] != (n_clips, n_frames):
        raise ValueError(
            f"{n_clips} clips of {n_frames} frames and {len(caption_emb)} caption embeddings need "
            f"as many labels and texts: labels.active has shape {[*labels.active.shape]}, there "
            f"are {len(captions)} captions"
        )
    return tiled.framewise_loss(
        frame_emb,
        caption_emb,
        logit_scale,
        logit_bias,
        caption_keys(captions, frame_emb.device),
        labels,
        ring=Ring(),
        tile=tile or default_tile(frame_emb.device),
    )


def sharded_prior_loss(
    logit_bias: Float[Tensor, "caption"],
    captions: Sequence[str],
    labels: Labels,
) -> Float[Tensor, ""]:
    """Compute `prior_loss` of the captions of all processes over the clips of all processes.

        rate[j] = mean over known i and all l of active[i, j, l], i of any process
        loss = mean over j of any process with any known pair of
               -rate[j] * log sigmoid(bias[j]) - (1 - rate[j]) * log sigmoid(-bias[j])

    Args:
        logit_bias: Of this process's captions.
        captions: Texts of this process's captions.
        labels: As for `sharded_framewise_loss`.

    Returns:
        This process's share, see above.
    """
    ring, keys = Ring(), caption_keys(captions, logit_bias.device)
    n_frames = labels.active.shape[2]
    n_active, n_known = tiled.count_labels(keys, labels, n_frames=n_frames, ring=ring).T
    rate = n_active / n_known.clamp(min=1)
    nats = F.binary_cross_entropy_with_logits(logit_bias.float(), rate.float(), reduction="none")
    labelled = n_known > 0
    return (nats * labelled).sum() * (ring.size / ring.total(labelled.sum()).clamp(min=1))


def sharded_clip_loss(
    clip_emb: Float[Tensor, "clip dim"],
    caption_emb: Float[Tensor, "clip dim"],
    log_temperature: Float[Tensor, ""],
    *,
    tile: int | None = None,
) -> Float[Tensor, ""]:
    """Compute `clip_loss` of the pairs of all processes, `tile` captions at a time.

    Every logit is computed twice: for the sums of the two cross-entropies, and for the gradient,
    which needs these sums.

    Args:
        clip_emb: Unit vectors of this process's clips.
        caption_emb: Unit vectors of their captions, in the same order.
        log_temperature: Logarithm of the multiplier, the same on all processes.
        tile: Captions per tile; default: `default_tile`.

    Returns:
        This process's share, see above.
    """
    tile = tile or default_tile(clip_emb.device)
    return tiled.clip_loss(clip_emb, caption_emb, log_temperature, ring=Ring(), tile=tile)


def sharded_clip_sigmoid_loss(
    clip_emb: Float[Tensor, "clip dim"],
    caption_emb: Float[Tensor, "clip dim"],
    log_temperature: Float[Tensor, ""],
    captions: Sequence[str],
    *,
    tile: int | None = None,
) -> Float[Tensor, ""]:
    """Compute `clip_sigmoid_loss` of the pairs of all processes.

    It is the frame-wise loss of clips of one frame, times the number of captions.

    Args:
        clip_emb: Unit vectors of this process's clips.
        caption_emb: Unit vectors of their captions, in the same order.
        log_temperature: Logarithm of the multiplier, the same on all processes.
        captions: Texts of the captions.
        tile: Clips and captions per tile; default: `default_tile`.

    Returns:
        This process's share, see the module's docstring.
    """
    keys = caption_keys(captions, clip_emb.device)
    right = (keys[:, None] == keys).all(dim=2)
    n = sum(Ring().sizes(len(keys), keys.device))
    scale = log_temperature.exp().expand(len(keys))
    bias = torch.full_like(scale, -_odds_against(n))
    frames, labels = clip_emb[:, None], Labels(keys, right[:, :, None], aligned=True)
    of_frames = sharded_framewise_loss(
        frames, caption_emb, scale, bias, captions, labels, tile=tile
    )
    return n * of_frames


def _odds_against(n: int) -> float:
    """Log-odds against one of n captions being the right one."""
    return math.log(max(n - 1, 1))


def default_tile(device: torch.device) -> int:
    """Return the number of clips, and of captions, per tile that was measured to be fast.

    On a CPU, what its caches hold; more on accelerators.
    """
    return 128 if device.type == "cpu" else 512


def unbiased_score(
    logits: Float[Tensor, "clip caption frame"], logit_bias: Float[Tensor, "caption"]
) -> Float[Tensor, "clip caption frame"]:
    """Compute FLAM's unbiased score: the probability in this frame relative to the prior.

        score = p / (p + prior),  p = sigmoid(logit),  prior = sigmoid(bias)
              = sigmoid(log sigmoid(logit) - log sigmoid(bias))

    The second form neither overflows nor divides by zero. A frame without evidence for or against
    the caption (logit = bias) scores one half, however rare the caption is.
    """
    return torch.sigmoid(F.logsigmoid(logits) - F.logsigmoid(logit_bias)[:, None])
