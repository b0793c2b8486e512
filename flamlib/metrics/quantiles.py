"""Quantiles of more numbers than memory has room for twice: block by block, NumPy's to the bit.

A sample of all blocks cuts the line into bins. How many numbers are in each bin says which bins
hold the wanted ones, and only those bins are gathered.
"""

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float, Int

STRIDE = 4096  # one of so many numbers is in the sample

Blocks = Callable[[], Iterable[Float[np.ndarray, "_"]]]


def quantiles(
    blocks: Blocks, shares: Float[np.ndarray, "share"], *, stride: int = STRIDE
) -> Float[np.ndarray, "share"]:
    """Return what `np.quantile` returns of all blocks together.

    Args:
        blocks: makes all blocks, each time anew and of one dtype; they are sorted in place.
        shares: which quantiles, in [0, 1].
        stride: one of so many numbers is in the sample.

    >>> def halves():
    ...     yield from (np.array([4.0, 1.0]), np.array([3.0, 2.0, 5.0]))
    >>> quantiles(halves, np.array([0.0, 0.5, 1.0])).tolist()
    [1.0, 3.0, 5.0]
    """
    sample, n, n_blocks = [], 0, 0
    for block in blocks():
        sample.append(block[::stride].copy())
        n, n_blocks = n + len(block), n_blocks + 1
    if n_blocks == 1:
        return np.quantile(next(iter(blocks())), shares, overwrite_input=True)
    place = (n - 1) * shares
    lower, upper = (np.array(end, dtype=int) for end in (np.floor(place), np.ceil(place)))
    ranks, back = np.unique(np.concatenate([lower, upper]), return_inverse=True)
    values = _of_ranks(blocks, ranks, np.unique(np.concatenate(sample)))[back].reshape(2, -1)
    # NumPy's rule between two neighbours, and its rounding.
    between = zip(values.T, (place - lower)[:, None], strict=True)
    return np.array([np.quantile(ends, share)[0] for ends, share in between])


def _of_ranks(
    blocks: Blocks, ranks: Int[np.ndarray, "rank"], edges: Float[np.ndarray, "edge"]
) -> Float[np.ndarray, "rank"]:
    """Return the numbers of these ranks, from 0; `edges` are some of them, in rising order."""
    below, at_most = np.zeros((2, len(edges) + 1), dtype=int)
    for block in blocks():
        block.sort()
        below[1:] += np.searchsorted(block, edges, side="left")
        at_most[1:] += np.searchsorted(block, edges, side="right")
    # Bin b lies between edge b - 1, which is counted in place b, and edge b.
    of_bin = np.searchsorted(below, ranks, side="right") - 1
    is_edge = (of_bin > 0) & (ranks < at_most[of_bin])
    values = edges[np.maximum(of_bin - 1, 0)]
    inside: dict[int, list[np.ndarray]] = {b: [] for b in of_bin[~is_edge].tolist()}
    for block in blocks() if inside else ():
        block.sort()
        for b, parts in inside.items():
            first = np.searchsorted(block, edges[b - 1], side="right") if b else 0
            stop = np.searchsorted(block, edges[b], side="left") if b < len(edges) else None
            parts.append(block[first:stop].copy())
    for b, parts in inside.items():
        mine = (of_bin == b) & ~is_edge
        values[mine] = np.sort(np.concatenate(parts))[ranks[mine] - at_most[b]]
    return values
