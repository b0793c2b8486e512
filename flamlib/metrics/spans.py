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
BLOCK = 1 << 23  # scores whose changes are made at once: about 200 MB
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
    false_spans: Int[np.ndarray, "change"]
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
                np.zeros(0), *nothing[:2], nothing[2], nothing[2], n_events, columns, minutes
            )
        parts: list[list[np.ndarray]] = [[] for _ in range(5)]
        n_at_once = max(1, BLOCK // (len(durations) * (len(inputs.frame_edges) - 1)))
        for first in range(0, len(columns), n_at_once):
            threshold, false_spans, found = changes(
                list(inputs.scores.values()),
                inputs.frame_edges,
                events,
                columns[first : first + n_at_once],
                clip_s=durations,
                dtc_threshold=OVERLAP,
                gtc_threshold=OVERLAP,
                cttc_threshold=None,
                cross_trigger_cost=np.zeros(len(inputs.captions)),
            )
            here = np.nonzero((false_spans != 0) | (found != 0))
            clip = (here[1] // (len(inputs.frame_edges) - 1)).astype(np.int32)
            caption = (here[0] + first).astype(np.int32)
            # Without cross-triggers a change is a small whole number.
            false_spans = false_spans[here].astype(np.int16)
            made = (threshold[here], clip, caption, false_spans, found[here])
            for part, of_block in zip(parts, made, strict=True):
                part.append(of_block)
        order = np.argsort(-np.concatenate(parts[0]), kind="stable")
        # One after the other, and none twice: of a large set each is a gigabyte.
        sorted_by_threshold = [np.concatenate(parts.pop(0))[order] for _ in range(5)]
        return cls(*sorted_by_threshold, n_events, columns, minutes)

    def curve(self, times_drawn: Int[np.ndarray, "clip"] | None = None) -> SpanCurve:
        """Return the curve; each clip counts as often as it was drawn, by default once."""
        drawn = np.ones(len(self.minutes), dtype=int) if times_drawn is None else times_drawn
        n_events, minutes = self.n_events @ drawn, drawn @ self.minutes
        if not n_events.any():
            return SpanCurve(np.array([np.inf]), np.array([np.nan]), np.array([np.nan]))
        share = (n_events > 0) / (n_events > 0).sum()

        def worth(
            changes: Int[np.ndarray, "change"], of_caption: Float[np.ndarray, "caption"]
        ) -> Float[np.ndarray, "change"]:
            values = of_caption[self.caption]
            values *= changes
            if times_drawn is not None:
                values *= times_drawn[self.clip]
            return values

        return _summed(
            self.threshold,
            lambda: worth(self.false_spans, share / minutes),
            lambda: worth(self.found, share / np.maximum(n_events, 1)),
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
                lambda mine=mine: self.false_spans[mine] / self.minutes.sum(),
                lambda mine=mine, n_events=n_events: self.found[mine] / n_events,
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
    *changes: Callable[[], Float[np.ndarray, "change"]],
) -> SpanCurve:
    """Sum changes of false spans and recall; of equal thresholds the last has passed all of them.

    They are made one after the other: of a large set each takes gigabytes.
    """
    # nan differs from anything, so the last one is a last one.
    last = threshold != np.append(threshold[1:], np.nan)
    sums = []
    for make in changes:
        values = make()
        sums.append(np.append(0.0, np.cumsum(values, out=values)[last]))
    return SpanCurve(np.append(np.inf, threshold[last]), *sums)
