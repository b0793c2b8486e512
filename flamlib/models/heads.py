"""Heads that predict one number from a caption's features: its logit scale or its logit bias."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def build_head(name: str, kind: str, *, width: int, init: float) -> nn.Module:
    """Build the head for `network.scale` or `network.bias`.

    Args:
        name: "scale" or "bias", for the error message.
        kind: "per_caption" (a `Head`), "shared" (one learned number for all captions) or "fixed"
            (the initial number), both a `SharedHead`.
        width: Dimensions of the caption features.
        init: Initial output, on average.

    Raises:
        ValueError: Another `kind`.
    """
    if kind == "per_caption":
        return Head(width, init=init)
    if kind in ("shared", "fixed"):
        return SharedHead(width, init=init, learns=kind == "shared")
    raise ValueError(f"{name} must be per_caption, shared or fixed, not {kind!r}")


class Head(nn.Module):
    """A number for each caption, from its features: Linear, GELU, Linear."""

    def __init__(self, width: int, *, init: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        with torch.no_grad():
            self.layers[2].bias += init

    def forward(self, features: Float[Tensor, "caption dim"]) -> Float[Tensor, "caption"]:
        """Return a number for each caption."""
        # squeeze(1) and not squeeze(): a single caption is still a list of captions.
        return self.layers(features).squeeze(1)


class SharedHead(nn.Module):
    """One number for all captions, used in place of a `Head`; learned or fixed.

    A head with a constant input, so that it learns as fast as a `Head`: a single parameter would
    change by at most the learning rate in a step.
    """

    def __init__(self, width: int, *, init: float, learns: bool) -> None:
        super().__init__()
        self.head = Head(width, init=0.0)
        nn.init.zeros_(self.head.layers[2].weight)
        nn.init.constant_(self.head.layers[2].bias, init)
        self.head.requires_grad_(learns)
        self.register_buffer("nothing", torch.ones(1, width), persistent=False)

    def forward(self, features: Float[Tensor, "caption dim"]) -> Float[Tensor, "caption"]:
        """Return a number for each caption."""
        return self.head(self.nothing).expand(len(features))
