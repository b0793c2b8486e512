"""Try parameters on folds of the training recordings, never on what the README reports.

    python -m flamlib.evaluation.cross_validate -p train.lr_heads 1e-3

trains a model in each fold, with the budget of the ablation study and these parameters, judges it
on packages and families of captions that it did not train on (see `flamlib.data.mixtures.folds`),
and prints its numbers beside those of all trials with the same code, data and budget. Without -p it
is the trial `default`, which the others are compared with. The same command goes on where it was
stopped: a fold that is done is not repeated.

Training mixtures follow the parameters given; those for validation and test are the same in all
trials. What decides how recordings are decoded (`audio`, `source`, `variants`) cannot be tried.
What the frozen trunk makes of a fold's clips is stored beside them: some 2.5 GB a fold, so that the
next trial takes two or three minutes a fold.
"""

import argparse
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from flamlib import paths
from flamlib.data.mixtures import backgrounds, folds, mixing, recipes, source_table
from flamlib.data.mixtures.bank import Bank
from flamlib.evaluation import ablation, study
from flamlib.experiment import provenance
from flamlib.experiment.config import Config, load_config
from flamlib.experiment.overrides import read_value
from flamlib.experiment.parameters import ParameterError, plain
from flamlib.paths import Places
from flamlib.storage import files, number_files
from flamlib.training import feature_extraction

N_FOLDS = 4
DEFAULT = "default"
FOLDER = "artifacts/cross_validation"
TRIALS = "reports/cross_validation"
DECODED = ("audio", "source", "variants")
METRICS = study.METRICS | {
    "AUROC, seen, under speech and music": ("seen_under_maskers", "auroc_macro"),
    "AUROC, unseen, under speech and music": ("unseen_under_maskers", "auroc_macro"),
    "event F1, seen": ("seen_captions", "event_f1"),
    "event F1, unseen": ("unseen_captions", "event_f1"),
    "F1 at validation's threshold, unseen": ("unseen_captions", "f1"),
    "recall at 1 false span, seen": ("seen_captions", "recall_at_1"),
    "recall at 1 false span, unseen": ("unseen_captions", "recall_at_1"),
    "nats gained on a constant, seen": ("seen_captions", "nats_gain"),
    "nats gained on a constant, unseen": ("unseen_captions", "nats_gain"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the folds that are not done, and print the trials; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m flamlib.evaluation.cross_validate", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "-p",
        dest="pairs",
        metavar=("NAME", "VALUE"),
        nargs=2,
        action="append",
        default=[],
        help="one parameter of params.yaml, or `model`, by its dotted name; give it again for more",
    )
    given = parser.parse_args(arguments)
    changes = {name: read_value(text) for name, text in given.pairs}
    try:
        places = paths.places(small=False)
        os.chdir(places.root)
        trials = cross_validate(places, load_config(), changes)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(as_table(trials, trial_name(changes)))
    return 0


def cross_validate(
    places: Places, config: Config, changes: Mapping[str, Any], *, n_folds: int = N_FOLDS
) -> dict[str, dict]:
    """Train and judge a model in each fold that is not done yet.

    Args:
        places: of the whole experiment.
        config: its parameters; `ablate.budget` is laid over them.
        changes: what is tried, by dotted name.
        n_folds: how many folds.

    Returns:
        `{trial: {fold: {part: {metric: value}}}}` of this trial and of those that can be compared
        with it, `default` first.

    Raises:
        ParameterError: for a parameter that there is not, or that cannot be tried.
    """
    if given := sorted({name.split(".")[0] for name in changes} & set(DECODED)):
        raise ParameterError(
            f"{given[0]}: the folds share the recordings as 02_mix decoded them: change params.yaml"
            " and run 02_mix instead"
        )
    base = config.override(dict(config.ablate.budget))
    model, tried = ablation.configured(base, changes)
    about = record(places, base)
    path = places.path(TRIALS) / f"{trial_name(changes)}.json"
    kept = _read(path)
    if not provenance.same(kept.get("provenance", {}), about):
        kept = {"provenance": about, "parameters": dict(changes), "folds": {}}
    for fold in range(n_folds):
        if str(fold) in kept["folds"]:
            continue
        at, mixtures = prepare_fold(places, base, tried, fold=fold, n_folds=n_folds)
        out = at.path(paths.ABLATION) / path.stem
        with ablation.trained(at, out, mixtures, model, tried) as trained:
            numbers = ablation.evaluate_run(at, trained, tried).numbers
        kept["folds"][str(fold)] = numbers
        number_files.write_metrics(path, kept)
    return comparable(places.path(TRIALS), about)


def record(places: Places, base: Config) -> dict[str, Any]:
    """Record what all comparable trials have in common: code, budget, recordings."""
    return provenance.record(
        places.root / "notebooks/06_ablate.ipynb",
        root=places.root,
        parameters=[ablation.shared(base), plain(base.evaluate), plain(base.mix), base.seed],
        data=ablation.checksums(places, base),
    )


def prepare(
    places: Places, base: Config, tried: Config, *, fold: int, n_folds: int
) -> tuple[Places, Path]:
    """Write what a fold needs, unless it is there, as the places of an experiment of its own.

    Args:
        places: of the whole experiment.
        base: parameters of the mixtures for validation and test.
        tried: those of the mixtures for training.
        fold: which one, from 0.
        n_folds: of how many.

    Returns:
        The places, and the folder of the mixtures to train on.
    """
    bank, captions = places.existing(paths.BANK), places.existing(paths.CAPTIONS)
    about = [ablation.checksum(path) for path in (bank / source_table.TABLE, captions)]
    key = provenance.values_digest([*about, n_folds, *_drawing(base)])
    root = places.path(FOLDER) / f"{key}_{fold}"
    at = Places(root)
    if not root.exists():
        with files.atomic_folder(root) as new:
            for name in ("artifacts", "data"):
                (new / name).mkdir()
            whole = Bank.open(bank)
            folds.write(whole, captions, new, fold=fold, n_folds=n_folds)
            (new / "bank").rename(new / paths.BANK)
            (new / "captions.tsv").rename(new / paths.CAPTIONS)
            for name in (paths.WEIGHTS, paths.STRONG):
                (new / name).symlink_to(places.path(name).resolve())
            for split in _sizes(base):
                _draw(Places(new), new / paths.MIXTURES, base, split)
            drawn, of_fold = new / paths.MIXTURES, Bank.open(new / paths.BANK)
            backgrounds.mask_parts(of_fold, base.mixture, drawn, seed=base.seed)
    if _drawing(tried) == _drawing(base):
        return at, at.path(paths.MIXTURES)
    mixtures = root / f"artifacts/mixtures_{provenance.values_digest(_drawing(tried))}"
    if not mixtures.exists():
        with files.atomic_folder(mixtures) as new:
            _draw(at, new, tried, "train")
            (new / "valid.parquet").symlink_to(at.path(paths.MIXTURES) / "valid.parquet")
    return at, mixtures


def prepare_fold(
    places: Places, base: Config, tried: Config, *, fold: int, n_folds: int = N_FOLDS
) -> tuple[Places, Path]:
    """Do what `prepare` does, and store what the frozen trunk makes of the fold's clips.

    Args:
        places: See `prepare`.
        base: See `prepare`.
        tried: See `prepare`.
        fold: See `prepare`.
        n_folds: See `prepare`.
    """
    at, mixtures = prepare(places, base, tried, fold=fold, n_folds=n_folds)
    feature_extraction.extract(
        tried,
        bank=at.path(paths.BANK),
        mixtures=at.path(paths.MIXTURES),
        sets=at.path(paths.STRONG),
        weights=at.path(paths.WEIGHTS),
        out=at.path(paths.FEATURES),
    )
    return at, mixtures


def comparable(folder: Path, about: Mapping[str, Any]) -> dict[str, dict]:
    """Read the trials of a folder that were computed from the same code, budget and recordings."""
    read = {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}
    trials = {
        name: of["folds"]
        for name, of in read.items()
        if provenance.same(of.get("provenance", {}), about)
    }
    return {name: trials[name] for name in sorted(trials, key=lambda name: name != DEFAULT)}


def as_table(trials: Mapping[str, Mapping], name: str) -> str:
    """Write a trial's metrics as text, mean ± s.d. over folds, and its difference to `default`."""
    values = study.values(trials, METRICS)
    shown = [trial for trial in dict.fromkeys((DEFAULT, name)) if trial in trials]
    table = study.summary(values).loc[shown].T
    if name != DEFAULT and DEFAULT in trials:
        found = study.differences(values, against=DEFAULT).loc[name]
        low, high = found["low"].map("{:+.3f}".format), found["high"].map("{:+.3f}".format)
        table[f"{name} - {DEFAULT}"] = (
            found["difference"].map("{:+.3f}".format) + " [" + low + ", " + high + "]"
        )
    with pd.option_context("display.width", None, "display.max_colwidth", None):
        return table.fillna("").to_string()


def trial_name(changes: Mapping[str, Any]) -> str:
    """Name a trial after its parameters, for a file: `train.lr_heads=0.001`."""
    given = ",".join(f"{key}={value}" for key, value in sorted(changes.items()))
    name = re.sub(r"[^A-Za-z0-9.,=+_-]+", "_", given)
    if len(name) > 100 or name != given:
        name = f"{name[:100]}~{hashlib.sha256(given.encode()).hexdigest()[:8]}"
    return name if changes else DEFAULT


def _drawing(config: Config) -> list[Any]:
    """What mixtures depend on beside the recordings."""
    return [plain(config.mixture), config.seed, _sizes(config)]


def _sizes(config: Config) -> dict[str, int]:
    """How many mixtures a split has; no more to train on than the steps take."""
    n_taken = config.train.n_steps * config.train.batch_size
    held_out = dict.fromkeys(["seen_captions", "unseen_captions"], config.mix.n_heldout)
    return {"train": min(config.mix.n_train, n_taken), "valid": config.mix.n_valid} | held_out


def _draw(at: Places, folder: Path, config: Config, split: str) -> None:
    drawn = mixing.draw_many(
        Bank.open(at.path(paths.BANK)),
        config.mixture,
        seed=config.seed,
        split=split,
        n=_sizes(config)[split],
        n_jobs=config.mix.n_jobs,
    )
    recipes.write(folder / f"{split}.parquet", drawn)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


if __name__ == "__main__":
    sys.exit(main())
