import dataclasses
import io
import json
import os
import resource
import signal
import threading
import time

import datasets
import numpy as np
import pytest
import soundfile
import webdataset
from datasets.packaged_modules.webdataset.webdataset import WebDataset
from distributed import LocalCluster
from sounds import (
    BACKGROUNDS,
    FOREGROUNDS,
    RATE,
    mixture_config,
    variants_config,
    write_data,
)

from flamlib.data.mixtures import bank, mixing, mixture_files, recipes, shards
from flamlib.sound_events.events import Event
from flamlib.storage import manifest

RULES = mixture_config(
    {},
    clip_s=2.0,
    max_event_s=1.5,
    fragment_prob=0.1,
    repeat_prob=0.1,
    min_snr_db=-10.0,
)
GIVEN = {"seed": 5, "split": "train", "shard_size": 4, "n_jobs": 1, "progress": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    settings = {"seed": 0, "sample_rate": RATE, "clip_s": 10.0, "variants": variants_config()}
    bank.build(write_data(folder / "data"), folder / "bank", **settings, n_jobs=1, progress=False)
    return folder / "bank"


def write(folder, out, n=10, form="parquet", **changes):
    return shards.write(folder, RULES, out, n=n, form=form, **GIVEN | changes)


def content(out):
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.suffix}


def drawn(folder, index):
    return mixing.draw(bank.Bank.open(folder), RULES, seed=5, split="train", index=index)


def test_datasets_reads_the_audio_and_all_that_is_known_of_it(folder, tmp_path):
    made = write(folder, tmp_path / "out")
    assert [(s["first"], s["stop"]) for s in made["shards"]] == [(0, 4), (4, 8), (8, 10)]
    read = datasets.load_dataset(
        "parquet",
        data_files=str(tmp_path / "out/*.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert isinstance(read.features["audio"], datasets.Audio)
    assert read["index"] == [*range(10)]
    for row in read.cast_column("audio", datasets.Audio(decode=False)):
        recipe = drawn(folder, row["index"])
        audio = row.pop("audio")
        assert recipes.Recipe.from_row(row) == recipe
        (tmp_path / "x.flac").write_bytes(audio["bytes"])
        samples, rate = soundfile.read(tmp_path / "x.flac", dtype="int16")
        assert rate == RATE
        rendered = recipes.render(bank.Bank.open(folder), recipe)
        assert np.array_equal(samples, mixture_files.to_int16(rendered))


def test_webdataset_reads_them_too(folder, tmp_path):
    write(folder, tmp_path / "out", form="webdataset")
    urls = [str(path) for path in sorted((tmp_path / "out").glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"{i:08d}" for i in range(10)]
    recipe = recipes.Recipe.from_row(json.loads(samples[7]["json"]))
    assert recipe == drawn(folder, 7)
    assert all(isinstance(label, Event) for label in recipe.labels)
    assert samples[7]["flac"][:4] == b"fLaC"


def load(kind, folder, cache, **how):
    files = str(folder / {"parquet": "*.parquet", "webdataset": "*.tar"}[kind])
    return datasets.load_dataset(kind, data_files=files, split="train", cache_dir=str(cache), **how)


def test_datasets_reads_tar_files_without_a_decoder(folder, tmp_path):
    write(folder, tmp_path / "out", form="webdataset")
    rows = load("webdataset", tmp_path / "out", tmp_path / "cache", features=shards.TAR_FEATURES)
    assert len(rows) == 10
    for row in rows:
        recipe = drawn(folder, int(row["__key__"]))
        assert recipes.Recipe.from_row(row["json"]) == recipe
        samples, rate = soundfile.read(io.BytesIO(row["flac"]), dtype="int16")
        assert rate == RATE
        rendered = recipes.render(bank.Bank.open(folder), recipe)
        assert np.array_equal(samples, mixture_files.to_int16(rendered))


def test_tar_files_that_begin_with_silence_have_the_types_of_all(folder, tmp_path, monkeypatch):
    """`datasets` finds the types in the first five rows, if it is not given any."""
    monkeypatch.setattr(WebDataset, "AUDIO_EXTENSIONS", [])  # it needs torchcodec for these
    rules = dataclasses.replace(RULES, background_prob=0.3)
    where = [
        mixing.draw(bank.Bank.open(folder), rules, seed=seed, split="train", index=i).background
        for seed in range(60)
        for i in range(8)
    ]
    begins = [any(where[8 * s : 8 * s + 5]) for s in range(60)]
    seed = next(s for s in range(60) if not begins[s] and any(where[8 * s : 8 * s + 8]))
    given = GIVEN | {"seed": seed, "shard_size": 8}
    shards.write(folder, rules, tmp_path / "out", n=8, form="webdataset", **given)
    rows = load("webdataset", tmp_path / "out", tmp_path / "cache")
    found = [recipes.Recipe.from_row(row["json"]) for row in rows]
    bank_ = bank.Bank.open(folder)
    assert found == [mixing.draw(bank_, rules, seed=seed, split="train", index=i) for i in range(8)]
    assert [recipe.background is None for recipe in found[:5]] == [True] * 5


@pytest.mark.parametrize("form", shards.FORMS)
@pytest.mark.parametrize("damage", ["emptied", "cut", "removed"])
def test_a_damaged_shard_is_made_again(folder, tmp_path, form, damage):
    made = write(folder, tmp_path / "out", form=form)
    before = content(tmp_path / "out")
    path = tmp_path / "out" / made["shards"][1]["name"]
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-9] if damage == "cut" else b"")
    assert write(folder, tmp_path / "out", form=form) == made
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("form", shards.FORMS)
def test_what_is_written_again_has_the_same_bytes(folder, tmp_path, form):
    write(folder, tmp_path / "one", form=form)
    write(folder, tmp_path / "two", form=form, shard_size=4)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert manifest.verify(tmp_path / "one") == manifest.verify(tmp_path / "two")


def test_a_complete_folder_is_left_as_it_is(folder, tmp_path):
    first = write(folder, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")}
    assert write(folder, tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")} == times


def test_a_full_disk_ends_the_run_cleanly_and_it_goes_on(folder, tmp_path):
    """The system refuses to write beyond a size, as a full disk would; the last shard is small."""
    write(folder, tmp_path / "whole", shard_size=8, n=10)
    large, small = (path.stat().st_size for path in sorted((tmp_path / "whole").glob("*.parquet")))
    assert small < large
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((small + large) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="0 of 2 shards are complete, the same call goes on"):
            write(folder, tmp_path / "out", shard_size=8, n=10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert not list((tmp_path / "out").glob("*.parquet"))
    assert not list((tmp_path / "out").glob(".*.partial"))
    write(folder, tmp_path / "out", shard_size=8, n=10)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_the_shards_of_a_killed_worker_are_redone_and_none_is_written_twice(folder, tmp_path):
    """And they have the bytes that this process writes."""
    write(folder, tmp_path / "one", n=400, shard_size=20)
    out = tmp_path / "two"
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as workers:
        settings = {"n": 400, "shard_size": 20, "scheduler": workers.scheduler_address}
        run = threading.Thread(target=write, args=(folder, out), kwargs=settings)
        run.start()
        while not list(out.glob("done/train-*.json")):
            time.sleep(0.01)
        victim = next(iter(workers.workers.values())).process.pid
        os.kill(victim, signal.SIGKILL)
        finished = {path.stem: (out / path.stem).stat() for path in out.glob("done/train-*.json")}
        run.join()
    assert 0 < len(finished) < 20
    for name, before in finished.items():
        after = (out / name).stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert content(out) == content(tmp_path / "one")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"form": "zip"}, "form: expected one of"),
        ({"n": 0}, "n and shard_size"),
        ({"n": 10**30}, "are 250,.* files, and 100,000 are the most: take 10,.* per file"),
        ({"n": 10**30, "shard_size": 10**30}, "at least .* GB .* hours .* the disk of .* holds"),
        ({"split": "test"}, "no foreground of split 'test'"),
    ],
)
def test_what_cannot_be_written_is_refused_before_it_is_begun(folder, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write(folder, tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()


def test_other_parameters_need_another_folder(folder, tmp_path):
    write(folder, tmp_path)
    with pytest.raises(ValueError, match=r"shards of other parameters \(n, seed\)"):
        write(folder, tmp_path, seed=6, n=11)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ValueError, match="nothing says of what"):
        write(folder, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no manifest\.json"):
        manifest.verify(tmp_path)


def test_a_catalogue_of_one_clip_makes_shards(tmp_path):
    data = write_data(
        tmp_path / "data",
        {"tone-a": FOREGROUNDS["tone-a"]},
        {"rain": BACKGROUNDS["rain"]},
    )
    settings = {"seed": 0, "sample_rate": RATE, "clip_s": 10.0, "variants": variants_config()}
    bank.build(data, tmp_path / "bank", **settings, n_jobs=1, progress=False)
    write(tmp_path / "bank", tmp_path / "out", n=3)
    assert len(manifest.verify(tmp_path / "out")["shards"]) == 1
