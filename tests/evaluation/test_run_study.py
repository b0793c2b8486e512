import ast
import json
import shutil
import subprocess
import time
from pathlib import Path

import nbformat
import pytest
import tiny
import yaml

from flamlib import run_notebook
from flamlib.evaluation import ablation, dependency, run_study
from flamlib.evaluation.run_study import Cell
from flamlib.experiment.config import load_config
from flamlib.experiment.parameters import ParameterError, plain
from flamlib.paths import Places

ARMS = {"flam": {}, "wide": {"network.dim": 9}, "no_bias": {"network.bias": "shared"}}
CONFIG = tiny.config().override({"ablate.arms": ARMS})


@pytest.fixture
def project(tmp_path, monkeypatch):
    tiny.write_inputs(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(plain(CONFIG)))))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_numbers(project, name, about):
    path = project / f"reports/{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"provenance": about, "part": {"auroc": 0.5}}))


def test_every_arm_has_one_run_before_any_has_two():
    cells = run_study.study_cells(ARMS, quick=False)
    assert [cell.name for cell in cells[:4]] == ["0_flam", "0_wide", "0_no_bias", "1_flam"]
    assert len(set(cells)) == len(cells) == 9
    assert run_study.study_cells(ARMS, quick=True) == [Cell(0, "flam"), Cell(0, "no_bias")]


def test_a_run_is_done_when_it_was_computed_from_what_is_there_now(project):
    cells = run_study.study_cells(ARMS, quick=False)[:3]

    def todo(changes=None):
        config = CONFIG.override(changes or {})
        return [cell.arm for cell in run_study.unfinished(Places(project), config, cells)]

    assert todo() == ["flam", "wide", "no_bias"]
    for arm in ARMS:
        write_numbers(
            project,
            f"06_ablate/0_{arm}",
            ablation.record(Places(project), CONFIG, arm) | {"commit": "abc"},
        )
    assert todo() == []
    assert todo({"ablate.arms": ARMS | {"wide": {"network.dim": 10}}}) == ["wide"]
    assert todo({"seed": 5}) == []
    assert todo({"mixture.fade_s": 0.02}) == ["flam", "wide", "no_bias"]
    (project / "data/captions.tsv").write_text("other")
    assert todo() == ["flam", "wide", "no_bias"]


def test_a_study_runs_what_is_missing_and_then_its_notebooks(project, monkeypatch, capsys):
    ran, notebooks, only = [], [], []

    def run(root, cell):
        ran.append(cell.name)
        write_numbers(
            project, f"06_ablate/{cell.name}", ablation.record(Places(project), CONFIG, cell.arm)
        )

    def run_one(arguments):
        notebooks.append(arguments[0])
        if "07" in arguments[0]:
            only.append(ast.literal_eval(arguments[-1]))
        if "08" in arguments[0]:
            about = dependency.record(Places(project), CONFIG)
            write_numbers(project, "08_dependency", about)
        return 0

    monkeypatch.setattr(run_study, "run", run)
    monkeypatch.setattr(run_notebook, "main", run_one)
    assert run_study.main(["--jobs", "1", "--quick"]) == 0
    assert ran == ["0_flam", "0_no_bias"]
    assert notebooks == ["notebooks/07_compare.ipynb"]
    assert only == [["0_flam", "0_no_bias"]]
    assert run_study.main(["--jobs", "2"]) == 0
    assert sorted(ran) == sorted(f"{seed}_{arm}" for seed in run_study.SEEDS for arm in ARMS)
    assert notebooks[1:] == ["notebooks/08_dependency.ipynb", "notebooks/07_compare.ipynb"]
    assert "9 runs, of which 2 are done" in capsys.readouterr().out
    assert run_study.main([]) == 0
    assert len(ran) == 9
    assert notebooks[3:] == ["notebooks/07_compare.ipynb"]


def test_a_run_that_fails_stops_the_study_with_what_it_printed(project, capfd):
    source = "from pathlib import Path\nPath(f'{seed}_{arm}').touch()\n1 / (arm != 'wide')"
    cells = [
        nbformat.v4.new_code_cell(cell) for cell in ("seed = 0\narm = 'flam'\nsmall = True", source)
    ]
    cells[0].metadata["tags"] = ["parameters"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, project / "notebooks/06_ablate.ipynb")
    run_study.run(project, Cell(1, "flam"))
    assert (project / "1_flam").exists()
    assert (project / "reports/06_ablate_1_flam.ipynb").exists()
    log = (project / "artifacts/ablation/1_flam.log").read_text()
    assert "small = False, seed = 1, arm = flam" in log
    assert "done in" in log
    with pytest.raises(subprocess.CalledProcessError):
        run_study.run(project, Cell(1, "wide"))
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_how_far_all_runs_are_is_shown_while_they_run(project, monkeypatch, capsys):
    monkeypatch.setattr(run_notebook, "LOG_EVERY_S", "0.01")
    old = project / "artifacts/ablation/0_wide.log"
    old.parent.mkdir(parents=True, exist_ok=True)
    old.write_text("train: 100%|#| 4/4 [00:01<00:00]\n")
    cells = [Cell(0, "flam"), Cell(0, "wide")]
    with run_study._shown(project, cells) as done:
        (project / "artifacts/ablation/0_flam.log").write_text(
            "train:  50%|# | 2/4 [00:01<00:01]\n"
        )
        time.sleep(0.5)
        done.add(cells[0])
    shown = capsys.readouterr().err
    assert "| 0.4/2 [" in shown
    assert ", 0_flam 2/4]" in shown
    assert "| 1.0/2 [" in shown, "and nothing of the run that was stopped"


def test_a_study_without_its_data_says_what_makes_them(project, capsys):
    shutil.rmtree(project / "artifacts")
    with pytest.raises(SystemExit) as stopped:
        run_study.main([])
    assert stopped.value.code == 2
    assert "is not there: `make repro` makes it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"ablate.arms": {"flam": {}, "odd": {"train.lr_hedas": 1.0}}},
            "ablate.arms.odd: no param",
        ),
        ({"ablate.arms": {"odd": {"model": "flan"}}}, "ablate.arms.odd: no model 'flan'"),
        ({"ablate.arms": {"odd": {"train.n_steps": "many"}}}, "ablate.arms.odd: train.n_steps = "),
        ({"dependency.budget": {"train.steps": 1}}, "dependency.budget: no parameter train.steps"),
    ],
)
def test_a_change_that_fits_nothing_is_named_before_the_first_run(change, why):
    config = load_config(Path(__file__).parents[2] / "params.yaml")
    run_study.check_changes(config)
    with pytest.raises(ParameterError, match=why):
        run_study.check_changes(config.override(change))
