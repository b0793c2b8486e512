"""Measure what FLAM is to be trusted with, on recordings and captions that it was not trained on.

    python -m flamlib.evaluation.trust

trains FLAM in each fold of the training recordings (`flamlib.data.mixtures.folds`) with the budget
of the ablation study, as `cross_validate` does, and prints values for `train.trust_known` and
`train.trust_novel`: those weights of the halves of the cosine, and that shift of the logit, that
cost the fewest nats on the fold's packages, for captions of the fold's families and for those that
the fold trains on. How frequent a caption is there is given: it is no part of what is fitted. The
parts that the README reports are not touched.
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from scipy.special import logit
from torch import Tensor

from flamlib import paths
from flamlib.config import load_config
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.evaluation import ablation, cross_validate
from flamlib.evaluation import evaluate as evaluation
from flamlib.evaluation.splits import EvalSplit
from flamlib.models.flam import FLAM
from flamlib.training.hear import Stored

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


def evidence(
    model: FLAM, splits: dict[str, EvalSplit], bank: Bank, stored: Stored | None
) -> dict[str, Evidence]:
    """Return what the logits of the test splits are made of: of known and of novel captions.

    Args:
        model: one that knows on which captions it was trained; its trust is lost.
        splits: by name.
        bank: the recordings.
        stored: what its trunk made of the mixtures; None: it hears them.
    """
    halves, needed = [], {name: splits[name] for name in PARTS.values()}
    for only in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)):
        model.familiarity.trust.copy_(torch.tensor([only, only]))
        how = {"batch_size": 32, "progress": False, "stored": stored}
        found = evaluation.predict(model, needed, bank, **how)
        halves.append({part: of.logits - of.logit_bias[:, None] for part, of in found.items()})
    return {
        kind: Evidence(
            np.stack([half[part] for half in halves]),
            own_log_odds(splits[part]),
            splits[part].active,
            splits[part].known,
        )
        for kind, part in PARTS.items()
    }


def own_log_odds(split: EvalSplit) -> Float[np.ndarray, "caption"]:
    """Return the log-odds of each caption's share of active frames, at least half a frame's."""
    least = 0.5 / (split.known.sum(axis=0) * split.active.shape[2]).clip(min=1)
    return logit(np.clip(np.nan_to_num(split.active_share()), least, 1 - least))


def main() -> int:
    """Train in each fold, and print the trust of all folds and of each alone."""
    places, config = paths.places(small=False), load_config()
    aware = {f"train.trust_{kind}": [1, 1, 0] for kind in PARTS}
    base = config.override(dict(config.ablate.budget) | aware)
    folds: dict[str, list[Evidence]] = {kind: [] for kind in PARTS}
    for fold in range(cross_validate.N_FOLDS):
        at, mixtures = cross_validate.prepare_heard(places, base, base, fold=fold)
        with ablation.trained(at, at.path("artifacts/trust"), mixtures, "flam", base) as folder:
            model = FLAM.from_pretrained(folder)
        bank, lexicon = Bank.open(at.path(paths.BANK)), Lexicon.read(at.path(paths.CAPTIONS))
        sizes = {"n_clips": base.evaluate.n_clips, "frame_s": model.frame_s}
        splits = evaluation.read_splits(mixtures, bank, lexicon, **sizes)
        stored = Stored.of(at.path(paths.HEARD), at.path(paths.BANK), at.path(paths.MIXTURES))
        for kind, of_fold in evidence(model, splits, bank, stored).items():
            folds[kind].append(of_fold)
    for kind, of_kind in folds.items():
        each = [fit([of_fold]).round(2).tolist() for of_fold in of_kind]
        print(f"trust_{kind}: {fit(of_kind).round(2).tolist()}  # folds {each}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
