"""Every notebook runs, in the order of the pipeline, on sounds that this test makes.

A project of its own in a temporary folder, without network and without the real weights. The
notebooks' code runs in this process, because five kernels would spend a minute on imports; the
first one goes through papermill, as all do in the pipeline.
"""

import json
import shutil
import sys
import traceback

import papermill
import pytest
import tiny
from accelerate.state import AcceleratorState, GradientState, PartialState
from IPython.core.interactiveshell import InteractiveShell
from test_pipeline import NOTEBOOKS, ROOT, STAGES, code_cells

from flamlib import files

CLIP = {"audio": {"clip_s": 3.84}, "rules": {"max_event_s": 3.0, "n_events": [1, 3]}}
SMALL_EVALUATION = {"n_clips": 4, "n_thresholds": 9, "n_resamples": 3}
SMALLER = {
    "01_corpus": {"source": {"profile": "none", "only": [], "own_sounds": "sounds"}},
    "02_mix": {
        **CLIP,
        "variants": {"n_foreground": 0},
        "mix": {"n_train": 12, "n_valid": 6, "n_heldout": 6, "n_jobs": 1},
    },
    "03_train": {
        **CLIP,
        "network": {"dim": 16},
        "train": {"n_steps": 2, "batch_size": 2, "pair_batch_size": 2, "pair_s": 2.56},
    },
    "04_evaluate": {"evaluate": SMALL_EVALUATION},
    "06_ablate": {
        **CLIP,
        "network": {"dim": 16},
        "train": {"n_steps": 2, "batch_size": 2, "pair_batch_size": 2, "pair_s": 2.56},
        "evaluate": SMALL_EVALUATION,
    },
    "08_dependency": {
        **CLIP,
        "network": {"dim": 16},
        "train": {"n_steps": 2, "batch_size": 2, "pair_batch_size": 2, "pair_s": 2.56},
        "dependency": {
            "frequent": "a red tone sounds",
            "rare": "a blue tone sounds",
            "n_train": 4,
            "n_test": 6,
            "n_thresholds": 9,
        },
    },
    "09_benchmarks": {
        "evaluate": SMALL_EVALUATION,
        "testsets": {"n_resamples": 3, "templates": ["name"]},
    },
}


# Of the study's many cells two; the others are the same with other numbers.
TRIED = [{"seed": 0, "arm": "flam"}, {"seed": 0, "arm": "no_bias"}]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project before its first run."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in ("notebooks", "catalogue"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    tiny.write_own_sounds(tmp_path / "sounds")
    tiny.write_weights(tmp_path / "artifacts/weights", tmp_path / "catalogue")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parameters(notebook, **chosen):
    """Its own small values with those of SMALLER, and of the stage, in their place."""
    declared = files.declared_parameters(notebook)
    for name, smaller in (SMALLER.get(notebook.stem, {}) | chosen).items():
        whole = isinstance(smaller, dict)
        declared[name] = declared[name] | smaller if whole else smaller
    return declared


def run(notebook, given):
    """The cells one after another, as a kernel would; what one shows is rendered in every way."""
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
    shell = InteractiveShell.instance()
    shell.reset()
    for i, source in enumerate(code_cells(notebook)):
        ran = shell.run_cell(source)
        if i == 0:
            shell.push(given)
        try:
            ran.raise_error()
            shell.display_formatter.format(ran.result)
        except Exception as error:
            pytest.fail(f"{notebook.name}: {''.join(traceback.format_exception(error))}\n{source}")


@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore")  # of libraries that the notebooks use: none is a failure
def test_the_notebooks_run_in_order_and_leave_what_their_stages_declare(root, monkeypatch):
    # A shell puts itself in the place of __main__, from which later tests spawn processes.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    assert NOTEBOOKS
    for stage in STAGES:
        notebook = root / "notebooks" / stage.notebook.name
        if stage.notebook not in NOTEBOOKS or ("arm" in stage.chosen and stage.chosen not in TRIED):
            continue
        given = parameters(notebook, **stage.chosen)
        report = root / f"reports/{notebook.name}"
        if stage.notebook == NOTEBOOKS[0]:
            report.parent.mkdir()
            how = {"kernel_name": "python3", "cwd": str(root), "progress_bar": False}
            papermill.execute_notebook(str(notebook), str(report), parameters=given, **how)
            shutil.copytree(root / "artifacts/source", root / "data")  # as data.dvc does
        else:
            run(notebook, given)
        made = [out for out in stage.outs if not out.endswith(".ipynb")]
        assert [out for out in made if not (root / out).exists()] == [], stage.name
        numbers = [json.loads((root / out).read_text()) for out in made if out.endswith(".json")]
        assert all(numbers), stage.name
