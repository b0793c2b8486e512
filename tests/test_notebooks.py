"""Every notebook runs, in the order of the pipeline, on sounds that this test makes.

A project of its own in a temporary folder, without network and without the real weights, and small
runs, as *Run All* makes them: whatever they write, the whole run's results stay as they are. The
notebooks' code runs in this process, because five kernels would spend a minute on imports; the
first one goes through papermill, as all do in the pipeline.
"""

import json
import shutil
import sys
import traceback
from typing import NamedTuple

import papermill
import pytest
import tiny
from accelerate.state import AcceleratorState, GradientState, PartialState
from IPython.core.interactiveshell import InteractiveShell
from test_pipeline import NOTEBOOKS, ROOT, STAGES, code_cells

from flamlib import run_notebook
from flamlib.experiment import config, provenance
from flamlib.experiment.config import Config
from flamlib.paths import Places
from flamlib.training.resume import checksum

SMALLER = {  # in place of the sizes of a small run: of sounds that this test makes
    "source.profile": "none",
    "source.only": [],
    "source.own_sounds": "sounds",
    "variants.n_foreground": 0,
    "mixture.clip_s": 3.84,
    "mixture.max_event_s": 3.0,
    "mixture.n_events": [1, 3],
    "mix.n_train": 12,
    "mix.n_valid": 6,
    "mix.n_heldout": 6,
    "mix.n_jobs": 1,
    "network.dim": 16,
    "train.n_steps": 2,
    "train.n_workers": 0,
    "train.batch_size": 2,
    "train.pair_batch_size": 2,
    "train.pair_s": 2.56,
    "train.valid_every": 1,
    "evaluate.n_clips": 4,
    "evaluate.n_thresholds": 9,
    "evaluate.n_resamples": 3,
    "ablate.budget": {"train.valid_every": 0},
    "dependency.frequent": "a red tone sounds",
    "dependency.rare": "a blue tone sounds",
    "dependency.rare_share": 0.3,
    "dependency.n_train": 4,
    "dependency.n_test": 6,
    "dependency.n_thresholds": 9,
    "dependency.budget": {"train.valid_every": 0},
    "testsets.n_resamples": 3,
    "testsets.templates": ["name"],
}


class Run(NamedTuple):
    """A run of a notebook, the sections of params.yaml that its stage names, and what it leaves."""

    notebook: str
    chosen: dict
    params: set[str] | None
    outs: list[str]


def runs():
    """All runs of all stages and, of the study's many, two: the others are as they are."""
    found = [
        Run(s.notebook.name, s.chosen, {name.split(".")[0] for name in s.params}, [*s.outs])
        for s in STAGES
    ]
    for arm in ("flam", "no_bias"):
        outs = [f"reports/06_ablate/0_{arm}{suffix}" for suffix in (".json", ".tsv")]
        found.append(Run("06_ablate.ipynb", {"seed": 0, "arm": arm}, None, outs))
    outs = ["06_ablate.json", "07_compare.json", "07_compare.tsv", "figures/07_compare"]
    found.append(Run("07_compare.ipynb", {}, None, [f"reports/{out}" for out in outs]))
    outs = ["08_dependency.json", "figures/08_dependency"]
    found.append(Run("08_dependency.ipynb", {}, None, [f"reports/{out}" for out in outs]))
    found.append(Run("10_search.ipynb", {"k": 2}, None, ["artifacts/index"]))
    return sorted(found, key=lambda each: each.notebook)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project before its first run."""
    for name in ("dvc.yaml", "params.yaml", "data.dvc"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in ("notebooks", "catalogue", "configs", "flamlib"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    tiny.write_own_sounds(tmp_path / "sounds")
    tiny.write_weights(tmp_path / "artifacts/weights", tmp_path / "catalogue")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listed(root):
    """Digests of all files of a project, but for those of small runs and what any run may keep."""
    apart = ("artifacts/small", "reports/small", "artifacts/cache", "downloads")
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not name.startswith(apart) and "__pycache__" not in name:
            found[name] = checksum(path)
    return found


class Watched(Config):
    """A configuration that keeps which of its sections were used."""

    def __init__(self, config, used):
        vars(self).update({"_config": config, "_used": used})

    def __getattribute__(self, name):
        if name in Config.__dataclass_fields__:
            vars(self)["_used"].add(name)
            return getattr(vars(self)["_config"], name)
        return super().__getattribute__(name)

    def override(self, changes):
        return Watched(vars(self)["_config"].override(changes), vars(self)["_used"])


def run(notebook, given):
    """The cells one after another, as a kernel would; what one shows is rendered in every way."""
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
    shell = InteractiveShell.instance()
    shell.reset()
    for i, source in enumerate(code_cells(notebook)):
        ran = shell.run_cell(source)
        if i == 1:  # the cell of parameters
            shell.push(given)
        try:
            ran.raise_error()
            shell.display_formatter.format(ran.result)
        except Exception as error:
            pytest.fail(f"{notebook.name}: {''.join(traceback.format_exception(error))}\n{source}")


@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore")  # of libraries that the notebooks use: none is a failure
def test_small_runs_in_order_leave_what_their_stages_declare_in_places_of_their_own(
    root, monkeypatch
):
    # A shell puts itself in the place of __main__, from which later tests spawn processes.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    assert {each.notebook for each in runs()} == {path.name for path in NOTEBOOKS}
    used, before = set(), listed(root)
    load = config.load_config
    monkeypatch.setattr(config, "load_config", lambda **given: Watched(load(**given), used))
    for each in runs():
        notebook = root / "notebooks" / each.notebook
        given = run_notebook.declared_parameters(notebook) | each.chosen
        given["overrides"] = SMALLER
        report = root / f"reports/{notebook.name}"
        if notebook.name == NOTEBOOKS[0].name:
            report.parent.mkdir()
            how = {"kernel_name": "python3", "cwd": str(root), "progress_bar": False}
            papermill.execute_notebook(str(notebook), str(report), parameters=given, **how)
            report.unlink()
        else:
            if notebook.name.startswith("07"):  # which compares the study's own runs
                assert listed(root) == before
                shutil.copytree(root / "reports/small/06_ablate", root / "reports/06_ablate")
            used.clear()
            run(notebook, given)
            if each.params is not None:
                assert used <= each.params | each.chosen.keys(), f"{each}: params of dvc.yaml"
            assert used or each.notebook.startswith("10"), each  # a search has no parameters
        places = Places(root, small=not notebook.name.startswith("07"))
        made = [places.path(out) for out in each.outs if not out.endswith(".ipynb")]
        assert [out for out in made if not out.exists()] == [], each
        numbers = [json.loads(out.read_text()) for out in made if out.suffix == ".json"]
        assert all(numbers), each
        for kept in (of["provenance"] for of in numbers if "provenance" in of):
            assert set(provenance.DIGESTS) <= set(kept)
