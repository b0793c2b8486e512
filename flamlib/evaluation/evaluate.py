"""FLAM and the models it is compared with, on held-out mixtures and recordings.

The test splits are `seen_captions` (recordings from packages that are not in the training data, of
caption families that are) and `unseen_captions` (of families that are not, in any wording). Each is
there once more with speech or music over every mixture, `seen_under_maskers` and
`unseen_under_maskers`, if the corpus has such recordings. See `splits` for queries, scores and
probabilities.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from flamlib.data.mixtures import recipes
from flamlib.data.mixtures.backgrounds import MASKED
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.evaluation import masking, split_metrics
from flamlib.evaluation.splits import (
    EvalSplit,
    SplitLogits,
    platt_scale,
    predict_logits,
    write_scores,
)
from flamlib.experiment.params.trials import EvaluationConfig
from flamlib.metrics import outcomes, spans
from flamlib.metrics.outcomes import Outcome
from flamlib.metrics.ranking import caption_auroc
from flamlib.models.baselines import FLAMGlobal, LabelMatching
from flamlib.models.flam import FLAM
from flamlib.models.interface import AudioTextModel, HasTrunk
from flamlib.models.mga_clap import MGACLAP
from flamlib.training.feature_extraction import StoredFeatures

TEST_SPLITS = ("seen_captions", "unseen_captions")
PARTS = (*TEST_SPLITS, *MASKED)  # the same mixtures once more, under speech and music


class Evaluation(NamedTuple):
    """The result of `evaluate`.

    Attributes:
        splits: the parts, by name: the test splits first.
        logits: of each part, by model.
        captions: see `caption_table`, of the test splits.
        metrics: see `compare`, with None for what is not defined.
    """

    splits: dict[str, EvalSplit]
    logits: dict[str, dict[str, SplitLogits]]
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
    config: EvaluationConfig,
    features: str | Path | None = None,
    progress: bool = True,
) -> Evaluation:
    """Evaluate FLAM and its baselines on the test splits and the held-out recordings.

    Args:
        bank: folder of the recordings.
        mixtures: folder with a table of mixtures for each split.
        captions: the corpus's table of captions.
        weights: folder of the pretrained towers.
        flam: folder of the trained model, as the next two.
        flam_global: the same trained on whole clips.
        mga_clap: the baseline of that name.
        scores: folder to write, see `splits.write_scores`.
        seed: of the bootstrap.
        config: how models are evaluated.
        features: folder of what a frozen trunk made of the mixtures; None: each model gets audio.
        progress: show progress bars.
    """
    stored = None if features is None else StoredFeatures.of(features, bank, mixtures)
    bank, lexicon = Bank.open(bank), Lexicon.read(captions)
    models = load_models(flam=flam, flam_global=flam_global, mga_clap=mga_clap, weights=weights)
    frame_s = models["flam"].frame_s
    splits = read_splits(mixtures, bank, lexicon, n_clips=config.n_clips, frame_s=frame_s)
    how = {"batch_size": config.batch_size, "progress": progress, "stored": stored}
    logits = {model: predict(network, splits, bank, **how) for model, network in models.items()}
    by_split = {
        name: {model: of_model[name] for model, of_model in logits.items()} for name in splits
    }
    write_scores(scores, splits, by_split)
    metrics = compare(models, logits, bank, lexicon, config=config, seed=seed, progress=progress)
    del splits["valid"], by_split["valid"]
    table = pd.concat(
        [caption_table(by_split[name], lexicon, config=config) for name in TEST_SPLITS],
        ignore_index=True,
    )
    return Evaluation(splits, by_split, table, nan_to_none(metrics))


def evaluate_external(
    external: Mapping[str, AudioTextModel],
    flam: FLAM,
    bank: Bank,
    lexicon: Lexicon,
    mixtures: str | Path,
    *,
    seed: int,
    config: EvaluationConfig,
    progress: bool = False,
) -> dict[str, dict]:
    """Evaluate models of the user's own like `evaluate`, and test FLAM against them.

    Each model has frames of its own length and is evaluated in those. So metrics of frames (AUROC,
    mAP, F1) are not quite comparable between models of longer and shorter frames; metrics in
    seconds (PSDS, segments, events) are.

    Args:
        external: models by name.
        flam: evaluated as well.
        bank: the recordings.
        lexicon: which captions imply or exclude each other.
        mixtures: folder with a table of mixtures for each split.
        seed: of the bootstrap.
        config: how models are evaluated.
        progress: show progress bars.

    Returns:
        See `compare`; empty if there are no models.
    """
    if not external:
        return {}
    models = {"flam": flam, **external}
    logits = {}
    for name, model in models.items():
        splits = read_splits(mixtures, bank, lexicon, n_clips=config.n_clips, frame_s=model.frame_s)
        logits[name] = predict(model, splits, bank, batch_size=config.batch_size, progress=progress)
    return nan_to_none(
        compare(models, logits, bank, lexicon, config=config, seed=seed, progress=progress)
    )


def read_splits(
    mixtures: str | Path, bank: Bank, lexicon: Lexicon, *, n_clips: int, frame_s: float
) -> dict[str, EvalSplit]:
    """Read the first mixtures of "valid" and of each of `PARTS`, labelled by the frame.

    Of those under maskers, none if the folder has none.

    Args:
        mixtures: folder with a table of mixtures for each split.
        bank: the recordings.
        lexicon: which captions imply or exclude each other.
        n_clips: how many of each split, at most.
        frame_s: seconds of a frame of the model to be evaluated.
    """
    splits = {}
    for name in ("valid", *PARTS):
        path = Path(mixtures) / f"{name}.parquet"
        if name in MASKED and not path.exists():
            continue
        selected = recipes.read(path)[:n_clips]
        splits[name] = EvalSplit.from_mixtures(name, selected, bank, lexicon, frame_s=frame_s)
    return splits


def compare(
    models: Mapping[str, AudioTextModel],
    logits: Mapping[str, Mapping[str, SplitLogits]],
    bank: Bank,
    lexicon: Lexicon,
    *,
    config: EvaluationConfig,
    seed: int,
    progress: bool = False,
) -> dict[str, dict]:
    """Compute all metrics of all models, with intervals and paired tests.

    The split "valid" is not evaluated: on it, the threshold of each model's F1 is chosen, see
    `split_metrics.choose_threshold`, and the priors that models are compared with.

    Args:
        models: by name, "flam" among them.
        logits: `logits[model][split]`.
        bank: the recordings.
        lexicon: which captions imply or exclude each other.
        config: how models are evaluated.
        seed: of the bootstrap.
        progress: show progress bars.

    Returns:
        Metrics by model, then by part and "retrieval", and of parts under maskers what they cost,
        see `masking.auroc_loss`; and under "difference" the paired tests of "flam" against each
        other model.
    """
    trained_on = bank.recordings("foreground", "train")
    valid = {model: of["valid"].split for model, of in logits.items()}
    metrics: dict[str, dict] = {name: {} for name in (*logits, "difference")}
    parts = [name for name in next(iter(logits.values())) if name != "valid"]
    for name in parts:
        of_split = {model: of[name] for model, of in logits.items()}
        thresholds = {
            model: split_metrics.choose_threshold(
                of["valid"],
                name,
                trained_on,
                config=config,
                knows_captions=knows_captions(models[model]),
            )
            for model, of in logits.items()
        }
        bounds = split_metrics.confidence_intervals(
            of_split, valid, thresholds, config=config, seed=seed, progress=progress
        )
        for model in metrics:
            metrics[model][name] = bounds[model]
        for model, of_model in of_split.items():
            metrics[model][name] |= split_metrics.compute(
                of_model, valid[model], threshold=thresholds[model], config=config
            )
            if name in MASKED:
                plain, draws = logits[model][MASKED[name]], config.n_resamples
                found = masking.auroc_loss(plain, of_model, n_resamples=draws, seed=seed)
                metrics[model][name] |= found
    clip_s = next(iter(logits.values()))[TEST_SPLITS[0]].split.clip_s
    retrieved = {
        name: retrieval(model, bank, lexicon, clip_s=clip_s) for name, model in models.items()
    }
    draws = {"n_resamples": config.n_resamples, "seed": seed}
    for model, of_model in outcomes.compare(retrieved, against="flam", **draws).items():
        metrics[model]["retrieval"] = of_model
    return metrics


def load_models(
    *, flam: str | Path, flam_global: str | Path, mga_clap: str | Path, weights: str | Path
) -> dict[str, AudioTextModel]:
    """Load all models that are evaluated, by name.

    Label matching has frames of 0.32 s. Where FLAM's are others, as HTS-AT's are, the two cannot
    share labels, and it is left out, which is said.

    Args:
        flam: folder of the trained model, as the next two.
        flam_global: the same trained on whole clips.
        mga_clap: the baseline of that name.
        weights: folder of the pretrained towers, for `label_matching`.
    """
    models = {
        "flam": FLAM.from_pretrained(flam),
        "flam_global": FLAMGlobal(FLAM.from_pretrained(flam_global)),
        "mga_clap": MGACLAP.from_pretrained(mga_clap),
    }
    matching, frame_s = LabelMatching.pretrained(weights), models["flam"].frame_s
    if math.isclose(matching.frame_s, frame_s):
        return models | {"label_matching": matching}
    print(
        f"label_matching is left out: its frames are of {matching.frame_s} s, FLAM's of {frame_s}"
    )
    return models


def knows_captions(model: AudioTextModel) -> bool:
    """Return whether a model tells captions that it was trained on from others."""
    return isinstance(model, FLAM) and model.familiarity is not None


def predict(
    model: AudioTextModel,
    splits: Mapping[str, EvalSplit],
    bank: Bank,
    *,
    batch_size: int,
    progress: bool,
    stored: StoredFeatures | None = None,
) -> dict[str, SplitLogits]:
    """Compute a model's logits of all splits; if it is no FLAM, calibrate them on "valid".

    Args:
        model: the model.
        splits: by name, "valid" among them.
        bank: the recordings.
        batch_size: clips rendered and embedded at once.
        progress: show a progress bar for each split.
        stored: what trunks made of the mixtures; a model with one of them goes on from there.
    """
    trunk = model.trunk_id() if stored is not None and isinstance(model, HasTrunk) else None
    how = {"batch_size": batch_size, "progress": progress}
    logits = {
        name: predict_logits(
            model, split, bank, **how, features=trunk and stored.of_split(trunk, name)
        )
        for name, split in splits.items()
    }
    if isinstance(model, FLAM):
        return logits
    return {name: platt_scale(of_split, logits["valid"]) for name, of_split in logits.items()}


def retrieval(model: AudioTextModel, bank: Bank, lexicon: Lexicon, *, clip_s: float) -> Outcome:
    """Retrieve held-out recordings of both test splits by caption, and captions by recording.

    A caption is right for a recording if it is its own or implied by it; every other one is wrong,
    also one of the same family. See `metrics.retrieval`.

    Args:
        model: any that embeds audio and captions.
        bank: the recordings.
        lexicon: which captions imply others.
        clip_s: how much of a recording is embedded, its first seconds.
    """
    rows, own = [], []
    for split in TEST_SPLITS:
        for caption, recordings in bank.recordings("foreground", split).items():
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
    return outcomes.retrieval_outcome(
        torch.cat(clip_emb).numpy(force=True),
        model.embed_captions(captions).caption_emb.numpy(force=True),
        relevant=relevant,
    )


def caption_table(
    logits: Mapping[str, SplitLogits], lexicon: Lexicon, *, config: EvaluationConfig
) -> pd.DataFrame:
    """Return a table with one row per caption of a split; `logits` are by model.

    part caption family   part is the split; "|" between families, where a caption has several
    n_clips               in which it is active and known
    active_share          of its known frames
    log_odds              of that share: what `logit_bias` should be on mixtures like these
    logit_bias            the prior log-odds that FLAM predicts from the text
    auroc_<model>         nan where all known frames are active, or none
    recall_<model>        of its events at one false span a minute, see `spans.recall_of_each`
    """
    split = logits["flam"].split
    share = split.active_share()
    with np.errstate(divide="ignore"):
        log_odds = np.log(share) - np.log1p(-share)
    columns = {
        "part": split.name,
        "caption": split.captions,
        "family": ["|".join(sorted(lexicon.families(caption))) for caption in split.captions],
        "n_clips": (split.active.any(axis=2) & split.known).sum(axis=0),
        "active_share": share,
        "log_odds": log_odds,
        "logit_bias": logits["flam"].logit_bias,
    }
    for name, of_model in logits.items():
        frames = of_model.score_table()
        columns[f"auroc_{name}"] = caption_auroc(frames.scores, frames.active, frames.known)
        changes = split_metrics.span_changes(of_model, config)
        columns[f"recall_{name}"] = spans.recall_of_each(changes, len(split.captions), 1)
    return pd.DataFrame(columns)


def nan_to_none(metrics: Any) -> Any:
    """Return the same with None, which JSON has, for nan: what is not defined."""
    if isinstance(metrics, dict):
        return {key: nan_to_none(value) for key, value in metrics.items()}
    return None if isinstance(metrics, float) and np.isnan(metrics) else metrics
