"""Results of models on a test set: metrics, and the statistics that their intervals come from.

A clip is drawn with all queries about it. A caption that is true of several clips belongs to none
of them: then text-to-audio retrieval is bootstrapped over captions, audio-to-text over clips.
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from flamlib.metrics.bootstrap import clip_mean, group_mean, query_mean, query_median
from flamlib.metrics.classification import accuracy
from flamlib.metrics.retrieval import Ranks, ranks, retrieval, summary
from flamlib.metrics.sed import Statistics, confidence_intervals

RECALLS = tuple((way, k) for way in ("t2a", "a2t") for k in (1, 5, 10))


class Resampling(NamedTuple):
    """What is drawn, `n_units` clips or captions, and the statistics over these draws."""

    n_units: int
    statistics: Statistics


class Outcome(NamedTuple):
    """The result of one model on one test set.

    Attributes:
        metrics: values by name.
        resamplings: for their confidence intervals.
        reliability: bins of `calibration.reliability`, of a model that predicts probabilities.
    """

    metrics: dict[str, float | int | dict]
    resamplings: list[Resampling]
    reliability: dict[str, np.ndarray] | None = None


def compare(
    outcomes: Mapping[str, Outcome], *, against: str, n_resamples: int, seed: int
) -> dict[str, dict]:
    """Return the metrics of all models on a test set, with intervals and paired tests.

    Args:
        outcomes: by model.
        against: the model that all others are tested against.
        n_resamples: number of bootstrap draws.
        seed: of the draws.

    Returns:
        Of each model its metrics with `<name>_low` and `<name>_high`; and under "difference", for
        each model but `against`, the paired tests of `against` - model, see
        `sed.confidence_intervals`.
    """
    results = {model: dict(outcome.metrics) for model, outcome in outcomes.items()}
    pairs = [(against, other) for other in outcomes if other != against and against in outcomes]
    tested: dict[str, dict] = {other: {} for _, other in pairs}
    for i, resampling in enumerate(next(iter(outcomes.values())).resamplings):
        statistics = {model: of.resamplings[i].statistics for model, of in outcomes.items()}
        bounds, tests = confidence_intervals(
            statistics, resampling.n_units, against=pairs, n_resamples=n_resamples, seed=seed
        )
        for model, of_model in bounds.items():
            results[model] |= of_model
        for one, other in pairs:
            tested[other] |= tests[f"{one} - {other}"]
    return results | {"difference": tested}


def retrieval_outcome(
    clip_emb: Float[np.ndarray, "clip dim"],
    caption_emb: Float[np.ndarray, "caption dim"],
    clip_of_caption: Int[np.ndarray, "caption"] | None = None,
    *,
    text_of_caption: Int[np.ndarray, "caption"] | None = None,
    relevant: Bool[np.ndarray, "caption clip"] | None = None,
) -> Outcome:
    """Return the metrics of `retrieval.retrieval` as an outcome.

    With `text_of_caption`, "n_shared" is the number of captions whose text another clip has too. If
    there are any, `<name>_own` are the recalls where a caption is right for its own clip alone, as
    the scripts behind published numbers count.

    Args:
        clip_emb: see `retrieval.retrieval`, as all others.
        caption_emb: embeddings of the captions.
        clip_of_caption: the one clip that each caption describes.
        text_of_caption: with it, a number for the text of each caption.
        relevant: instead of both, which captions are true of which clips.
    """
    n_captions, n_clips = len(caption_emb), len(clip_emb)
    by_caption, by_clip = ranks(
        clip_emb,
        caption_emb,
        clip_of_caption,
        text_of_caption=text_of_caption,
        relevant=relevant,
    )
    metrics = {
        **{f"t2a_{name}": value for name, value in summary(by_caption).items()},
        **{f"a2t_{name}": value for name, value in summary(by_clip).items()},
    }
    metrics |= {"n_clips": n_clips, "n_captions": n_captions}
    if text_of_caption is not None:
        metrics["n_shared"] = _n_shared(text_of_caption, clip_of_caption)
        if metrics["n_shared"]:
            own = retrieval(clip_emb, caption_emb, clip_of_caption)
            metrics |= {f"{way}_r{k}_own": own[f"{way}_r{k}"] for way, k in RECALLS}
    of_clips = _rank_statistics("a2t", by_clip, by_clip.query, n_clips)
    if clip_of_caption is None:
        of_captions = _rank_statistics("t2a", by_caption, by_caption.query, n_captions)
        return Outcome(
            metrics, [Resampling(n_captions, of_captions), Resampling(n_clips, of_clips)]
        )
    unit = clip_of_caption[by_caption.query]
    of_captions = _rank_statistics("t2a", by_caption, unit, n_clips)
    return Outcome(metrics, [Resampling(n_clips, of_captions | of_clips)])


def _n_shared(
    text_of_caption: Int[np.ndarray, "caption"], clip_of_caption: Int[np.ndarray, "caption"]
) -> int:
    pairs = np.unique(np.stack([text_of_caption, clip_of_caption]), axis=1)
    n_clips = np.bincount(pairs[0])
    return int(np.count_nonzero(n_clips[text_of_caption] > 1))


def classification_outcome(
    clip_emb: Float[np.ndarray, "clip dim"],
    class_emb: Mapping[str, Float[np.ndarray, "class dim"]],
    class_of_clip: Int[np.ndarray, "clip"],
    folds: Int[np.ndarray, "clip"],
) -> Outcome:
    """Return the metrics of `classification.accuracy` as an outcome.

    Args:
        clip_emb: embeddings of the clips.
        class_emb: embeddings of the classes, by the template of their prompts; all metrics are of
            the first one, `top1_<template>` of each.
        class_of_clip: number of the right class of each clip.
        folds: fold of each clip; with several, `fold_<i>` is the top1 of each.
    """
    metrics: dict[str, float | int | dict] = {}
    statistics: Statistics = {}
    for i, (template, emb) in enumerate(class_emb.items()):
        result = accuracy(clip_emb, emb, class_of_clip, folds)
        rank = result.pop("rank")
        right, near = (rank == 1).astype(float), (rank <= 5).astype(float)
        if i == 0:
            result["per_fold"] = {str(fold): value for fold, value in result["per_fold"].items()}
            metrics |= result
            statistics |= {
                "top1": partial(clip_mean, right),
                "top5": partial(clip_mean, near),
                "macro": partial(group_mean, right, class_of_clip),
                "fold_mean": partial(group_mean, right, folds),
            }
            if len(result["per_fold"]) > 1:
                for fold, value in result["per_fold"].items():
                    [inside] = np.nonzero(folds == int(fold))
                    metrics[f"fold_{fold}"] = value
                    statistics[f"fold_{fold}"] = partial(
                        query_mean, right[inside], inside, len(right)
                    )
        metrics[f"top1_{template}"] = result["top1"]
        statistics[f"top1_{template}"] = partial(clip_mean, right)
    metrics |= {"n_clips": len(clip_emb), "n_captions": len(next(iter(class_emb.values())))}
    return Outcome(metrics, [Resampling(len(clip_emb), statistics)])


def _rank_statistics(
    name: str, ranks: Ranks, unit: Int[np.ndarray, "query"], n_units: int
) -> Statistics:
    """Return the statistics of one direction; `unit` is what each query is drawn with."""
    values = {f"r{k}": (ranks.first_rank <= k).astype(float) for k in (1, 5, 10)}
    values["map10"] = ranks.precision10
    statistics = {
        f"{name}_{key}": partial(query_mean, value, unit, n_units) for key, value in values.items()
    }
    median = partial(query_median, ranks.first_rank, unit, n_units)
    return statistics | {f"{name}_median_rank": median}
