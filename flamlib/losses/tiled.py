"""Contrastive losses computed in tiles: memory of one tile, over any number of processes.

A mean over clips x captions x frames is a sum of tiles. The value and the gradient of each tile are
computed together, while its logits are in memory, and only the gradients of the embeddings are
kept; the backward pass just scales them. So there are no more matrix products than in the plain
formulation, and no matrix of all logits. Captions go round the processes (`sharding.Ring`) and
carry their gradients home.

Everything is computed in float32 at least, whatever the precision of the embeddings and of
autocast: near the prior, bf16 cannot tell 0.99 from 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from flamlib.losses.sharding import Ring

Keys = Int64[Tensor, "caption 2"]
COUNTED = 256  # captions whose labels are counted at a time


def caption_keys(captions: Sequence[str], device: torch.device) -> Keys:
    """Hash captions to two integers each, equal for equal strings on every process."""
    keys = [_key(caption) for caption in captions]
    return torch.tensor(keys, dtype=torch.int64, device=device).reshape(-1, 2)


@lru_cache(maxsize=2**16)
def _key(caption: str) -> tuple[int, int]:
    # 128 bits exclude collisions in practice. `hash` differs from process to process.
    digest = blake2b(caption.encode(), digest_size=16).digest()
    return tuple(int.from_bytes(half, "little", signed=True) for half in (digest[:8], digest[8:]))


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of a process's own clips, for captions that may be on any process.

    Any other caption is inactive in all of these clips, and known to be.

    Attributes:
        keys: `caption_keys` of the labelled captions.
        active: Whether the caption sounds in the frame.
        known: Whether the label of a clip and caption is known; None: all are.
        aligned: Whether label j belongs to the process's own caption j, which saves the search.
    """

    keys: Keys
    active: Bool[Tensor, "clip label frame"]
    known: Bool[Tensor, "clip label"] | None = None
    aligned: bool = False

    def find(self, keys: Keys, own: slice | None) -> tuple[Tensor | slice, Tensor | slice]:
        """Find captions among the labels.

        Args:
            keys: Keys of some captions.
            own: Their place among the process's own captions, None if they are another's.

        Returns:
            The rows of `keys` that have labels, and the columns of these labels.
        """
        if self.aligned and own is not None:
            return slice(None), own
        same = (keys[:, None] == self.keys).all(dim=2)
        rows = same.any(dim=1).nonzero().squeeze(1)
        if not len(rows):  # argmax fails without rows
            return rows, rows
        return rows, same[rows].int().argmax(dim=1)  # the first of several


def framewise_loss(
    frame_emb: Float[Tensor, "clip frame dim"],
    caption_emb: Float[Tensor, "caption dim"],
    logit_scale: Float[Tensor, "caption"],
    logit_bias: Float[Tensor, "caption"],
    keys: Keys,
    labels: Labels,
    *,
    ring: Ring,
    tile: int,
) -> Float[Tensor, ""]:
    """Compute this process's share of `frame_wise.sharded_framewise_loss`.

    Args:
        frame_emb: Of this process's clips.
        caption_emb: Of this process's captions.
        logit_scale: Of this process's captions.
        logit_bias: Of this process's captions.
        keys: `caption_keys` of this process's captions.
        labels: Of this process's clips.
        ring: The processes.
        tile: Clips and captions per tile.
    """
    inputs = (frame_emb, caption_emb, logit_scale, logit_bias)
    want = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    return _Framewise.apply(*inputs, keys, labels, ring, tile, want)


class _Framewise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *given):
        frame_emb, caption_emb, logit_scale, logit_bias, keys, labels, ring, tile, want = given
        with torch.autocast(frame_emb.device.type, enabled=False):
            dtype = torch.promote_types(frame_emb.dtype, torch.float32)
            n_clips, _, dim = frame_emb.shape
            numbers = torch.stack([logit_scale.to(dtype), logit_bias.to(dtype)], dim=1)
            # Of each caption: sum of g * frame_emb, and sum of g, where g = d nats / d logit.
            carry = numbers.new_zeros(len(keys), dim + 1 if want else 0)
            d_frames = frame_emb.new_zeros(frame_emb.shape, dtype=dtype) if want else None
            nats, n_known = numbers.new_zeros(()), torch.zeros_like(keys[:0]).sum()

            def visit(payload, carry, own):
                emb, numbers, keys = payload
                scaled, bias = numbers[:, :1] * emb.to(dtype), numbers[:, 1:]
                rows, which = labels.find(keys, own)
                for first in range(0, n_clips, tile):
                    clips = slice(first, first + tile)
                    frames = frame_emb[clips].reshape(-1, dim).to(dtype)
                    logits = torch.addmm(bias, scaled, frames.T)
                    active, known = _tile_labels(labels, clips, which, logits)
                    n_known.add_(logits.numel())
                    pieces = F.softplus(logits)
                    nats.sub_((logits[rows] * active).sum())
                    if known is not None:
                        unknown = ~known
                        n_known.sub_(unknown.sum())
                        pieces[rows] = pieces[rows].masked_fill(unknown, 0)
                    nats.add_(pieces.sum())
                    if not want:
                        continue
                    slope = logits.sigmoid_()
                    slope[rows] -= active
                    if known is not None:
                        slope[rows] = slope[rows].masked_fill(unknown, 0)
                    carry[:, :dim].addmm_(slope, frames)
                    carry[:, dim].add_(slope.sum(dim=1))
                    d_frames[clips].view(-1, dim).addmm_(slope.T, scaled)

            ring.circulate((caption_emb, numbers, keys), carry, visit, rows=tile)
            share = ring.size / ring.total(n_known).clamp(min=1).to(dtype)
            if want:
                ctx.save_for_backward(d_frames, carry, caption_emb, logit_scale, share)
                ctx.dtypes = [x.dtype for x in (frame_emb, caption_emb, logit_scale, logit_bias)]
            return nats * share

    @staticmethod
    @once_differentiable
    def backward(ctx, d_loss):
        d_frames, carry, caption_emb, logit_scale, share = ctx.saved_tensors
        dim = d_frames.shape[2]
        by_logit, factor = carry[:, :dim], d_loss * share
        found = [
            lambda: d_frames * factor,
            lambda: by_logit * (logit_scale[:, None] * factor),
            lambda: (by_logit * caption_emb).sum(dim=1) * factor,
            lambda: carry[:, dim] * factor,
        ]
        return (
            *(
                gradient().to(dtype) if wanted else None
                for gradient, dtype, wanted in zip(
                    found, ctx.dtypes, ctx.needs_input_grad, strict=False
                )
            ),
            *(None,) * 5,
        )


def _tile_labels(
    labels: Labels, clips: slice, which: Tensor | slice, logits: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Return `active` (as numbers) and `known` of a tile, `[caption, clip * frame]`."""
    active = labels.active[clips][:, which].transpose(0, 1)
    n_frames = active.shape[2]
    if labels.known is None:
        return active.flatten(1).to(logits.dtype), None
    known = labels.known[clips][:, which].T[:, :, None].expand(-1, -1, n_frames)
    return (active & known).flatten(1).to(logits.dtype), known.flatten(1)


def count_labels(
    keys: Keys, labels: Labels, *, n_frames: int, ring: Ring
) -> Int64[Tensor, "caption two"]:
    """Count, for each own caption, frames of all processes' clips: active ones, and known ones.

    Args:
        keys: `caption_keys` of this process's captions.
        labels: Of this process's clips.
        n_frames: Frames per clip.
        ring: The processes.

    Returns:
        `[caption, 2]`: active frames, known frames.
    """
    n_clips = len(labels.active)
    counts = torch.zeros(len(keys), 2, dtype=torch.int64, device=keys.device)

    def visit(payload, carry, own):
        rows, which = labels.find(payload[0], own)
        active = labels.active[:, which]
        carry[:, 1] += n_clips * n_frames
        if labels.known is not None:
            known = labels.known[:, which]
            active = active & known[:, :, None]
            carry[rows, 1] -= (~known).sum(dim=0) * n_frames
        carry[rows, 0] += active.sum(dim=(0, 2))

    ring.circulate((keys,), counts, visit, rows=COUNTED)
    return counts


def clip_loss(
    clip_emb: Float[Tensor, "clip dim"],
    caption_emb: Float[Tensor, "clip dim"],
    log_temperature: Float[Tensor, ""],
    *,
    ring: Ring,
    tile: int,
) -> Float[Tensor, ""]:
    """Compute this process's share of `frame_wise.sharded_clip_loss`.

    Args:
        clip_emb: Unit vectors of this process's clips.
        caption_emb: Unit vectors of their captions, in the same order.
        log_temperature: Logarithm of the multiplier.
        ring: The processes.
        tile: Captions per tile; a tile has all clips of a process.
    """
    inputs = (clip_emb, caption_emb, log_temperature)
    want = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    return _Clipwise.apply(*inputs, ring, tile, want)


class _Clipwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, clip_emb, caption_emb, log_temperature, ring, tile, want):
        with torch.autocast(clip_emb.device.type, enabled=False):
            dtype = torch.promote_types(clip_emb.dtype, torch.float32)
            clips, factor = clip_emb.to(dtype), log_temperature.to(dtype).exp()
            by_clip = clips.new_full((len(clips), 1), -torch.inf)  # logsumexp over captions
            by_caption = clips.new_full((len(clips), 1), -torch.inf)  # ... and over clips
            diagonal = clips.new_zeros(())

            def sums(payload, carry, own):
                logits = factor * (clips @ payload[0].to(dtype).T)
                by_clip.copy_(torch.logaddexp(by_clip, logits.logsumexp(1, keepdim=True)))
                if len(clips):
                    carry.copy_(torch.logaddexp(carry, logits.logsumexp(0)[:, None]))
                if own is not None:
                    diagonal.add_(logits[own].diagonal().sum())

            ring.circulate((caption_emb,), by_caption, sums, rows=tile)
            n_pairs = sum(ring.sizes(len(clips), clips.device))
            share = ring.size / max(n_pairs, 1)
            nats = (by_clip.sum() + by_caption.sum()) / 2 - diagonal
            if want:
                d_clips, d_captions = torch.zeros_like(clips), torch.zeros_like(clips)
                d_log = torch.zeros_like(diagonal)

                def slopes(payload, carry, own):
                    emb, sums = payload[0].to(dtype), payload[1]
                    logits = factor * (clips @ emb.T)
                    slope = ((logits - by_clip).exp() + (logits - sums.T).exp()) / 2
                    if own is not None:
                        slope[own].diagonal().sub_(1)
                    d_log.add_((slope * logits).sum())
                    d_clips.addmm_(slope, emb)
                    carry.addmm_(slope.T, clips)

                ring.circulate((caption_emb, by_caption), d_captions, slopes, rows=tile)
                ctx.save_for_backward(d_clips * (factor * share), d_captions * (factor * share))
                ctx.d_log, ctx.dtypes = d_log * share, (clip_emb.dtype, caption_emb.dtype)
            return nats * share

    @staticmethod
    @once_differentiable
    def backward(ctx, d_loss):
        d_clips, d_captions = ctx.saved_tensors
        return (
            (d_clips * d_loss).to(ctx.dtypes[0]),
            (d_captions * d_loss).to(ctx.dtypes[1]),
            ctx.d_log * d_loss,
            *(None,) * 3,
        )
