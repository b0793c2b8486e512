"""Moments of a caption that is known to sound in a clip: where is it?

A query is a clip and a caption that has an event in it, so nothing is asked of captions that are
absent. A system answers with windows, the surest first, at most `MAX_WINDOWS`. As there is an
answer, none needs a threshold of its own: windows are the runs of frames that reach the middle
between the lowest and the highest score of the query, each as sure as its highest frame; of equally
sure ones the longer comes first.

    IoU(a, b)   = |a ∩ b| / |a ∪ b|, in seconds
    moment_r1   = share of queries whose surest window has an IoU of at least 0.5, or 0.7, with one
                  of the query's events
    moment_map  = mean over queries, and over IoU thresholds 0.5, 0.55 … 0.95, of the average
                  precision of the windows: one matches the event of the highest IoU that no surer
                  window has taken, if that IoU reaches the threshold; precision is interpolated
                  (the highest at that recall or more)

These are the metrics of video and audio moment retrieval (Lei et al., "QVHighlights", NeurIPS 2021;
Munakata et al., "Language-based audio moment retrieval", ICASSP 2025) as their scripts have them.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from flamlib.metrics.bootstrap import ClipStatistic, query_mean
from flamlib.metrics.clip_scores import ClipScores
from flamlib.runs import runs_of

MAX_WINDOWS = 10
RECALL_IOUS = {"moment_r1_50": 0.5, "moment_r1_70": 0.7}
PRECISION_IOUS = np.arange(50, 100, 5) / 100
ROUNDING = 1e-9  # of a ratio of seconds, which must not keep a window from its threshold


class Moments(NamedTuple):
    """What a system's windows are worth, for each query.

    Attributes:
        clip: number of the query's clip, from 0.
        caption: number of its caption, from 0.
        best_iou: highest IoU of the surest window with an event.
        precision: average precision at each of `PRECISION_IOUS`.
        n_clips: how many clips there are, with or without queries.
    """

    clip: Int[np.ndarray, "query"]
    caption: Int[np.ndarray, "query"]
    best_iou: Float[np.ndarray, "query"]
    precision: Float[np.ndarray, "query iou"]
    n_clips: int

    @classmethod
    def of(cls, clip_scores: ClipScores) -> "Moments":
        """Find the windows of every caption in every clip that has an event of it."""
        column = {caption: j for j, caption in enumerate(clip_scores.captions)}
        queries, ious, precisions = [], [], []
        for i, events in enumerate(clip_scores.known_events().values()):
            edges = clip_scores.edges(clip_scores.durations[i])
            for caption in dict.fromkeys(event.caption for event in events):
                true = np.array([(e.onset, e.offset) for e in events if e.caption == caption])
                found = windows(clip_scores.scores[i][:, column[caption]], edges)
                iou = intersection_over_union(found, true)
                queries.append((i, column[caption]))
                ious.append(iou[0].max() if len(iou) else 0.0)
                precisions.append(average_precision(iou))
        clip, caption = np.array(queries, dtype=int).reshape(-1, 2).T
        precision = np.array(precisions).reshape(-1, len(PRECISION_IOUS))
        return cls(clip, caption, np.array(ious), precision, len(clip_scores.clips))

    def by_query(self) -> dict[str, Float[np.ndarray, "query"]]:
        """Return each metric of each query; a metric is their mean."""
        reached = {k: (self.best_iou >= v - ROUNDING) * 1.0 for k, v in RECALL_IOUS.items()}
        return reached | {"moment_map": self.precision.mean(axis=1)}

    def by_caption(self, n_captions: int) -> dict[str, Float[np.ndarray, "caption"]]:
        """Return each metric of each of all captions; nan for one without a query."""
        n = np.bincount(self.caption, minlength=n_captions)
        sums = {k: np.bincount(self.caption, v, n_captions) for k, v in self.by_query().items()}
        return {k: np.where(n > 0, total / np.maximum(n, 1), np.nan) for k, total in sums.items()}


def compute(moments: Moments) -> dict[str, float | int]:
    """Return the metrics, see the module's docstring, and `n_moment_queries`; nan without any."""
    n = len(moments.clip)
    means = {k: float(v.mean()) if n else np.nan for k, v in moments.by_query().items()}
    return means | {"n_moment_queries": n}


def statistics(moments: Moments) -> dict[str, Callable[[], ClipStatistic]]:
    """Return, for each metric, a function that builds its bootstrap statistic."""
    return {
        name: partial(query_mean, values, moments.clip, moments.n_clips)
        for name, values in moments.by_query().items()
    }


def windows(
    scores: Float[np.ndarray, "frame"], edges: Float[np.ndarray, "edge"]
) -> Float[np.ndarray, "window 2"]:
    """Return the windows of a query in seconds, the surest first, see the module's docstring.

    A score of -inf is one that was not given: no window holds such a frame.

    >>> windows(np.array([0.1, 0.7, 0.2, 0.9, 0.8]), np.arange(6.0))
    array([[3., 5.],
           [1., 2.]])
    """
    given = scores[scores > -np.inf]
    if not len(given):
        return np.zeros((0, 2))
    middle = given.min() / 2 + given.max() / 2
    runs = np.array(runs_of(scores >= middle), dtype=int).reshape(-1, 2)
    peak = np.array([scores[start:stop].max() for start, stop in runs])
    seconds = edges[runs]
    order = np.lexsort((seconds[:, 0] - seconds[:, 1], -peak))
    return seconds[order[:MAX_WINDOWS]]


def intersection_over_union(
    windows: Float[np.ndarray, "window 2"], events: Float[np.ndarray, "event 2"]
) -> Float[np.ndarray, "window event"]:
    """Return the IoU of each window with each event."""
    onset = np.maximum(windows[:, None, 0], events[:, 0])
    shared = np.maximum(np.minimum(windows[:, None, 1], events[:, 1]) - onset, 0.0)
    either = np.diff(windows, axis=1) + np.diff(events, axis=1).T - shared
    return shared / either


def average_precision(iou: Float[np.ndarray, "window event"]) -> Float[np.ndarray, "iou"]:
    """Return the interpolated average precision of windows, the surest first, at `PRECISION_IOUS`.

    >>> average_precision(np.array([[0.2], [0.72]])).tolist()
    [0.5, 0.5, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    n_windows, n_events = iou.shape
    preferred = np.argsort(-iou, axis=1, kind="stable")
    precision = np.zeros(len(PRECISION_IOUS))
    for i, threshold in enumerate(PRECISION_IOUS - ROUNDING):
        if not n_windows or iou.max() < threshold:
            break
        taken: set[int] = set()
        hit: Bool[np.ndarray, window] = np.zeros(n_windows, dtype=bool)
        for window, events in enumerate(preferred):
            free = (e for e in events.tolist() if iou[window, e] >= threshold and e not in taken)
            event = next(free, None)
            if event is not None:
                hit[window] = True
                taken.add(event)
        at_rank = np.cumsum(hit) / np.arange(1, n_windows + 1)
        at_least = np.maximum.accumulate(at_rank[::-1])[::-1]
        precision[i] = at_least[hit].sum() / n_events
    return precision
