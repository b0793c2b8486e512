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

import bisect
import collections
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from flamlib.metrics.bootstrap import ClipStatistic, each_draw
from flamlib.metrics.clip_scores import ClipScores
from flamlib.metrics.intersections import changes, event_table

OVERLAP = 0.5
BLOCK = 1 << 22  # scores whose changes are made at once: about 200 MB
PIECE = 1 << 20  # changes that are summed at once
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
        return np.maximum.accumulate(self.recall)[self.n_within(rates) - 1]

    def n_within(
        self, rates: Sequence[float | int] | Float[np.ndarray, "rate"]
    ) -> Int[np.ndarray, "rate"]:
        """Return how many points there are before there first are more false spans a minute."""
        most = np.maximum.accumulate(self.false_spans)
        return np.searchsorted(most, np.asarray(rates, dtype=float) + ROUNDING, side="right")


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
        return cls.merged(list(cls.blocks(clip_scores, with_absent=with_absent)))

    @classmethod
    def blocks(
        cls, clip_scores: ClipScores, *, block: int = BLOCK, with_absent: bool = False
    ) -> Iterator["SpanChanges"]:
        """Yield the changes of some captions after the others, `block` scores at once; see `of`."""
        inputs = clip_scores.psds_inputs()
        durations = np.array([inputs.durations[clip] for clip in inputs.scores], dtype=float)
        events = event_table(
            list(inputs.scores), inputs.captions, inputs.ground_truth, inputs.durations
        )
        absent = range(len(inputs.captions)) if with_absent else ()
        columns = np.union1d(events.caption, np.array(absent, dtype=int))
        n_events = np.zeros((len(columns), len(durations)), dtype=np.int32)
        np.add.at(n_events, (np.searchsorted(columns, events.caption), events.clip), 1)
        minutes, n_frames = durations / 60, len(inputs.frame_edges) - 1
        n_at_once = max(1, block // (len(durations) * n_frames))
        if not len(columns):
            kinds = (float, np.uint8, np.uint8, np.int8, np.int16)
            yield cls(*(np.zeros(0, kind) for kind in kinds), n_events, columns, minutes)
        for first in range(0, len(columns), n_at_once):
            here = slice(first, first + n_at_once)
            threshold, false_spans, found = changes(
                list(inputs.scores.values()),
                inputs.frame_edges,
                events,
                columns[here],
                clip_s=durations,
                dtc_threshold=OVERLAP,
                gtc_threshold=OVERLAP,
                cttc_threshold=None,
                cross_trigger_cost=np.zeros(len(inputs.captions)),
            )
            changed = np.flatnonzero((false_spans != 0) | (found != 0))
            changed = changed[np.argsort(-threshold.ravel()[changed], kind="stable")]
            caption, point = np.divmod(changed, found.shape[1])
            yield cls(
                threshold.ravel()[changed],
                (point // n_frames).astype(np.min_scalar_type(len(durations))),
                caption.astype(np.min_scalar_type(n_at_once)),
                # A span that appears takes the place of two others at most.
                false_spans.ravel()[changed].astype(np.int8),
                found.ravel()[changed],
                n_events[here],
                columns[here],
                minutes,
            )

    @classmethod
    def merged(cls, parts: "list[SpanChanges]") -> "SpanChanges":
        """Merge the changes of several captions; those of one threshold stay in that order.

        The list is emptied on the way: of a large set all parts are hundreds of megabytes.
        """
        if len(parts) == 1:
            return parts.pop()
        n_captions = [len(part.columns) for part in parts]
        kind, n_before = np.min_scalar_type(sum(n_captions)), np.cumsum([0, *n_captions[:-1]])
        n_events = np.concatenate([part.n_events for part in parts])
        columns, minutes = np.concatenate([part.columns for part in parts]), parts[0].minutes
        fields = [[getattr(part, name) for part in parts] for name in cls._fields[:5]]
        fields[2] = [of + n.astype(kind) for of, n in zip(fields[2], n_before, strict=True)]
        parts.clear()
        threshold = np.concatenate(fields.pop(0))
        order = np.argsort(-threshold, kind="stable")
        order = order.astype(np.min_scalar_type(len(order)))
        merged = [threshold[order]]
        del threshold
        while fields:
            merged.append(np.concatenate(fields.pop(0))[order])
        return cls(*merged, n_events, columns, minutes)

    def curve(self, times_drawn: Int[np.ndarray, "clip"] | None = None) -> SpanCurve:
        """Return the curve; each clip counts as often as it was drawn, by default once."""
        return SpanCurve(*map(np.concatenate, zip(*self.pieces(times_drawn), strict=True)))

    def pieces(
        self,
        times_drawn: Int[np.ndarray, "clip"] | None = None,
        before: SpanCurve | None = None,
    ) -> Iterator[SpanCurve]:
        """Yield `curve` in pieces: first its point above all scores, then those of the changes.

        With `before`, a piece of the changes above these, its sums go on instead.
        """
        drawn = np.ones(len(self.minutes), dtype=int) if times_drawn is None else times_drawn
        n_events, minutes = self.n_events @ drawn, drawn @ self.minutes
        nothing = 0.0 if n_events.any() else np.nan
        piece = SpanCurve(np.array([np.inf]), np.array([nothing]), np.array([nothing]))
        if before is None:
            yield piece
        else:
            piece = before
        if not n_events.any():
            return
        share = (n_events > 0) / (n_events > 0).sum()
        worth = share / minutes, share / np.maximum(n_events, 1)
        for first, stop in itertools.pairwise([0, *self._cuts()]):
            here = slice(first, stop)
            # nan differs from anything, so the last one is a last one.
            last = self.threshold[here] != np.append(self.threshold[first + 1 : stop], np.nan)
            sums = []
            for of_caption, change, before in zip(
                worth, (self.false_spans, self.found), piece[1:], strict=True
            ):
                values = of_caption[self.caption[here]]
                values *= change[here]
                if times_drawn is not None:
                    values *= times_drawn[self.clip[here]]
                values[0] += before[-1]
                sums.append(np.cumsum(values, out=values)[last])
            piece = SpanCurve(self.threshold[here][last], *sums)
            yield piece

    def recall_at(
        self,
        rates: Sequence[float | int],
        times_drawn: Int[np.ndarray, "clip"] | None = None,
    ) -> Float[np.ndarray, "rate"]:
        """Return `recall_at` of the curve without ever holding all of it."""
        return recall_at(self.pieces(times_drawn), rates)

    def _cuts(self) -> Iterator[int]:
        """Yield where pieces of about `PIECE` changes end; those of one threshold stay together."""
        stop = 0
        while stop < len(self.threshold):
            stop = self._n_down_to(
                float(self.threshold[min(stop + PIECE, len(self.threshold)) - 1])
            )
            yield stop

    def _n_down_to(self, threshold: float) -> int:
        """Return how many changes there are at this threshold and above it."""
        return bisect.bisect_right(self.threshold, -threshold, key=operator.neg)

    def by_caption(self) -> Iterator[SpanCurve]:
        """Yield the curve of each caption of `columns` alone; without an event its recall is 0."""
        order = np.argsort(self.caption, kind="stable")
        edges = np.searchsorted(self.caption[order], np.arange(len(self.columns) + 1))
        for row, (first, stop) in enumerate(itertools.pairwise(edges)):
            mine = order[first:stop]
            n_events = max(1, self.n_events[row].sum())
            threshold = self.threshold[mine]
            # nan differs from anything, so the last one is a last one.
            last = threshold != np.append(threshold[1:], np.nan)
            sums = (
                np.append(0.0, np.cumsum(values)[last])
                for values in (
                    self.false_spans[mine] / self.minutes.sum(),
                    self.found[mine] / n_events,
                )
            )
            yield SpanCurve(np.append(np.inf, threshold[last]), *sums)

    def down_to(self, threshold: float) -> "SpanChanges":
        """Return the changes at this threshold and above it."""
        n = self._n_down_to(threshold)
        return self._replace(**{name: getattr(self, name)[:n] for name in self._fields[:5]})


def recall_at(
    pieces: Iterable[SpanCurve], rates: Sequence[float | int]
) -> Float[np.ndarray, "rate"]:
    """Return `SpanCurve.recall_at` of a curve that comes in pieces, each of them forgotten."""
    recall, open_ = np.full(len(rates), -np.inf), np.ones(len(rates), dtype=bool)
    for piece in pieces:
        if np.isnan(piece.recall[0]):
            return np.full(len(rates), np.nan)
        passed = piece.n_within(rates)
        reached = np.append(-np.inf, np.maximum.accumulate(piece.recall))[passed]
        recall = np.where(open_, np.maximum(recall, reached), recall)
        open_ &= passed == len(piece.recall)
        if not open_.any():
            break
    return recall


def compute(spans: SpanChanges, *, threshold: float) -> dict[str, float]:
    """Return `recall_at_1` and `recall_at_10`, and `event_recall` and `false_spans` at a threshold.

    The first two choose their threshold on these clips, and are too optimistic by that.
    """
    at_rates = dict(zip(RATES, spans.recall_at(RATES).tolist(), strict=True))
    chosen = _last(spans.down_to(threshold).pieces())
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
        "event_recall": lambda: each_draw(lambda t: float(_last(chosen.pieces(t)).recall[-1])),
        "false_spans": lambda: each_draw(lambda t: float(_last(chosen.pieces(t)).false_spans[-1])),
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
    too_many = (piece.threshold[piece.false_spans > 2 * rate] for piece in spans.pieces())
    first = next((threshold[0] for threshold in too_many if len(threshold)), None)
    needed = spans if first is None else spans.down_to(float(first))
    return each_draw(lambda times: float(needed.recall_at([rate], times)[0]))


def _last(pieces: Iterable[SpanCurve]) -> SpanCurve:
    """Return the last piece of a curve, which the others are not kept for."""
    return collections.deque(pieces, maxlen=1)[0]
