"""FLAM and what it is compared with, on held-out mixtures and recordings: the numbers.

The parts are `seen_captions` (recordings of packages that training never saw, of families it did)
and `unseen_captions` (families it never saw, in any wording); see `heldout` for what is asked and
what score and probability are. Numbers of a part, each a fraction in [0, 1]:

    auroc_macro, auroc_pooled   frames ranked by score, see `metrics.frame_auroc`
    map                         average precision of the frames, mean over captions
    f1_best                     frame-wise F1, mean over captions, at the one best threshold for all
                                of them, f1_best_threshold; chosen on the same clips, so it flatters
    psds1, psds2                with DCASE's settings, exact; scores of unknown pairs are -inf and
                                their events left out, while the clip's time still counts
    psds1_mean, psds2_mean      the same but for alpha_st 0: what differs between captions is not
                                punished, and a few that are never found do not make it zero
    ece, brier                  of the probability

`_low` and `_high` bound 95 % of what other draws of as many clips would give.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from flamlib import detection, heldout, metrics, recipes
from flamlib.bank import Bank
from flamlib.baselines import FLAMGlobal, LabelMatching, Listener
from flamlib.heldout import Hearing, Part
from flamlib.lexicon import Lexicon
from flamlib.model import FLAM
from flamlib.psds import area, psd_rocs

PARTS = ("seen_captions", "unseen_captions")
PSDS = {
    "psds1": dict(dtc_threshold=0.7, gtc_threshold=0.7, cttc_threshold=None, alpha_ct=0.0),
    "psds2": dict(dtc_threshold=0.1, gtc_threshold=0.1, cttc_threshold=0.3, alpha_ct=0.5),
}


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
    scores: str | Path,
    seed: int,
    n_clips: int,
    batch_size: int,
    label_temperature: float,
    median_frames: int,
    n_thresholds: int,
    n_bins: int,
    n_resamples: int,
    progress: bool = True,
) -> Evaluation:
    """Everything: the first `n_clips` mixtures of each part, all held-out recordings.

    Reads a bank, the folder of mixtures with one Parquet table per part, a corpus's table of
    captions, the pretrained towers and two checkpoints; writes the folder `scores`.
    """
    bank, lexicon = Bank.open(bank), Lexicon.read(captions)
    models: dict[str, Listener] = {
        "flam": FLAM.from_pretrained(flam),
        "flam_global": FLAMGlobal(FLAM.from_pretrained(flam_global)),
        "label_matching": LabelMatching.pretrained(weights, temperature=label_temperature),
    }
    parts = {}
    for name in ("valid", *PARTS):
        drawn = recipes.read(Path(mixtures) / f"{name}.parquet")[:n_clips]
        parts[name] = Part.of(name, drawn, bank, lexicon, frame_s=models["flam"].frame_s)
    hearings = listen(models, parts, bank, batch_size=batch_size, progress=progress)
    del parts["valid"]
    heldout.write_scores(scores, parts, hearings)

    numbers = {name: {} for name in (*models, "difference")}
    for name, part in parts.items():
        heard = hearings[name]
        intervals = bounded(part, heard, n_resamples=n_resamples, seed=seed)
        for model in numbers:
            numbers[model][name] = intervals[model]
        for model in models:
            numbers[model][name] |= judge(
                part,
                heard[model],
                median_frames=median_frames,
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
    return Evaluation(parts, hearings, table, _defined(numbers))


def listen(
    models: Mapping[str, Listener],
    parts: Mapping[str, Part],
    bank: Bank,
    *,
    batch_size: int,
    progress: bool,
) -> dict[str, dict[str, Hearing]]:
    """Every part but "valid", heard by every model; baselines are calibrated on "valid"."""
    hearings: dict[str, dict[str, Hearing]] = {name: {} for name in parts if name != "valid"}
    hear = partial(heldout.hear, bank=bank, batch_size=batch_size, progress=progress)
    for model, listener in models.items():
        reference = None if isinstance(listener, FLAM) else hear(listener, parts["valid"])
        for name, heard in hearings.items():
            heard[model] = hear(listener, parts[name])
            if reference is not None:
                heard[model] = heldout.calibrated(heard[model], reference, parts["valid"])
    return hearings


def judge(
    part: Part, hearing: Hearing, *, median_frames: int, n_thresholds: int, n_bins: int
) -> dict[str, float | int]:
    """The numbers of one model on one part but for the intervals, see the module's docstring."""
    score, active, known = part.by_frame(hearing.score), part.active_by_frame, part.known_by_frame
    prob = part.by_frame(hearing.prob)[known]
    auroc = metrics.frame_auroc(score, active, known)
    curve = f1(part, hearing, n_thresholds=n_thresholds)
    return {
        "auroc_macro": auroc["macro"],
        "auroc_pooled": auroc["pooled"],
        "map": metrics.average_precision(score, active, known)["macro"],
        "f1_best": float(curve["f1_macro"].max()),
        "f1_best_threshold": curve["best_macro"],
        **polyphonic(part, hearing, median_frames=median_frames),
        "ece": metrics.expected_calibration_error(prob, active[known], n_bins),
        "brier": metrics.brier(prob, active[known]),
        "n_clips": len(part.mixtures),
        "n_captions": len(part.captions),
        "n_skipped": auroc["n_skipped"],
        "n_unknown": int((~part.known).sum()),
    }


def f1(part: Part, hearing: Hearing, *, n_thresholds: int) -> dict:
    """`metrics.f1_over_thresholds` of the score.

    The thresholds are `n_thresholds` evenly between 0 and 1, and as many that a share of 1e-4 to 1
    of the frames exceeds: so that a model whose scores hardly differ is judged at its best, too.
    """
    score, known = part.by_frame(hearing.score), part.known_by_frame
    even = np.linspace(0, 1, n_thresholds + 2)[1:-1]
    exceeded = np.quantile(score[known], 1 - np.geomspace(1e-4, 1, n_thresholds))
    thresholds = np.unique(np.concatenate([even, exceeded]))
    return metrics.f1_over_thresholds(score, part.active_by_frame, thresholds, known)


def reliability(part: Part, hearing: Hearing, *, n_bins: int) -> dict[str, np.ndarray]:
    """`metrics.reliability` of the probability, over all known frames."""
    prob, known = part.by_frame(hearing.prob), part.known_by_frame
    return metrics.reliability(prob[known], part.active_by_frame[known], n_bins)


def polyphonic(part: Part, hearing: Hearing, *, median_frames: int) -> dict[str, float]:
    """psds1, psds2 and their means over captions, of the smoothed scores."""
    smooth = detection.median_filter(hearing.score, median_frames)
    smooth = np.where(part.known[:, :, None], smooth, -np.inf).transpose(0, 2, 1)
    column = {caption: j for j, caption in enumerate(part.captions)}
    truth = {
        clip: [event for event in events if known[column[event.caption]]]
        for clip, events, known in zip(part.clips, part.events, part.known, strict=True)
    }
    scores = dict(zip(part.clips, smooth, strict=True))
    durations = dict.fromkeys(part.clips, part.clip_s)
    found = {}
    for name, settings in PSDS.items():
        rocs = psd_rocs(scores, part.frame_edges, part.captions, truth, durations, **settings)
        found[name] = area(rocs, alpha_st=1.0, max_efpr=100.0)
        found[f"{name}_mean"] = area(rocs, alpha_st=0.0, max_efpr=100.0)
    return found


def bounded(
    part: Part, hearings: Mapping[str, Hearing], *, n_resamples: int, seed: int
) -> dict[str, dict[str, float]]:
    """The intervals of each model's AUROC; and of "difference", flam - flam_global, itself too.

    All models are judged on the same draws of clips.
    """
    draws = dict(n_clips=len(part.mixtures), n_resamples=n_resamples, seed=seed)
    found: dict[str, dict[str, float]] = {name: {} for name in (*hearings, "difference")}
    for kind in ("macro", "pooled"):
        statistics = {
            name: _remembering(
                metrics.clip_auroc(
                    part.by_frame(heard.score),
                    part.active_by_frame,
                    part.clip_by_frame,
                    part.known_by_frame,
                    pooled=kind == "pooled",
                )
            )
            for name, heard in hearings.items()
        }
        key = f"auroc_{kind}"
        for name, statistic in statistics.items():
            low, high = metrics.bootstrap(statistic, **draws)
            found[name] |= {f"{key}_low": low, f"{key}_high": high}
        flam, other = statistics["flam"], statistics["flam_global"]
        once = np.ones(len(part.mixtures), int)
        low, high = metrics.paired_bootstrap(flam, other, **draws)
        found["difference"] |= {
            key: flam(once) - other(once),
            f"{key}_low": low,
            f"{key}_high": high,
        }
    return found


def _defined(numbers):
    """The same, with None for nan: what is not defined here, in JSON."""
    if isinstance(numbers, dict):
        return {key: _defined(value) for key, value in numbers.items()}
    return None if isinstance(numbers, float) and np.isnan(numbers) else numbers


def _remembering(statistic: metrics.ClipStatistic) -> metrics.ClipStatistic:
    """The same statistic, at no cost for a draw of clips that it has seen."""
    values: dict[bytes, float] = {}

    def remembered(times_drawn):
        key = times_drawn.tobytes()
        if key not in values:
            values[key] = statistic(times_drawn)
        return values[key]

    return remembered


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
