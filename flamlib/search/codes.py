"""Unit vectors in a byte a coordinate.

    vector = mean + scale * code        code in -127 ... 127

`mean` is that of all vectors of a block, so that a coordinate that all of them share costs no
accuracy; each vector has a scale of its own, by its largest coordinate. Rounding moves an inner
product with a unit vector by a third of `scale`, as a standard deviation.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int8

LARGEST = 127
_ROWS = 4096  # that are float32 at a time


class Coded(NamedTuple):
    """Vectors in a byte a coordinate.

    Attributes:
        codes: What is stored of them.
        scale: Of each.
        mean: Of all.
    """

    codes: Int8[np.ndarray, "vector dim"]
    scale: Float[np.ndarray, "vector"]
    mean: Float[np.ndarray, "dim"]


def encode(blocks: Sequence[Float[np.ndarray, "_ dim"]]) -> Coded:
    """Encode vectors that come in blocks, all of one length."""
    n = sum(map(len, blocks))
    mean = (sum(block.sum(axis=0, dtype=np.float64) for block in blocks) / n).astype(np.float32)
    codes, scale = np.empty((n, len(mean)), np.int8), np.empty(n, np.float32)
    at = 0
    for block in blocks:
        for first in range(0, len(block), _ROWS):
            rest = block[first : first + _ROWS].astype(np.float32) - mean
            rows = slice(at, at + len(rest))
            scale[rows] = np.abs(rest).max(axis=1) / LARGEST
            # Of a vector that is the mean itself every code is 0.
            codes[rows] = np.rint(rest / np.maximum(scale[rows], np.float32(1e-30))[:, None])
            at += len(rest)
    return Coded(codes, scale, mean)


def decode(coded: Coded) -> Float[np.ndarray, "vector dim"]:
    """Return the vectors, as far as their codes tell."""
    return coded.mean + coded.scale[:, None] * coded.codes.astype(np.float32)
