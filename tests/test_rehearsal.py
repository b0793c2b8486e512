"""`make rehearse`: each recipe from recordings to report, by the same notebooks and commands.

In this process where that computes the same, because each of a dozen kernels would spend ten
seconds on imports; but for the training of FLAM from a CLAP, which two processes share.
"""

import importlib.util
import json
import sys
from pathlib import Path

import golden
import pandas as pd
import pytest
from test_notebooks import run

from flamlib import run_notebook
from flamlib.cli import main
from flamlib.training import fit, launch

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("rehearse", ROOT / "scripts/rehearse.py")
rehearse = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rehearse)


HUNDRED = "train: {n_steps: 100, n_warmup: 10, valid_every: 50, save_every: 100, log_every: 10}"


class InThisProcess(rehearse.Rehearsal):
    def notebook(self, name, **parameters):
        path = self.folder / f"notebooks/{name}.ipynb"
        run(path, run_notebook.declared_parameters(path) | parameters)

    def train(self, model):
        if (self.recipe, model) == ("from_clap", "flam"):
            super().train(model)
        else:
            launch.main(self.training(model))

    def python(self, module, *arguments, **told):
        if module == "flamlib":
            assert main.main([*arguments]) == 0
        elif module == "flamlib.training.launch":
            launch.main([*arguments])
        else:
            super().python(module, *arguments, **told)


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # of libraries that the notebooks use: none is a failure
@pytest.mark.parametrize("recipe", rehearse.RECIPES)
def test_a_recipe_is_rehearsed_to_its_report(recipe, tmp_path, monkeypatch):
    # A shell puts itself in the place of __main__, from which later tests spawn processes.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    rehearsal = InThisProcess(recipe, tmp_path / recipe)
    for title, step in rehearsal.steps():
        step()
        if title == "a project":
            monkeypatch.chdir(rehearsal.folder)
    made = rehearsal.folder / "artifacts"
    about = json.loads((made / "checkpoints/flam/training.json").read_text())
    assert [row["step"] for row in about["history"]] == [*range(1, 7)]
    assert about["parameters"]["n_processes"] == (2 if recipe == "from_clap" else 1)
    found = pd.read_csv(rehearsal.folder / "reports/09_benchmarks.tsv", sep="\t")
    sets = {name for name, of in rehearsal.config.testsets.folders.items() if of}
    assert sets | {"seen_captions", "unseen_captions"} <= set(found["testset"])
    beside = {"clap"} if recipe == "from_clap" else set()
    for name in sets:
        models = set(found.loc[found["testset"] == name, "model"]) - {"difference"}
        assert models == {"flam", "flam_global", "mga_clap"} | beside
    assert (made / "detections/events.tsv").is_file()
    assert (made / "features/train").is_dir() == (recipe == "from_clap"), "a trunk is stored"
    assert (rehearsal.folder / "reports/evaluation.html").stat().st_size > 100_000

    # By one process, because a hundred steps of two wait for each other for a minute.
    Path("hundred.yaml").write_text(HUNDRED)
    launch.main([*rehearsal.training("flam"), "--with", "hundred.yaml"])
    golden.compare(fit.read_history(made / "checkpoints/flam"), f"rehearsal_{recipe}")
