import errno
import functools
import itertools
import json
import re
import shutil
import subprocess
import sys

import filelock
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamlib.storage import files, manifest

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


DAMAGES = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size // 2)),
    "removed": lambda path: path.unlink(),
    "of another": lambda path: path.write_text("{}"),
    "a list": lambda path: path.write_text("[]"),
    "nested": lambda path: path.write_text("[" * 100_000),
}


def broken_off(out):
    """A folder as a run leaves it that ended after three of five files."""
    with pytest.raises(OSError, match="3 of 5"):
        fill(out, write=functools.partial(put_until, "3.txt"))


def refusal(call):
    """Why a call refuses, or None."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return None


def names(out):
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return content_of(tmp_path_factory.mktemp("whole"))


def content_of(out):
    fill(out)
    return content(out) | {"manifest.json": (out / "manifest.json").read_bytes()}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("begin", [broken_off, fill])
def test_whatever_file_is_lost_the_same_call_makes_it_again_or_names_it(
    tmp_path, whole, begin, damage
):
    begin(tmp_path / "one")
    for name in names(tmp_path / "one"):
        out = tmp_path / name.replace("/", "-")
        shutil.copytree(tmp_path / "one", out)
        DAMAGES[damage](out / name)
        if why := refusal(lambda out=out: fill(out)):
            assert str(out) in why
            assert "delete" in why
        else:
            assert content(out) | {"manifest.json": (out / "manifest.json").read_bytes()} == whole


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_names_whatever_file_is_lost(tmp_path, damage):
    fill(tmp_path / "one")
    for name in set(names(tmp_path / "one")) - {".lock"}:
        out = tmp_path / name
        shutil.copytree(tmp_path / "one", out)
        DAMAGES[damage](out / name)
        with pytest.raises((ValueError, FileNotFoundError), match=re.escape(name)):
            manifest.verify(out)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/hostname", "a/b", "..\\x", "", ".", "..", "a\0b", 3, None, ["a"]]
)
def test_a_manifest_names_files_of_its_folder_alone(tmp_path, name):
    fill(tmp_path / "out")
    (tmp_path / "x").write_text("not to be touched")
    path = tmp_path / "out/manifest.json"
    listed = json.loads(path.read_text())
    listed["shards"][1]["name"] = name
    path.write_text(json.dumps(listed))
    for call in (lambda: manifest.verify(tmp_path / "out"), lambda: fill(tmp_path / "out")):
        with pytest.raises(ValueError, match=r"manifest\.json: entry 1 of shards"):
            call()
    assert (tmp_path / "x").read_text() == "not to be touched"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "x"]


@given(
    listed=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["parameters", "shards", "name", "n_bytes", "sha256"]), inner
            )
        ),
    )
)
def test_any_json_as_a_manifest_is_one_or_is_refused_by_name(tmp_path_factory, listed):
    out = tmp_path_factory.mktemp("any")
    (out / "manifest.json").write_text(json.dumps(listed))
    why = refusal(lambda: manifest.verify(out))
    assert str(out) in why if why else manifest.verify(out) == listed


def test_what_a_run_left_behind_its_manifest_goes(tmp_path):
    """It ended between writing the manifest and removing the notes."""
    made = fill(tmp_path)
    (tmp_path / "done").mkdir()
    (tmp_path / "done/parameters.json").write_text("{}")
    assert fill(tmp_path) == made
    assert not (tmp_path / "done").exists()


@given(n=st.integers(1, 10**7), size=st.integers(1, 10**7))
def test_items_are_split_into_files_without_gaps(n, size):
    if n > size * manifest.MOST_FILES:
        assert f"{-(-n // manifest.MOST_FILES):,} or more per file" in refusal(
            lambda: manifest.split(n, size)
        )
        return
    ranges = manifest.split(n, size)
    assert ranges[0].start == 0
    assert ranges[-1].stop == n
    assert all(a.stop == b.start and len(a) == size for a, b in itertools.pairwise(ranges))
    assert 1 <= len(ranges[-1]) <= size


def test_a_second_run_into_the_folder_is_refused(tmp_path):
    with (
        filelock.FileLock(tmp_path / ".lock"),
        pytest.raises(ValueError, match="another run is writing there"),
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


def test_a_file_is_not_a_folder_to_fill(tmp_path):
    (tmp_path / "out").write_text("content")
    with pytest.raises(NotADirectoryError, match=r"a file, not a folder.*out"):
        fill(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "content"


def test_no_jobs_make_an_empty_folder(tmp_path):
    assert fill(tmp_path, jobs=[])["shards"] == []
    assert json.loads((tmp_path / "manifest.json").read_text()) == manifest.verify(tmp_path)


def test_a_folder_without_a_manifest_was_not_completed(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no manifest\.json"):
        manifest.verify(tmp_path)
