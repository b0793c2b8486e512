"""One model on the embedded corpus, in all its numbers and without an interval: for many models in
a row, such as those of an ablation."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

import numpy as np

from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.evaluation import benchmarks, evaluate, split_metrics
from flamlib.evaluation.benchmarks import Settings
from flamlib.evaluation.splits import Part
from flamlib.metrics.sed import Criteria
from flamlib.models.flam import FLAM
from flamlib.models.interface import AudioTextModel, Method

ZERO_SHOT = {"seen_captions": "heldout_seen", "unseen_captions": "heldout_unseen"}


class Scored(NamedTuple):
    """What a model is worth, see `score`."""

    numbers: dict[str, dict[str, float | int]]
    curves: dict[str, dict[str, np.ndarray]]


def score(
    model: AudioTextModel,
    parts: Mapping[str, Part],
    bank: Bank,
    lexicon: Lexicon,
    *,
    criteria: Criteria,
    n_thresholds: int,
    n_bins: int,
    batch_size: int,
    window_s: float,
    templates: Sequence[str],
    progress: bool = False,
) -> Scored:
    """A model's numbers on parts that were built once for all models.

        numbers[part]            of `judging.judge`: auroc_macro, psds1_mean, f1_best, ece, …
        numbers["retrieval"]     of `evaluation.retrieval`, of the parts' first seconds
        numbers["heldout_seen"]  and "heldout_unseen": zero-shot, see `benchmarking`; the first of
                                 the templates gives top1
        curves[part]             frame F1 over thresholds, of `metrics.f1_over_thresholds`

    As in `evaluation.evaluate`, the part "valid" is not judged: it chooses the threshold of f1,
    segment_f1 and event_f1, and calibrates a model that is no FLAM. Raises ValueError without it.
    A FLAM has also numbers and curves of its scores made in the other ways, `biased_<part>` and
    `approximate_<part>`: they differ where one threshold has to do for all captions.
    """
    if "valid" not in parts:
        raise ValueError(f"the part 'valid' chooses the threshold; found only {[*parts]}")
    heard = evaluate.hear(model, parts, bank, batch_size=batch_size, progress=progress)
    numbers, curves = {}, {}
    for method in get_args(Method) if isinstance(model, FLAM) else ("unbiased",):
        prefix = "" if method == "unbiased" else f"{method}_"
        of = {name: hearing._replace(method=method) for name, hearing in heard.items()}
        f1 = {
            name: split_metrics.f1(parts[name], of[name], n_thresholds=n_thresholds)
            for name in parts
        }
        threshold = f1.pop("valid")["best_macro"]
        for name in f1:
            curves[prefix + name] = f1[name]
            numbers[prefix + name] = split_metrics.judge(
                parts[name],
                of[name],
                threshold=threshold,
                criteria=criteria,
                n_thresholds=n_thresholds,
                n_bins=n_bins,
            )
    clip_s = next(iter(parts.values())).clip_s
    numbers["retrieval"] = evaluate.retrieval(model, bank, lexicon, clip_s=clip_s).numbers
    asked = Settings(window_s, templates, templates[0], criteria, n_thresholds, n_bins)
    for split, name in ZERO_SHOT.items():
        outcome, _ = benchmarks.held_out_classes(model, bank, lexicon, split, asked)
        numbers[name] = {k: v for k, v in outcome.numbers.items() if not isinstance(v, dict)}
    return Scored(numbers, curves)
