"""State dicts of other programs under our names: patterns, prefixes, tensors that must be there."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

Patterns = Iterable[tuple[str, str]]


def rename(name: str, patterns: Patterns) -> str:
    """Replace every regular expression of `patterns` in a name, one after the other.

    >>> rename("text.norm1.bias", [(r"^text\\.", "caption."), (r"norm1", "layernorm")])
    'caption.layernorm.bias'
    """
    for pattern, replacement in patterns:
        name = re.sub(pattern, replacement, name)
    return name


def strip_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix`, without it in their names."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def add_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors with `prefix` before each name."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def require(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """Return the tensor of that name. Raises ValueError if it is missing."""
    if name not in tensors:
        raise ValueError(f"tensor {name} is missing: another kind of checkpoint?")
    return tensors[name]
