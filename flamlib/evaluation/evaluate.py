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

from flamlib.data.mixtures import recipes
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.evaluation import split_metrics, splits
from flamlib.evaluation.split_metrics import Heard
from flamlib.evaluation.splits import Hearing, Part
from flamlib.metrics import metrics, outcomes
from flamlib.metrics.outcomes import Outcome
from flamlib.metrics.sed import Criteria
from flamlib.models.baselines import FLAMGlobal, LabelMatching
from flamlib.models.flam import FLAM
from flamlib.models.interface import AudioTextModel
from flamlib.models.mga_clap import MGACLAP

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
    frame_s = models["flam"].frame_s
    parts = read_parts(mixtures, bank, lexicon, n_clips=n_clips, frame_s=frame_s)
    hearings = listen(models, parts, bank, batch_size=batch_size, progress=progress)
    splits.write_scores(scores, parts, hearings)

    numbers = compare(
        models,
        {model: {name: (parts[name], hearings[name][model]) for name in parts} for model in models},
        bank,
        lexicon,
        criteria=Criteria(segment_s, max_fpr, collar_s, collar_rate, median_frames),
        n_thresholds=n_thresholds,
        n_bins=n_bins,
        n_resamples=n_resamples,
        seed=seed,
    )
    del parts["valid"], hearings["valid"]
    table = pd.concat(
        [caption_table(part, hearings[name], lexicon) for name, part in parts.items()],
        ignore_index=True,
    )
    return Evaluation(parts, hearings, table, defined(numbers))


def join(
    supplied: Mapping[str, AudioTextModel],
    flam: FLAM,
    bank: Bank,
    lexicon: Lexicon,
    mixtures: str | Path,
    *,
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
    progress: bool = False,
) -> dict[str, dict]:
    """`evaluate` for more models, in its form: what they hear of the same mixtures and recordings,
    beside FLAM, which they are tested against.

    Each is heard in frames of its own length, and judged in those: numbers of frames (AUROC, mAP,
    F1) ask a somewhat other question where frames are shorter or longer; those in seconds (PSDS,
    segments, events) do not. Empty if no model is supplied.
    """
    if not supplied:
        return {}
    models = {"flam": flam, **supplied}
    heard = {}
    for name, model in models.items():
        parts = read_parts(mixtures, bank, lexicon, n_clips=n_clips, frame_s=model.frame_s)
        of = hear(model, parts, bank, batch_size=batch_size, progress=progress)
        heard[name] = {part: (parts[part], of[part]) for part in parts}
    numbers = compare(
        models,
        heard,
        bank,
        lexicon,
        criteria=Criteria(segment_s, max_fpr, collar_s, collar_rate, median_frames),
        n_thresholds=n_thresholds,
        n_bins=n_bins,
        n_resamples=n_resamples,
        seed=seed,
    )
    return defined(numbers)


def read_parts(
    mixtures: str | Path, bank: Bank, lexicon: Lexicon, *, n_clips: int, frame_s: float
) -> dict[str, Part]:
    """The first `n_clips` mixtures for validation and of each of `PARTS`, labelled by the frame."""
    parts = {}
    for name in ("valid", *PARTS):
        drawn = recipes.read(Path(mixtures) / f"{name}.parquet")[:n_clips]
        parts[name] = Part.of(name, drawn, bank, lexicon, frame_s=frame_s)
    return parts


def compare(
    models: Mapping[str, AudioTextModel],
    heard: Mapping[str, Mapping[str, tuple[Part, Hearing]]],
    bank: Bank,
    lexicon: Lexicon,
    *,
    criteria: Criteria,
    n_thresholds: int,
    n_bins: int,
    n_resamples: int,
    seed: int,
) -> dict[str, dict]:
    """What was heard, `heard[model][part]`, in numbers with intervals: by model, then by part and
    "retrieval"; and under "difference" the paired tests of "flam" against each other model.

    The part "valid" is not judged: it chooses each model's threshold.
    """
    threshold = {
        model: split_metrics.f1(*of["valid"], n_thresholds=n_thresholds)["best_macro"]
        for model, of in heard.items()
    }
    basis = {"criteria": criteria, "n_thresholds": n_thresholds, "n_bins": n_bins}
    draws = {"n_resamples": n_resamples, "seed": seed}
    numbers: dict[str, dict] = {name: {} for name in (*heard, "difference")}
    for name in PARTS:
        of_part = {model: Heard(*of[name], threshold[model]) for model, of in heard.items()}
        bounds = split_metrics.bounded(of_part, **basis, **draws)
        for model in numbers:
            numbers[model][name] = bounds[model]
        for model, of in of_part.items():
            numbers[model][name] |= split_metrics.judge(
                of.part, of.hearing, threshold=of.threshold, **basis
            )
    clip_s = next(iter(heard.values()))[PARTS[0]][0].clip_s
    found = {name: retrieval(model, bank, lexicon, clip_s=clip_s) for name, model in models.items()}
    for model, of_model in outcomes.compare(found, against="flam", **draws).items():
        numbers[model]["retrieval"] = of_model
    return numbers


def listeners(
    *, flam: str | Path, flam_global: str | Path, mga_clap: str | Path, weights: str | Path
) -> dict[str, AudioTextModel]:
    """Every model that is evaluated, by name, from its checkpoint or from the pretrained towers."""
    return {
        "flam": FLAM.from_pretrained(flam),
        "flam_global": FLAMGlobal(FLAM.from_pretrained(flam_global)),
        "mga_clap": MGACLAP.from_pretrained(mga_clap),
        "label_matching": LabelMatching.pretrained(weights),
    }


def listen(
    models: Mapping[str, AudioTextModel],
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
    model: AudioTextModel, parts: Mapping[str, Part], bank: Bank, *, batch_size: int, progress: bool
) -> dict[str, Hearing]:
    """Every part heard by one model; one that is no FLAM is calibrated on the part "valid"."""
    heard = {
        name: splits.hear(model, part, bank, batch_size=batch_size, progress=progress)
        for name, part in parts.items()
    }
    if isinstance(model, FLAM):
        return heard
    reference, valid = heard["valid"], parts["valid"]
    return {name: splits.calibrated(of, reference, valid) for name, of in heard.items()}


def retrieval(model: AudioTextModel, bank: Bank, lexicon: Lexicon, *, clip_s: float) -> Outcome:
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
    return outcomes.searched(
        torch.cat(clip_emb).numpy(force=True),
        model.embed_captions(captions).caption_emb.numpy(force=True),
        relevant=relevant,
    )


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
