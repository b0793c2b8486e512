import io
import os
import shutil
import signal
import threading
import time
from typing import ClassVar

import datasets
import numpy as np
import pyarrow.parquet
import pytest
import soundfile
from bad_files import GOOD, write_bad_files
from distributed import LocalCluster
from heldouts import write_model
from sounds import RATE, noise, tone
from tqdm import tqdm

from flamlib.inference import bars, embedding
from flamlib.losses import frame_wise
from flamlib.models.flam import FLAM
from flamlib.storage import manifest

HOW = {"shard_size": 2, "n_jobs": 1, "progress": False}
SOUNDS = {"a.wav": tone(440, 1.0), "deep/b.flac": noise(2.3), "犬.wav": tone(900, 0.1)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, and recordings of which one cannot be read."""
    folder = tmp_path_factory.mktemp("embedding")
    write_model(folder / "model")
    for name, samples in SOUNDS.items():
        (folder / "sounds" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / "sounds" / name, samples, RATE)
    (folder / "sounds/broken.mp3").write_bytes(b"no audio")
    (folder / "sounds/notes.txt").write_text("not a recording")
    return folder


@pytest.fixture(scope="module")
def rows(folder):
    embedding.write(folder / "model", folder / "sounds", folder / "out", **HOW)
    return datasets.load_dataset(
        "parquet",
        data_files=str(folder / "out/*.parquet"),
        split="train",
        cache_dir=str(folder / "cache"),
    )


def test_datasets_reads_a_row_of_every_recording(folder, rows):
    assert rows["path"] == ["a.wav", "deep/b.flac", "犬.wav"]
    assert rows["duration_s"] == pytest.approx([1.0, 2.3, 0.1])
    assert rows.features["clip_emb"].length == 12
    frame_s = manifest.verify(folder / "out")["parameters"]["frame_s"]
    assert [len(frames) for frames in rows["frame_emb"]] == [
        round(np.ceil(s / frame_s)) for s in (1.0, 2.3, 0.1)
    ]


def test_what_was_stored_scores_as_the_recording_does(folder, rows):
    model = FLAM.from_pretrained(folder / "model")
    captions = ["a dog barks", "a bell rings"]
    asked = model.embed_captions(captions)
    for name, clip_emb, frame_emb in zip(
        rows["path"], rows["clip_emb"], rows["frame_emb"], strict=True
    ):
        waveform, rate = soundfile.read(folder / "sounds" / name, dtype="float32")
        heard = model.embed_audio(waveform[None], rate)
        assert np.array(clip_emb) == pytest.approx(heard.clip_emb[0].numpy(), abs=1e-6)
        frames = asked.caption_emb.new_tensor(frame_emb)
        logits = frame_wise.frame_logits(
            frames[None], asked.caption_emb, asked.logit_scale, asked.logit_bias
        )
        scores = frame_wise.unbiased_score(logits, asked.logit_bias)
        whole = model.score(waveform, rate, captions)[..., : len(frames)]
        assert scores.numpy() == pytest.approx(whole.numpy(), abs=2e-3)  # half precision


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_bar_counts_bytes_of_recordings_those_of_an_earlier_call_among_them(
    folder, tmp_path, monkeypatch, n_jobs
):
    """As a shard can hold an hour, and a recording as much."""

    class Bar(tqdm):
        made: ClassVar[list] = []

        def __init__(self, **how):
            super().__init__(**how, file=io.StringIO(), mininterval=0)
            self.made.append(self)
            self.seen = []

        def update(self, n=1):
            super().update(n)
            self.seen.append(self.n)

    monkeypatch.setattr(bars, "tqdm", Bar)
    how = HOW | {"progress": True, "shard_size": 2, "n_jobs": n_jobs}
    sounds = [path for path in (folder / "sounds").rglob("*.*") if path.suffix != ".txt"]
    n_bytes = sum(path.stat().st_size for path in sounds)
    embedding.write(folder / "model", folder / "sounds", tmp_path / "out", **how)
    [bar] = Bar.made
    assert (bar.total, bar.n, bar.unit) == (n_bytes, n_bytes, "B")
    assert len({*bar.seen}) == (len(sounds) if n_jobs == 1 else 2)
    for shard in (tmp_path / "out/00001.parquet", tmp_path / "nothing"):
        shard.unlink(missing_ok=True)
        embedding.write(folder / "model", folder / "sounds", tmp_path / "out", **how)
        assert Bar.made[-1].n == n_bytes


def test_what_cannot_be_read_is_listed_and_the_rest_goes_on(folder, rows):
    [broken] = embedding.list_skipped(manifest.verify(folder / "out"))
    assert broken["path"] == "broken.mp3"
    assert broken["why"]


def test_of_a_folder_of_bad_files_the_good_one_is_embedded_and_each_other_is_listed(
    folder, tmp_path
):
    bad = write_bad_files(tmp_path / "sounds")
    odd = os.fsdecode(b"caf\xe9.wav")
    shutil.copy(tmp_path / "sounds" / GOOD, tmp_path / "sounds" / odd)
    made = embedding.write(folder / "model", tmp_path / "sounds", tmp_path / "out", **HOW)
    skipped = {entry["path"]: entry["why"] for entry in embedding.list_skipped(made)}
    assert sorted(skipped) == sorted([*bad, odd])
    assert all(skipped.values())
    tables = [pyarrow.parquet.read_table(path) for path in (tmp_path / "out").glob("*.parquet")]
    assert [name for table in tables for name in table["path"].to_pylist()] == [GOOD]
    again = embedding.write(folder / "model", tmp_path / "sounds", tmp_path / "out", **HOW)
    assert again == made


def test_what_is_cut_off_is_embedded_with_a_note(folder, tmp_path):
    (tmp_path / "sounds").mkdir()
    soundfile.write(tmp_path / "sounds/a.wav", noise(2.0), RATE)
    whole = (tmp_path / "sounds/a.wav").read_bytes()
    (tmp_path / "sounds/a.wav").write_bytes(whole[: len(whole) // 2])
    made = embedding.write(folder / "model", tmp_path / "sounds", tmp_path / "out", **HOW)
    assert embedding.list_skipped(made) == []
    [entry] = embedding.list_notes(made)
    assert entry["path"] == "a.wav"
    assert "cut off" in entry["note"]


def test_a_recording_that_is_gone_when_it_is_read_is_listed(folder, tmp_path, monkeypatch):
    write = manifest.fill
    (tmp_path / "sounds").mkdir()
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / "sounds" / name, noise(0.5), RATE)

    def fill(*args, **how):
        (tmp_path / "sounds/a.wav").unlink()
        return write(*args, **how)

    monkeypatch.setattr(manifest, "fill", fill)
    made = embedding.write(folder / "model", tmp_path / "sounds", tmp_path / "out", **HOW)
    assert [entry["path"] for entry in embedding.list_skipped(made)] == ["a.wav"]


def test_recordings_of_which_none_can_be_read_make_an_empty_table(folder, tmp_path):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds/a.wav").write_bytes(b"")
    made = embedding.write(folder / "model", tmp_path / "sounds", tmp_path / "out", **HOW)
    assert [each["path"] for each in embedding.list_skipped(made)] == ["a.wav"]


def test_other_recordings_or_another_model_need_another_folder(folder, rows, tmp_path):
    (tmp_path / "sounds").mkdir()
    soundfile.write(tmp_path / "sounds/a.wav", noise(1.0), RATE)
    with pytest.raises(ValueError, match=r"other parameters \(n_recordings, recordings\)"):
        embedding.write(folder / "model", tmp_path / "sounds", folder / "out", **HOW)
    write_model(tmp_path / "model", seed=5)
    with pytest.raises(ValueError, match=r"other parameters \(model\)"):
        embedding.write(tmp_path / "model", folder / "sounds", folder / "out", **HOW)


def test_a_recording_that_was_edited_needs_another_folder(folder, tmp_path):
    (tmp_path / "sounds").mkdir()
    for gain in (1.0, 0.5):  # of one size
        soundfile.write(tmp_path / "sounds/a.wav", gain * noise(1.0), RATE)
        if gain == 1.0:
            embedding.write(folder / "model", tmp_path / "sounds", tmp_path / "out", **HOW)
    with pytest.raises(ValueError, match=r"other parameters \(recordings\)"):
        embedding.write(folder / "model", tmp_path / "sounds", tmp_path / "out", **HOW)


def test_a_folder_without_recordings_is_refused_before_anything_is_written(folder, tmp_path):
    (tmp_path / "notes.txt").touch()
    for place, why in (
        (tmp_path, "in this folder"),
        (tmp_path / "nothing", "nothing: no such folder"),
        (tmp_path / "notes.txt", "notes.txt: a file"),
    ):
        with pytest.raises(FileNotFoundError, match=why):
            embedding.write(folder / "model", place, tmp_path / "out", **HOW)
    with pytest.raises(ValueError, match="shard_size"):
        embedding.write(
            folder / "model", folder / "sounds", tmp_path / "out", **HOW | {"shard_size": 0}
        )
    assert not (tmp_path / "out").exists()


def test_the_shards_of_a_killed_worker_are_redone_and_none_is_written_twice(folder, tmp_path):
    sounds, out = tmp_path / "sounds", tmp_path / "out"
    sounds.mkdir()
    for i in range(60):
        soundfile.write(sounds / f"{i:02d}.wav", noise(2.0, seed=i), RATE)
    how = {"shard_size": 3, "n_jobs": 1, "progress": False}
    embedding.write(folder / "model", sounds, tmp_path / "alone", **how)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as workers:
        settings = how | {"scheduler": workers.scheduler_address}
        run = threading.Thread(
            target=embedding.write, args=(folder / "model", sounds, out), kwargs=settings
        )
        run.start()
        while not list(out.glob("done/0*.json")):
            time.sleep(0.01)
        os.kill(next(iter(workers.workers.values())).process.pid, signal.SIGKILL)
        finished = {path.stem: (out / path.stem).stat() for path in out.glob("done/0*.json")}
        run.join()
    assert 0 < len(finished) < 20
    for name, before in finished.items():
        after = (out / name).stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    one, other = (manifest.verify(tmp_path / name) for name in ("alone", "out"))
    assert one["parameters"] == other["parameters"]
    assert [s["paths"] for s in one["shards"]] == [s["paths"] for s in other["shards"]]
