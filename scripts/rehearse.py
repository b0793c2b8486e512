"""Rehearse a recipe from its recordings to its report, at tiny size: minutes, and no network.

    python scripts/rehearse.py            # all recipes, in artifacts/rehearsal/
    python scripts/rehearse.py from_clap  # one of them

A rehearsal is a project of its own in artifacts/rehearsal/<recipe>/. It goes the way of the recipe,
by the same notebooks and commands, with configs/rehearsal/<recipe>.yaml on top: only recordings,
public sets and models are made up, in the layouts in which they are published. So what breaks with
folders, names, versions or processes breaks here, before anything large is fetched or computed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/helpers"))  # what makes sets and models up for the tests

import made_inputs  # noqa: E402
import set_files  # noqa: E402
import tiny  # noqa: E402
import transformers  # noqa: E402

from flamlib.experiment.config import Config, load_config  # noqa: E402

RECIPES = {  # what of configs/ is on top of params.yaml for everything but training
    "from_clap": ["from_clap.yaml"],
    "paper": ["paper.yaml"],
}
N_PROCESSES = 2
LOG = "log.txt"

Step = tuple[str, Callable[[], None]]


class Failed(Exception):
    """A step of a rehearsal failed; says where its output is."""


class Rehearsal:
    """A recipe's steps, in a project of its own.

    Attributes:
        recipe: its name.
        folder: the project.
        config: the parameters of all but training.
    """

    def __init__(self, recipe: str, folder: Path) -> None:
        """Prepare a rehearsal in a folder, which is made anew."""
        self.recipe, self.folder = recipe, folder
        self._overlays = [f"configs/{name}" for name in RECIPES[recipe]]
        self._sizes = f"configs/rehearsal/{recipe}.yaml"

    @property
    def config(self) -> Config:
        """The parameters of all but training."""
        overlays = [self.folder / name for name in (*self._overlays, self._sizes)]
        return load_config(ROOT / "params.yaml", overlays=overlays)

    def steps(self) -> Iterator[Step]:
        """All steps in order: what each is, and the call that does it."""
        yield "a project", self.lay_out
        yield "recordings and public sets, made up", self.write_sets
        if self.recipe == "from_clap":
            yield "a random CLAP as published", self.write_clap
            given = ["artifacts/models/clap", "--towers", "artifacts/weights"]
            yield "flam import-clap", lambda: self.python("flamlib", "import-clap", "clap", *given)
        else:
            yield "random towers as published", self.write_towers
        yield "params.yaml of the recipe", self.write_params
        for name in ("01_corpus", "02_mix", "02b_features"):
            yield name, lambda name=name: self.notebook(name, small=False)
        for model in ("flam_global", "flam"):
            yield f"{model} by {N_PROCESSES} processes", lambda model=model: self.train(model)
        of_mga_clap = {"small": False, "model": "mga_clap"}
        yield "mga_clap by 03_train", lambda: self.notebook("03_train", **of_mga_clap)
        yield "04_evaluate", lambda: self.notebook("04_evaluate", small=False)
        yield "05_detect", lambda: self.notebook("05_detect")
        yield "09_benchmarks", lambda: self.notebook("09_benchmarks", small=False)

    def lay_out(self) -> None:
        """Copy what a project consists of, but for recordings and results."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        for name in ("dvc.yaml", "params.yaml", "data.dvc"):
            shutil.copy(ROOT / name, self.folder)
        for name in ("notebooks", "catalogue", "configs"):
            shutil.copytree(ROOT / name, self.folder / name)
        # YAMNet and MiniLM, which label matching is made of: random, as nothing is fetched.
        tiny.write_weights(self.folder / "artifacts/weights", self.folder / "catalogue")

    def write_sets(self) -> None:
        """Make up what the recipe's parameters name, below sets/."""
        sets = self.folder / "sets"
        made_inputs.fsd50k(sets / "FSD50K")
        made_inputs.library(sets / "library")
        for name, folder in self.config.testsets.folders.items():
            if folder is not None:
                set_files.WRITERS[name](self.folder / folder)
        made_inputs.clotho_development(sets / "clotho")

    def write_clap(self) -> None:
        """Write a CLAP to clap/."""
        network = self.config.network
        made_inputs.write_clap(self.folder / "clap", network.audio, network.dim)

    def write_towers(self) -> None:
        """Write HTS-AT and RoBERTa to artifacts/weights."""
        weights = self.folder / "artifacts/weights"
        made_inputs.write_htsat(weights / "htsat", self.config.network.audio)
        made_inputs.write_roberta_base(weights / "roberta")

    def write_params(self) -> None:
        """Put the recipe's parameters in the place of params.yaml."""
        given = ["flam", *_options([*self._overlays, self._sizes]), "--write", "all.yaml"]
        self.python("flamlib.training.launch", *given)
        (self.folder / "all.yaml").replace(self.folder / "params.yaml")

    def train(self, model: str) -> None:
        """Train a model as a cluster does, with two processes on this machine's CPU."""
        how = ["--config_file", "configs/accelerate/eight_gpus.yaml", "--main_process_port", "0"]
        how += ["--num_processes", str(N_PROCESSES), "-m", "flamlib.training.launch"]
        told = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        self.python("accelerate.commands.launch", *how, *self.training(model), **told)

    def training(self, model: str) -> list[str]:
        """Return the arguments of `flamlib.training.launch` that train a model."""
        own = [f"configs/paper_{model}.yaml"] if self.recipe == "paper" else []
        return [model, *_options([*self._overlays, *own, self._sizes])]

    def notebook(self, name: str, **parameters: Any) -> None:
        """Run a notebook of the pipeline; its other parameters come from params.yaml."""
        pairs = [part for key, value in parameters.items() for part in ("-p", key, str(value))]
        where = [f"notebooks/{name}.ipynb", f"reports/{name}.ipynb"]
        self.python("flamlib.run_notebook", *where, *pairs)

    def python(self, module: str, *arguments: str, **told: str) -> None:
        """Run a module in the project; raises Failed."""
        _run(self.folder, [sys.executable, "-m", module, *arguments], told)


def _options(overlays: Iterable[str]) -> list[str]:
    return [part for name in overlays for part in ("--with", name)]


def _run(folder: Path, command: list[str], told: Mapping[str, str]) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    with open(folder / LOG, "ab") as log:
        ended = subprocess.run(
            command, cwd=folder, env=os.environ | offline | told, stdout=log, stderr=log
        )
    if ended.returncode:
        said = (folder / LOG).read_text(errors="replace").splitlines()
        raise Failed("\n".join([*said[-15:], "", f"failed; all output: {folder / LOG}"]))


def main() -> int:
    """Rehearse the recipes named on the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=" or ".join(RECIPES))
    given = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    if unknown := [name for name in given.recipes if name not in RECIPES]:
        parser.error(f"no recipe {unknown[0]!r}, choose from {', '.join(RECIPES)}")
    for recipe in given.recipes or RECIPES:
        rehearsal = Rehearsal(recipe, ROOT / "artifacts/rehearsal" / recipe)
        print(f"── {recipe}, in {rehearsal.folder.relative_to(ROOT)}", flush=True)
        for title, step in rehearsal.steps():
            begun = time.monotonic()
            print(f"   {title} … ", end="", flush=True)
            try:
                step()
            except Failed as error:
                print(f"failed\n\n{error}")
                return 1
            print(f"{time.monotonic() - begun:.0f} s", flush=True)
        print(f"   report: {rehearsal.folder / 'reports/evaluation.html'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
