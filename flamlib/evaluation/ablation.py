"""One arm of the ablation study: FLAM with one thing changed, trained and judged as FLAM is.

An arm is a set of changes to the parameters, by their dotted names, such as

    {"network.bias": "shared"}

which is what `dvc exp run -S network.bias=shared` would do to the whole pipeline. `model` can be
changed in the same way, for the models that FLAM is compared with.
"""

import copy
import difflib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from flamlib.data.mixtures import recipes
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.evaluation import evaluate as evaluation
from flamlib.evaluation import single_model
from flamlib.evaluation.splits import Part
from flamlib.metrics.sed import Criteria
from flamlib.models import baselines
from flamlib.training import launch
from flamlib.training.resume import checksum

TRAINING = ("seed", "audio", "rules", "network", "objectives", "codebook", "train")
HOW = ("n_processes", "n_workers", "save_every", "keep_last", "log_every")  # of `train`


class Judged(NamedTuple):
    """`numbers[part][metric]`; frame F1 over thresholds, a row per part and threshold."""

    numbers: dict[str, dict]
    curves: pd.DataFrame


def arms(given: Mapping[str, Mapping] | None, *, root: Path) -> Mapping[str, Mapping[str, Any]]:
    """The arms given, or those of the project's params.yaml."""
    return given or launch.read_parameters(root / "params.yaml")["ablate"]["arms"]


def changes(
    arm: str, *, budget: Mapping[str, Any] | None, arms: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What an arm changes: the budget, which all arms share, and what it is about.

    A budget of None changes nothing. Raises ValueError for an arm that is not among them.
    """
    if arm not in arms:
        raise ValueError(f"no arm {arm!r}; there are {', '.join(arms)}")
    return dict(budget or {}) | dict(arms[arm])


def changed(parameters: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the parameters with other values, by dotted name.

    Raises ValueError for a name that is not there, with the nearest that is: a misspelt change
    would train the same model once more.

    >>> changed({"model": "flam", "train": {"n_steps": 5}}, {"train.n_steps": 3})
    {'model': 'flam', 'train': {'n_steps': 3}}
    """
    found = copy.deepcopy(dict(parameters))
    for name, value in changes.items():
        place, *keys = found, *name.split(".")
        for key in keys:
            if not isinstance(place, dict) or key not in place:
                near = difflib.get_close_matches(name, _names(found), n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ValueError(f"there is no parameter {name} to be changed{hint}")
            last, place = place, place[key]
        last[keys[-1]] = value
    return found


def experiment(root: Path, parameters: Mapping[str, Any], budget: Mapping[str, Any] | None) -> str:
    """What the runs of a study have in common, as a digest: the parameters before an arm changes
    them, but for the seed and for what decides only how training runs, and the content of all that
    every run reads. Runs of other digests are not to be compared."""
    shared = {key: of for key, of in parameters.items() if key not in ("model", "seed")}
    shared["train"] = {key: of for key, of in shared["train"].items() if key not in HOW}
    towers = (shared["network"][tower]["tower"] for tower in ("audio", "caption"))
    read = [
        root / "data/captions.tsv",
        *(root / "artifacts" / name for name in ("bank", "strong")),
        *(root / "artifacts/weights" / tower for tower in towers),
        *sorted((root / "artifacts/mixtures").glob("*.parquet")),
    ]
    parts = [json.dumps([shared, dict(budget or {})], sort_keys=True), *map(checksum, read)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]


def run(root: Path, name: str, parameters: Mapping[str, Any]) -> Judged:
    """Train with these parameters, `model` and the sections of 03 and 04, and judge the outcome.

    The model is not kept: a study of fifteen arms would be six gigabytes. Training that was
    stopped goes on where it was.
    """
    out = root / "artifacts/ablation" / name
    with trained(root, out, root / "artifacts/mixtures", parameters) as model:
        clip_s = parameters["audio"]["clip_s"]
        return judge(root, model, clip_s=clip_s, evaluate=parameters["evaluate"])


@contextmanager
def trained(root: Path, out: Path, mixtures: Path, parameters: Mapping[str, Any]) -> Iterator[Path]:
    """The folder of a model trained with these parameters, by this process alone; it is gone, with
    `out`, afterwards."""
    sections = {key: parameters[key] for key in TRAINING}
    sections["train"] = sections["train"] | {"n_processes": 1}  # runs go beside each other instead
    folders = {"mixtures": mixtures, "curves": out / "curves"}
    try:
        launch.train(root, parameters["model"], out / "model", **folders, **sections)
        yield out / "model"
    finally:
        shutil.rmtree(out, ignore_errors=True)


def judge(root: Path, model: Path, *, clip_s: float, evaluate: Mapping[str, Any]) -> Judged:
    """What a saved model is worth on the held-out parts: see `scoring.score`."""
    sources, lexicon = Bank.open(root / "artifacts/bank"), Lexicon.read(root / "data/captions.tsv")
    listener = baselines.load(model)
    parts = {}
    for name in ("valid", *evaluation.PARTS):
        drawn = recipes.read(root / f"artifacts/mixtures/{name}.parquet")[: evaluate["n_clips"]]
        parts[name] = Part.of(name, drawn, sources, lexicon, frame_s=listener.frame_s)
    found = single_model.score(
        listener,
        parts,
        sources,
        lexicon,
        criteria=Criteria(*(evaluate[field.name] for field in fields(Criteria))),
        n_thresholds=evaluate["n_thresholds"],
        n_bins=evaluate["n_bins"],
        batch_size=evaluate["batch_size"],
        window_s=clip_s,
        templates=["name"],
        progress=True,
    )
    # Of the thresholds those that all runs have in common: the others are quantiles of its scores.
    grid = np.linspace(0, 1, evaluate["n_thresholds"] + 2)[1:-1]
    curves = [
        pd.DataFrame(
            {"part": part, "threshold": grid, "f1": of["f1_macro"][np.isin(of["threshold"], grid)]}
        )
        for part, of in found.curves.items()
    ]
    return Judged(evaluation.defined(found.numbers), pd.concat(curves, ignore_index=True))


def _names(parameters: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted names of everything in it."""
    names = []
    for key, value in parameters.items():
        names.append(f"{prefix}{key}")
        if isinstance(value, dict):
            names += _names(value, f"{prefix}{key}.")
    return names
