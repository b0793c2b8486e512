"""`data/` is never that of an earlier corpus, whichever of DVC's commands comes next."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flamlib.data.corpus import data_folder
from flamlib.paths import Places

ROOT = Path(__file__).parents[3]
# What the stage `corpus` does, in small: it makes its outputs, and refreshes data/.
CORPUS = """
import shutil
from pathlib import Path
from flamlib import paths
from flamlib.data.corpus import data_folder

shutil.rmtree("artifacts/source", ignore_errors=True)
Path("artifacts/source").mkdir(parents=True)
Path("artifacts/weights").mkdir(exist_ok=True)
shutil.copy("own.txt", "artifacts/source")
data_folder.refresh(paths.places(small=False))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A pipeline of two stages with the project's own `data.dvc`, before its first run."""
    corpus = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["corpus"]
    outs = [out for out in corpus["outs"] if not str(out).startswith("reports")]
    stages = {
        "corpus": {"cmd": f"{sys.executable} corpus.py", "params": ["source"], "outs": outs},
        "mix": {
            "cmd": "cp data/own.txt artifacts/bank",
            "deps": ["data"],
            "params": ["n"],
            "outs": ["artifacts/bank"],
        },
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (tmp_path / "params.yaml").write_text("source: 1\nn: 1\n")
    (tmp_path / "corpus.py").write_text(CORPUS)
    # As in a fresh clone of a project that has not run yet: without digests.
    text = (ROOT / "data.dvc").read_text()
    text = re.sub(r"^(  \w+|md5): .*\n", "", text, flags=re.MULTILINE)
    (tmp_path / "data.dvc").write_text(text)
    (tmp_path / ".gitignore").write_text("/data\n/artifacts\n")
    (tmp_path / "own.txt").write_text("one")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    run("git", "init", "-q")
    for name, value in (("user.name", "a"), ("user.email", "a@b.c")):
        run("git", "config", name, value)
    dvc("init", "-q")
    dvc("config", "core.analytics", "false")
    dvc("config", "core.autostage", "true")
    dvc("repro", "-q")
    run("git", "add", "-A")
    run("git", "commit", "-qm", "first")
    return tmp_path


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def dvc(*arguments):
    return run(sys.executable, "-m", "dvc", *arguments)


def read(*names):
    return [Path(name).read_text() for name in names]


EVERYWHERE = ("artifacts/source/own.txt", "data/own.txt", "artifacts/bank")


@pytest.mark.timeout(300)
def test_an_experiment_after_a_changed_corpus_is_of_that_corpus(project):
    assert read(*EVERYWHERE) == ["one"] * 3
    (project / "own.txt").write_text("two")
    dvc("repro", "-q", "-f", "corpus")
    assert read(*EVERYWHERE) == ["two", "two", "one"]
    assert "artifacts/bank" not in dvc("status", "corpus")
    dvc("exp", "run", "-q", "-S", "n=2")
    assert read(*EVERYWHERE) == ["two"] * 3
    assert "up to date" in dvc("status")


@pytest.mark.timeout(300)
def test_another_clone_pulls_and_has_nothing_to_do(project, tmp_path_factory, monkeypatch):
    remote, clone = tmp_path_factory.mktemp("remote"), tmp_path_factory.mktemp("clone") / "here"
    dvc("remote", "add", "-q", "-d", "team", str(remote))
    run("git", "commit", "-qam", "remote")
    dvc("push", "-q")
    run("git", "clone", "-q", str(project), str(clone))
    monkeypatch.chdir(clone)
    dvc("pull", "-q")
    assert read(*EVERYWHERE) == ["one"] * 3
    told = dvc("repro")
    assert "Running" not in told
    assert run("git", "status", "--porcelain") == ""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "artifacts/source/audio").mkdir(parents=True)
    (tmp_path / "artifacts/source/audio/a.flac").write_text("new")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/b.flac").write_text("old")
    return tmp_path


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.flac"))


def test_data_is_all_of_the_source_and_nothing_else(folder):
    (folder / "data.dvc").write_text("deps:\n- path: artifacts/source\nouts:\n- path: data\n")
    data_folder.refresh(Places(folder))
    assert names(folder / "data") == ["audio/a.flac"]


@pytest.mark.parametrize("text", [None, "outs:\n- path: data\n"])
def test_data_of_your_own_is_left_alone(folder, text):
    if text is not None:
        (folder / "data.dvc").write_text(text)
    data_folder.refresh(Places(folder))
    assert names(folder / "data") == ["b.flac"]


def test_a_small_run_leaves_it_alone(folder):
    (folder / "data.dvc").write_text("deps:\n- path: artifacts/source\nouts:\n- path: data\n")
    data_folder.refresh(Places(folder, small=True))
    assert names(folder / "data") == ["b.flac"]
