"""Matrix products of a few rows, such as one caption: as fast as memory gives the other matrix.

Without gradients, in eval mode, on a CPU and in float32 they are oneDNN's, which reads a matrix
once in a row; MKL, which is torch's choice there, takes up to twice as long. The numbers are
torch's own up to rounding. More rows are left to torch, to the last digit.
"""

from collections.abc import Sequence
from typing import NamedTuple, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn

MOST = 32  # rows: tokens of a caption
_pointwise = torch.ops.mkldnn._linear_pointwise


def has_onednn(x: Tensor) -> bool:
    """Return whether oneDNN can compute on a tensor, and nothing traces or casts the operations."""
    # First, as the export to ONNX would take what else is asked for a constant.
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    is_on = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    return is_on and x.device.type == "cpu" and x.dtype == torch.float32


class Product(NamedTuple):
    """Linear layers side by side, for few rows: their weights in oneDNN's order."""

    weight: Tensor
    bias: Tensor

    @no_type_check  # shapes cannot be checked in what torch.compile traces
    def __call__(self, x: Tensor, *, plus: Tensor | None = None) -> Tensor:
        """Return x W^T + b, and the sum with something."""
        if plus is None:
            return _pointwise(x, self.weight, self.bias, "none", [], "")
        return _pointwise.binary(x, plus, self.weight, self.bias, "add")

    @no_type_check
    def gelu(self, x: Tensor) -> Tensor:
        """Return GELU(x W^T + b)."""
        return _pointwise(x, self.weight, self.bias, "gelu", [], "none")


class Kept:
    """Copies of the weights of linear layers in oneDNN's order.

    They are made when there are few rows for the first time, and anew when the weights are others
    or were changed in place. A fused optimiser changes weights and leaves their version as it was,
    so call `forget` where layers begin to learn. Copies are no part of what is copied or pickled.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.forget()

    def forget(self) -> None:
        """Forget the copies."""
        # The tensors are held on to, so that others are never at their place in memory.
        self._tensors: list[Tensor] = []
        self._versions: list[int] = []
        self._places: list[int] = []
        self._products: list[list[Product]] = []

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Return what is copied: nothing."""
        return Kept, ()

    @no_type_check
    def products(
        self, x: Tensor, sides: Sequence[Sequence[nn.Linear]], *, training: bool
    ) -> Sequence[Product] | None:
        """Return a product for each side, or None where torch is to compute: of many rows, and
        where the layers may learn.

        Args:
            x: Input of the first side.
            sides: Layers side by side, which have one input; the same at each call.
            training: Whether the layers are in training mode.
        """
        if torch.compiler.is_compiling():
            return None
        if training or torch.is_grad_enabled():
            self.forget()
            return None
        if not has_onednn(x) or not 0 < x.shape[:-1].numel() <= MOST:
            return None
        tensors = [t for side in sides for layer in side for t in (layer.weight, layer.bias)]
        # Of tensors that were made in inference mode torch does not say when they change.
        if any(tensor.is_inference() for tensor in tensors):
            return None
        versions = [tensor._version for tensor in tensors]
        places = [tensor.data_ptr() for tensor in tensors]
        if (versions, places) != (self._versions, self._places):
            self._tensors = [tensor.detach() for tensor in tensors]
            self._versions, self._places = versions, places
            self._products = [
                Product(
                    torch.ops.mkldnn._reorder_linear_weight(
                        torch.cat([layer.weight.detach() for layer in side])
                    ),
                    torch.cat([layer.bias.detach() for layer in side]),
                )
                for side in sides
            ]
        return self._products


def cosines(
    frames: Float[Tensor, "clip frame dim"], captions: Float[Tensor, "caption dim"]
) -> Float[Tensor, "clip caption frame"]:
    """Compute the inner products of unit vectors."""
    is_few = has_onednn(frames) and not torch.is_grad_enabled() and len(captions) == 1
    if is_few and frames.numel() > 0 and captions.dtype == frames.dtype:
        return _pointwise(frames, captions, None, "none", [], "").transpose(1, 2)
    return torch.einsum("ild,jd->ijl", frames, captions)
