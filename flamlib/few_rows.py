"""Matrix products of a few rows, such as one caption: as fast as memory gives the other matrix.

Without gradients, in eval mode, on a CPU and in float32 they are oneDNN's, which reads a matrix
once in a row; MKL, which is torch's choice there, takes up to twice as long. The numbers are
torch's own up to rounding. More rows are left to torch, to the last digit.
"""

from collections.abc import Sequence
from typing import NamedTuple, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

MOST = 32  # rows: tokens of a caption


def has_onednn(x: Tensor) -> bool:
    """Return whether oneDNN can compute on a tensor, and nothing traces or casts the operations."""
    # First, as the export to ONNX would take what else is asked for a constant.
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    is_on = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    return is_on and x.device.type == "cpu" and x.dtype == torch.float32


class _Ordered(NamedTuple):
    """Linear layers as one, its weights in oneDNN's order.

    `of` are their tensors. They are held on to, so that others are never at their place in memory.
    """

    of: list[Tensor]
    versions: list[int]
    weight: Tensor
    bias: Tensor


class Linear(nn.Linear):
    """A linear layer that in eval mode keeps a copy of its weights in oneDNN's order.

    It is made when there are few rows for the first time, and anew when the weights are others,
    were changed in place, or may have learned: a fused optimiser leaves their version as it was.
    """

    _ordered: _Ordered | None = None

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out)

    @no_type_check  # shapes cannot be checked in what torch.compile traces
    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b."""
        [found] = side_by_side(x, [self])
        return found

    def train(self, mode: bool = True) -> "Linear":
        """Set whether the layer learns, and forget the copy."""
        self._ordered = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, object]:
        """Return what of the layer is copied or pickled: not the copy of its weights."""
        return {name: value for name, value in vars(self).items() if name != "_ordered"}


@no_type_check
def side_by_side(
    x: Float[Tensor, "*row in"], layers: Sequence[Linear]
) -> Sequence[Float[Tensor, "*row out"]]:
    """Return what each of some layers, all of one size, makes of x.

    Of few rows they are one product. Use a layer with the same others each time.
    """
    tensors = [tensor for layer in layers for tensor in (layer.weight, layer.bias)]
    is_free = not (torch.is_grad_enabled() or layers[0].training)
    is_few = has_onednn(x) and is_free and 0 < x.shape[:-1].numel() <= MOST
    # Of tensors that were made in inference mode torch does not say when they change.
    if not is_few or any(tensor.is_inference() for tensor in tensors):
        return [F.linear(x, layer.weight, layer.bias) for layer in layers]
    made = layers[0]._ordered
    if (
        made is None
        or made.versions != [tensor._version for tensor in tensors]
        or any(a.data_ptr() != b.data_ptr() for a, b in zip(made.of, tensors, strict=True))
    ):
        weight = torch.cat([layer.weight.detach() for layer in layers])
        made = layers[0]._ordered = _Ordered(
            [tensor.detach() for tensor in tensors],
            [tensor._version for tensor in tensors],
            torch.ops.mkldnn._reorder_linear_weight(weight),
            torch.cat([layer.bias.detach() for layer in layers]),
        )
    return _product(x, made.weight, made.bias).chunk(len(layers), dim=-1)


def cosines(
    frames: Float[Tensor, "clip frame dim"], captions: Float[Tensor, "caption dim"]
) -> Float[Tensor, "clip caption frame"]:
    """Compute the inner products of unit vectors."""
    is_few = has_onednn(frames) and not torch.is_grad_enabled() and len(captions) == 1
    if is_few and frames.numel() > 0 and captions.dtype == frames.dtype:
        return _product(frames, captions, None).transpose(1, 2)
    return torch.einsum("ild,jd->ijl", frames, captions)


def _product(x: Tensor, rows: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, rows, bias, "none", [], "")
