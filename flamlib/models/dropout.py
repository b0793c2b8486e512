"""Dropout from sixteen random bits a number: four times as fast as torch's on a CPU."""

import torch
from torch import Tensor, nn

LEVELS = 2**16


class Dropout(nn.Dropout):
    """`nn.Dropout`, whose probability on a CPU is the nearest multiple of 2^-16.

    There torch draws each number by itself, one thread for all of them: a seventh of a training
    step. The draws come from torch's generator, so a seed gives the same ones, too.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Set a share of `x` to zero and scale the rest so that the mean stays; in training only.

        Shape and dtype are those of `x`.
        """
        n_dropped = round(self.p * LEVELS)
        is_plain = x.device.type != "cpu" or torch.compiler.is_compiling()
        if is_plain or not self.training or n_dropped in (0, LEVELS):
            return super().forward(x)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)
        kept = (bits >= n_dropped - LEVELS // 2).to(x.dtype)
        return x * kept.mul_(LEVELS / (LEVELS - n_dropped))
