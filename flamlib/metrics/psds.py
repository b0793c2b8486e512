"""Polyphonic sound detection score (PSDS), exact over every decision threshold.

*Definition* (Bilen et al. 2020, arXiv:1910.08440). With false alarms, cross-triggers and detected
events as `intersections` defines them,

    TPR(caption)  = detected events / events
    eFPR(caption) = false alarms / hours of audio
                    + alpha_ct * mean over the other captions c of
                      (cross-triggers on c / hours of events of c)

    PSDS = 1 / max_efpr * integral over eFPR from 0 to max_efpr of
           max(0, mean over captions of TPR - alpha_st * standard deviation over captions of TPR)

where TPR at an eFPR is the highest TPR of all thresholds whose eFPR is at most that; each caption
has its own thresholds.

*Exactness.* Every score is a threshold; there is no grid. Fifty equally spaced thresholds give
lower numbers: by 7 % (PSDS1) and 13 % (PSDS2) on 20 DCASE clips.

*Where we differ from other tools.* psds_eval (with every score as a threshold) and sed_scores_eval
give the same numbers, but reject two cases. Events of one caption that overlap or touch are joined
here first. A caption without any event has no TPR: it is left out of the mean over captions and of
the cross-trigger average, so its false alarms cost nothing. Report how many there are, too.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

from flamlib.metrics.intersections import changes, event_table

BLOCK = 1 << 22  # scores whose changes are in memory at once: about 100 MB
GRID = 1 << 23  # points of curves that are in memory at once: about 200 MB


class PsdsInputs(NamedTuple):
    """The scores and the ground truth of all clips.

    Attributes:
        scores: of each clip one row per frame and one column per caption; at -inf there is never a
            detection.
        frame_edges: seconds, the same for all clips; frame l spans `frame_edges[l]` to
            `frame_edges[l + 1]`.
        captions: names of the columns.
        ground_truth: of each clip its events (onset, offset, caption) in seconds, possibly none.
        durations: seconds of each clip; a detection that reaches past it ends with the clip.
    """

    scores: Mapping[str, Float[np.ndarray, "frame caption"]]
    frame_edges: Float[np.ndarray, "edge"]
    captions: Sequence[str]
    ground_truth: Mapping[str, Sequence[tuple]]
    durations: Mapping[str, float]


class PsdsSettings(NamedTuple):
    """When a detection counts and what a false one costs; `alpha_st` is an argument of `area`.

    The usual settings (DCASE task 4) are

        PSDS1   dtc 0.7, gtc 0.7, cttc None, alpha_ct 0.0, alpha_st 1.0
        PSDS2   dtc 0.1, gtc 0.1, cttc 0.3,  alpha_ct 0.5, alpha_st 1.0

    Attributes:
        dtc_threshold: a detection is relevant if at least this share of it lies in events of its
            caption (detection tolerance criterion), in (0, 1].
        gtc_threshold: an event is detected if at least this share of it is covered by relevant
            detections (ground truth intersection criterion), in (0, 1].
        cttc_threshold: a detection that is not relevant is a cross-trigger on every other caption
            whose events hold at least this share of it, in (0, 1]; None: there are none.
        alpha_ct: cost of cross-triggers, 0 without.
        max_efpr: effective false positives per hour up to which TPR is integrated.
    """

    dtc_threshold: float
    gtc_threshold: float
    cttc_threshold: float | None
    alpha_ct: float
    max_efpr: float = 100.0


def psd_rocs(
    inputs: PsdsInputs, settings: PsdsSettings
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the PSD-ROC (eFPR per hour, TPR) up to `max_efpr` of each caption that has an event.

    A curve is a staircase: both arrays rise, the first eFPR is 0, and between two steps the TPR of
    the earlier one holds.

    Raises:
        ValueError: naming clip and event, for a clip without scores or duration, a NaN score, an
            event that ends before it starts or after its clip, or whose caption is not listed.
    """
    hours = math.fsum(inputs.durations[clip] for clip in inputs.scores) / 3600
    return {
        caption: _staircase(changes.counts(), hours, settings.max_efpr)
        for caption, changes in _ranked_changes(inputs, settings)
    }


def clip_rocs(
    inputs: PsdsInputs, settings: PsdsSettings
) -> Callable[[Int[np.ndarray, "clip"]], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return a function from how often each clip was drawn to `psd_rocs` of that bootstrap draw.

    Clips are in the order of `scores`. Intersections are computed and sorted once; a draw weights
    the changes of each clip by how often it was drawn. One thing stays as it is in the whole set:
    the cost of a cross-trigger, which depends on the hours of each caption's events. Without
    cross-triggers the curves of a draw are exactly those of the clips drawn.
    """
    ranked = list(_ranked_changes(inputs, settings))
    clip_s = np.array([inputs.durations[clip] for clip in inputs.scores], dtype=float)

    def rocs(times_drawn: Int[np.ndarray, "clip"]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        hours = float(times_drawn @ clip_s) / 3600
        return {
            caption: _staircase(changes.counts(times_drawn), hours, settings.max_efpr)
            for caption, changes in ranked
            if times_drawn @ changes.n_events
        }

    return rocs


def area(
    rocs: Mapping[str, tuple[np.ndarray, np.ndarray]], *, alpha_st: float, max_efpr: float
) -> float:
    """Return the PSDS of the curves of `psd_rocs`: the normalised area under their effective TPR.

    The curve of one caption gives that caption's own score; no curve gives nan.

    Args:
        rocs: curves by caption.
        alpha_st: cost of instability: how much of the standard deviation over captions is
            subtracted from their mean.
        max_efpr: where the curves end, see `PsdsSettings`.
    """
    if not rocs:
        return math.nan
    grid = np.unique(np.concatenate([efpr for efpr, _ in rocs.values()]))
    width = np.diff(grid, append=max_efpr)
    total = 0.0
    n_at_once = max(1, GRID // len(rocs))
    for first in range(0, len(grid), n_at_once):
        block = slice(first, first + n_at_once)
        tpr = np.stack(
            [
                tpr[np.searchsorted(efpr, grid[block], side="right") - 1]
                for efpr, tpr in rocs.values()
            ]
        )
        effective = np.maximum(tpr.mean(axis=0) - alpha_st * tpr.std(axis=0), 0.0)
        total += float(effective @ width[block])
    return total / max_efpr


class _Changes(NamedTuple):
    """Where the counts of one caption change as the threshold falls, and by how much.

    Attributes:
        clip: in which clip.
        false_alarms: change in false alarms, cross-triggers included.
        n_detected: change in detected events.
        last: indices of the last of equal thresholds: only there have all of them been passed.
        steps: indices into `last` at which the number of detected events changes (the first is
            always among them). Between two of them only the number of false alarms changes, up or
            down, so of each stretch only the point with the fewest can lie on the curve.
        n_events: events of each clip.
    """

    clip: Int[np.ndarray, "point"]
    false_alarms: Num[np.ndarray, "point"]
    n_detected: Int[np.ndarray, "point"]
    last: Int[np.ndarray, "threshold"]
    steps: Int[np.ndarray, "step"]
    n_events: Int[np.ndarray, "clip"]

    def counts(
        self, times_drawn: Int[np.ndarray, "clip"] | None = None
    ) -> tuple[Float[np.ndarray, "step"], Float[np.ndarray, "step"]]:
        """Return false alarms and TPR at every step, the first of them above all scores.

        A clip counts as often as it was drawn, by default once.
        """
        false_alarms, detected = self.false_alarms, self.n_detected
        n_events = self.n_events.sum()
        if times_drawn is not None:
            times = times_drawn[self.clip]
            false_alarms, detected = false_alarms * times, detected * times
            n_events = times_drawn @ self.n_events
        false_alarms = np.cumsum(false_alarms)[self.last]
        detected = np.cumsum(detected)[self.last[self.steps]]
        if len(self.steps):
            false_alarms = np.minimum.reduceat(false_alarms, self.steps)
        # Sums of fractions may end a hair below zero, left of the start of the curve.
        false_alarms = np.append(0.0, np.maximum(false_alarms, 0.0))
        return false_alarms, np.append(0, detected) / n_events


def _ranked_changes(inputs: PsdsInputs, settings: PsdsSettings) -> Iterator[tuple[str, _Changes]]:
    """Yield each caption that has an event with its changes, computed in blocks of captions."""
    _check_settings(settings)
    _check_scores(inputs)
    scores, durations = inputs.scores, inputs.durations
    events = event_table(list(scores), inputs.captions, inputs.ground_truth, durations)

    n_captions = len(inputs.captions)
    n_events = np.bincount(events.caption, minlength=n_captions)
    event_s = np.bincount(events.caption, events.offset - events.onset, minlength=n_captions)
    total_s = math.fsum(durations[clip] for clip in scores)
    evaluated = np.flatnonzero(n_events)
    # A cross-trigger's share of the eFPR as a number of false alarms, so that there is one count,
    # and it is whole when alpha_ct is 0.
    cost = np.zeros(n_captions)
    cost[evaluated] = settings.alpha_ct * total_s / event_s[evaluated] / max(1, len(evaluated) - 1)

    n_frames = len(inputs.frame_edges) - 1
    n_at_once = max(1, BLOCK // (len(scores) * n_frames))
    for first in range(0, len(evaluated), n_at_once):
        columns = evaluated[first : first + n_at_once]
        at_thresholds = changes(
            list(scores.values()),
            inputs.frame_edges,
            events,
            columns,
            clip_s=np.array([durations[clip] for clip in scores], dtype=float),
            dtc_threshold=settings.dtc_threshold,
            gtc_threshold=settings.gtc_threshold,
            cttc_threshold=settings.cttc_threshold,
            cross_trigger_cost=cost,
        )
        for column, threshold, false_alarms, detected in zip(columns, *at_thresholds, strict=True):
            changed = np.flatnonzero((false_alarms != 0) | (detected != 0))
            order = changed[np.argsort(threshold[changed])[::-1]]
            threshold = threshold[order]
            # nan differs from anything, so the last one is a last one.
            last = np.flatnonzero(threshold != np.append(threshold[1:], np.nan))
            detected = detected[order]
            # For each threshold, how many changes of detected events happen at exactly it.
            n_changes = (
                np.add.reduceat(detected != 0, np.append(0, last[:-1] + 1)) if len(last) else last
            )
            steps = np.union1d(np.flatnonzero(n_changes), np.zeros(min(1, len(last)), dtype=int))
            of_clips = np.bincount(events.clip[events.caption == column], minlength=len(scores))
            # Small kinds of numbers: `clip_rocs` holds all of them.
            clip = (order // n_frames).astype(np.min_scalar_type(len(scores)))
            false = false_alarms[order]
            if settings.cttc_threshold is None:  # then all are whole
                false = false.astype(np.int16)
            last = last.astype(np.min_scalar_type(len(order)))
            ranked = _Changes(clip, false, detected, last, steps, of_clips)
            yield inputs.captions[column], ranked


def _staircase(
    counts: tuple[Float[np.ndarray, "point"], Float[np.ndarray, "point"]],
    hours: float,
    max_efpr: float,
) -> tuple[Float[np.ndarray, "step"], Float[np.ndarray, "step"]]:
    """Return the steps (eFPR, TPR) at which the best TPR at no more than an eFPR rises."""
    efpr, tpr = counts[0] / hours, counts[1]
    affordable = np.flatnonzero(efpr <= max_efpr)
    order = affordable[np.lexsort((-tpr[affordable], efpr[affordable]))]
    efpr, tpr = efpr[order], np.maximum.accumulate(tpr[order])
    rises = np.diff(tpr, prepend=-1.0) > 0
    return efpr[rises], tpr[rises]


def _check_scores(inputs: PsdsInputs) -> None:
    scores, frame_edges, captions = inputs.scores, inputs.frame_edges, inputs.captions
    if not scores:
        raise ValueError("no clips: scores is empty")
    if len(set(captions)) != len(captions):
        twice = sorted({caption for caption in captions if list(captions).count(caption) > 1})
        raise ValueError(f"captions given twice: {twice[:5]}")
    if len(frame_edges) < 2 or not np.isfinite(frame_edges).all():
        raise ValueError("frame_edges must be finite seconds, one more than there are frames")
    if (np.diff(frame_edges) <= 0).any():
        raise ValueError("frame_edges must rise strictly from frame to frame")
    expected = (len(frame_edges) - 1, len(captions))
    for clip, score in scores.items():
        if score.shape != expected:
            raise ValueError(
                f"clip {clip!r}: scores of shape {score.shape}, expected {expected}, which is "
                "len(frame_edges) - 1 frames by len(captions)"
            )
        if np.isnan(score).any():
            frame, caption = np.argwhere(np.isnan(score))[0]
            raise ValueError(
                f"clip {clip!r}: the score of {captions[caption]!r} is NaN in frame {frame}"
            )


def _check_settings(settings: PsdsSettings) -> None:
    if (settings.cttc_threshold is None) != (settings.alpha_ct == 0):
        raise ValueError(
            f"alpha_ct {settings.alpha_ct} with cttc_threshold {settings.cttc_threshold}: without "
            "cross-triggers give 0 and None, with them neither"
        )
    for name in ("dtc_threshold", "gtc_threshold", "cttc_threshold"):
        value = getattr(settings, name)
        if value is not None and not 0 < value <= 1:
            raise ValueError(f"{name} must be in (0, 1], got {value}")
    if not 0 < settings.max_efpr < math.inf:
        raise ValueError(f"max_efpr must be a positive number per hour, got {settings.max_efpr}")
