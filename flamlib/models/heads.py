"""What makes one number of a caption: its multiplier, its prior log-odds."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def build_head(name: str, kind: str, *, width: int, init: float) -> nn.Module:
    """What `network.scale` or `network.bias`, called `name`, asks for, as it begins at `init`.

    "per_caption" is a `Head`; "shared" one number that all captions learn together, "fixed" that
    number as it begins, both a `SharedHead`. Raises ValueError for another.
    """
    if kind == "per_caption":
        return Head(width, init=init)
    if kind in ("shared", "fixed"):
        return SharedHead(width, init=init, learns=kind == "shared")
    raise ValueError(f"{name} is per_caption, shared or fixed, not {kind!r}")


class Head(nn.Module):
    """One number from a caption's features: Linear, GELU, Linear."""

    def __init__(self, width: int, *, init: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        with torch.no_grad():
            self.layers[2].bias += init

    def forward(self, features: Float[Tensor, "caption dim"]) -> Float[Tensor, "caption"]:
        # squeeze(1) and not squeeze(): a single caption is still a list of captions.
        return self.layers(features).squeeze(1)


class SharedHead(nn.Module):
    """One number for all captions, in the place of a `Head`; one that is fixed does not learn.

    It is a head that is told nothing of the caption, so that it learns as fast as a head does: a
    single parameter would move by no more than the learning rate in a step.
    """

    def __init__(self, width: int, *, init: float, learns: bool) -> None:
        super().__init__()
        self.head = Head(width, init=0.0)
        nn.init.zeros_(self.head.layers[2].weight)
        nn.init.constant_(self.head.layers[2].bias, init)
        self.head.requires_grad_(learns)
        self.register_buffer("nothing", torch.ones(1, width), persistent=False)

    def forward(self, features: Float[Tensor, "caption dim"]) -> Float[Tensor, "caption"]:
        return self.head(self.nothing).expand(len(features))
