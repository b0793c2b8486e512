"""The trunk's output of every clip is stored, once; and goes on where it was stopped."""

import json
import shutil

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from flamlib.data.mixtures import recipes
from flamlib.data.mixtures.bank import Bank
from flamlib.experiment.config import load_config
from flamlib.models.yamnet import YAMNet
from flamlib.storage import manifest
from flamlib.training import feature_extraction
from flamlib.training.feature_extraction import StoredFeatures

TAGS = {"audio": {"tower": "yamnet", "tags": True}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    tiny.write_experiment(folder)
    return folder


def config(**changes):
    found = tiny.config(network=TAGS, n_pair_takes=2)
    return found.override({f"features.{k}": v for k, v in ({"shard_clips": 5} | changes).items()})


def run(made, out, settings=None):
    folders = {name: made / name for name in ("bank", "mixtures", "weights")}
    settings = settings or config()
    return feature_extraction.extract(
        settings, **folders, sets=made / "strong", out=out, progress=False
    )


@pytest.fixture(scope="module")
def out(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    run(made, folder)
    return folder


def trunk_of(made):
    tower = YAMNet(tags=True).eval()
    tower.load_weights(made / "weights/yamnet/model.safetensors")
    return tower


def test_what_is_stored_is_what_the_trunk_makes_of_each_clip(made, out):
    tower, stored = trunk_of(made), StoredFeatures.of(out, made / "bank", made / "mixtures")
    bank = Bank.open(made / "bank")
    for split in ("train", "valid"):
        mixtures = recipes.read(made / f"mixtures/{split}.parquet")
        clips = stored.of_split(tower.trunk_id(), split)
        assert len(clips) == len(mixtures)
        for row in (0, len(mixtures) - 1):
            waveform = torch.from_numpy(recipes.render(bank, mixtures[row]))[None]
            with torch.inference_mode():
                expected = tower.trunk(waveform).half()
            torch.testing.assert_close(clips.read([row]), expected, rtol=2e-3, atol=1e-3)
    pairs = feature_extraction.pairs_of(config(), bank, "train")
    clips = stored.of_pairs(tower.trunk_id(), pairs)
    assert len(clips) == len(pairs.takes()) == 2 * 6
    waveform = torch.from_numpy(recipes.render(bank, pairs.recipe(pairs.takes()[3])))[None]
    with torch.inference_mode():
        expected = tower.trunk(waveform).half()
    torch.testing.assert_close(clips.read([3]), expected, rtol=2e-3, atol=1e-3)


def test_what_is_there_is_not_computed_again(made, out, monkeypatch):
    def write(*given):
        raise AssertionError("computed again")

    monkeypatch.setattr(feature_extraction, "_write_shard", write)
    before = json.loads((out / feature_extraction.ABOUT).read_text())
    assert run(made, out) == before


def test_a_run_that_was_stopped_goes_on(made, out, tmp_path, monkeypatch):
    written, write = [], feature_extraction._write_shard

    def stopping(clips, tower, path, job):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(job["name"])
        return write(clips, tower, path, job)

    monkeypatch.setattr(feature_extraction, "_write_shard", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(made, tmp_path)
    n_left, count = 0, []
    monkeypatch.setattr(
        feature_extraction, "_write_shard", lambda *given: count.append(given) or write(*given)
    )
    run(made, tmp_path)
    n_left = len(count)
    whole = sorted(path.relative_to(out) for path in out.rglob("*.npy"))
    assert n_left == len(whole) - 3
    for path in whole:
        np.testing.assert_array_equal(np.load(tmp_path / path), np.load(out / path))


def test_other_weights_are_computed_anew_and_it_is_said(made, tmp_path, capsys):
    run(made, tmp_path / "out")
    other = tmp_path / "made"
    shutil.copytree(made, other)
    path = other / "weights/yamnet/model.safetensors"
    tensors = load_file(path)
    tensors["layers.1.weight"] *= 1.1
    save_file(tensors, path)
    run(other, tmp_path / "out")
    assert "of another trunk or of other clips, computed anew" in capsys.readouterr().out
    stored = StoredFeatures.of(tmp_path / "out", other / "bank", other / "mixtures")
    assert stored.of_split(trunk_of(other).trunk_id(), "valid") is not None
    with pytest.raises(ValueError, match="other weights"):
        stored.of_split(trunk_of(made).trunk_id(), "valid")


def test_more_than_is_allowed_is_refused_before_anything_is_computed(made, tmp_path):
    with pytest.raises(ValueError, match=r"train 0\.\d\d.*more than features\.max_gb = 0\.001"):
        run(made, tmp_path, config(max_gb=0.001))
    assert not [*tmp_path.rglob("*.npy")]


def test_a_disk_without_room_is_named_before_anything_is_computed(made, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(feature_extraction.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"GB are needed and 0\.00 GB are free"):
        run(made, tmp_path)
    assert not [*tmp_path.rglob("*.npy")]


def test_a_tower_that_learns_from_the_log_mel_on_stores_nothing(made, tmp_path):
    run(made, tmp_path)
    about = run(made, tmp_path, config().override({"network.audio.tags": False}))
    assert about == {"trunk": None, "parts": {}}
    assert not [*tmp_path.rglob("*.npy")], "what is no longer asked for is removed"


def test_recordings_that_are_drawn_anew_are_not_stored(made, tmp_path):
    about = run(made, tmp_path, config().override({"train.n_pair_takes": None}))
    assert set(about["parts"]) == {"train", "valid"}


def test_the_strongest_classes_are_those_of_the_classifier(made, out):
    tower, names = trunk_of(made), [f"sound {i}" for i in range(521)]
    stored = StoredFeatures.of(out, made / "bank", made / "mixtures")
    clip = stored.of_split(tower.trunk_id(), "valid").read([0])
    found = feature_extraction.strongest_classes(tower, clip, made / "weights", n_classes=5)
    assert found["scores"].shape == (8, 5)
    assert set(found["captions"]) <= set(names)
    strongest = found["scores"].max(axis=0)
    assert (np.diff(strongest) <= 0).all()
    assert ((strongest >= 0) & (strongest <= 1)).all()


def test_the_manifests_say_what_the_clips_are(made, out):
    about = manifest.read(out / "pairs_train")["parameters"]
    assert about["trunk"] == trunk_of(made).trunk_id()
    assert json.loads(about["content"]["recordings"])["pair_s"] == 1.28
    assert load_config().features.max_gb <= 4.0, "what the default run may take of a disk"


def test_clips_that_fill_no_window_are_refused_before_anything_is_computed(made, tmp_path):
    """StoredFeatures, a clip of HTS-AT's would end with its window."""
    audio = {"embed": 8, "depths": [1] * 4, "heads": [1, 2, 2, 4], "frozen_stages": 4}
    audio |= dict.fromkeys(("drop_path", "drop_hidden", "drop_attention"), 0.0)
    network = {"audio": {"tower": "htsat", "sample_rate": 16_000, **audio}}
    settings = tiny.config(network=network, n_pair_takes=2)
    with (
        pytest.warns(UserWarning, match="random weights"),
        pytest.raises(ValueError, match=r"train: clips of 2\.56 s do not fill windows of 10 s"),
    ):
        run(made, tmp_path, settings)
    assert not [*tmp_path.rglob("*.npy")]
