import subprocess

import pytest

from flamlib import paths


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

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    assert paths.commit() == git("rev-parse", "HEAD")[:12]
    (tmp_path / "dvc.yaml").write_text("stages: {a: 1}\n")
    assert paths.commit() == git("rev-parse", "HEAD")[:12] + "-dirty"
    (tmp_path / "dvc.yaml").unlink()
    assert paths.commit() is None
