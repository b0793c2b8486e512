"""Recall against false spans per minute: what who waits for a caption misses, and hears in vain.

A span is a run of frames that reach a threshold. Spans are matched with events as in
`intersections`, by halves:

    a span is false     if less than half of it lies in events of its caption
    an event is found   if spans that are not false cover at least half of it

Of the captions that have an event, at one threshold for all of them,

    recall      = mean over captions of (events found / events)
    false spans = mean over captions of (false spans / minutes of audio)

so who asks for ten captions gets ten times as many false spans. The curve is exact: every score is
a threshold.

Recall at a number of false spans is the highest on the way down to the threshold at which there
first are more. Lower thresholds do not count although spans that grow together may become few
again: one span over the whole of each clip is no detection.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from flamlib.metrics.bootstrap import ClipStatistic, each_draw
from flamlib.metrics.clip_scores import ClipScores
from flamlib.metrics.intersections import changes, event_table

OVERLAP = 0.5
RATES = (1, 10)  # false spans a minute at which recall is reported
ROUNDING = 1e-9  # of a sum of shares, which must not keep a threshold from its rate


class SpanCurve(NamedTuple):
    """Recall and false spans a minute at every threshold, the highest first.

    The first one is above all scores, infinite, and finds nothing.
    """

    threshold: Float[np.ndarray, "threshold"]
    false_spans: Float[np.ndarray, "threshold"]
    recall: Float[np.ndarray, "threshold"]

    def recall_at(self, rates: Sequence[float | int] | Float[np.ndarray, "rate"]) -> np.ndarray:
        """Return the recall at each of these numbers of false spans a minute."""
        most = np.maximum.accumulate(self.false_spans)
        allowed = np.asarray(rates, dtype=float) + ROUNDING
        passed = np.searchsorted(most, allowed, side="right") - 1
        return np.maximum.accumulate(self.recall)[passed]


class SpanChanges(NamedTuple):
    """Where the counts change as the threshold falls, the highest first, and by how much.

    Attributes:
        threshold: at which they change.
        clip: in which clip.
        caption: of which caption, a row of `n_events`.
        false_spans: change in false spans.
        found: change in events found.
        n_events: events of each caption in each clip, of those captions that have any (or of all).
        columns: which of all captions these are, in order.
        minutes: of each clip.
    """

    threshold: Float[np.ndarray, "change"]
    clip: Int[np.ndarray, "change"]
    caption: Int[np.ndarray, "change"]
    false_spans: Float[np.ndarray, "change"]
    found: Int[np.ndarray, "change"]
    n_events: Int[np.ndarray, "caption clip"]
    columns: Int[np.ndarray, "caption"]
    minutes: Float[np.ndarray, "clip"]

    @classmethod
    def of(cls, clip_scores: ClipScores, *, with_absent: bool = False) -> "SpanChanges":
        """Match the spans of all thresholds with the events of their caption.

        `with_absent` takes captions without an event, too, whose spans are all false.
        """
        inputs = clip_scores.psds_inputs()
        durations = np.array([inputs.durations[clip] for clip in inputs.scores], dtype=float)
        events = event_table(
            list(inputs.scores), inputs.captions, inputs.ground_truth, inputs.durations
        )
        absent = range(len(inputs.captions)) if with_absent else ()
        columns = np.union1d(events.caption, np.array(absent, dtype=int))
        n_events = np.zeros((len(columns), len(durations)), dtype=int)
        np.add.at(n_events, (np.searchsorted(columns, events.caption), events.clip), 1)
        minutes = durations / 60
        if not len(columns):
            nothing = np.zeros((3, 0), dtype=int)
            return cls(
                np.zeros(0), *nothing[:2], np.zeros(0), nothing[2], n_events, columns, minutes
            )
        threshold, false_spans, found = changes(
            list(inputs.scores.values()),
            inputs.frame_edges,
            events,
            columns,
            clip_s=durations,
            dtc_threshold=OVERLAP,
            gtc_threshold=OVERLAP,
            cttc_threshold=None,
            cross_trigger_cost=np.zeros(len(inputs.captions)),
        )
        caption, place = np.nonzero((false_spans != 0) | (found != 0))
        order = np.argsort(-threshold[caption, place], kind="stable")
        caption, place = here = caption[order], place[order]
        return cls(
            threshold[here],
            place // (len(inputs.frame_edges) - 1),
            caption,
            false_spans[here],
            found[here],
            n_events,
            columns,
            minutes,
        )

    def curve(self, times_drawn: Int[np.ndarray, "clip"] | None = None) -> SpanCurve:
        """Return the curve; each clip counts as often as it was drawn, by default once."""
        if times_drawn is None:
            times_drawn = np.ones(len(self.minutes), dtype=int)
        n_events = self.n_events @ times_drawn
        if not n_events.any():
            return SpanCurve(np.array([np.inf]), np.array([np.nan]), np.array([np.nan]))
        share = (n_events > 0) / (n_events > 0).sum()
        of_false = share / (times_drawn @ self.minutes)
        of_found = share / np.maximum(n_events, 1)
        times = times_drawn[self.clip]
        return _summed(
            self.threshold,
            times * self.false_spans * of_false[self.caption],
            times * self.found * of_found[self.caption],
        )

    def by_caption(self) -> Iterator[SpanCurve]:
        """Yield the curve of each caption of `columns` alone; without an event its recall is 0."""
        order = np.argsort(self.caption, kind="stable")
        edges = np.searchsorted(self.caption[order], np.arange(len(self.columns) + 1))
        for row, (first, stop) in enumerate(itertools.pairwise(edges)):
            mine = order[first:stop]
            n_events = max(1, self.n_events[row].sum())
            yield _summed(
                self.threshold[mine],
                self.false_spans[mine] / self.minutes.sum(),
                self.found[mine] / n_events,
            )

    def down_to(self, threshold: float) -> "SpanChanges":
        """Return the changes at this threshold and above it."""
        n = int(np.searchsorted(-self.threshold, -threshold, side="right"))
        return self._replace(**{name: getattr(self, name)[:n] for name in self._fields[:5]})


def compute(spans: SpanChanges, *, threshold: float) -> dict[str, float]:
    """Return `recall_at_1` and `recall_at_10`, and `event_recall` and `false_spans` at a threshold.

    The first two choose their threshold on these clips, and are too optimistic by that.
    """
    at_rates = dict(zip(RATES, spans.curve().recall_at(RATES).tolist(), strict=True))
    chosen = spans.down_to(threshold).curve()
    return {
        **{f"recall_at_{rate}": value for rate, value in at_rates.items()},
        "event_recall": float(chosen.recall[-1]),
        "false_spans": float(chosen.false_spans[-1]),
    }


def statistics(spans: SpanChanges, *, threshold: float) -> dict[str, Callable[[], ClipStatistic]]:
    """Return, for each metric of `compute` but one, a function that builds its bootstrap statistic.

    The other one is `recall_at_10`, whose draws would take a minute.
    """
    chosen = spans.down_to(threshold)
    return {
        "recall_at_1": lambda: _recall_statistic(spans, 1.0),
        "event_recall": lambda: each_draw(lambda times: float(chosen.curve(times).recall[-1])),
        "false_spans": lambda: each_draw(lambda times: float(chosen.curve(times).false_spans[-1])),
    }


def recall_of_each(
    spans: SpanChanges, n_captions: int, rate: float | int
) -> Float[np.ndarray, "caption"]:
    """Return each caption's recall at a number of false spans, at thresholds of its own.

    Args:
        spans: of all captions.
        n_captions: how many there are; those without an event have nan.
        rate: false spans a minute of that caption, at most.
    """
    recall = np.full(n_captions, np.nan)
    for column, curve in zip(spans.columns, spans.by_caption(), strict=True):
        recall[column] = curve.recall_at([rate])[0]
    return recall


def _recall_statistic(spans: SpanChanges, rate: float) -> ClipStatistic:
    """Sum the changes of each draw down to where all clips have twice as many false spans.

    A draw of them has more than `rate` before that.
    """
    curve = spans.curve()
    too_many = np.flatnonzero(curve.false_spans > 2 * rate)
    needed = spans.down_to(curve.threshold[too_many[0]]) if len(too_many) else spans
    return each_draw(lambda times: float(needed.curve(times).recall_at([rate])[0]))


def _summed(
    threshold: Float[np.ndarray, "change"],
    false_spans: Float[np.ndarray, "change"],
    recall: Float[np.ndarray, "change"],
) -> SpanCurve:
    """Sum changes; of equal thresholds the last alone has passed all of them."""
    # nan differs from anything, so the last one is a last one.
    last = np.flatnonzero(threshold != np.append(threshold[1:], np.nan))
    sums = (np.append(0.0, np.cumsum(of)[last]) for of in (false_spans, recall))
    return SpanCurve(np.append(np.inf, threshold[last]), *sums)
