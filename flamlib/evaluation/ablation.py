"""One arm of the ablation study: FLAM with one thing changed, trained and evaluated as FLAM is.

An arm is a set of changes to the parameters, by their dotted names, such as

    {"network.bias": "shared"}

which is what `dvc exp run -S network.bias=shared` would do to the whole pipeline. `model` can be
changed in the same way, for the models that FLAM is compared with.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from flamlib import paths
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.evaluation import evaluate as evaluation
from flamlib.evaluation import single_model
from flamlib.experiment import provenance
from flamlib.experiment.config import Config, load_config
from flamlib.experiment.parameters import plain
from flamlib.experiment.params.trials import AblationConfig
from flamlib.models import baselines
from flamlib.paths import Places
from flamlib.training import launch
from flamlib.training.feature_extraction import StoredFeatures
from flamlib.training.resume import checksum

TRAINING = ("audio", "mixture", "network", "objectives", "codebook", "train")  # sections it reads
HOW = ("n_processes", "n_workers", "save_every", "keep_last", "log_every")  # of `train`


class RunResult(NamedTuple):
    """`numbers[part][metric]`; frame F1 over thresholds, a row per part and threshold."""

    numbers: dict[str, dict]
    curves: pd.DataFrame


def changes(arm: str, ablate: AblationConfig) -> dict[str, Any]:
    """Return what an arm changes, by dotted name: the budget, which all share, and its own.

    Raises ValueError for an unknown arm.
    """
    if arm not in ablate.arms:
        raise ValueError(f"no arm {arm!r}; known: {', '.join(ablate.arms)}")
    return dict(ablate.budget) | dict(ablate.arms[arm])


def configured(config: Config, changes: Mapping[str, Any]) -> tuple[str, Config]:
    """Return the model that is trained, "flam" unless `changes` names another, and its parameters.

    Raises ParameterError for an unknown name: a misspelt change would train the same model again.
    """
    own = {name: value for name, value in changes.items() if name != "model"}
    return changes.get("model", "flam"), config.override(own)


def record(places: Places, config: Config, arm: str) -> dict[str, Any]:
    """Record what a run is computed from.

    Returns what `record_of_all` does, which all runs of a study share, and `arm`, the digest of
    what this one is about. `config` has the parameters before the arm changes them.
    """
    return record_of_all(places, config) | {"arm": arm_digest(places, config, arm)}


def record_of_all(places: Places, config: Config) -> dict[str, Any]:
    """Record what all runs of a study are computed from, see `provenance.record`."""
    mixtures = sorted(places.existing(paths.MIXTURES).glob("*.parquet"))
    return provenance.record(
        places.root / "notebooks/06_ablate.ipynb",
        root=places.root,
        parameters=[shared(config), plain(config.evaluate), config.ablate.budget],
        data=checksums(places, config) | {path.name: checksum(path) for path in mixtures},
    )


def place(places: Places, config: Config, name: str) -> Path:
    """Choose the file of a run's numbers.

    Runs with other values than those of `params.yaml`, a toy budget say, are none of the study:
    they stand where small runs do.

    Args:
        places: those of the run.
        config: its parameters, before the arm changes them.
        name: of the run.
    """
    whole = load_config(places.root / paths.PARAMS).override({"seed": config.seed})
    of_study = replace(places, small=places.small or config != whole)
    return of_study.path("reports/06_ablate") / f"{name}.json"


def arm_digest(places: Places, config: Config, arm: str) -> str:
    """Compute the digest of what an arm changes, and of the weights that it starts from, if any."""
    own = config.ablate.arms[arm]
    start = own.get("train.init_from", config.train.init_from)
    weights = sorted(places.path(start).glob("*.safetensors")) if start else []
    return provenance.values_digest([own, [checksum(path) for path in weights]])


def shared(config: Config) -> dict[str, Any]:
    """Choose the sections that training reads, without the seed, which differs from run to run, and
    without what only decides how training is computed."""
    sections = {name: plain(getattr(config, name)) for name in TRAINING}
    return sections | {"train": {k: v for k, v in sections["train"].items() if k not in HOW}}


def checksums(places: Places, config: Config) -> dict[str, str]:
    """Compute checksums, by path, of what every training reads beside mixtures."""
    towers = (config.network.audio.tower, config.network.caption.tower)
    read = [paths.CAPTIONS, paths.BANK, paths.STRONG]
    read += [f"{paths.WEIGHTS}/{tower}" for tower in towers]
    return {path: checksum(places.existing(path)) for path in read}


def run(places: Places, name: str, model: str, config: Config) -> RunResult:
    """Train a model with these parameters, and evaluate it on the held-out splits.

    The model is not kept: a study of fifteen arms would be six gigabytes. Training that was
    stopped goes on where it was.

    Args:
        places: those of the run.
        name: of the run, for the files of its training.
        model: a key of `config.objectives`.
        config: the parameters, an arm's changes among them.
    """
    out = places.path(paths.ABLATION) / name
    with trained(places, out, places.path(paths.MIXTURES), model, config) as folder:
        return evaluate_run(places, folder, config)


@contextmanager
def trained(
    places: Places, out: Path, mixtures: Path, model: str, config: Config
) -> Iterator[Path]:
    """Train a model in this process alone; its folder is removed after the block.

    Args:
        places: those of the run.
        out: folder for the model and its curves.
        mixtures: folder with `train.parquet` and `valid.parquet`.
        model: a key of `config.objectives`.
        config: the parameters.

    Yields:
        The model's folder.
    """
    alone = config.override({"train.n_processes": 1})  # runs go beside each other instead
    folders = {"mixtures": mixtures, "curves": out / "curves"}
    try:
        launch.train(places, alone, model, out / "model", **folders)
        yield out / "model"
    finally:
        shutil.rmtree(out, ignore_errors=True)


def evaluate_run(places: Places, model: Path, config: Config) -> RunResult:
    """Evaluate a saved model on the held-out splits, see `single_model`."""
    sources, lexicon = Bank.open(places.path(paths.BANK)), Lexicon.read(places.path(paths.CAPTIONS))
    network = baselines.load(model)
    sizes = {"n_clips": config.evaluate.n_clips, "frame_s": network.frame_s}
    splits = evaluation.read_splits(places.path(paths.MIXTURES), sources, lexicon, **sizes)
    stored = StoredFeatures.of(
        *(places.path(name) for name in (paths.FEATURES, paths.BANK, paths.MIXTURES))
    )
    results = single_model.evaluate_model(
        network,
        splits,
        sources,
        lexicon,
        config=config.evaluate,
        window_s=config.mixture.clip_s,
        templates=["name"],
        stored=stored,
        progress=True,
    )
    # Of the thresholds those that all runs have in common: the others are quantiles of its scores.
    grid = np.linspace(0, 1, config.evaluate.n_thresholds + 2)[1:-1]
    curves = [
        pd.DataFrame(
            {"part": part, "threshold": grid, "f1": of["f1_macro"][np.isin(of["threshold"], grid)]}
        )
        for part, of in results.curves.items()
    ]
    return RunResult(evaluation.nan_to_none(results.metrics), pd.concat(curves, ignore_index=True))
