"""All metrics of one model on the embedded corpus, without intervals: for many models in a row,
such as those of an ablation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, get_args

import numpy as np

from flamlib.data.mixtures.backgrounds import MASKED
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.evaluation import benchmarks, evaluate, split_metrics
from flamlib.evaluation.benchmarks import BenchmarkSettings
from flamlib.evaluation.splits import EvalSplit
from flamlib.experiment.params.trials import EvaluationConfig
from flamlib.models.flam import FLAM
from flamlib.models.interface import AudioTextModel, Method
from flamlib.training.feature_extraction import StoredFeatures

ZERO_SHOT = {"seen_captions": "heldout_seen", "unseen_captions": "heldout_unseen"}


class ModelResults(NamedTuple):
    """The results of one model, see `evaluate_model`."""

    metrics: dict[str, dict[str, float | int]]
    curves: dict[str, dict[str, np.ndarray]]


def evaluate_model(
    model: AudioTextModel,
    splits: Mapping[str, EvalSplit],
    bank: Bank,
    lexicon: Lexicon,
    *,
    config: EvaluationConfig,
    window_s: float,
    templates: Sequence[str],
    stored: StoredFeatures | None = None,
    progress: bool = False,
) -> ModelResults:
    """Evaluate a model on splits that were labelled once for all models.

    As in `evaluate.evaluate`, "valid" is not evaluated: on it, the thresholds of f1, segment_f1
    and event_f1 are chosen, and a model that is no FLAM is calibrated. A FLAM has also metrics and
    curves of its scores by the other methods, `biased_<split>` and `approximate_<split>`, but
    for parts under maskers: they differ where one threshold has to do for all captions.

    Args:
        model: the model.
        splits: by name, "valid" among them.
        bank: the recordings.
        lexicon: which captions imply or exclude each other.
        config: how models are evaluated.
        window_s: seconds of a recording that are embedded at a time for zero-shot classification.
        templates: prompts of classes; the first of them gives top1.
        stored: what trunks made of the mixtures, see `evaluate.predict`.
        progress: show progress bars.

    Returns:
        metrics[split]            of `split_metrics.compute`: auroc_macro, psds1_mean, f1_best …
        metrics["retrieval"]      of `evaluate.retrieval`, of the first seconds of recordings
        metrics["heldout_seen"]   and "heldout_unseen": zero-shot, see `benchmarks`
        curves[split]             frame-wise F1 over thresholds, of `f1.f1_over_thresholds`; none
                                  of parts under maskers

    Raises:
        ValueError: if there is no split "valid".
    """
    if "valid" not in splits:
        raise ValueError(f"the split 'valid', which chooses the threshold, is not in {[*splits]}")
    unbiased = evaluate.predict(
        model, splits, bank, batch_size=config.batch_size, progress=progress, stored=stored
    )
    metrics, curves = {}, {}
    trained_on = bank.recordings("foreground", "train")
    for method in get_args(Method) if isinstance(model, FLAM) else ("unbiased",):
        prefix = "" if method == "unbiased" else f"{method}_"
        logits = {
            name: replace(of_split, method=method)
            for name, of_split in unbiased.items()
            if name not in MASKED or method == "unbiased"
        }
        valid = logits.pop("valid")
        for name, of_split in logits.items():
            threshold = split_metrics.choose_threshold(
                valid,
                name,
                trained_on,
                config=config,
                knows_captions=evaluate.knows_captions(model),
            )
            metrics[prefix + name] = split_metrics.compute(
                of_split, valid.split, threshold=threshold, config=config
            )
            if name not in MASKED:
                curves[prefix + name] = split_metrics.f1_curve(of_split, config)
    clip_s = next(iter(splits.values())).clip_s
    metrics["retrieval"] = evaluate.retrieval(model, bank, lexicon, clip_s=clip_s).metrics
    settings = BenchmarkSettings(
        window_s=window_s,
        templates=templates,
        sed_template=templates[0],
        criteria=split_metrics.criteria(config),
        n_thresholds=config.n_thresholds,
        n_bins=config.n_bins,
    )
    for split, name in ZERO_SHOT.items():
        outcome, _ = benchmarks.classify_held_out(model, bank, lexicon, split, settings)
        metrics[name] = {k: v for k, v in outcome.metrics.items() if not isinstance(v, dict)}
    return ModelResults(metrics, curves)
