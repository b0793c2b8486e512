"""Polyphonic sound detection score (PSDS), exact over every decision threshold.

*Definition* (Bilen et al. 2020, arXiv:1910.08440). With false alarms, cross-triggers and events
found as `intersections` defines them,

    TPR(caption)  = events found / events
    eFPR(caption) = false alarms / hours of audio
                    + alpha_ct * mean over the other captions c of
                      (cross-triggers on c / hours of events of c)

    PSDS = 1 / max_efpr * integral over eFPR from 0 to max_efpr of
           max(0, mean over captions of TPR - alpha_st * standard deviation over captions of TPR)

where TPR at an eFPR is the highest that any threshold reaches at no more than that eFPR; each
caption has its own thresholds.

*Exactness.* Every score is a threshold; there is no grid. Fifty equally spaced thresholds give
lower numbers: by 7 % (PSDS1) and 13 % (PSDS2) on 20 DCASE clips.

*Where we differ from other tools.* psds_eval (with every score as a threshold) and sed_scores_eval
give the same numbers, but refuse two cases. Events of one caption that overlap or touch are joined
here first. A caption without any event has no TPR: it is left out of the mean over captions and out
of the cross-trigger average, so that its false alarms cost nothing. Report those next to the PSDS.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from flamlib.metrics.bootstrap import ClipStatistic, each_draw
from flamlib.metrics.intersections import changes, event_table

BLOCK = 1 << 23  # scores whose changes are in memory at once: about 200 MB


class Detected(NamedTuple):
    """The scores of clips and what is true of them, as `psds` takes both."""

    scores: Mapping[str, Float[np.ndarray, "frame caption"]]
    frame_edges: Float[np.ndarray, "edge"]
    captions: Sequence[str]
    ground_truth: Mapping[str, Sequence[tuple]]
    durations: Mapping[str, float]


class Rule(NamedTuple):
    """By what a detection counts, and what a false one costs, as `psds` takes it."""

    dtc_threshold: float
    gtc_threshold: float
    cttc_threshold: float | None
    alpha_ct: float
    max_efpr: float = 100.0


def psds(
    scores: Mapping[str, Float[np.ndarray, "frame caption"]],
    frame_edges: Float[np.ndarray, "edge"],
    captions: Sequence[str],
    ground_truth: Mapping[str, Sequence[tuple]],
    durations: Mapping[str, float],
    *,
    dtc_threshold: float,
    gtc_threshold: float,
    cttc_threshold: float | None,
    alpha_ct: float,
    alpha_st: float,
    max_efpr: float = 100.0,
) -> float:
    """The polyphonic sound detection score, in [0, 1], as the module's docstring defines it.

    `scores[clip]` has one row per frame, spanning `frame_edges[i]` to `frame_edges[i + 1]` seconds,
    and one column per caption; a score of -inf is never a detection. `ground_truth[clip]` holds
    events (onset, offset, caption) in seconds, possibly none; `durations[clip]` is in seconds, and
    a detection that reaches past it ends with the clip; `max_efpr` is per hour. Without
    cross-triggers, give `cttc_threshold` None and `alpha_ct` 0.

    The usual settings (DCASE task 4) are

        PSDS1   dtc 0.7, gtc 0.7, cttc None, alpha_ct 0.0, alpha_st 1.0
        PSDS2   dtc 0.1, gtc 0.1, cttc 0.3,  alpha_ct 0.5, alpha_st 1.0

    nan when no caption has an event. Raises ValueError, naming clip and event, for what cannot be
    meant: a clip without scores or duration, a NaN score, an event that ends before it starts or
    after its clip, or whose caption is not in the list.
    """
    detected = Detected(scores, frame_edges, captions, ground_truth, durations)
    rule = Rule(dtc_threshold, gtc_threshold, cttc_threshold, alpha_ct, max_efpr)
    return area(psd_rocs(detected, rule), alpha_st=alpha_st, max_efpr=max_efpr)


def psd_rocs(detected: Detected, rule: Rule) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each caption that has an event, the staircase (eFPR per hour, TPR) up to `max_efpr`.

    Both arrays rise and start at an eFPR of 0; between two steps the TPR of the earlier one holds.
    Errors are those of `psds`.
    """
    ranked = _rank_changes(detected, rule)
    hours = math.fsum(detected.durations[clip] for clip in detected.scores) / 3600
    return {
        caption: _staircase(changes.counts(), hours, rule.max_efpr) for caption, changes in ranked
    }


def clip_psds(detected: Detected, rule: Rule, *, alpha_st: float) -> ClipStatistic:
    """`psds` as a statistic for `resampling.bootstrap`, see `clip_rocs`."""
    rocs = clip_rocs(detected, rule)
    return each_draw(lambda times: area(rocs(times), alpha_st=alpha_st, max_efpr=rule.max_efpr))


def clip_rocs(
    detected: Detected, rule: Rule
) -> Callable[[Int[np.ndarray, "clip"]], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """`psd_rocs` of a draw of clips, given how often each was drawn, in the order of `scores`.

    Everything is judged and sorted once; a draw weighs each clip's changes by how often it came.
    One thing stays as it is in the whole set: what a cross-trigger costs, that is the hours of each
    caption. Without cross-triggers a draw's staircases are exactly those of the clips drawn.
    """
    ranked = list(_rank_changes(detected, rule))
    clip_s = np.array([detected.durations[clip] for clip in detected.scores], dtype=float)

    def rocs(times_drawn: Int[np.ndarray, "clip"]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        hours = float(times_drawn @ clip_s) / 3600
        return {
            caption: _staircase(changes.counts(times_drawn), hours, rule.max_efpr)
            for caption, changes in ranked
            if times_drawn @ changes.n_events
        }

    return rocs


def area(
    rocs: Mapping[str, tuple[np.ndarray, np.ndarray]], *, alpha_st: float, max_efpr: float
) -> float:
    """The PSDS of the captions' staircases; of a single one, that caption's own score.

    nan when there is none.
    """
    if not rocs:
        return math.nan
    grid = np.unique(np.concatenate([efpr for efpr, _ in rocs.values()]))
    width = np.diff(grid, append=max_efpr)
    total = 0.0
    n_at_once = max(1, BLOCK // len(rocs))
    for first in range(0, len(grid), n_at_once):
        at = slice(first, first + n_at_once)
        tpr = np.stack(
            [tpr[np.searchsorted(efpr, grid[at], side="right") - 1] for efpr, tpr in rocs.values()]
        )
        effective = np.maximum(tpr.mean(axis=0) - alpha_st * tpr.std(axis=0), 0.0)
        total += float(effective @ width[at])
    return total / max_efpr


class _Changes(NamedTuple):
    """Where one caption's counts change, from the highest threshold down, and by how much.

    `last` marks the last of equal thresholds: only there have all of them been passed. Between two
    `steps`, which are places in it, nothing is found: of such thresholds the one of the fewest
    false alarms is as good as all.
    """

    clip: Int[np.ndarray, "point"]
    alarms: Float[np.ndarray, "point"]
    found: Int[np.ndarray, "point"]
    last: Int[np.ndarray, "threshold"]
    steps: Int[np.ndarray, "step"]
    n_events: Int[np.ndarray, "clip"]

    def counts(
        self, times_drawn: Int[np.ndarray, "clip"] | None = None
    ) -> tuple[Float[np.ndarray, "step"], Float[np.ndarray, "step"]]:
        """False alarms and TPR at every step, the first above all scores; a clip counts as often
        as it was drawn, by default once."""
        alarms, found, n_events = self.alarms, self.found, self.n_events.sum()
        if times_drawn is not None:
            times = times_drawn[self.clip]
            alarms, found, n_events = alarms * times, found * times, times_drawn @ self.n_events
        alarms, found = np.cumsum(alarms)[self.last], np.cumsum(found)[self.last[self.steps]]
        if len(self.steps):
            alarms = np.minimum.reduceat(alarms, self.steps)
        # Sums of fractions may end a hair below zero, left of the staircase's start.
        return np.append(0.0, np.maximum(alarms, 0.0)), np.append(0, found) / n_events


def _rank_changes(detected: Detected, rule: Rule) -> Iterator[tuple[str, _Changes]]:
    """Each caption that has an event, with its changes, in blocks of bounded memory."""
    scores, frame_edges, captions, ground_truth, durations = detected
    _check_rule(rule)
    _check_scores(detected)
    events = event_table(list(scores), captions, ground_truth, durations)

    n_events = np.bincount(events.caption, minlength=len(captions))
    event_s = np.bincount(events.caption, events.offset - events.onset, minlength=len(captions))
    total_s = math.fsum(durations[clip] for clip in scores)
    judged = np.flatnonzero(n_events)
    # A cross-trigger's share of the eFPR as a number of false alarms, so that there is one count,
    # and it is whole when alpha_ct is 0.
    price = np.zeros(len(captions))
    price[judged] = rule.alpha_ct * total_s / event_s[judged] / max(1, len(judged) - 1)

    n_frames = len(frame_edges) - 1
    n_at_once = max(1, BLOCK // (len(scores) * n_frames))
    for first in range(0, len(judged), n_at_once):
        asked = judged[first : first + n_at_once]
        at_thresholds = changes(
            list(scores.values()),
            frame_edges,
            events,
            asked,
            clip_s=np.array([durations[clip] for clip in scores], dtype=float),
            dtc_threshold=rule.dtc_threshold,
            gtc_threshold=rule.gtc_threshold,
            cttc_threshold=rule.cttc_threshold,
            price=price,
        )
        for column, threshold, alarms, found in zip(asked, *at_thresholds, strict=True):
            changed = np.flatnonzero((alarms != 0) | (found != 0))
            order = changed[np.argsort(threshold[changed])[::-1]]
            threshold = threshold[order]
            # nan differs from anything, so the last one is a last one.
            last = np.flatnonzero(threshold != np.append(threshold[1:], np.nan))
            found = found[order]
            passed = np.add.reduceat(found != 0, np.append(0, last[:-1] + 1)) if len(last) else last
            steps = np.union1d(np.flatnonzero(passed), np.zeros(min(1, len(last)), dtype=int))
            of_clips = np.bincount(events.clip[events.caption == column], minlength=len(scores))
            ranked = _Changes(order // n_frames, alarms[order], found, last, steps, of_clips)
            yield captions[column], ranked


def _staircase(
    counts: tuple[Float[np.ndarray, "point"], Float[np.ndarray, "point"]],
    hours: float,
    max_efpr: float,
) -> tuple[Float[np.ndarray, "step"], Float[np.ndarray, "step"]]:
    """The steps at which the best TPR at no more than an eFPR rises, from false alarms and TPR."""
    efpr, tpr = counts[0] / hours, counts[1]
    affordable = np.flatnonzero(efpr <= max_efpr)
    order = affordable[np.lexsort((-tpr[affordable], efpr[affordable]))]
    efpr, tpr = efpr[order], np.maximum.accumulate(tpr[order])
    rises = np.diff(tpr, prepend=-1.0) > 0
    return efpr[rises], tpr[rises]


def _check_scores(detected: Detected) -> None:
    scores, frame_edges, captions, *_ = detected
    if not scores:
        raise ValueError("no clips: scores is empty")
    if len(set(captions)) != len(captions):
        twice = sorted({caption for caption in captions if list(captions).count(caption) > 1})
        raise ValueError(f"captions listed twice: {twice[:5]}")
    if len(frame_edges) < 2 or not np.isfinite(frame_edges).all():
        raise ValueError("frame_edges must be finite seconds, one more than there are frames")
    if (np.diff(frame_edges) <= 0).any():
        raise ValueError("frame_edges must rise from frame to frame")
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


def _check_rule(rule: Rule) -> None:
    if (rule.cttc_threshold is None) != (rule.alpha_ct == 0):
        raise ValueError(
            f"alpha_ct {rule.alpha_ct} with cttc_threshold {rule.cttc_threshold}: without "
            "cross-triggers give 0 and None, with them neither"
        )
    for name, value in rule._asdict().items():
        if name.endswith("_threshold") and value is not None and not 0 < value <= 1:
            raise ValueError(f"{name} must be in (0, 1], found {value}")
    if not 0 < rule.max_efpr < math.inf:
        raise ValueError(f"max_efpr must be a positive number per hour, found {rule.max_efpr}")
