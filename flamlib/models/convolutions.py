"""Chains of convolutions, and the same without gradients: fused, in pieces that a cache holds.

What does not learn, and inference as a whole, needs no activations afterwards. On a CPU in float32
a convolution and the ReLU after it are then one call of oneDNN, and clips go through the chain a
few at a time: their activations are reused while the cache still has them, and the memory that they
take is used again instead of being asked of the system anew, which fills it with zeros, page by
page. The numbers are those of the modules up to rounding.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flamlib.compute import few_rows

# Numbers in the widest layer's output, 20 MB: 40 s of audio in YAMNet's. Larger pieces are as fast
# until one tensor has 32 MB; those glibc maps afresh each time.
PIECE = 5_000_000


class StridedDepthwise(nn.Conv2d):
    """Depthwise 3x3 convolution of stride 2, padded at the end only, as TensorFlow's SAME does.

    With a `hole`, the stride in time is 1 and `hole` the dilation in time. Always float32: the
    backward pass of these four layers has no fast bf16 kernel on CPUs, and under autocast they took
    55 % of a training step.
    """

    def __init__(self, channels: int, *, hole: int | None = None) -> None:
        stride, dilation = (2, 1) if hole is None else ((1, 2), (hole, 1))
        super().__init__(channels, channels, 3, stride=stride, dilation=dilation, groups=channels)
        self.ahead = 1 if hole is None else 2 * hole  # steps of padding at the end

    def pad(self, x: Tensor) -> Tensor:
        """Return `[clip, channel, time, frequency]` with what the convolution needs at the end."""
        return F.pad(x, (0, 1, 0, self.ahead))

    def forward(self, x: Tensor) -> Tensor:
        """Pad and convolve, `[clip, channel, time, frequency]`."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(self.pad(x.float()))


class Chain(nn.Sequential):
    """Convolutions, ReLUs and paddings, one after the other. A slice of it is a chain, too."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the last output, `[clip, channel, time, frequency]`."""
        if not self._is_fused(x):
            return super().forward(x)
        n_clips = max(1, PIECE // self._widest(x))
        if n_clips >= len(x):
            return self._fused(x)
        return torch.cat([self._fused(piece) for piece in x.split(n_clips)])

    def _is_fused(self, x: Tensor) -> bool:
        """Say whether nothing here needs a gradient, and the fused calls are to be had."""
        if not few_rows.has_onednn(x):
            return False
        if torch.is_grad_enabled() and (
            x.requires_grad or any(p.requires_grad for p in self.parameters())
        ):
            return False
        # oneDNN's ReLU makes 0 of NaN, and nobody would know.
        return len(x) > 0 and bool(x.isfinite().all())

    def _widest(self, x: Tensor) -> int:
        """Return the number of activations in the largest output that one clip has."""
        size, widest = math.prod(x.shape[1:]), 1
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                size = size * layer.out_channels // (layer.in_channels * math.prod(layer.stride))
                widest = max(widest, size)
        return widest

    def _fused(self, x: Tensor) -> Tensor:
        for layer, following in pairwise([*self, None]):
            if not isinstance(layer, nn.Conv2d):
                x = x if isinstance(layer, nn.ReLU) else layer(x)  # ReLUs went with the one before
                continue
            post = "relu" if isinstance(following, nn.ReLU) else "none"
            x = torch.ops.mkldnn._convolution_pointwise(
                layer.pad(x) if isinstance(layer, StridedDepthwise) else x,
                layer.weight,
                layer.bias,
                layer.padding,
                layer.stride,
                layer.dilation,
                layer.groups,
                post,
                [],
                "",
            )
        return x
