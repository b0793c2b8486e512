"""Measure what FLAM is to be trusted with, on recordings and captions that it was not trained on.

    python -m flamlib.evaluation.trust

trains FLAM in each fold of the training recordings (`flamlib.data.mixtures.folds`) with the budget
of the ablation study, as `cross_validate` does, and prints values for `train.trust_known` and
`train.trust_novel`: those weights of the halves of the cosine, and that shift of the logit, that
cost the fewest nats on the fold's packages, for captions of the fold's families and for those that
the fold trains on. How frequent a caption is there is given: it is no part of what is fitted.

With these it prints a value for `evaluate.novel_threshold`, that of the highest F1 of captions of
the fold's families: validation has only a few captions that are not trained on.

A fold asks for a few frequent captions, where the whole experiment asks for many rare ones. The
rarer a caption, the higher its best threshold: so F1 is that of captions as frequent as the whole
experiment's FLAM takes a novel one to be. And the shift is not the same: that of known captions is
fitted once more, on the whole experiment's validation mixtures. The parts that the README reports
are not touched.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from torch import Tensor

from flamlib import paths
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.evaluation import ablation, cross_validate
from flamlib.evaluation import evaluate as evaluation
from flamlib.evaluation.splits import EvalSplit
from flamlib.experiment.config import Config, load_config
from flamlib.metrics import sed
from flamlib.metrics.f1 import f1_of_passed, passed_thresholds
from flamlib.models.flam import FLAM
from flamlib.paths import Places
from flamlib.sound_events.smoothing import Smoothing
from flamlib.training.feature_extraction import StoredFeatures

VALID = "valid"
PARTS = {"known": "seen_captions", "novel": "unseen_captions"}


class Evidence(NamedTuple):
    """What a model's logits of a split are made of: logit = weights @ halves + shift + bias.

    Attributes:
        halves: what the learned half of the cosine says, and the classes, see `familiarity`.
        bias: log-odds of each caption's share of active frames in the split; at least half a frame.
        active, known: the ground truth.
    """

    halves: Float[np.ndarray, "half clip caption frame"]
    bias: Float[np.ndarray, "caption"]
    active: Bool[np.ndarray, "clip caption frame"]
    known: Bool[np.ndarray, "clip caption"]


def fit(folds: Sequence[Evidence]) -> Float[np.ndarray, "weight"]:
    """Return the weights of the two halves and the shift that cost the fewest nats.

    Each fold counts the same, however many captions it has.

    Args:
        folds: at least one.
    """
    terms = [
        (
            torch.from_numpy(of.halves[:, of.known].astype(np.float32)),
            torch.from_numpy(np.nonzero(of.known)[1]),
            torch.from_numpy(of.bias.astype(np.float32)),
            torch.from_numpy(of.active[of.known]).float(),
        )
        for of in folds
    ]
    found = torch.tensor([1.0, 1.0, 0.0], requires_grad=True)
    optimizer = torch.optim.LBFGS([found], max_iter=100, line_search_fn="strong_wolfe")

    def nats() -> Tensor:
        optimizer.zero_grad()
        losses = [
            F.binary_cross_entropy_with_logits(
                torch.tensordot(found[:2], halves, 1) + (bias + found[2])[caption, None], active
            )
            for halves, caption, bias, active in terms
        ]
        loss = torch.stack(losses).mean()
        loss.backward()
        return loss

    optimizer.step(nats)
    return found.detach().double().numpy()


def fit_shift(of: Evidence, weights: Sequence[float]) -> float:
    """Return the shift that costs the fewest nats with these weights of the two halves."""
    logits = np.tensordot(weights, of.halves, 1) + of.bias[:, None]
    logits, active = logits[of.known], of.active[of.known]

    def nats(shift: float) -> float:
        return float((np.logaddexp(0, logits + shift) - active * (logits + shift)).mean())

    return float(minimize_scalar(nats, bounds=(-10, 10), method="bounded").x)


def best_threshold(
    folds: Sequence[Evidence],
    trust: Sequence[float],
    smoothing: Smoothing,
    *,
    share: float,
    n_thresholds: int,
) -> float:
    """Return the threshold of unbiased scores of the highest F1, mean over captions, then folds.

    Args:
        folds: at least one.
        trust: weights of the two halves and shift.
        smoothing: of the scores.
        share: of frames in which each caption is to be active: its inactive frames count as so many
            that it is that.
        n_thresholds: how many candidates, see `sed.candidate_thresholds`.
    """
    tables = []
    for of in folds:
        scores = smoothing(expit(np.tensordot(trust[:2], of.halves, 1) + trust[2]))
        n_captions, n_frames = scores.shape[1:]
        known = np.repeat(of.known, n_frames, axis=0)
        tables.append(
            [np.moveaxis(each, 1, 2).reshape(-1, n_captions) for each in (scores, of.active)]
            + [known]
        )
    scores = np.concatenate([scores[known] for scores, _, known in tables])
    candidates = sed.candidate_thresholds(scores, n_thresholds)
    curves = []
    for scores, active, known in tables:
        passed = passed_thresholds(scores, active, candidates, known)
        n_active, n_inactive = passed[:, :, 0].T
        weights = n_active * (1 - share) / share / n_inactive.clip(min=1)
        passed = passed * np.stack([np.ones_like(weights), weights], axis=1)[:, :, None]
        curves.append(f1_of_passed(passed, candidates)["f1_macro"])
    return float(candidates[np.argmax(np.mean(curves, axis=0))])


def evidence(
    model: FLAM, splits: Mapping[str, EvalSplit], bank: Bank, stored: StoredFeatures | None
) -> dict[str, Evidence]:
    """Return what the logits of splits are made of.

    Args:
        model: one that knows on which captions it was trained; its trust is lost.
        splits: by name.
        bank: the recordings.
        stored: what its trunk made of the mixtures; None: it gets audio.
    """
    halves = []
    for only in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)):
        model.familiarity.trust.copy_(torch.tensor([only, only]))
        how = {"batch_size": 32, "progress": False, "stored": stored}
        found = evaluation.predict(model, splits, bank, **how)
        halves.append({name: of.logits - of.logit_bias[:, None] for name, of in found.items()})
    found = {}
    for name, of in splits.items():
        # Some captions of the validation mixtures are novel; they say nothing of known ones.
        counts = (model.known(of.captions).numpy() == 1) | (name == PARTS["novel"])
        found[name] = Evidence(
            np.stack([half[name] for half in halves]),
            own_log_odds(of),
            of.active,
            of.known & counts,
        )
    return found


def own_log_odds(split: EvalSplit) -> Float[np.ndarray, "caption"]:
    """Return the log-odds of each caption's share of active frames, at least half a frame's."""
    least = 0.5 / (split.known.sum(axis=0) * split.active.shape[2]).clip(min=1)
    return logit(np.clip(np.nan_to_num(split.active_share()), least, 1 - least))


def judge(
    at: Places, mixtures: Path, folder: Path, names: Iterable[str], config: Config
) -> dict[str, Evidence]:
    """Return the evidence of a saved model on splits of an experiment, by name.

    Args:
        at: places of the experiment.
        mixtures: folder of its mixtures.
        folder: the model.
        names: of the splits.
        config: the parameters.
    """
    model = FLAM.from_pretrained(folder)
    bank, lexicon = Bank.open(at.path(paths.BANK)), Lexicon.read(at.path(paths.CAPTIONS))
    sizes = {"n_clips": config.evaluate.n_clips, "frame_s": model.frame_s}
    splits = evaluation.read_splits(mixtures, bank, lexicon, **sizes)
    stored = StoredFeatures.of(
        at.path(paths.FEATURES), at.path(paths.BANK), at.path(paths.MIXTURES)
    )
    return evidence(model, {name: splits[name] for name in names}, bank, stored)


def main() -> int:
    """Train in each fold, and print the trust of all folds and of each alone."""
    places, config = paths.places(small=False), load_config()
    whole = places.existing(paths.CHECKPOINTS) / "flam"
    if (familiarity := FLAM.from_pretrained(whole).familiarity) is None:
        raise ValueError(f"{whole} does not know on which captions it was trained: trust is null")
    share = float(familiarity.prior.sigmoid())
    aware = {f"train.trust_{kind}": [1, 1, 0] for kind in PARTS}
    base = config.override(dict(config.ablate.budget) | aware)
    folds: dict[str, list[Evidence]] = {kind: [] for kind in PARTS}
    for fold in range(cross_validate.N_FOLDS):
        at, mixtures = cross_validate.prepare_fold(places, base, base, fold=fold)
        with ablation.trained(at, at.path("artifacts/trust"), mixtures, "flam", base) as folder:
            found = judge(at, mixtures, folder, PARTS.values(), base)
        for kind, part in PARTS.items():
            folds[kind].append(found[part])
    for kind, of_kind in folds.items():
        each = [fit([of_fold]).round(2).tolist() for of_fold in of_kind]
        print(f"trust_{kind}: {fit(of_kind).round(2).tolist()}  # folds {each}")
    how = {"share": share, "n_thresholds": config.evaluate.n_thresholds}
    of = fit(folds["novel"]), config.evaluate.smoothing
    each = [round(best_threshold([fold], *of, **how), 2) for fold in folds["novel"]]
    print(f"novel_threshold: {best_threshold(folds['novel'], *of, **how):.2f}  # folds {each}")
    *weights, _ = fit(folds["known"])
    found = judge(places, places.path(paths.MIXTURES), whole, [VALID], config)
    print(f"shift of known captions in validation: {fit_shift(found[VALID], weights):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
