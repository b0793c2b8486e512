"""One arm of the ablation study: FLAM with one thing changed, trained and judged as FLAM is.

An arm is a set of changes to the parameters, by their dotted names, such as

    {"network.bias": "shared"}

which is what `dvc exp run -S network.bias=shared` would do to the whole pipeline. `model` can be
changed in the same way, for the models that FLAM is compared with.
"""

import copy
import difflib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pandas as pd

from flamlib import baselines, benchmarking, evaluation, judging, launch, recipes
from flamlib.bank import Bank
from flamlib.heldout import Part
from flamlib.lexicon import Lexicon
from flamlib.localisation import Criteria
from flamlib.model import FLAM, Method

TRAINING = ("seed", "audio", "rules", "network", "objectives", "codebook", "train")


class Judged(NamedTuple):
    """`numbers[part][metric]`, and one row per part, method and threshold of F1 over thresholds."""

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


def run(root: Path, name: str, parameters: Mapping[str, Any]) -> Judged:
    """Train with these parameters, `model` and the sections of 03 and 04, and judge the outcome.

    The model is not kept: a study of fifteen arms would be six gigabytes. Training that was
    stopped goes on where it was.
    """
    out = root / "artifacts/ablation" / name
    sections = {key: parameters[key] for key in TRAINING}
    try:
        launch.train(root, parameters["model"], out / "model", curves=out / "curves", **sections)
        clip_s = parameters["audio"]["clip_s"]
        return judge(root, out / "model", clip_s=clip_s, evaluate=parameters["evaluate"])
    finally:
        shutil.rmtree(out, ignore_errors=True)


def judge(
    root: Path, model: Path, *, clip_s: float, evaluate: Mapping[str, Any]
) -> Judged:
    """What a saved model is worth on the held-out parts, without intervals.

    Numbers are those of `judging.judge` and of `evaluation.retrieval`, and `classes`, zero-shot
    classification of the parts' recordings by the names of their captions. A FLAM has also
    `biased` and `approximate`, `[method][part]`: its scores made in the other ways.
    """
    sources, lexicon = Bank.open(root / "artifacts/bank"), Lexicon.read(root / "data/captions.tsv")
    listener = baselines.load(model)
    criteria = Criteria(*(evaluate[name] for name in Criteria.__dataclass_fields__))
    counts = {name: evaluate[name] for name in ("n_thresholds", "n_bins")}
    parts = {
        name: Part.of(
            name,
            recipes.read(root / f"artifacts/mixtures/{name}.parquet")[: evaluate["n_clips"]],
            sources,
            lexicon,
            frame_s=listener.frame_s,
        )
        for name in ("valid", *evaluation.PARTS)
    }
    hearings = evaluation.listen(
        {"it": listener}, parts, sources, batch_size=evaluate["batch_size"], progress=True
    )
    methods = get_args(Method) if isinstance(listener, FLAM) else ("unbiased",)
    numbers: dict[str, dict] = {}
    curves = []
    for method in methods:
        heard = {name: of["it"]._replace(method=method) for name, of in hearings.items()}
        fitted = judging.f1(parts["valid"], heard["valid"], n_thresholds=counts["n_thresholds"])
        found = numbers if method == "unbiased" else numbers.setdefault(method, {})
        for name in evaluation.PARTS:
            found[name] = judging.judge(
                parts[name],
                heard[name],
                threshold=fitted["best_macro"],
                criteria=criteria,
                **counts,
            )
            curve = judging.f1(parts[name], heard[name], n_thresholds=counts["n_thresholds"])
            points = {"threshold": curve["threshold"], "f1": curve["f1_macro"]}
            curves.append(pd.DataFrame({"part": name, "method": method, **points}))
    numbers["retrieval"] = evaluation.retrieval(listener, sources, lexicon, clip_s=clip_s)
    settings = benchmarking.Settings(clip_s, ["name"], "name", criteria, counts["n_thresholds"])
    numbers["classes"] = {}
    for name in evaluation.PARTS:
        outcome, _ = benchmarking.held_out_classes(listener, sources, lexicon, name, settings)
        numbers["classes"][f"{name}_top1"] = outcome.numbers["top1"]
    return Judged(evaluation.defined(numbers), pd.concat(curves, ignore_index=True))


def _names(parameters: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted names of everything in it."""
    names = []
    for key, value in parameters.items():
        names.append(f"{prefix}{key}")
        if isinstance(value, dict):
            names += _names(value, f"{prefix}{key}.")
    return names
