"""Train without a notebook, for `accelerate launch` on one machine or several:

    accelerate launch --config_file configs/accelerate/eight_gpus.yaml \\
        -m flamlib.training.launch flam --with configs/paper.yaml --with configs/paper_flam.yaml

trains as the stage `train` does, from the same files to the same files, with the numbers of
`params.yaml` and those that the files given by `--with` put in their place. The number of
processes is the launcher's.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from flamlib import files, paths
from flamlib.training import fit

NOTEBOOK = "notebooks/03_train.ipynb"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with these arguments, by default those of the command line."""
    parser = argparse.ArgumentParser(
        prog="flamlib.training.launch", description=__doc__.splitlines()[0]
    )
    parser.add_argument("model", help="a key of `objectives` in params.yaml, such as flam")
    parser.add_argument(
        "--with",
        dest="overlays",
        metavar="FILE",
        action="append",
        default=[],
        help="numbers to put in the place of those in params.yaml; give it again for more",
    )
    parser.add_argument(
        "--write",
        metavar="FILE",
        help="write all numbers to a file instead, for the notebooks: papermill -f FILE",
    )
    given = parser.parse_args(arguments)
    root = paths.root()
    parameters = read_parameters(root / "params.yaml", *given.overlays)
    if given.write:
        files.atomic_write(given.write, yaml.safe_dump(parameters, sort_keys=False))
        return
    sections = ("seed", "audio", "rules", "network", "objectives", "codebook", "train")
    chosen = {name: parameters[name] for name in sections}
    # Each tower has arguments of its own, which it checks itself.
    towers = {"network": files.declared_parameters(root / NOTEBOOK)["network"]}
    files.check_parameters(root / NOTEBOOK, model=given.model, **chosen | towers)
    if given.model not in chosen["objectives"]:
        parser.error(f"no model {given.model!r}; there are {', '.join(chosen['objectives'])}")

    chosen["train"] = chosen["train"] | {"n_processes": int(os.environ.get("WORLD_SIZE", "1"))}
    train(
        root,
        given.model,
        root / "artifacts/checkpoints" / given.model,
        mixtures=root / "artifacts/mixtures",
        curves=root / "reports/curves" / given.model,
        **chosen,
    )


def train(
    root: Path,
    model: str,
    out: Path,
    *,
    mixtures: Path,
    curves: Path,
    seed: int,
    audio: Mapping[str, Any],
    rules: Mapping[str, Any],
    network: Mapping[str, Any],
    objectives: Mapping[str, Any],
    codebook: Mapping[str, Any],
    train: Mapping[str, Any],
) -> None:
    """Train a model on a folder's mixtures and save it to `out`, see `training.fit`.

    The sections are those of params.yaml; states to go on from lie in `artifacts/resume`.
    """
    if train["init_from"]:
        train = dict(train, init_from=root / train["init_from"])
    fit.fit(
        out,
        bank=root / "artifacts/bank",
        mixtures=mixtures / "train.parquet",
        valid=mixtures / "valid.parquet",
        sets=root / "artifacts/strong",
        captions=root / "data/captions.tsv",
        weights=root / "artifacts/weights",
        resume=root / "artifacts/resume" / model,
        curves=curves,
        seed=seed,
        clip_s=audio["clip_s"],
        rules=rules,
        network=network,
        codebook=codebook if model == "mga_clap" else None,
        objective=objectives[model],
        **train,
    )


def read_parameters(path: str | Path, *overlays: str | Path) -> dict[str, Any]:
    """The sections of a parameter file, each with those keys replaced that an overlay gives.

    A value is replaced as a whole, also where it is a dict. A later overlay overrides an earlier
    one. Raises ValueError for a file that is not of sections and keys, and for a section or key
    that `path` does not have.
    """
    parameters = _read(path)
    for overlay in overlays:
        for section, values in _read(overlay).items():
            if section not in parameters:
                raise ValueError(f"{overlay}: {section} is no section of {path}")
            if not isinstance(values, dict):
                parameters[section] = values
                continue
            if unknown := values.keys() - parameters[section].keys():
                raise ValueError(f"{overlay}: {path} has no {section}.{sorted(unknown)[0]}")
            parameters[section] = parameters[section] | values
    return parameters


def _read(path: str | Path) -> dict[str, Any]:
    sections = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not isinstance(sections, dict):
        raise ValueError(f"{path} holds no sections")
    return sections


if __name__ == "__main__":
    main()
