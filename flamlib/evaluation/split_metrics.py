"""All metrics of a model on one split: those of `metrics.sed`, and

    f1                          at f1_threshold, see `choose_threshold`
    f1_best, f1_best_threshold  at the best threshold on these clips, which is too optimistic
    ece, brier                  calibration of the probabilities, see `metrics.calibration`
    nats …                      cross-entropy beside that of priors, see `priors`
    recall_at_1, false_spans …  see `metrics.spans`; the threshold is `f1_threshold`

`<name>_low` and `<name>_high` are the ends of a metric's 95 % bootstrap interval over clips.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial

import numpy as np
from jaxtyping import Bool

from flamlib.evaluation import priors
from flamlib.evaluation.splits import EvalSplit, SplitLogits
from flamlib.evaluation.thresholds import MIN_CAPTIONS
from flamlib.experiment.params.trials import EvaluationConfig
from flamlib.metrics import calibration, sed, spans
from flamlib.metrics.bootstrap import ClipStatistic, clip_sum
from flamlib.metrics.bootstrap_ranking import clip_best_f1
from flamlib.metrics.clip_scores import FrameTable
from flamlib.metrics.f1 import f1_over_thresholds
from flamlib.metrics.sed import Criteria
from flamlib.metrics.spans import SpanChanges


def criteria(config: EvaluationConfig) -> Criteria:
    """Return the settings of `metrics.sed`."""
    return Criteria(
        segment_s=config.segment_s,
        max_fpr=config.max_fpr,
        collar_s=config.collar_s,
        collar_rate=config.collar_rate,
        smoothing=config.smoothing,
    )


def compute(
    logits: SplitLogits, reference: EvalSplit, *, threshold: float, config: EvaluationConfig
) -> dict[str, float | int]:
    """Return all metrics without intervals.

    Args:
        logits: of a model.
        reference: the split that the priors are fitted on.
        threshold: of f1, segment_f1, event_f1, event_recall and false_spans.
        config: how models are evaluated.
    """
    probs, curve = logits.prob_table(), f1_curve(logits, config)
    prob, active = probs.scores[probs.known], probs.active[probs.known]
    metrics = sed.compute(logits.clip_scores(), criteria(config), threshold=threshold)
    del metrics["threshold"]
    return metrics | {
        "f1_threshold": threshold,
        "f1_best": float(curve["f1_macro"].max()),
        "f1_best_threshold": curve["best_macro"],
        "ece": calibration.expected_calibration_error(prob, active, config.n_bins),
        "brier": calibration.brier(prob, active),
        **priors.compute(logits, reference),
        **spans.compute(span_changes(logits, config), threshold=threshold),
    }


def span_changes(logits: SplitLogits, config: EvaluationConfig) -> SpanChanges:
    """Return the spans of smoothed scores at all thresholds."""
    return SpanChanges.of(logits.clip_scores().smoothed(config.smoothing))


def f1_curve(
    logits: SplitLogits, config: EvaluationConfig, *, of: Bool[np.ndarray, "caption"] | None = None
) -> dict:
    """Return `f1.f1_over_thresholds` of the smoothed scores at `sed.candidate_thresholds`.

    Of all captions, or of those that `of` selects.
    """
    frames = _smoothed(logits, config)
    of = np.ones(frames.scores.shape[1], bool) if of is None else of
    scores, known = frames.scores[:, of], frames.known[:, of]
    thresholds = sed.candidate_thresholds(scores[known], config.n_thresholds)
    return f1_over_thresholds(scores, frames.active[:, of], thresholds, known)


def choose_threshold(
    valid: SplitLogits,
    part: str,
    trained_on: Collection[str],
    *,
    config: EvaluationConfig,
    knows_captions: bool = False,
) -> float:
    """Choose the threshold of a part, that of the highest mean F1 on the mixtures for validation.

    For a part of unseen captions by those captions of validation that are not trained on, for
    another one by those that are; by all, if there are fewer than `MIN_CAPTIONS` of them. Those not
    trained on are few: the unbiased scores of a model that tells them from others have
    `novel_threshold` instead, unless it is None.

    Args:
        valid: a model's logits of the mixtures for validation.
        part: a name that begins with "seen" or "unseen".
        trained_on: captions.
        config: how models are evaluated.
        knows_captions: whether the model knows which captions it was trained on, see `familiarity`.
    """
    novel = part.startswith("unseen")
    own = config.novel_threshold
    if novel and knows_captions and valid.method == "unbiased" and own is not None:
        return own
    of = np.array([caption not in trained_on for caption in valid.split.captions]) == novel
    if of.sum() < MIN_CAPTIONS:
        of[:] = True
    return f1_curve(valid, config, of=of)["best_macro"]


def reliability(logits: SplitLogits, *, n_bins: int) -> dict[str, np.ndarray]:
    """Return `calibration.reliability` of the probabilities of all known frames."""
    frames = logits.prob_table()
    return calibration.reliability(frames.scores[frames.known], frames.active[frames.known], n_bins)


def confidence_intervals(
    logits: Mapping[str, SplitLogits],
    references: Mapping[str, EvalSplit],
    thresholds: Mapping[str, float],
    *,
    config: EvaluationConfig,
    seed: int,
    progress: bool = False,
) -> dict[str, dict]:
    """Return the intervals of all models' metrics on one split, and tests against "flam".

    All models are evaluated on the same draws of clips.

    Args:
        logits: of each model; its frames may have a length of their own.
        references: of each model, see `compute`.
        thresholds: of each model, see `compute`.
        config: how models are evaluated.
        seed: of the draws.
        progress: show a progress bar.

    Returns:
        Of each model `<metric>_low` and `<metric>_high`; under "difference", for each other model,
        the paired test of flam - model, see `sed.confidence_intervals`.

    Raises:
        ValueError: if the models were evaluated on different clips.
    """
    clips = {model: of.split.clips for model, of in logits.items()}
    first = next(iter(logits))
    for model in logits:
        if clips[model] != clips[first]:
            raise ValueError(
                f"{model} was evaluated on other clips than {first}: they cannot be compared by "
                "draws of the same clips"
            )
    statistics = {
        model: sed.statistics(of.clip_scores(), criteria(config), threshold=thresholds[model])
        | {
            "f1_best": partial(_best_f1_statistic, of, config),
            "ece": partial(_bin_statistic, of, config.n_bins, calibration.ece_of),
            "brier": partial(_bin_statistic, of, config.n_bins, calibration.brier_of),
            "nats": partial(_nats_statistic, priors.nats_by_clip, of.logits, of.split),
            "nats_gain": partial(_nats_statistic, priors.gain_by_clip, of, references[model]),
        }
        | spans.statistics(span_changes(of, config), threshold=thresholds[model])
        for model, of in logits.items()
    }
    others = [model for model in logits if model != "flam"]
    bounds, tests = sed.confidence_intervals(
        statistics,
        len(clips[first]),
        against=[("flam", other) for other in others],
        n_resamples=config.n_resamples,
        seed=seed,
        progress=f"intervals, {logits[first].split.name}" if progress else None,
    )
    return bounds | {"difference": {other: tests[f"flam - {other}"] for other in others}}


def _smoothed(logits: SplitLogits, config: EvaluationConfig) -> FrameTable:
    """The frames of smoothed scores, in which events are found."""
    return logits.clip_scores().smoothed(config.smoothing).by_frame


def _best_f1_statistic(logits: SplitLogits, config: EvaluationConfig) -> ClipStatistic:
    """The F1 at the best threshold of each draw, of the thresholds that `f1_curve` has."""
    frames = _smoothed(logits, config)
    thresholds = sed.candidate_thresholds(frames.scores[frames.known], config.n_thresholds)
    return clip_best_f1(frames.scores, frames.active, frames.clip, thresholds, frames.known)


def _bin_statistic(
    logits: SplitLogits, n_bins: int, metric: Callable[[np.ndarray], float]
) -> ClipStatistic:
    """A metric of the sums of `calibration.bin_sums`, as a statistic over draws of clips."""
    frames = logits.prob_table()
    known = frames.known
    clip = np.broadcast_to(frames.clip[:, None], known.shape)[known]
    sizes = {"n_clips": len(logits.split.mixtures), "n_bins": n_bins}
    sums = calibration.bin_sums(frames.scores[known], frames.active[known], clip, **sizes)
    return clip_sum(sums, metric)


def _nats_statistic(by_clip: Callable[..., np.ndarray], *of: object) -> ClipStatistic:
    """The mean of sums by clip, as a statistic over draws of clips."""
    return clip_sum(by_clip(*of), priors.mean_nats)
