"""What a model's hearing of a part is worth, in numbers: those of `localisation`, and

    f1                          at f1_threshold, the best on the mixtures for validation
    f1_best, f1_best_threshold  the same at the best threshold on these clips, which flatters
    ece, brier                  of the probability

`_low` and `_high` bound 95 % of what other draws of as many clips would give.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from flamlib.evaluation.splits import Hearing, Part
from flamlib.metrics import calibration, metrics, sed
from flamlib.metrics.bootstrap import ClipStatistic
from flamlib.metrics.clip_scores import Located
from flamlib.metrics.sed import Criteria


def judge(
    part: Part,
    hearing: Hearing,
    *,
    threshold: float,
    criteria: Criteria,
    n_thresholds: int,
    n_bins: int,
) -> dict[str, float | int]:
    """All numbers but the intervals, see the module's docstring. `threshold` is that of f1."""
    prob, known = part.by_frame(hearing.prob), part.known_by_frame
    curve = f1(part, hearing, n_thresholds=n_thresholds)
    found = sed.numbers(located(part, hearing), criteria, threshold=threshold)
    del found["threshold"]
    return found | {
        "f1_threshold": threshold,
        "f1_best": float(curve["f1_macro"].max()),
        "f1_best_threshold": curve["best_macro"],
        "ece": metrics.expected_calibration_error(prob[known], part.active_by_frame[known], n_bins),
        "brier": metrics.brier(prob[known], part.active_by_frame[known]),
    }


def located(part: Part, hearing: Hearing) -> Located:
    """The scores of a part as `localisation` judges them."""
    return Located(
        part.clips,
        part.captions,
        part.frame_s,
        [part.clip_s] * len(part.clips),
        part.events,
        list(hearing.score.transpose(0, 2, 1)),
        part.known,
    )


def f1(part: Part, hearing: Hearing, *, n_thresholds: int) -> dict:
    """`metrics.f1_over_thresholds` of the score, see `localisation.best_threshold`."""
    score, known = part.by_frame(hearing.score), part.known_by_frame
    thresholds = sed.candidate_thresholds(score[known], n_thresholds)
    return metrics.f1_over_thresholds(score, part.active_by_frame, thresholds, known)


def reliability(part: Part, hearing: Hearing, *, n_bins: int) -> dict[str, np.ndarray]:
    """`metrics.reliability` of the probability, over all known frames."""
    prob, known = part.by_frame(hearing.prob), part.known_by_frame
    return metrics.reliability(prob[known], part.active_by_frame[known], n_bins)


class Heard(NamedTuple):
    """What a model hears of a part, in frames of its own length, and the threshold of its f1."""

    part: Part
    hearing: Hearing
    threshold: float


def bounded(
    heard: Mapping[str, Heard],
    *,
    criteria: Criteria,
    n_thresholds: int,
    n_bins: int,
    n_resamples: int,
    seed: int,
) -> dict[str, dict]:
    """The intervals of each model's numbers; and "difference", flam - each other, by number with
    its `_low`, `_high` and `_p`, see `localisation.intervals`.

    All models are judged on the same draws of clips. Raises ValueError if they heard others.
    """
    clips = {model: of.part.clips for model, of in heard.items()}
    first = next(iter(heard))
    for model in heard:
        if clips[model] != clips[first]:
            raise ValueError(f"{model} heard other clips than {first}: no draw is of both")
    makers = {
        model: sed.statistics(located(of.part, of.hearing), criteria, threshold=of.threshold)
        | {
            "f1_best": partial(_drawn_best_f1, of.part, of.hearing, n_thresholds),
            "ece": partial(_drawn, of.part, of.hearing, n_bins, calibration.ece_of),
            "brier": partial(_drawn, of.part, of.hearing, n_bins, calibration.brier_of),
        }
        for model, of in heard.items()
    }
    others = [model for model in heard if model != "flam"]
    bounds, tests = sed.intervals(
        makers,
        len(clips[first]),
        against=[("flam", other) for other in others],
        n_resamples=n_resamples,
        seed=seed,
    )
    return bounds | {"difference": {other: tests[f"flam - {other}"] for other in others}}


def _drawn_best_f1(part: Part, hearing: Hearing, n_thresholds: int) -> ClipStatistic:
    """The F1 at the best threshold of each draw, of the thresholds that `f1` tries."""
    score, known = part.by_frame(hearing.score), part.known_by_frame
    thresholds = sed.candidate_thresholds(score[known], n_thresholds)
    return metrics.clip_best_f1(score, part.active_by_frame, part.clip_by_frame, thresholds, known)


def _drawn(
    part: Part, hearing: Hearing, n_bins: int, of: Callable[[np.ndarray], float]
) -> ClipStatistic:
    """A number `of` the sums of `calibration.claims`, as a statistic over draws of clips."""
    prob, known = part.by_frame(hearing.prob), part.known_by_frame
    clip = np.broadcast_to(part.clip_by_frame[:, None], prob.shape)[known]
    sizes = {"n_clips": len(part.mixtures), "n_bins": n_bins}
    claims = calibration.claims(prob[known], part.active_by_frame[known], clip, **sizes)
    return metrics.clip_sum(claims, of)
