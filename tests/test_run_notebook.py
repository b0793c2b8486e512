"""Running a notebook as a stage: parameters, live output, failure, interruption."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Timer

import nbformat
import pytest
import yaml
from dvc.repo import Repo
from dvc.repo.reproduce import plan_repro
from test_pipeline import ROOT

from flamlib import run_notebook
from flamlib.experiment.config import load_config

CELLS = """
import sys, time
from pathlib import Path
from tqdm import tqdm

print(f"{model=} {sizes=}")
for i in tqdm(range(3), desc="train", mininterval=0):
    while i == 1 and not Path("seen").exists():
        time.sleep(0.02)
"""


def write_notebook(path, *cells):
    first = nbformat.v4.new_code_cell('model = "flam"\nsizes = {"n": 1}\nsmall = True')
    first.metadata["tags"] = ["parameters"]
    rest = [nbformat.v4.new_code_cell(cell) for cell in cells]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[first, *rest], metadata=kernel), path)
    return path


@pytest.fixture
def notebook(tmp_path):
    """Write a notebook whose parameters cell is the given text."""

    def write(*cells, tags=("parameters",)):
        path = tmp_path / "03_train.ipynb"
        cells = [{"metadata": {"tags": list(tags)}, "source": [text]} for text in cells]
        path.write_text(json.dumps({"cells": [{"metadata": {}, "source": ["# Train"]}, *cells]}))
        return path

    return write


def start(tmp_path, *arguments, stage=None, **how):
    """Start `python -m flamlib.run_notebook a.ipynb out.ipynb` in a folder of its own."""
    environment = {k: v for k, v in os.environ.items() if k != "DVC_STAGE"}
    if stage:
        environment["DVC_STAGE"] = stage
    command = [sys.executable, "-m", "flamlib.run_notebook", "a.ipynb", "out.ipynb", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes, **how)


def rest(run):
    """Return what a run prints from here to its end, which must come within a minute.

    `communicate` would miss what came together with the last line that was read.
    """
    end = Timer(60, run.kill)
    end.start()
    with ThreadPoolExecutor() as pool:
        out, err = pool.map(lambda file: file.read(), (run.stdout, run.stderr))
    run.wait()
    end.cancel()
    return out, err


def test_output_is_shown_while_the_notebook_runs(tmp_path):
    write_notebook(tmp_path / "a.ipynb", CELLS)
    (tmp_path / "dvc.yaml").write_text("stages: {mix: {}, train: {matrix: {model: [flam]}}}")
    run = start(tmp_path, "-p", "sizes", "{'n': 2}", "-p", "small", "False", stage="train@flam")
    begins = run.stdout.readline()
    assert begins == "── train@flam (stage 2 of 2) · a.ipynb · sizes, small = False\n"
    assert run.stdout.readline() == "model='flam' sizes={'n': 2}\n"
    assert "0/3" in run.stderr.readline()  # and the notebook waits for us
    (tmp_path / "seen").touch()
    out, err = rest(run)
    assert run.returncode == 0
    assert out.startswith("── train@flam (stage 2 of 2) done in ")
    assert out.endswith(" s · out.ipynb\n")
    # On a busy machine asyncio may add a line of its own while the kernel goes.
    bars = [line for line in err.splitlines() if line.startswith("train")]
    assert "3/3" in bars[-1]
    executed = json.loads((tmp_path / "out.ipynb").read_text())
    [bar] = [o for o in executed["cells"][2]["outputs"] if o["name"] == "stderr"]
    assert "3/3" in "".join(bar["text"])
    assert "0/3" not in "".join(bar["text"]), "the notebook keeps the last state of a bar"


def test_a_failure_is_told_once_with_how_to_continue(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    write_notebook(tmp_path / "a.ipynb", "sizes['k']", "print('not reached')")
    assert run_notebook.run("a.ipynb", tmp_path / "new/out.ipynb", {"model": "mga_clap"}) == 1
    told = capfd.readouterr().out
    assert "── a failed after " in told
    assert f"in cell [3] of {tmp_path / 'new/out.ipynb'}" in told
    assert told.count("KeyError: 'k'") == 1
    assert "\x1b" not in told, "no colours where there is no terminal"
    assert "To continue, run the same command again" in told
    assert "not reached" not in told
    assert (tmp_path / "new/out.ipynb").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_an_interruption_ends_the_kernel_and_tells_how_to_continue(tmp_path):
    write_notebook(tmp_path / "a.ipynb", "import os; print(os.getpid())", CELLS)
    (tmp_path / "dvc.yaml").write_text("stages: {mix: {}}")
    run = start(tmp_path, stage="mix", start_new_session=True)
    run.stdout.readline()
    kernel = int(run.stdout.readline())
    run.stdout.readline()
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does at Ctrl-C; the kernel has another group
    out, err = rest(run)
    assert run.returncode == 130
    assert "── mix (stage 1 of 1) interrupted after " in out
    assert "To continue, run `make repro`" in out
    # On a busy machine the kernel may tell of its own sockets while it goes: that is none of ours.
    for ours in ("KeyboardInterrupt", "PapermillExecutionError", "run_notebook.py"):
        assert ours not in out + err
    for _ in range(100):
        try:
            os.kill(kernel, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the kernel still runs")


def test_a_name_that_the_notebook_does_not_declare_is_refused_before_anything_runs(
    tmp_path, capsys
):
    notebook = write_notebook(tmp_path / "a.ipynb", "1/0")
    arguments = [str(notebook), str(tmp_path / "out.ipynb"), "-p", "modle", "flam"]
    with pytest.raises(SystemExit):
        run_notebook.main(arguments)
    told = capsys.readouterr().err
    assert "has no parameter modle; did you mean model? its parameters: model, sizes, small" in told
    assert not (tmp_path / "out.ipynb").exists()


def test_values_are_read_as_python_or_else_as_text(tmp_path):
    notebook = write_notebook(tmp_path / "a.ipynb")
    given = {"model": "flam_global", "small": "False", "sizes": "{'n': 1e-4}"}
    chosen = {"model": "flam_global", "small": False, "sizes": {"n": 1e-4}}
    assert run_notebook.choose(notebook, given) == chosen
    assert run_notebook.choose(notebook, {"model": "None"}) == {"model": None}


@pytest.fixture
def train(monkeypatch):
    monkeypatch.chdir(ROOT)
    return ROOT / "notebooks/03_train.ipynb"


def test_parameters_of_the_experiment_are_given_by_their_dotted_name(train):
    given = {"train.lr_heads": "5e-5", "model": "flam_global", "train": "{n_steps: 3}"}
    chosen = run_notebook.choose(train, given | {"overrides": "train.n_warmup=1 seed=4"})
    changes = {"train.n_warmup": 1, "seed": 4, "train.lr_heads": 5e-5, "train.n_steps": 3}
    assert chosen == {"model": "flam_global", "overrides": changes}
    of_detection = {"detect.recording": "street.wav", "detect.captions": "[a dog barks, rain]"}
    chosen = run_notebook.choose(ROOT / "notebooks/05_detect.ipynb", of_detection)
    assert load_config(**chosen).detect.captions == ["a dog barks", "rain"]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("train.n_step", "3", r"no parameter train\.n_step; did you mean train\.n_steps"),
        ("train.n_steps", "x", r"train\.n_steps = 'x': expected a whole number"),
        ("train", "{n_step: 3}", r"no parameter train\.n_step; did you mean train\.n_steps"),
        ("n_steps", "3", r"no parameter n_steps; did you mean train\.n_steps"),
        ("trian.n_steps", "3", r"no parameter trian\.n_steps"),
    ],
)
def test_a_wrong_one_is_refused_before_anything_runs(train, name, value, why):
    with pytest.raises(ValueError, match=why):
        run_notebook.choose(train, {name: value})


def test_parameters_are_literals(notebook):
    path = notebook("# Small values.\nn_steps = 4\nn_clips = n_steps * 2")
    with pytest.raises(ValueError, match=r"`n_clips = n_steps \* 2` is not of the form"):
        run_notebook.declared_parameters(path)


def test_there_is_exactly_one_parameters_cell(notebook):
    with pytest.raises(ValueError, match="2 cells are tagged"):
        run_notebook.declared_parameters(notebook("a = 1", "b = 1"))
    with pytest.raises(ValueError, match="0 cells are tagged"):
        run_notebook.declared_parameters(notebook("a = 1", tags=()))


def test_stages_are_counted_as_dvc_runs_them():
    repo = Repo(ROOT)
    order = [stage.addressing for stage in plan_repro(repo.index.graph)]
    order = [name for name in order if ":" not in name and name != "data.dvc"]
    assert run_notebook._names(yaml.safe_load((ROOT / "dvc.yaml").read_text())) == order


def test_progress_bars_are_text():
    """`tqdm.auto` draws widgets in a notebook, which no terminal shows."""
    drawing = [path for path in ROOT.glob("flamlib/**/*.py") if "tqdm.auto" in path.read_text()]
    assert drawing == []


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"cells": [{}]}', b"\xff\xfe", b"[" * 9999]
)
def test_what_is_no_notebook_is_named(tmp_path, content):
    path = tmp_path / "a.ipynb"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.ipynb: not a notebook of Jupyter"):
        run_notebook.declared_parameters(path)
