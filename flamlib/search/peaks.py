"""Hits of a caption in a recording: the runs of frames around its peaks.

A hit is a peak of the cosine above 0, where evidence for the caption begins, with the frames around
it that have at least half of the peak's cosine, which is half of its evidence in log-odds. A peak
whose run holds a higher one belongs to that one. Runs of two hits therefore never meet in a frame:
no two hits are of one moment.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Peak(NamedTuple):
    """A hit: frames from `start` to before `stop`, and the highest cosine of them."""

    start: int
    stop: int
    cosine: float


def find(cosine: Float[np.ndarray, "frame"]) -> Iterator[Peak]:
    """Yield the hits of a recording, the surest first; of equal ones the earlier.

    >>> [(hit.start, hit.stop) for hit in find(np.array([0.1, 0.9, 0.5, 0.2, 0.3, 0.8]))]
    [(1, 3), (5, 6)]
    """
    left = cosine.astype(np.float32)  # a copy: what has been seen to is set to 0
    while (at := int(left.argmax())) >= 0 and left[at] > 0:
        level = float(cosine[at]) / 2
        start, stop = _run(cosine, at, level)
        run = cosine[start:stop]
        if run.max() <= cosine[at] and start + int(run.argmax()) == at:
            yield Peak(start, stop, float(cosine[at]))
        left[start:stop] = 0


def _run(cosine: Float[np.ndarray, "frame"], at: int, level: float) -> tuple[int, int]:
    """The frames around one that have at least this cosine."""
    below = cosine < level
    after = below[at:]
    n_after = int(after.argmax()) if after.any() else len(after)
    before = below[: at + 1][::-1]
    n_before = int(before.argmax()) if before.any() else len(before)
    return at + 1 - n_before, at + n_after
