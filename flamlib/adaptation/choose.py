"""Thresholds of captions from a user's labelled recordings, for what the user wants of them.

    f1              highest F1 of the caption's frames
    precision       most events found where enough of what is detected is one:
                    found / (found + false) >= the share that is asked for
    false_per_hour  most events found before there are more false spans an hour

A span is a run of frames that reach the threshold; which are false and which events are found says
`metrics.spans`. Between two scores of these recordings a threshold lies halfway.

A threshold from few events is as much the chance of these few. So that of `f1` is a mean of the
recordings' and the model's own, in log-odds,

    logit threshold = (n * logit best + PRIOR_EVENTS * logit own) / (n + PRIOR_EVENTS)

for n events, and one for a precision is a caption's own from `MIN_EVENTS` on. Other captions have
the mean of those that have one, in log-odds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit

from flamlib.adaptation.own_labels import Clips
from flamlib.evaluation.thresholds import DIGITS, MIN_CAPTIONS, best_f1
from flamlib.metrics.spans import SpanChanges, SpanCurve
from flamlib.models.caption_thresholds import FORMAT, CaptionThresholds, Chosen, OwnThreshold
from flamlib.models.interface import Method
from flamlib.sound_events.smoothing import Smoothing

PRIOR_EVENTS = 4  # events that the model's own threshold is worth
MIN_EVENTS = 5  # from which on a precision is a caption's own
EPSILON = 1e-6  # distance of a score from 0 and 1, for its log-odds
RATES = (0.1, 0.5, 1, 2, 5, 10)  # false spans a minute, of a table of recall


class Criterion(NamedTuple):
    """What is wanted; `value` is the precision (0 to 1) or the false spans an hour (0 or more)."""

    kind: Literal["f1", "precision", "false_per_hour"]
    value: float | int | None = None

    def __str__(self) -> str:
        if self.kind == "f1":
            return "highest F1 of the caption's frames"
        if self.kind == "precision":
            return f"most events found at a precision of {self.value:g}"
        return f"most events found at {self.value:g} false spans an hour"


@dataclass(frozen=True)
class Choice:
    """The threshold of a caption, and what it means for the recordings that it was chosen on.

    Attributes:
        caption: the caption.
        threshold: lowest score of an active frame.
        is_own: whether it is the caption's own, and not the mean of others.
        n_events: events of the caption in the recordings; of a review those that are there.
        n_false: reviewed events that are not there.
        f1: of its frames; nan without an event, like the next two.
        precision: events found / (events found + false spans); nan if nothing is detected.
        recall: events found / events.
        false_per_hour: false spans an hour; nan if it was only reviewed.
    """

    caption: str
    threshold: float
    is_own: bool
    n_events: int
    n_false: int
    f1: float
    precision: float
    recall: float
    false_per_hour: float


@dataclass(frozen=True)
class _Counts:
    """Of one caption: its frames, and at each threshold its false spans and the events found."""

    scores: Float[np.ndarray, "frame"]
    active: np.ndarray
    curve: SpanCurve
    false: Float[np.ndarray, "threshold"]
    found: Float[np.ndarray, "threshold"]
    n_events: int
    n_false: int
    hours: float


def choose(
    clips: Clips,
    own: Sequence[Chosen],
    criterion: Criterion,
    *,
    prior_events: float | int = PRIOR_EVENTS,
) -> list[Choice]:
    """Choose the thresholds.

    Args:
        clips: of smoothed scores.
        own: the model's own thresholds of the same captions.
        criterion: what is wanted.
        prior_events: see `PRIOR_EVENTS`.

    Raises:
        ValueError: there is nothing to choose by: no event, or for a rate complete labels.
    """
    if criterion.kind == "false_per_hour":
        clips = _complete(clips)
    counts = _count(clips) if len(clips.of) else []
    if criterion.kind != "false_per_hour" and not any(c.n_events for c in counts):
        raise ValueError("no event in the labelled recordings: there is nothing to choose by")
    if criterion.kind == "false_per_hour" and not any(c.hours for c in counts):
        raise ValueError(
            "reviewed detections say nothing of false spans an hour: choose by F1 or precision, or "
            "add recordings with complete labels"
        )
    best = [_best(c, criterion) for c in counts]
    is_own = [_has_own(c, criterion) for c in counts]
    common = _common([b for b, mine in zip(best, is_own, strict=True) if mine])
    choices = []
    for caption, c, threshold, mine, of_model in zip(
        clips.scores.captions, counts, best, is_own, own, strict=True
    ):
        if criterion.kind == "f1":
            share = c.n_events / (c.n_events + prior_events) if c.n_events else 0.0
            threshold = _mix(threshold, of_model.threshold, share)
        elif not mine:
            threshold = of_model.threshold if common is None else common
        choices.append(_judge(caption, c, round(float(threshold), DIGITS), mine))
    return choices


def judge(clips: Clips, thresholds: Sequence[float]) -> list[Choice]:
    """Return what some thresholds of the captions mean for recordings."""
    return [
        _judge(caption, c, float(threshold), True)
        for caption, c, threshold in zip(
            clips.scores.captions, _count(clips), thresholds, strict=True
        )
    ]


def to_thresholds(
    choices: Sequence[Choice],
    base: CaptionThresholds | None,
    criterion: Criterion,
    *,
    model: str,
    method: Method,
    smoothing: Smoothing,
    default: float,
) -> CaptionThresholds:
    """Return the thresholds as a file for `flam detect`, on top of the model's own.

    Those of three captions and more stand for all others in the mean, for fewer the model's do.

    Args:
        choices: from `choose`.
        base: the model's own, None if it has none.
        criterion: by which they were chosen.
        model: SHA-256 of the model's weights.
        method: kind of score.
        smoothing: of the scores.
        default: of a model without thresholds of its own.
    """
    if base is not None and (base.method, base.smoothing) != (method, smoothing):
        base = None
    kept = {}
    if base is not None and criterion.kind == "f1":
        kept = {c: o for c, o in base.captions.items() if o.n_events >= base.min_events}
    usable = [choice for choice in choices if choice.is_own]
    common = _common([c.threshold for c in usable])
    fallback, novel = (base.fallback, base.novel) if base else (default, default)
    if common is not None and (len(usable) >= MIN_CAPTIONS or criterion.kind != "f1"):
        # A common one is no worse founded for novel captions; they score lower, so it is no higher.
        fallback, novel = common, min(common, novel) if criterion.kind == "f1" else common
    chosen = {
        choice.caption: OwnThreshold(
            threshold=choice.threshold,
            n_events=choice.n_events,
            f1=round(float(np.nan_to_num(choice.f1)), DIGITS),
        )
        for choice in usable
    }
    return CaptionThresholds(
        format=FORMAT,
        model=model,
        method=method,
        median_frames=smoothing.median_frames,
        hysteresis=smoothing.hysteresis,
        criterion=f"{criterion}, in labelled recordings",
        min_events=0 if criterion.kind == "false_per_hour" else 1,
        fallback=round(float(fallback), DIGITS),
        novel=round(float(novel), DIGITS),
        captions=kept | chosen,
    )


def recall_table(clips: Clips) -> dict[str, Float[np.ndarray, "rate"]]:
    """Return the recall of each caption with events at each of `RATES` false spans a minute, at
    thresholds of its own; last the mean, of "all captions". Reviewed events do not count."""
    clips = _complete(clips)
    if not len(clips.of):
        return {}
    spans = SpanChanges.of(clips.scores)
    table = {
        clips.scores.captions[column]: curve.recall_at(RATES)
        for column, curve in zip(spans.columns, spans.by_caption(), strict=True)
    }
    return table | ({"all captions": np.mean(list(table.values()), axis=0)} if table else {})


def _complete(clips: Clips) -> Clips:
    """The clips of recordings with complete labels."""
    rows = np.flatnonzero(~clips.reviewed)
    return Clips(clips.scores.of_clips(rows), clips.of[rows], clips.reviewed[rows])


def _count(clips: Clips) -> list[_Counts]:
    frames, spans = clips.scores.by_frame, SpanChanges.of(clips.scores, with_absent=True)
    hours = float(np.array(clips.scores.durations) @ ~clips.reviewed) / 3600
    counts = []
    for j, curve in enumerate(spans.by_caption()):
        rows, n_events = frames.known[:, j], int(spans.n_events[j].sum())
        reviewed = clips.reviewed & clips.scores.known[:, j]
        counts.append(
            _Counts(
                frames.scores[rows, j],
                frames.active[rows, j],
                curve,
                np.rint(curve.false_spans * spans.minutes.sum()),
                np.rint(curve.recall * n_events),
                n_events,
                int((reviewed & (spans.n_events[j] == 0)).sum()),
                0.0 if reviewed.any() else hours,
            )
        )
    return counts


def _judge(caption: str, counts: _Counts, threshold: float, is_own: bool) -> Choice:
    """What a threshold means for the recordings that were counted."""
    detected = counts.scores >= np.asarray(threshold, counts.scores.dtype)
    n_true = int((detected & counts.active).sum())
    both = int(detected.sum() + counts.active.sum())
    at = int(np.searchsorted(-counts.curve.threshold, -threshold, side="right")) - 1
    false, found = float(counts.false[at]), float(counts.found[at])
    return Choice(
        caption,
        threshold,
        is_own,
        counts.n_events,
        counts.n_false,
        2 * n_true / both if counts.n_events else np.nan,
        found / (found + false) if found + false else np.nan,
        found / counts.n_events if counts.n_events else np.nan,
        false / counts.hours if counts.hours else np.nan,
    )


def _best(counts: _Counts, criterion: Criterion) -> float:
    """The threshold of a caption by itself."""
    if criterion.kind == "f1":
        return best_f1(counts.scores, counts.active)[0]
    curve, false, found = counts.curve, counts.false, counts.found
    if criterion.kind == "precision":
        share = found / np.maximum(found + false, 1)
        allowed = (share >= criterion.value - EPSILON) & (found > 0)
        # Below, false spans grow together: one over all of a recording is no detection.
        allowed[len(false) - int(np.argmax(false[::-1])) :] = False
        if not allowed.any():
            return 1.0
        return _below(curve, int(np.argmax(np.where(allowed, found, -1))))
    most = np.maximum.accumulate(false) / max(counts.hours, EPSILON)
    n_allowed = int(np.searchsorted(most, criterion.value + EPSILON, side="right"))
    # The last of the best: as many events, and the ones to come are found more easily.
    last = n_allowed - 1 - int(np.argmax(found[:n_allowed][::-1]))
    return _below(curve, last)


def _below(curve: SpanCurve, at: int) -> float:
    """A threshold between one of a curve and the next lower."""
    higher, lower = (*curve.threshold[at : at + 2].tolist(), 0.0)[:2]
    return (min(higher, 1.0) + lower) / 2


def _has_own(counts: _Counts, criterion: Criterion) -> bool:
    if criterion.kind == "f1":
        return counts.n_events > 0
    return criterion.kind == "false_per_hour" or counts.n_events >= MIN_EVENTS


def _common(thresholds: Sequence[float]) -> float | None:
    """The mean of thresholds in log-odds."""
    if not len(thresholds):
        return None
    return float(expit(logit(np.clip(thresholds, EPSILON, 1 - EPSILON)).mean()))


def _mix(best: float, own: float, share: float) -> float:
    best, own = logit(np.clip([best, own], EPSILON, 1 - EPSILON))
    return float(expit(share * best + (1 - share) * own))
