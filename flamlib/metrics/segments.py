"""Segments, usually of a second: coarser than frames, and the same for every model.

Segment i of a clip spans [i, i + 1) * segment_s. It is active when an event of the caption overlaps
it at all, and its score is the highest of the frames that overlap it. Times are compared in whole
microseconds, so an event that ends at a segment's edge does not overlap the next one.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

PER_S = 1e6


def count(duration_s: float, segment_s: float) -> int:
    """Return the number of segments of a clip; the last one may reach past its end.

    >>> count(10.0, 1.0), count(10.2, 1.0), count(0.3 / 0.1, 0.1)
    (10, 11, 30)
    """
    return max(1, int(np.ceil(np.round(duration_s / segment_s, 6))))


def active_segments(
    events: Sequence[tuple], captions: Sequence[str], *, n_segments: int, segment_s: float
) -> Bool[np.ndarray, "segment caption"]:
    """Return which captions are active in which segments.

    Args:
        events: (onset, offset, caption, …) in seconds; those of other captions are ignored.
        captions: names of the columns.
        n_segments: see `count`.
        segment_s: seconds of a segment.

    >>> active_segments([(0.9, 2.0, "rain")], ["rain", "wind"], n_segments=3, segment_s=1.0)
    array([[ True, False],
           [ True, False],
           [False, False]])
    """
    active = np.zeros((n_segments, len(captions)), dtype=bool)
    column = {caption: i for i, caption in enumerate(captions)}
    edges = _ticks(np.arange(n_segments + 1) * segment_s)
    for onset, offset, caption, *_ in events:
        if caption in column:
            overlaps = (edges[:-1] < _ticks(offset)) & (edges[1:] > _ticks(onset))
            active[overlaps, column[caption]] = True
    return active


def segment_scores(
    scores: Float[np.ndarray, "frame caption"],
    frame_edges: Float[np.ndarray, "edge"],
    *,
    n_segments: int,
    segment_s: float,
) -> Float[np.ndarray, "segment caption"]:
    """Return for each segment the highest score of the frames that overlap it.

    Args:
        scores: of one clip.
        frame_edges: seconds, one more than there are frames.
        n_segments: see `count`.
        segment_s: seconds of a segment.

    Raises:
        ValueError: for a segment that no frame overlaps.
    """
    edges, frames = _ticks(np.arange(n_segments + 1) * segment_s), _ticks(frame_edges)
    first = np.maximum(np.searchsorted(frames, edges[:-1], side="right") - 1, 0)
    stop = np.minimum(np.searchsorted(frames, edges[1:], side="left"), len(scores))
    if (stop <= first).any():
        empty = int(np.argmax(stop <= first))
        raise ValueError(
            f"segment {empty} begins at {empty * segment_s} s, but the frames end at "
            f"{frame_edges[-1]} s"
        )
    return np.stack([scores[a:b].max(axis=0) for a, b in zip(first, stop, strict=True)])


def _ticks(seconds: float | Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"] | float:
    return np.rint(np.asarray(seconds, dtype=float) * PER_S)
