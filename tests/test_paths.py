import re
import subprocess
from pathlib import Path

import pytest
import yaml

from flamlib import paths
from flamlib.paths import Places

ROOT = Path(__file__).parents[1]
COPY = "deps:\n- path: artifacts/source\n  md5: 1\nouts:\n- path: data\n"
OWN = "outs:\n- path: data\n"


def test_the_root_is_the_nearest_folder_above_with_a_pipeline(tmp_path, monkeypatch):
    inner = tmp_path / "outer" / "inner"
    (inner / "notebooks").mkdir(parents=True)
    (tmp_path / "outer" / "dvc.yaml").touch()
    monkeypatch.chdir(inner / "notebooks")
    assert paths.root() == (tmp_path / "outer").resolve()
    (inner / "dvc.yaml").touch()
    assert paths.root() == inner.resolve()


def test_outside_a_project_there_is_no_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no dvc\.yaml at or above"):
        paths.root()


def test_the_commit_is_gits_and_says_if_files_differ(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert paths.commit() is None

    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        run = subprocess.run(["git", *who, *arguments], capture_output=True, text=True, check=True)
        return run.stdout.strip()

    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/numbers.json").write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    assert paths.commit() == git("rev-parse", "HEAD")[:12]
    (tmp_path / "reports/numbers.json").write_text("2")  # by the pipeline, as it runs
    (tmp_path / "untracked").touch()
    assert paths.commit() == git("rev-parse", "HEAD")[:12]
    (tmp_path / "dvc.yaml").write_text("stages: {a: 1}\n")
    assert paths.commit() == git("rev-parse", "HEAD")[:12] + "-dirty"
    (tmp_path / "dvc.yaml").unlink()
    assert paths.commit() is None


def outs():
    """All that the stages of dvc.yaml make, by the notebook that they run."""
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values():
        if found := re.search(r"notebooks/(\w+)", stage["cmd"]):
            for out in [*stage["outs"], *stage["metrics"]]:
                yield found[1], next(iter(out)) if isinstance(out, dict) else out


@pytest.mark.parametrize("name", [name for _, name in outs()])
def test_a_small_run_shares_no_place_with_the_whole_one_but_the_weights(tmp_path, name):
    whole, small = Places(tmp_path), Places(tmp_path, small=True)
    assert whole.path(name) == tmp_path / name
    if name == paths.WEIGHTS:
        assert small.path(f"{name}/yamnet") == tmp_path / f"{name}/yamnet"
        return
    kind, rest = name.split("/", 1)
    assert small.path(name) == tmp_path / kind / "small" / rest


def test_a_small_run_reads_its_own_corpus_or_data_of_your_own(tmp_path):
    small = Places(tmp_path, small=True)
    (tmp_path / "data.dvc").write_text(COPY)
    assert small.path("data/captions.tsv") == tmp_path / "artifacts/small/source/captions.tsv"
    (tmp_path / "data.dvc").write_text(OWN)
    assert small.path("data/captions.tsv") == tmp_path / "data/captions.tsv"


def test_files_of_yours_stay_where_they_are(tmp_path):
    for places in (Places(tmp_path), Places(tmp_path, small=True)):
        assert places.path("street.wav") == tmp_path / "street.wav"
        assert places.path("/sounds/a.wav") == Path("/sounds/a.wav")
        assert places.path("artifacts/small/bank") == tmp_path / "artifacts/small/bank"


def test_what_is_missing_is_named_with_the_notebook_that_makes_it(tmp_path):
    (tmp_path / "data.dvc").write_text(COPY)
    for notebook, name in outs():
        if notebook in ("05_detect", "09_benchmarks") or not name.startswith("artifacts"):
            continue
        for small in (True, False):
            with pytest.raises(FileNotFoundError) as told:
                Places(tmp_path, small).existing(name.replace("${item.model}", "mga_clap"))
            assert f"notebook {notebook} with" in str(told.value)
            assert f"small = {small} first" in str(told.value)
            assert ("model = 'mga_clap', " in str(told.value)) == (notebook == "03_train")
    with pytest.raises(FileNotFoundError, match=r"source is not there: run notebook 01_corpus"):
        Places(tmp_path, small=True).existing("data")
    (tmp_path / "artifacts/bank").mkdir(parents=True)
    assert Places(tmp_path).existing("artifacts/bank") == tmp_path / "artifacts/bank"


def test_a_run_that_only_uses_a_model_takes_the_trained_one_if_there_is_one(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert paths.places(small=None).small
    (tmp_path / "artifacts/checkpoints/flam").mkdir(parents=True)
    assert not paths.places(small=None).small
