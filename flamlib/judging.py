"""What a model's hearing of a part is worth, in numbers: those of `localisation`, and

    f1                          at f1_threshold, the best on the mixtures for validation
    f1_best, f1_best_threshold  the same at the best threshold on these clips, which flatters
    ece, brier                  of the probability

`_low` and `_high` bound 95 % of what other draws of as many clips would give.
"""

from collections.abc import Mapping

import numpy as np

from flamlib import localisation, metrics
from flamlib.heldout import Hearing, Part
from flamlib.localisation import Criteria, Located
from flamlib.resampling import ClipStatistic


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
    found = localisation.numbers(located(part, hearing), criteria, threshold=threshold)
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
    thresholds = localisation.candidate_thresholds(score[known], n_thresholds)
    return metrics.f1_over_thresholds(score, part.active_by_frame, thresholds, known)


def reliability(part: Part, hearing: Hearing, *, n_bins: int) -> dict[str, np.ndarray]:
    """`metrics.reliability` of the probability, over all known frames."""
    prob, known = part.by_frame(hearing.prob), part.known_by_frame
    return metrics.reliability(prob[known], part.active_by_frame[known], n_bins)


def bounded(
    part: Part,
    hearings: Mapping[str, Hearing],
    thresholds: Mapping[str, float],
    *,
    criteria: Criteria,
    n_thresholds: int,
    n_bins: int,
    n_resamples: int,
    seed: int,
) -> dict[str, dict]:
    """The intervals of each model's numbers; and "difference", flam - each other, by number with
    its `_low`, `_high` and `_p`, the p-value of `metrics.paired_test`.

    All models are judged on the same draws of clips.
    """
    makers = {
        model: localisation.statistics(located(part, heard), criteria, threshold=thresholds[model])
        | {
            "f1_best": lambda heard=heard: _drawn_best_f1(part, heard, n_thresholds),
            "ece": lambda heard=heard: _drawn_ece(part, heard, n_bins),
            "brier": lambda heard=heard: _drawn_brier(part, heard),
        }
        for model, heard in hearings.items()
    }
    others = [model for model in hearings if model != "flam"]
    bounds, tests = localisation.intervals(
        makers,
        len(part.mixtures),
        against=[("flam", other) for other in others],
        n_resamples=n_resamples,
        seed=seed,
    )
    differences = {}
    for other in others:
        differences[other] = {
            f"{name}{end}": test[key]
            for name, test in tests[f"flam - {other}"].items()
            for end, key in (
                ("", "difference"), ("_low", "low"), ("_high", "high"), ("_p", "p_value")
            )
        }  # fmt: skip
    return bounds | {"difference": differences}


def _drawn_best_f1(part: Part, hearing: Hearing, n_thresholds: int) -> ClipStatistic:
    """The F1 at the best threshold of each draw, of the thresholds that `f1` tries."""
    score, known = part.by_frame(hearing.score), part.known_by_frame
    thresholds = localisation.candidate_thresholds(score[known], n_thresholds)
    return metrics.clip_best_f1(score, part.active_by_frame, part.clip_by_frame, thresholds, known)


def _drawn_ece(part: Part, hearing: Hearing, n_bins: int) -> ClipStatistic:
    """The calibration error, as a statistic over draws of clips."""
    prob, known = part.by_frame(hearing.prob), part.known_by_frame
    in_bin = np.minimum((prob * n_bins).astype(int), n_bins - 1)[known]
    row = np.broadcast_to(part.clip_by_frame[:, None], prob.shape)[known] * n_bins + in_bin
    size = len(part.mixtures) * n_bins
    sums = [
        np.bincount(row, weight, size).reshape(-1, n_bins)
        for weight in (np.ones(len(row)), prob[known], part.active_by_frame[known])
    ]

    def ece(sums: np.ndarray) -> float:
        count, claimed, true = sums
        return float(np.abs(claimed - true).sum() / count.sum())

    return metrics.clip_sum(np.stack(sums, axis=1), ece)


def _drawn_brier(part: Part, hearing: Hearing) -> ClipStatistic:
    prob, known = part.by_frame(hearing.prob), part.known_by_frame
    error = np.where(known, (prob - part.active_by_frame) ** 2, 0.0).sum(axis=1)
    size = len(part.mixtures)
    sums = [
        np.bincount(part.clip_by_frame, weight, size)
        for weight in (error, known.sum(axis=1).astype(float))
    ]
    return metrics.clip_sum(np.stack(sums, axis=1), lambda n: n[0] / n[1])
