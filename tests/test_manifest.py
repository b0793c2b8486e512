import errno
import functools
import json
import subprocess
import sys

import filelock
import pytest

from flamlib import files, manifest

JOBS = [{"name": f"{k}.txt", "text": f"犬 {k}\n"} for k in range(5)]
HOW = {"n_jobs": 1, "scheduler": None, "progress": False}


def put(path, job):
    path.write_text(job["text"], encoding="utf-8")
    return {"n_characters": len(job["text"])}


def put_until(full, path, job):
    """A disk that is full from a job on."""
    if job["name"] >= full:
        raise OSError(errno.ENOSPC, "No space left on device")
    return put(path, job)


def fill(out, jobs=JOBS, write=put, **parameters):
    return manifest.fill(out, {"of": "test"} | parameters, jobs, write, **HOW)


def content(out):
    return {p.name: p.read_bytes() for p in out.iterdir() if p.is_file() and p.suffix == ".txt"}


def times(out):
    return {p.name: p.stat().st_mtime_ns for p in out.glob("*.txt")}


def test_every_file_is_there_and_told_of(tmp_path):
    made = fill(tmp_path, answer=(4, 2))
    assert made == manifest.verify(tmp_path)
    assert made["parameters"] == {"of": "test", "answer": [4, 2]}
    assert content(tmp_path) == {job["name"]: job["text"].encode() for job in JOBS}
    for job, shard in zip(JOBS, made["shards"], strict=True):
        assert shard.items() >= job.items()
        assert shard["n_bytes"] == len(job["text"].encode())
        assert shard["n_characters"] == len(job["text"])
        assert shard["sha256"] == files.sha256(tmp_path / job["name"])
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".txt") == [
        ".lock",
        "manifest.json",
    ]


def test_a_complete_folder_is_left_as_it_is(tmp_path):
    first, before = fill(tmp_path, answer=(4, 2)), times(tmp_path)
    assert fill(tmp_path, answer=(4, 2)) == first
    assert times(tmp_path) == before


def test_a_file_that_was_deleted_is_made_again_and_no_other(tmp_path):
    first, before = fill(tmp_path), times(tmp_path)
    (tmp_path / "1.txt").unlink()
    with pytest.raises(ValueError, match=r"1\.txt: missing"):
        manifest.verify(tmp_path)
    assert fill(tmp_path) == first
    after = times(tmp_path)
    assert {name for name in before if before[name] != after[name]} == {"1.txt"}


def test_a_changed_byte_is_found(tmp_path):
    fill(tmp_path)
    (tmp_path / "2.txt").write_text("犬 3\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"2\.txt: missing, or not what was written"):
        manifest.verify(tmp_path)


def test_a_run_that_broke_off_goes_on_where_it_was(tmp_path):
    with pytest.raises(OSError, match="3 of 5 shards are complete, the same call goes on") as full:
        fill(tmp_path, write=functools.partial(put_until, "3.txt"))
    assert full.value.errno == errno.ENOSPC
    before = times(tmp_path)
    assert set(before) == {"0.txt", "1.txt", "2.txt"}
    assert not list(tmp_path.glob(".*.partial"))
    with pytest.raises(ValueError, match="other parameters"):
        fill(tmp_path, more=1)
    fill(tmp_path)
    assert times(tmp_path).items() >= before.items()
    assert len(manifest.verify(tmp_path)["shards"]) == 5


def test_what_a_killed_process_left_half_written_goes(tmp_path):
    (tmp_path / ".3.txt.partial").write_text("half")
    fill(tmp_path)
    assert not list(tmp_path.glob(".*.partial"))


def test_a_second_run_into_the_folder_is_refused(tmp_path):
    with (
        filelock.FileLock(tmp_path / ".lock"),
        pytest.raises(ValueError, match="another run is writing here"),
    ):
        fill(tmp_path)
    fill(tmp_path)  # and nothing of the first stands in the way later


def test_a_lock_is_gone_with_the_process_that_held_it(tmp_path):
    script = (
        "import filelock, os, sys; filelock.FileLock(sys.argv[1] + '/.lock').acquire();"
        "print('held', flush=True); os.kill(os.getpid(), 9)"
    )
    ran = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True)
    assert b"held" in ran.stdout
    assert ran.returncode == -9
    fill(tmp_path)


def test_other_parameters_need_another_folder(tmp_path):
    fill(tmp_path, a=1, b=2)
    with pytest.raises(ValueError, match=r"shards of other parameters \(a, c\)"):
        fill(tmp_path, a=2, b=2, c=3)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ValueError, match="nothing says of what"):
        fill(tmp_path, a=1, b=2)


def test_what_is_not_ours_may_lie_there_too(tmp_path):
    (tmp_path / "README.md").write_text("notes")
    fill(tmp_path)
    assert (tmp_path / "README.md").read_text() == "notes"


def test_no_jobs_make_an_empty_folder(tmp_path):
    assert fill(tmp_path, jobs=[])["shards"] == []
    assert json.loads((tmp_path / "manifest.json").read_text()) == manifest.verify(tmp_path)


def test_a_folder_without_a_manifest_was_not_completed(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no manifest\.json"):
        manifest.verify(tmp_path)
