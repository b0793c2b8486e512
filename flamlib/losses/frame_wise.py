"""The three losses of FLAM and its unbiased score (Wu et al., ICML 2025, arXiv:2505.05335).

Axes are clip, caption, frame, dim, in that order. Embeddings are unit vectors. `logit_scale` and
`logit_bias` are the multiplier and the shift themselves, one per caption.

Each loss is here twice: as its formula, and `sharded_`, of the clips and captions of all processes
at once and in tiles (`flamlib.losses.tiled`). There, a process gets such a share of the loss
that the mean of the shares is the loss, and that the mean of their gradients, which is what
data-parallel training makes, is its gradient: N processes do what one would with all their clips.
All processes must call it, with the same upstream gradient.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from flamlib.losses import tiled
from flamlib.losses.sharding import Ring
from flamlib.losses.tiled import Labels, caption_keys


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


def sharded_framewise_loss(
    frame_emb: Float[Tensor, "clip frame dim"],
    caption_emb: Float[Tensor, "caption dim"],
    logit_scale: Float[Tensor, "caption"],
    logit_bias: Float[Tensor, "caption"],
    active: Bool[Tensor, "clip caption frame"],
    known_clip: Bool[Tensor, "clip"],
    known_caption: Bool[Tensor, "caption"],
    captions: Sequence[str],
    *,
    group: dist.ProcessGroup | None = None,
    tile: int | None = None,
) -> Float[Tensor, ""]:
    """`framewise_loss` of the clips of all processes with the captions of all processes.

        loss = mean over all valid clips i, valid caption slots j and frames l of all processes of
               -log sigmoid(z[i, j, l] * logit[i, j, l])

    Each process gives its own clips and captions and the labels of its own pairs. A slot that is
    not valid (`known_clip`, `known_caption` false) is padding. A caption of another process has
    the labels that the same string has here, if it is here, else it is inactive in all clips of
    this process: it is the string that decides what is positive, not its place. So a caption that
    sounds in a clip has to be among the captions of the clip's process, and slots of the same
    string have to agree.

    The value is this process's share, see above. Memory beyond inputs and gradients is that of a
    tile, `tile` clips by `tile` captions; None takes what was measured to be fast. `group` None is
    the default process group, or this process alone. Detach the bias, as for `framewise_loss`.
    Raises ValueError if the sizes of the arguments do not fit each other.
    """
    sizes = (*active.shape[:2], len(known_clip), len(known_caption), len(captions))
    fitting = (*(len(frame_emb), len(caption_emb)) * 2, len(caption_emb))
    if sizes != fitting or active.shape[2] != frame_emb.shape[1]:
        raise ValueError(
            f"{len(frame_emb)} clips of {frame_emb.shape[1]} frames and {len(caption_emb)} "
            f"captions need as many labels and strings: active is {[*active.shape]}, there are "
            f"{len(known_clip)} known_clip, {len(known_caption)} known_caption, "
            f"{len(captions)} captions"
        )
    keys = caption_keys(captions, frame_emb.device)
    if not known_clip.all():
        frame_emb, active = frame_emb[known_clip], active[known_clip]
    if not known_caption.all():
        caption_emb, logit_scale, logit_bias, keys = (
            x[known_caption] for x in (caption_emb, logit_scale, logit_bias, keys)
        )
        active = active[:, known_caption]
    return tiled.framewise_loss(
        frame_emb,
        caption_emb,
        logit_scale,
        logit_bias,
        keys,
        Labels(keys, active, aligned=True),
        ring=Ring(group),
        tile=tile or default_tile(frame_emb.device),
    )


def sharded_labelled_loss(
    frame_emb: Float[Tensor, "clip frame dim"],
    caption_emb: Float[Tensor, "caption dim"],
    logit_scale: Float[Tensor, "caption"],
    logit_bias: Float[Tensor, "caption"],
    captions: Sequence[str],
    labels: Labels,
    *,
    group: dist.ProcessGroup | None = None,
    tile: int | None = None,
) -> Float[Tensor, ""]:
    """`sharded_framewise_loss` with what each process knows of its clips stated apart.

        loss = mean over all clips i, captions j known in them and frames l of all processes of
               -log sigmoid(z[i, j, l] * logit[i, j, l])

    `labels` say of this process's clips what is true of captions that may be anywhere, and which
    pairs are not known. With the labels of every caption of every process it is `framewise_loss`
    of the whole, to rounding.
    """
    return tiled.framewise_loss(
        frame_emb,
        caption_emb,
        logit_scale,
        logit_bias,
        caption_keys(captions, frame_emb.device),
        labels,
        ring=Ring(group),
        tile=tile or default_tile(frame_emb.device),
    )


def sharded_prior_loss(
    logit_bias: Float[Tensor, "caption"],
    captions: Sequence[str],
    labels: Labels,
    *,
    group: dist.ProcessGroup | None = None,
) -> Float[Tensor, ""]:
    """`prior_loss` of this process's captions over the clips of all processes.

    rate[j] = mean over known i and all l of active[i, j, l], i of any process
    loss = mean over j of any process with any known pair of
           -rate[j] * log sigmoid(bias[j]) - (1 - rate[j]) * log sigmoid(-bias[j])
    """
    ring, keys = Ring(group), caption_keys(captions, logit_bias.device)
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
    group: dist.ProcessGroup | None = None,
    tile: int | None = None,
) -> Float[Tensor, ""]:
    """`clip_loss` of the pairs of all processes, in parts of `tile` captions.

    Every logit is made twice, once for the sums of the two cross-entropies and once for the
    gradient, which needs them.
    """
    tile = tile or default_tile(clip_emb.device)
    return tiled.clip_loss(clip_emb, caption_emb, log_temperature, ring=Ring(group), tile=tile)


def default_tile(device: torch.device) -> int:
    """Clips, and captions, of a tile: what the caches of a CPU hold, more where there are none."""
    return 128 if device.type == "cpu" else 512


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
