"""Runs of frames: what is detected at one threshold, and at every threshold at once.

A run is a maximal sequence of consecutive frames whose scores are all at least the threshold.
Frames are counted from 0; a run spans the frames [start, stop).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num


def runs_of(active: Bool[np.ndarray, "frame"]) -> Int[np.ndarray, "run 2"]:
    """Return start and stop of every run of True, in order of time.

    >>> runs_of(np.array([True, False, True, True]))
    array([[0, 1],
           [2, 4]])
    """
    edges = np.diff(active.astype(np.int8), prepend=0, append=0)
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)], axis=1)


class Runs(NamedTuple):
    """All runs of each column of scores, by the threshold at which they appear, highest first.

    When the threshold falls to the score of a frame, that frame and the runs directly before and
    after it, if any, become one run. So run number `rank` of a column appears with its frame of
    the rank-th highest score.

    Attributes:
        threshold: the highest threshold at which the run exists.
        start: first frame.
        stop: last frame + 1.
        left: index of the run that this one absorbed at its left, in the flattened array
            [rank + 1, column]; its last row stands for "none".
        right: the same at its right.
    """

    threshold: Float[np.ndarray, "rank column"]
    start: Int[np.ndarray, "rank column"]
    stop: Int[np.ndarray, "rank column"]
    left: Int[np.ndarray, "rank column"]
    right: Int[np.ndarray, "rank column"]

    def change(self, value: Num[np.ndarray, "rank column"]) -> Num[np.ndarray, "rank column"]:
        """Return how the sum of `value` over existing runs changes when each run appears:

            change = value of the run - value of the run at its left - value of that at its right

        so the sum at a threshold is the sum of the changes of all runs at or above it.
        """
        padded = np.concatenate([value, np.zeros_like(value[:1])]).ravel()
        return value - padded.take(self.left) - padded.take(self.right)

    def of_columns(self, column: Int[np.ndarray, "selected"]) -> "Runs":
        """Return the runs of some columns; a column may be given more than once."""
        n_columns = self.start.shape[1]
        left, right = (
            index[:, column] // n_columns * len(column) + np.arange(len(column))
            for index in (self.left, self.right)
        )
        start, stop = self.start[:, column], self.stop[:, column]
        return Runs(self.threshold[:, column], start, stop, left, right)


def every_run(score: Float[np.ndarray, "frame column"]) -> Runs:
    """Return all runs that exist at any threshold, one row for each frame.

    The frames of a column are added one at a time, the highest score first. Frames of equal score
    are added one after the other as well: the runs in between exist at no threshold, but their
    changes cancel, as all of them count at the same threshold.

    >>> runs = every_run(np.array([[0.5], [0.1], [0.9], [0.7]]))
    >>> runs.threshold.ravel()
    array([0.9, 0.7, 0.5, 0.1])
    >>> np.hstack([runs.start, runs.stop])
    array([[2, 3],
           [2, 4],
           [0, 1],
           [0, 4]])
    """
    n_frames, n_columns = score.shape
    column = np.arange(n_columns)
    order = np.argsort(-score, axis=0)

    # Flattened [edge, column] arrays; edge l is the start of frame l. At an edge where a run stops,
    # `start_of` holds the edge where it starts; where one starts, `stop_of` holds the edge where it
    # stops and `row_of` its row. Edges inside a run hold old values, which are never read again.
    # An edge between two frames not added yet is an empty run.
    start_of = np.arange((n_frames + 1) * n_columns)
    stop_of = start_of.copy()
    row_of = np.tile(n_frames * n_columns + column, n_frames + 1)

    start, stop, left, right = np.empty((4, n_frames, n_columns), dtype=np.intp)
    for rank, frame in enumerate(order):
        before = frame * n_columns + column
        after = before + n_columns
        start[rank] = first = start_of.take(before)
        stop[rank] = last = stop_of.take(after)
        left[rank] = row_of.take(first)
        right[rank] = row_of.take(after)
        start_of[last] = first
        stop_of[first] = last
        row_of[first] = rank * n_columns + column
    threshold = np.take_along_axis(score, order, axis=0)
    return Runs(threshold, start // n_columns, stop // n_columns, left, right)
