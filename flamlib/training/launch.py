"""Train without a notebook, for `accelerate launch` on one machine or several:

    accelerate launch --config_file configs/accelerate/eight_gpus.yaml \\
        -m flamlib.training.launch flam --with configs/paper.yaml --with configs/paper_flam.yaml

trains as the stage `train` does, from the same files to the same files, with the parameters of
`params.yaml` and those that the files given by `--with` put in their place. The number of
processes is the launcher's.
"""

import argparse
import io
import os
from collections.abc import Sequence
from pathlib import Path

from flamlib import paths
from flamlib.experiment.config import Config, load_config
from flamlib.experiment.overrides import add_overlays
from flamlib.experiment.parameters import plain
from flamlib.paths import Places
from flamlib.storage import files
from flamlib.training.fit import fit
from flamlib.training.inputs import TrainInputs


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with these arguments, by default those of the command line."""
    parser = argparse.ArgumentParser(
        prog="flamlib.training.launch", description=__doc__.splitlines()[0]
    )
    parser.add_argument("model", help="a key of `objectives` in params.yaml, such as flam")
    add_overlays(parser)
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="one parameter, by its dotted name: train.n_steps=100; give it again for more",
    )
    parser.add_argument(
        "--write",
        metavar="FILE",
        help="write all parameters to a file instead, in the form of params.yaml",
    )
    given = parser.parse_args(arguments)
    try:
        _run(given)
    except (OSError, ValueError) as error:
        parser.error(str(error))


def _run(given: argparse.Namespace) -> None:
    places = paths.places(small=False)
    config = load_config(
        places.root / paths.PARAMS, overlays=given.overlays, overrides=" ".join(given.overrides)
    )
    config.objective(given.model)
    if given.write:
        files.atomic_write(given.write, _as_yaml(config))
        return
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    train(
        places,
        config.override({"train.n_processes": n_processes}),
        given.model,
        places.path(paths.CHECKPOINTS) / given.model,
        mixtures=places.path(paths.MIXTURES),
        curves=places.path(paths.CURVES) / given.model,
    )


def train(
    places: Places, config: Config, model: str, out: Path, *, mixtures: Path, curves: Path
) -> None:
    """Train a model on a folder's mixtures, with what lies in the run's places.

    Args:
        places: those of the run.
        config: its parameters.
        model: a key of `config.objectives`.
        out: folder of the model.
        mixtures: folder with `train.parquet` and `valid.parquet`.
        curves: folder for the tables of losses.

    Raises: FileNotFoundError for what no notebook has made yet; else see `fit`. States to go on
    from lie in `artifacts/resume`.
    """
    start = config.train.init_from
    inputs = TrainInputs(
        bank=places.existing(paths.BANK),
        mixtures=mixtures / "train.parquet",
        valid=mixtures / "valid.parquet",
        sets=places.path(paths.STRONG),
        captions=places.existing(paths.CAPTIONS),
        weights=places.existing(paths.WEIGHTS),
        features=places.path(paths.FEATURES) if mixtures == places.path(paths.MIXTURES) else None,
        init_from=places.existing(start) if start else None,
    )
    fit(config, model, inputs, out, resume=places.path(paths.RESUME) / model, curves=curves)


def _as_yaml(config: Config) -> str:
    from ruamel.yaml import YAML

    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(plain(config), text)
    return text.getvalue()


if __name__ == "__main__":
    main()
