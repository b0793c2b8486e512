import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from bad_files import GOOD, write_bad_files
from distributed import LocalCluster
from heldouts import write_model
from sounds import RATE, noise, tone

from flamlib.inference import bars
from flamlib.models import baselines
from flamlib.search import archive, archive_part, codes, indexing
from flamlib.storage import one_writer


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "model"
    write_model(folder)
    return folder


@pytest.fixture
def sounds(tmp_path):
    (tmp_path / "sounds").mkdir()
    for name, samples in {"a": tone(440, 1.0), "b": noise(2.3), "c": tone(900, 0.1)}.items():
        soundfile.write(tmp_path / f"sounds/{name}.wav", samples, RATE)
    return tmp_path / "sounds"


def listing(folder):
    return sorted(folder.iterdir())


def gone(path):
    """As the command has it of a folder that was named."""
    return True


def test_frames_are_those_that_the_model_gives(model, sounds, tmp_path):
    done = indexing.update(model, listing(sounds), tmp_path / "index")
    assert (done.n_files, done.n_embedded, done.skipped) == (3, 3, {})
    index, loaded = archive.read(tmp_path / "index"), baselines.load(model)
    [part] = index.parts
    frames = np.split(codes.decode(part.coded), np.cumsum([r.n_frames for r in part.recordings]))
    for stored, there in zip(part.recordings, frames, strict=False):
        [path] = index.paths[stored.sha256]
        samples, rate = soundfile.read(path, dtype="float32")
        assert stored.duration_s == pytest.approx(len(samples) / rate)
        heard = loaded.embed_audio(samples, rate).frame_emb[0].numpy()
        assert there == pytest.approx(heard[: stored.n_frames], abs=5e-3)


def test_only_what_is_new_is_embedded_and_what_is_gone_is_forgotten(model, sounds, tmp_path):
    out = tmp_path / "index"
    indexing.update(model, listing(sounds), out)
    again = indexing.update(model, listing(sounds), out)
    assert (again.n_files, again.n_embedded, again.n_forgotten) == (3, 0, 0)

    shutil.move(sounds / "a.wav", sounds / "moved.wav")
    shutil.copy(sounds / "b.wav", sounds / "copy.wav")
    (sounds / "c.wav").unlink()
    soundfile.write(sounds / "d.wav", noise(0.4, seed=3), RATE)
    done = indexing.update(model, listing(sounds), out, forget=gone)
    assert (done.n_files, done.n_embedded, done.n_forgotten) == (4, 1, 2)
    paths = sorted(path.name for found in archive.read(out).paths.values() for path in found)
    assert paths == ["b.wav", "copy.wav", "d.wav", "moved.wav"]


def test_a_file_that_was_edited_is_embedded_anew(model, sounds, tmp_path):
    out = tmp_path / "index"
    indexing.update(model, listing(sounds), out)
    soundfile.write(sounds / "a.wav", 0.5 * tone(440, 1.0), RATE)  # of the same size
    done = indexing.update(model, listing(sounds), out)
    assert (done.n_files, done.n_embedded) == (3, 1)
    stored = [r.sha256 for part in archive.read_parts(out) for r in part.recordings]
    assert len(stored) == 4  # the rest of its part is in use


def test_files_that_are_not_given_stay_unless_they_are_to_be_forgotten(model, sounds, tmp_path):
    out = tmp_path / "index"
    indexing.update(model, [sounds / "a.wav"], out)
    assert indexing.update(model, [sounds / "b.wav"], out).n_files == 2
    done = indexing.update(model, [], out, forget=lambda path: path.name == "a.wav")
    assert (done.n_files, done.n_forgotten, done.freed > 0) == (1, 1, True)


def test_of_bad_files_the_good_one_is_indexed_and_each_other_is_said(model, tmp_path):
    bad = write_bad_files(tmp_path / "sounds")
    odd = os.fsdecode(b"caf\xe9.wav")
    shutil.copy(tmp_path / "sounds" / GOOD, tmp_path / "sounds" / odd)
    for _ in range(2):
        done = indexing.update(model, listing(tmp_path / "sounds"), tmp_path / "index")
        assert sorted(os.path.basename(path) for path in done.skipped) == sorted([*bad, odd])
        assert all(done.skipped.values())
        assert done.n_files == 1


@pytest.mark.parametrize("what", ["its state", "its content"])
def test_what_cannot_be_read_today_is_said_and_forgotten_by_no_one(
    model, sounds, tmp_path, monkeypatch, what
):
    """As on a disk that a network has lost; a copy that can be read is in use."""
    out, lost = tmp_path / "index", str(sounds / "a.wav")
    shutil.copy(sounds / "a.wav", sounds / "copy.wav")
    indexing.update(model, listing(sounds), out)
    before = (out / archive.RECORDINGS).read_bytes()
    stat, sha256 = indexing._stamp, indexing.files.sha256

    def fail(path):
        if str(path) == lost:
            raise OSError(5, "Input/output error", lost)

    if what == "its state":
        monkeypatch.setattr(indexing, "_stamp", lambda path: fail(path) or stat(path))
        for name in ("is_file", "exists"):  # which say no more than this from Python 3.14 on
            way = getattr(Path, name)
            monkeypatch.setattr(Path, name, lambda p, way=way: str(p) != lost and way(p))
    else:
        os.utime(lost, ns=(1, 1))
        monkeypatch.setattr(indexing.files, "sha256", lambda path: fail(path) or sha256(path))
    done = indexing.update(model, listing(sounds), out, forget=gone)
    assert done.skipped == {lost: "Input/output error"}
    assert (done.n_files, done.n_embedded, done.n_forgotten, done.freed) == (4, 0, 0, 0)
    assert (out / archive.RECORDINGS).read_bytes() == before


def test_what_is_cut_off_is_indexed_with_a_note(model, sounds, tmp_path):
    whole = (sounds / "b.wav").read_bytes()
    (sounds / "b.wav").write_bytes(whole[: len(whole) // 2])
    done = indexing.update(model, listing(sounds), tmp_path / "index")
    [(path, note)] = done.notes.items()
    assert (path, "cut off" in note) == (str(sounds / "b.wav"), True)
    assert done.n_files == 3


def test_a_call_that_was_stopped_keeps_what_it_had(model, sounds, tmp_path, monkeypatch):
    out, write, n_written = tmp_path / "index", archive_part.write, []

    def full(*args):
        if n_written:
            raise OSError(28, "No space left on device", "part")
        n_written.append(1)
        return write(*args)

    monkeypatch.setattr(indexing, "PART_FRAMES", 1)
    monkeypatch.setattr(indexing, "JOB_FILES", 1)
    monkeypatch.setattr(archive_part, "write", full)
    with pytest.raises(OSError, match="No space"):
        indexing.update(model, listing(sounds), out)
    assert len(archive.read(out).paths) == 1
    monkeypatch.setattr(archive_part, "write", write)
    done = indexing.update(model, listing(sounds), out)
    assert (done.n_files, done.n_embedded) == (3, 2)
    assert len(archive.read(out).parts) == 3


@pytest.mark.parametrize("stopped_by", [KeyboardInterrupt, MemoryError])
def test_what_a_stopped_call_had_embedded_is_found_at_once(
    model, sounds, tmp_path, monkeypatch, stopped_by
):
    """Though it would have been part of one file with what follows."""
    out, embed = tmp_path / "index", indexing.embed

    def stop(model, path):
        if path == str(sounds / "c.wav"):
            raise stopped_by
        return embed(model, path)

    monkeypatch.setattr(indexing, "embed", stop)
    with pytest.raises(stopped_by):
        indexing.update(model, listing(sounds), out)
    found = [path for paths in archive.read(out).paths.values() for path in paths]
    assert sorted(found) == [sounds / "a.wav", sounds / "b.wav"]
    monkeypatch.setattr(indexing, "embed", embed)
    done = indexing.update(model, listing(sounds), out)
    assert (done.n_files, done.n_embedded) == (3, 1)


@pytest.mark.parametrize("phase", ["reading", "embedding"])
def test_what_a_stopped_call_had_read_is_not_read_again(
    model, sounds, tmp_path, monkeypatch, phase
):
    """To read an archive takes hours from a network: many calls may be stopped before its end."""
    out, read, names = tmp_path / "index", indexing._hash, []

    def read_two(name):
        if phase == "reading" and len(names) == 2:
            raise KeyboardInterrupt
        names.append(name)
        return read(name)

    def stop(model, path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(indexing, "_hash", read_two)
        patched.setattr(indexing, "embed", stop)
        with pytest.raises(KeyboardInterrupt):
            indexing.update(model, listing(sounds), out)
    first, names[:] = list(names), []
    soundfile.write(first[0], noise(0.3), RATE)  # was edited since
    monkeypatch.setattr(indexing, "_hash", lambda name: names.append(name) or read(name))
    done = indexing.update(model, listing(sounds), out)
    assert (done.n_files, done.n_embedded) == (3, 3)
    assert sorted([*first, *names]) == sorted([*map(str, listing(sounds)), first[0]])
    assert not (out / "hashed.jsonl").exists()


def test_what_is_stored_now_and_then_is_one_part_in_the_end(model, sounds, tmp_path, monkeypatch):
    indexing.update(model, listing(sounds), tmp_path / "one")
    monkeypatch.setattr(indexing, "SAVE_S", 0.0)
    n_there, embed = [], indexing.embed

    def look(model, path):
        n_there.append(sum(len(part.recordings) for part in archive.read_parts(tmp_path / "two")))
        return embed(model, path)

    monkeypatch.setattr(indexing, "embed", look)
    indexing.update(model, listing(sounds), tmp_path / "two")
    assert n_there == [0, 1, 2]
    [one], [two] = (archive.read(tmp_path / name).parts for name in ("one", "two"))
    assert two.path.read_bytes() == one.path.read_bytes()


def test_how_far_it_is_is_told_by_bytes_recording_by_recording(
    model, sounds, tmp_path, monkeypatch
):
    told = []

    class Bar(bars.tqdm):
        def update(self, n=1):
            told.append(n)

    monkeypatch.setattr(bars, "tqdm", Bar)
    (sounds / "bad.wav").write_bytes(b"no sound")
    indexing.update(model, listing(sounds), tmp_path / "index")
    assert sorted(filter(None, told)) == sorted(path.stat().st_size for path in listing(sounds))


def test_after_a_kill_the_parts_that_were_written_are_not_embedded_again(
    model, sounds, tmp_path, monkeypatch
):
    """It leaves parts, one half written under another name, and no table of the files."""
    out = tmp_path / "index"
    monkeypatch.setattr(indexing, "PART_FRAMES", 1)
    indexing.update(model, listing(sounds), out)
    first, *rest = sorted((out / archive.PARTS).iterdir())
    (out / archive.RECORDINGS).unlink()
    for part in rest:
        part.unlink()
    first.with_name(f".{rest[0].name}.partial").write_bytes(b"half")
    assert archive.read(out).paths == {}
    done = indexing.update(model, listing(sounds), out)
    assert (done.n_files, done.n_embedded) == (3, 2)
    assert len(archive.read(out).paths) == 3


def test_a_lost_part_is_embedded_anew(model, sounds, tmp_path):
    out = tmp_path / "index"
    indexing.update(model, listing(sounds), out)
    [part] = archive.read(out).parts
    part.path.unlink()
    assert indexing.update(model, listing(sounds), out).n_embedded == 3
    assert len(archive.read(out).paths) == 3


def test_another_model_and_a_folder_of_something_else_are_refused(model, sounds, tmp_path):
    indexing.update(model, listing(sounds), tmp_path / "index", model_name="ours")
    write_model(tmp_path / "other", seed=5)
    with pytest.raises(ValueError, match="another model, ours"):
        indexing.update(tmp_path / "other", listing(sounds), tmp_path / "index")
    (tmp_path / "index" / archive.ABOUT).unlink()
    with pytest.raises(ValueError, match="nothing says of which model"):
        indexing.update(model, listing(sounds), tmp_path / "index")


def test_of_two_writers_one_is_refused(model, sounds, tmp_path):
    said = []

    def update():
        try:
            indexing.update(model, listing(sounds), tmp_path / "index")
        except ValueError as error:
            said.append(str(error))

    with one_writer.lock(tmp_path / "index", "flam index"):
        other = threading.Thread(target=update)
        other.start()
        other.join()
    assert said == [
        f"{tmp_path / 'index'}: another flam index is writing there; wait for it, or name another "
        "folder"
    ]


def test_processes_make_the_same_index(model, sounds, tmp_path, monkeypatch):
    indexing.update(model, listing(sounds), tmp_path / "one")
    indexing.update(model, listing(sounds), tmp_path / "two", n_jobs=2)
    one, two = ([*archive.read_parts(tmp_path / name)] for name in ("one", "two"))
    assert [part.recordings for part in one] == [part.recordings for part in two]
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.coded.codes, b.coded.codes)


@pytest.mark.timeout(120)
def test_a_cluster_makes_the_same_index(model, sounds, tmp_path, monkeypatch):
    """Though its workers are in another folder, and the index is named from here."""
    monkeypatch.setattr(indexing, "JOB_FILES", 1)
    indexing.update(model, listing(sounds), tmp_path / "one")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as workers:
        monkeypatch.chdir(tmp_path)
        indexing.update(model, listing(sounds), "two", scheduler=workers.scheduler_address)
    one, two = ([*archive.read_parts(tmp_path / name)] for name in ("one", "two"))
    assert len(one) == 3
    for a, b in zip(one, two, strict=True):
        assert a.recordings == b.recordings
        np.testing.assert_array_equal(a.coded.codes, b.coded.codes)
