"""What a model was worth on a test set: numbers, and what their intervals are drawn from.

Clips are drawn with all that was asked of them. Where a caption is true of several clips it is no
part of any: searches by caption are then drawn as captions, searches by clip as clips.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from flamlib.metrics import metrics, sed
from flamlib.metrics.bootstrap import ClipStatistic
from flamlib.metrics.retrieval import Ranks, ranks, summary

# What a draw draws from: how many there are, and the statistics over them.
Drawn = tuple[int, dict[str, Callable[[], ClipStatistic]]]


class Outcome(NamedTuple):
    """A model's numbers on a set, and what their intervals are drawn from; `reliability` are the
    bins of `calibration.reliability`, of a model that says how probable a caption is."""

    numbers: dict[str, float | int | dict]
    drawn: list[Drawn]
    reliability: dict[str, np.ndarray] | None = None


def compare(
    outcomes: Mapping[str, Outcome], *, against: str, n_resamples: int, seed: int
) -> dict[str, dict]:
    """Each model's numbers with `<name>_low` and `<name>_high`, and under "difference", for each
    model but `against`, the paired tests of `against` - model; see `localisation.intervals`."""
    found = {model: dict(outcome.numbers) for model, outcome in outcomes.items()}
    pairs = [(against, other) for other in outcomes if other != against and against in outcomes]
    tested: dict[str, dict] = {other: {} for _, other in pairs}
    for at, (n_units, _) in enumerate(next(iter(outcomes.values())).drawn):
        makers = {model: outcome.drawn[at][1] for model, outcome in outcomes.items()}
        bounds, tests = sed.intervals(
            makers, n_units, against=pairs, n_resamples=n_resamples, seed=seed
        )
        for model, of_model in bounds.items():
            found[model] |= of_model
        for one, other in pairs:
            tested[other] |= tests[f"{one} - {other}"]
    return found | {"difference": tested}


def searched(
    clip_emb: Float[np.ndarray, "clip dim"],
    caption_emb: Float[np.ndarray, "caption dim"],
    clip_of_caption: Int[np.ndarray, "caption"] | None = None,
    *,
    relevant: Bool[np.ndarray, "caption clip"] | None = None,
) -> Outcome:
    """The numbers of `metrics.retrieval`, which has the same arguments."""
    n_captions, n_clips = len(caption_emb), len(clip_emb)
    by_caption, by_clip = ranks(clip_emb, caption_emb, clip_of_caption, relevant=relevant)
    numbers = {
        **{f"t2a_{name}": value for name, value in summary(by_caption).items()},
        **{f"a2t_{name}": value for name, value in summary(by_clip).items()},
    }
    sizes = {"n_clips": n_clips, "n_captions": n_captions}
    of_clips = _of_ranks("a2t", by_clip, by_clip.query, n_clips)
    if clip_of_caption is None:
        of_captions = _of_ranks("t2a", by_caption, by_caption.query, n_captions)
        return Outcome(numbers | sizes, [(n_captions, of_captions), (n_clips, of_clips)])
    unit = clip_of_caption[by_caption.query]
    of_captions = _of_ranks("t2a", by_caption, unit, n_clips)
    return Outcome(numbers | sizes, [(n_clips, of_captions | of_clips)])


def classified(
    clip_emb: Float[np.ndarray, "clip dim"],
    class_emb: Mapping[str, Float[np.ndarray, "class dim"]],
    class_of_clip: Int[np.ndarray, "clip"],
    folds: Int[np.ndarray, "clip"],
) -> Outcome:
    """The numbers of `metrics.accuracy` for the classes as each template puts them: those of the
    first one, where there are several folds also `fold_<fold>`, and `top1_<template>` of each."""
    numbers: dict[str, float | int | dict] = {}
    makers: dict[str, Callable[[], ClipStatistic]] = {}
    for i, (template, emb) in enumerate(class_emb.items()):
        found = metrics.accuracy(clip_emb, emb, class_of_clip, folds)
        rank = found.pop("rank")
        right, near = (rank == 1).astype(float), (rank <= 5).astype(float)
        if i == 0:
            found["per_fold"] = {str(fold): value for fold, value in found["per_fold"].items()}
            numbers |= found
            makers |= {
                "top1": partial(metrics.clip_mean, right),
                "top5": partial(metrics.clip_mean, near),
                "macro": partial(metrics.clip_group_mean, right, class_of_clip),
                "fold_mean": partial(metrics.clip_group_mean, right, folds),
            }
            if len(found["per_fold"]) > 1:
                for fold, value in found["per_fold"].items():
                    [inside] = np.nonzero(folds == int(fold))
                    numbers[f"fold_{fold}"] = value
                    makers[f"fold_{fold}"] = partial(
                        metrics.clip_share, right[inside], inside, len(right)
                    )
        numbers[f"top1_{template}"] = found["top1"]
        makers[f"top1_{template}"] = partial(metrics.clip_mean, right)
    sizes = {"n_clips": len(clip_emb), "n_captions": len(next(iter(class_emb.values())))}
    return Outcome(numbers | sizes, [(len(clip_emb), makers)])


def _of_ranks(
    name: str, found: Ranks, unit: Int[np.ndarray, "query"], n_units: int
) -> dict[str, Callable[[], ClipStatistic]]:
    """One direction of a search; `unit` is what each query is drawn with."""
    shares = {f"r{k}": (found.first_rank <= k).astype(float) for k in (1, 5, 10)}
    shares["map10"] = found.precision10
    made = {
        f"{name}_{key}": partial(metrics.clip_share, value, unit, n_units)
        for key, value in shares.items()
    }
    median = partial(metrics.clip_median, found.first_rank, unit, n_units)
    return made | {f"{name}_median_rank": median}
