"""FLAM and what it is compared with, on held-out mixtures and recordings: the numbers.

The parts are `seen_captions` (recordings of packages that training never saw, of families it did)
and `unseen_captions` (families it never saw, in any wording); see `heldout` for what is asked and
what score and probability are.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from flamlib import heldout, judging, metrics, recipes
from flamlib.bank import Bank
from flamlib.baselines import FLAMGlobal, LabelMatching, Listener
from flamlib.heldout import Hearing, Part
from flamlib.lexicon import Lexicon
from flamlib.localisation import Criteria
from flamlib.mgaclap import MGACLAP
from flamlib.model import FLAM

PARTS = ("seen_captions", "unseen_captions")


class Evaluation(NamedTuple):
    """All that was heard, by part and model; `captions` is one row per part and caption."""

    parts: dict[str, Part]
    hearings: dict[str, dict[str, Hearing]]
    captions: pd.DataFrame
    metrics: dict


def evaluate(
    *,
    bank: str | Path,
    mixtures: str | Path,
    captions: str | Path,
    weights: str | Path,
    flam: str | Path,
    flam_global: str | Path,
    mga_clap: str | Path,
    scores: str | Path,
    seed: int,
    n_clips: int,
    batch_size: int,
    median_frames: int,
    n_thresholds: int,
    n_bins: int,
    segment_s: float,
    max_fpr: float,
    collar_s: float,
    collar_rate: float,
    n_resamples: int,
    progress: bool = True,
) -> Evaluation:
    """Everything: the first `n_clips` mixtures of each part, all held-out recordings.

    Reads a bank, the folder of mixtures with one Parquet table per part, a corpus's table of
    captions, the pretrained towers and three checkpoints; writes the folder `scores`.
    """
    bank, lexicon = Bank.open(bank), Lexicon.read(captions)
    models = listeners(flam=flam, flam_global=flam_global, mga_clap=mga_clap, weights=weights)
    criteria = Criteria(segment_s, max_fpr, collar_s, collar_rate, median_frames)
    parts = {}
    for name in ("valid", *PARTS):
        drawn = recipes.read(Path(mixtures) / f"{name}.parquet")[:n_clips]
        parts[name] = Part.of(name, drawn, bank, lexicon, frame_s=models["flam"].frame_s)
    hearings = listen(models, parts, bank, batch_size=batch_size, progress=progress)
    heldout.write_scores(scores, parts, hearings)

    valid, heard_valid = parts.pop("valid"), hearings.pop("valid")
    thresholds = {
        model: judging.f1(valid, heard_valid[model], n_thresholds=n_thresholds)["best_macro"]
        for model in models
    }
    numbers = {name: {} for name in (*models, "difference")}
    for name, part in parts.items():
        intervals = judging.bounded(
            part,
            hearings[name],
            thresholds,
            criteria=criteria,
            n_thresholds=n_thresholds,
            n_bins=n_bins,
            n_resamples=n_resamples,
            seed=seed,
        )
        for model in numbers:
            numbers[model][name] = intervals[model]
        for model, threshold in thresholds.items():
            numbers[model][name] |= judging.judge(
                part,
                hearings[name][model],
                threshold=threshold,
                criteria=criteria,
                n_thresholds=n_thresholds,
                n_bins=n_bins,
            )
    for name, model in models.items():
        clip_s = parts[PARTS[0]].clip_s
        numbers[name]["retrieval"] = retrieval(model, bank, lexicon, clip_s=clip_s)
    table = pd.concat(
        [caption_table(part, hearings[name], lexicon) for name, part in parts.items()],
        ignore_index=True,
    )
    return Evaluation(parts, hearings, table, defined(numbers))


def listeners(
    *, flam: str | Path, flam_global: str | Path, mga_clap: str | Path, weights: str | Path
) -> dict[str, Listener]:
    """Every model that is evaluated, by name, from its checkpoint or from the pretrained towers."""
    return {
        "flam": FLAM.from_pretrained(flam),
        "flam_global": FLAMGlobal(FLAM.from_pretrained(flam_global)),
        "mga_clap": MGACLAP.from_pretrained(mga_clap),
        "label_matching": LabelMatching.pretrained(weights),
    }


def listen(
    models: Mapping[str, Listener],
    parts: Mapping[str, Part],
    bank: Bank,
    *,
    batch_size: int,
    progress: bool,
) -> dict[str, dict[str, Hearing]]:
    """Every part heard by every model, see `hear`."""
    hearings: dict[str, dict[str, Hearing]] = {name: {} for name in parts}
    for model, listener in models.items():
        heard = hear(listener, parts, bank, batch_size=batch_size, progress=progress)
        for name in parts:
            hearings[name][model] = heard[name]
    return hearings


def hear(
    model: Listener, parts: Mapping[str, Part], bank: Bank, *, batch_size: int, progress: bool
) -> dict[str, Hearing]:
    """Every part heard by one model; one that is no FLAM is calibrated on the part "valid"."""
    heard = {
        name: heldout.hear(model, part, bank, batch_size=batch_size, progress=progress)
        for name, part in parts.items()
    }
    if isinstance(model, FLAM):
        return heard
    reference, valid = heard["valid"], parts["valid"]
    return {name: heldout.calibrated(of, reference, valid) for name, of in heard.items()}


def retrieval(
    model: Listener, bank: Bank, lexicon: Lexicon, *, clip_s: float
) -> dict[str, float | int]:
    """Search among the held-out recordings of both parts by caption, and of captions by recording.

    A caption is right for a recording that it is true of, itself or as a parent; every other one is
    wrong, also one of the same family. Recordings are heard as they are, their first `clip_s`
    seconds. See `metrics.retrieval` for the numbers.
    """
    rows, own = [], []
    for part in PARTS:
        for caption, recordings in bank.recordings("foreground", part).items():
            rows += [variants[0] for variants in recordings]
            own += [caption] * len(recordings)
    captions = sorted(set(own))
    true_of = [{caption, *lexicon.parents[caption]} for caption in own]
    relevant = np.array([[caption in true for true in true_of] for caption in captions])

    n_samples = round(clip_s * bank.sample_rate)
    clip_emb = [
        model.embed_audio(torch.from_numpy(bank[row][None, :n_samples]), bank.sample_rate).clip_emb
        for row in rows
    ]
    found = metrics.retrieval(
        torch.cat(clip_emb).numpy(force=True),
        model.embed_captions(captions).caption_emb.numpy(force=True),
        relevant=relevant,
    )
    return found | {"n_clips": len(rows), "n_captions": len(captions)}


def caption_table(part: Part, hearings: Mapping[str, Hearing], lexicon: Lexicon) -> pd.DataFrame:
    """One row per caption of a part.

    part caption family   "|" between families, where a caption is true of several
    n_clips               in which it sounds and is known to
    active_share          of its known frames
    log_odds              of that share: what `logit_bias` should be on mixtures like these
    logit_bias            the prior log-odds that FLAM predicts from the text
    auroc_<model>         nan where all known frames are active, or none
    """
    share = part.active_share
    with np.errstate(divide="ignore"):
        log_odds = np.log(share) - np.log1p(-share)
    columns = {
        "part": part.name,
        "caption": part.captions,
        "family": ["|".join(sorted(lexicon.families(caption))) for caption in part.captions],
        "n_clips": (part.active.any(axis=2) & part.known).sum(axis=0),
        "active_share": share,
        "log_odds": log_odds,
        "logit_bias": hearings["flam"].logit_bias,
    }
    for name, heard in hearings.items():
        score = part.by_frame(heard.score)
        auroc = metrics.frame_auroc(score, part.active_by_frame, part.known_by_frame)
        columns[f"auroc_{name}"] = auroc["per_caption"]
    return pd.DataFrame(columns)


def defined(numbers: Any) -> Any:
    """The same, with None for nan: what is not defined here, in JSON."""
    if isinstance(numbers, dict):
        return {key: defined(value) for key, value in numbers.items()}
    return None if isinstance(numbers, float) and np.isnan(numbers) else numbers
