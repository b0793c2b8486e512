"""The inner product of some vectors with every frame of an index, at the speed of memory.

A frame is a byte a coordinate (`codes`); numkong multiplies bytes by bytes and adds them up exactly
in 32 bits. So that nothing is lost on this side, a vector is two such rows, a coarse one and one of
what the first leaves over, 254 times finer: together 16 bits.
"""

import os
from collections.abc import Iterator, Sequence

import numkong
import numpy as np
from jaxtyping import Float

from flamlib.compute import parallel
from flamlib.search.archive_part import Part
from flamlib.search.codes import LARGEST

_ROWS = 2**15  # frames that are worked on at a time
_FINE = np.float32(2 * LARGEST)  # the coarse row leaves over half a step on either side


def n_cores() -> int:
    """Return how many processor cores this process may use.

    macOS and Windows bind no process to some of them.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def products(
    parts: Sequence[Part], vectors: Float[np.ndarray, "vector dim"], *, n_threads: int | None = None
) -> Float[np.ndarray, "vector frame"]:
    """Return the inner products of vectors with all frames, parts one after the other.

    Args:
        parts: Of an index.
        vectors: Of any length.
        n_threads: That share the frames; None: as many as there are processor cores for them.
    """
    vectors = vectors.astype(np.float32)
    step = np.abs(vectors).max(axis=1, keepdims=True) / LARGEST
    scaled = vectors / np.where(step > 0, step, 1)
    coarse = np.rint(scaled)
    fine = np.rint((scaled - coarse) * _FINE)
    rows = np.stack([coarse, fine], axis=1).reshape(-1, vectors.shape[1]).astype(np.int8)
    packed = numkong.dots_pack(np.ascontiguousarray(rows), dtype="int8")
    out = np.empty((len(vectors), sum(len(part.coded.codes) for part in parts)), np.float32)

    def work(block: tuple[Part, int, int, int]) -> None:
        part, first, stop, at = block
        codes, scale, mean = part.coded
        sums = np.asarray(numkong.dots_packed(codes[first:stop], packed)).astype(np.float32)
        whole = sums[:, 0::2] + sums[:, 1::2] / _FINE
        out[:, at : at + stop - first] = (
            whole.T * step * scale[first:stop] + vectors @ mean[:, None]
        )

    n_threads = n_threads or n_cores()
    for _ in parallel.in_order(work, _blocks(parts), n_jobs=n_threads, threads=True):
        pass
    return out


def _blocks(parts: Sequence[Part]) -> Iterator[tuple[Part, int, int, int]]:
    """Frames of a part, from one to before another, and where they stand among all."""
    at = 0
    for part in parts:
        n = len(part.coded.codes)
        for first in range(0, n, _ROWS):
            yield part, first, min(first + _ROWS, n), at + first
        at += n
