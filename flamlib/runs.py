"""Runs of frames: what is detected at one threshold, and at every threshold at once.

A run is a longest stretch of neighbouring frames that all score at least the threshold. Frames are
counted from 0; a run spans the frames [start, stop).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num


def runs_of(active: Bool[np.ndarray, "frame"]) -> Int[np.ndarray, "run 2"]:
    """Start and stop of every run of True, in order of time.

    >>> runs_of(np.array([True, False, True, True]))
    array([[0, 1],
           [2, 4]])
    """
    edges = np.diff(active.astype(np.int8), prepend=0, append=0)
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)], axis=1)


class Runs(NamedTuple):
    """The runs of each column of scores, in falling order of the threshold they begin to exist at.

    Each run takes in one more frame and the runs that were on its left and on its right, if any.
    `left` and `right` say which those are, as places in a flattened [rank + 1, column] array whose
    last row stands for "none".
    """

    threshold: Float[np.ndarray, "rank column"]
    start: Int[np.ndarray, "rank column"]
    stop: Int[np.ndarray, "rank column"]
    left: Int[np.ndarray, "rank column"]
    right: Int[np.ndarray, "rank column"]

    def change(self, value: Num[np.ndarray, "rank column"]) -> Num[np.ndarray, "rank column"]:
        """How the sum of `value` over the runs that exist changes as each run begins to:

            change = value of the run - value of its left part - value of its right part

        so the sum at a threshold is the sum of the changes of all runs at or above it.
        """
        padded = np.concatenate([value, np.zeros_like(value[:1])]).ravel()
        return value - padded.take(self.left) - padded.take(self.right)

    def of_columns(self, column: Int[np.ndarray, "chosen"]) -> "Runs":
        """The runs of the given columns; a column may be given more than once."""
        n_columns = self.start.shape[1]
        left, right = (
            part[:, column] // n_columns * len(column) + np.arange(len(column))
            for part in (self.left, self.right)
        )
        start, stop = self.start[:, column], self.stop[:, column]
        return Runs(self.threshold[:, column], start, stop, left, right)


def every_run(score: Float[np.ndarray, "frame column"]) -> Runs:
    """All runs that exist at any threshold: no more than there are frames.

    The frames of a column join one at a time, the highest score first. Frames of equal score join
    one after the other as well; the runs in between exist at no threshold, but what they change
    cancels, because it is booked at the same threshold.

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

    # These are flattened [edge, column] arrays, and an edge is a place in them. Where a run ends,
    # `start_of` knows the edge at which it starts; where one starts, `stop_of` knows its end and
    # `row_of` its row. An edge inside a run keeps what it last knew: nobody will ask it again. An
    # edge between two silent frames is an empty run.
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
