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
                  (the highest at that recall or more); moment_map_50 and moment_map_75 are those at
                  one threshold

These are the metrics of video and audio moment retrieval (Lei et al., "QVHighlights", NeurIPS 2021;
Munakata et al., "Language-based audio moment retrieval", ICASSP 2025), to the last bit those of
lighthouse's `training/standalone_eval`, of two events with the same IoU the later first. But they
are no percentages and not rounded to two decimals, and a query without any window counts as 0,
which that script has no answer to.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from flamlib.metrics.bootstrap import ClipStatistic, query_mean
from flamlib.metrics.clip_scores import ClipScores
from flamlib.sound_events.runs import runs_of

MAX_WINDOWS = 10
RECALL_IOUS = {"moment_r1_50": 0.5, "moment_r1_70": 0.7}
PRECISION_IOUS = np.arange(50, 100, 5) / 100
AT_ONE_IOU = {"moment_map_50": 0, "moment_map_75": 5}  # places in `PRECISION_IOUS`


class Answer(NamedTuple):
    """What a system says to a query, and what is true.

    Attributes:
        clip: number of the query's clip, from 0.
        caption: number of its caption, from 0.
        windows: onset and offset of each in seconds, the surest first.
        events: onset and offset of each in seconds; at least one, and none without a duration.
    """

    clip: int
    caption: int
    windows: Float[np.ndarray, "window 2"]
    events: Float[np.ndarray, "event 2"]


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
        answers = []
        for i, events in enumerate(clip_scores.known_events().values()):
            edges = clip_scores.edges(clip_scores.durations[i])
            for caption in dict.fromkeys(event.caption for event in events):
                true = np.array([(e.onset, e.offset) for e in events if e.caption == caption])
                found = windows(clip_scores.scores[i][:, column[caption]], edges)
                answers.append(Answer(i, column[caption], found, true))
        return cls.of_answers(answers, len(clip_scores.clips))

    @classmethod
    def of_answers(cls, answers: Iterable[Answer], n_clips: int) -> "Moments":
        """Judge answers to any queries of `n_clips` clips; of more than ten windows the first."""
        queries, best_ious, precisions = [], [], []
        for answer in answers:
            found = answer.windows[:MAX_WINDOWS]
            iou = intersection_over_union(found, answer.events)
            queries.append((answer.clip, answer.caption))
            best_ious.append(_iou(found[0], answer.events[iou[0].argmax()]) if len(iou) else 0.0)
            precisions.append(average_precision(iou))
        clip, caption = np.array(queries, dtype=int).reshape(-1, 2).T
        precision = np.array(precisions).reshape(-1, len(PRECISION_IOUS))
        return cls(clip, caption, np.array(best_ious), precision, n_clips)

    def by_query(self) -> dict[str, Float[np.ndarray, "query"]]:
        """Return each metric of each query; a metric is their mean."""
        reached = {name: (self.best_iou >= iou) * 1.0 for name, iou in RECALL_IOUS.items()}
        at_one = {name: self.precision[:, place] for name, place in AT_ONE_IOU.items()}
        return reached | {"moment_map": self.precision.mean(axis=1)} | at_one

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


def _iou(window: Float[np.ndarray, "2"], event: Float[np.ndarray, "2"]) -> float:
    """Return the IoU of a window and an event by what both span.

    If they meet, that is their union, and rounded otherwise than `intersection_over_union`: the
    reference evaluation takes the one for the surest window and the other for all.
    """
    shared = max(min(window[1], event[1]) - max(window[0], event[0]), 0.0)
    return float(shared / (max(window[1], event[1]) - min(window[0], event[0])))


def average_precision(iou: Float[np.ndarray, "window event"]) -> Float[np.ndarray, "iou"]:
    """Return the interpolated average precision of windows, the surest first, at `PRECISION_IOUS`.

    >>> average_precision(np.array([[0.2], [0.72]])).tolist()
    [0.5, 0.5, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    n_windows, n_events = iou.shape
    preferred = np.argsort(iou, axis=1, kind="stable")[:, ::-1]
    precision = np.zeros(len(PRECISION_IOUS))
    for i, threshold in enumerate(PRECISION_IOUS):
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
