"""A moving average of the weights of a model that learns."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage(AveragedModel):
    """`decay` of what it was and the rest of what the weights are now, after each step.

    The first step sets it to the weights. What does not learn is not averaged: it is the model's
    own, in the same memory, where both are on one device.

    Args:
        net: the model; what of it learns is marked already.
        decay: from 0 to 1.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        super().__init__(net)
        self.decay = decay
        for averaged, parameter in zip(self.module.parameters(), net.parameters(), strict=True):
            if not parameter.requires_grad:
                averaged.data = parameter.data

    @torch.no_grad()
    def update_parameters(self, net: nn.Module) -> None:
        """Move towards the weights of the model."""
        pairs = zip(self.module.parameters(), net.parameters(), strict=True)
        learned = [(averaged, now) for averaged, now in pairs if now.requires_grad]
        weight = 1 - self.decay if self.n_averaged else 1.0
        torch._foreach_lerp_(*map(list, zip(*learned, strict=True)), weight)
        for kept, now in zip(self.module.buffers(), net.buffers(), strict=True):
            kept.copy_(now)
        self.n_averaged += 1
