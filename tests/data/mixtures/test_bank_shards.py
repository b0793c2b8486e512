"""A bank made by several processes, one of which dies, and by a call that was stopped."""

import os
import signal
from functools import partial

import numpy as np
import pytest
import soundfile
from distributed import LocalCluster
from sounds import RATE, noise, tone, variants_config, write_data

from flamlib.data.mixtures import bank, bank_shards, sources
from flamlib.experiment.parameters import plain
from flamlib.storage import files, manifest

SETTINGS = {"seed": 0, "sample_rate": RATE, "clip_s": 1.0, "progress": False}
SETTINGS |= {"variants": variants_config(n_foreground=1, n_background=0)}
FOREGROUNDS = {
    f"tone-{i}": (tone(200 + 50 * i, 0.1), f"tone {i % 5}", "tone", "train", str(i))
    for i in range(11)
}
BACKGROUNDS = {"rain": (noise(2.0, 0.1), "rain", "rain", "train", "r")}


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data", FOREGROUNDS, BACKGROUNDS)


@pytest.fixture(autouse=True)
def shards_of_two(monkeypatch):
    monkeypatch.setattr(bank_shards, "FEWEST", 2)


def build(data, out, **how):
    bank.build(data, out, **SETTINGS | {"n_jobs": 1} | how)
    return content(out)


def content(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.*")}


def dies_once(died, clip, **how):
    """The process that is given the sixth recording is killed, once."""
    if clip["clip_id"] == "tone-5" and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return sources.make_sources(clip, **how)


def test_a_cluster_of_which_a_worker_dies_makes_the_same_bank(data, tmp_path):
    whole = build(data, tmp_path / "whole")
    assert [name for name in whole if name.endswith(".bin")]
    clips = sources.read_clips(data)
    given = {name: SETTINGS[name] for name in ("sample_rate", "clip_s", "seed", "variants")}
    work = partial(dies_once, tmp_path / "died", rooms=(), data=data, **given)
    parameters = given | {"variants": plain(given["variants"])}
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as workers:
        how = {"n_jobs": 1, "scheduler": workers.scheduler_address, "progress": False}
        with files.atomic_folder(tmp_path / "bank") as folder:
            bank.write(folder, clips, work, parameters=parameters, **how)
    assert (tmp_path / "died").exists()
    assert content(tmp_path / "bank") == whole
    manifest.verify(tmp_path / "bank")


def test_a_call_that_was_stopped_goes_on(data, tmp_path, monkeypatch):
    whole, out = build(data, tmp_path / "whole"), tmp_path / "bank"
    make, made = sources.make_sources, []

    def stop(clip, **how):
        made.append(clip["clip_id"])
        if len(made) == 6:
            raise KeyboardInterrupt
        return make(clip, **how)

    monkeypatch.setattr(sources, "make_sources", stop)
    with pytest.raises(KeyboardInterrupt):
        build(data, out)
    assert not out.exists()
    assert build(data, out) == whole
    assert made[6:] == made[4:6] + made[8:]  # the two shards that were whole are not made again
    assert len(made) == 6 + len(FOREGROUNDS) + len(BACKGROUNDS) - 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank", "data", "whole"]


def test_it_begins_anew_if_anything_is_other(data, tmp_path, monkeypatch):
    def stop(folder, table):
        raise KeyboardInterrupt

    def stopped(**other):
        with monkeypatch.context() as patched:
            patched.setattr(bank.source_table, "write", stop)
            with pytest.raises(KeyboardInterrupt):
                build(data, tmp_path / "bank", **other)
        [path] = tmp_path.glob(".bank.unfinished/new/bank/00000.bin")
        return path.stat().st_ino, path.stat().st_mtime_ns

    first = stopped()
    assert stopped() == first
    assert stopped(seed=1) != first
    second = stopped()
    soundfile.write(data / "audio/tone-3.flac", np.asarray(tone(999, 0.1)), RATE)
    assert stopped() != second
    (data / "clips.tsv").write_text((data / "clips.tsv").read_text().replace("tone 0", "beep"))
    made = build(data, tmp_path / "bank")
    assert made == build(data, tmp_path / "whole")


def test_a_bank_stays_until_the_new_one_is_whole(data, tmp_path, monkeypatch):
    old = build(data, tmp_path / "bank")
    with monkeypatch.context() as patched:
        patched.setattr(bank.source_table, "write", fail)
        with pytest.raises(OSError, match="full"):
            build(data, tmp_path / "bank", seed=1)
    assert content(tmp_path / "bank") == old
    assert build(data, tmp_path / "bank", seed=1) != old
    assert not list(tmp_path.glob(".bank*"))


def fail(folder, table):
    raise OSError("the disk is full")


def test_two_runs_do_not_write_to_one_folder(data, tmp_path):
    other = pytest.raises(ValueError, match="another run is writing here")
    with files.resumable_folder(tmp_path / "bank"), other:
        build(data, tmp_path / "bank")


def test_a_bank_of_an_earlier_version_is_named(data, tmp_path):
    build(data, tmp_path / "bank")
    (tmp_path / "bank/sources.arrow").unlink()
    with pytest.raises(ValueError, match=r"bank: of an earlier version.*build it again"):
        bank.Bank.open(tmp_path / "bank")
