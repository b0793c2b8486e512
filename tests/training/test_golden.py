"""The losses of a training, step by step, as they were: a silent change of training shows here.

Those of the rehearsals are compared in tests/test_rehearsal.py; `golden` says how to renew them.
"""

import golden
import pytest
import tiny

from flamlib.experiment.config import load_config
from flamlib.experiment.parameters import parse, plain
from flamlib.models import dual_encoder
from flamlib.training import feature_extraction, fit


def run(folder, config, model, **inputs):
    tiny.forget_processes()
    folders = {"resume": folder / "resume", "curves": folder / "curves"}
    inputs = tiny.train_inputs(folder, **inputs)
    fit.fit(config, model, inputs, folder / "model", **folders)
    return fit.read_history(folder / "model")


@pytest.mark.parametrize("model", ["flam", "mga_clap"])
def test_the_losses_of_a_hundred_steps_are_as_they_were(model, tmp_path, monkeypatch):
    monkeypatch.setattr(dual_encoder, "audio_tower", lambda **settings: tiny.TinyAudioTower())
    tiny.write_corpus(tmp_path)
    tiny.write_text_tower(tmp_path / "weights/tiny_text")
    config = tiny.config(n_steps=100, n_warmup=10, log_every=5, valid_every=20, save_every=100)
    golden.compare(run(tmp_path, config, model, sets=tmp_path / "strong"), model)


def test_the_losses_of_the_default_training_are_as_they_were(tmp_path):
    """A hundred steps by the numbers of params.yaml, but for those of clips: a YAMNet that has
    learnt nothing, a tiny caption tower, tones, 16 short clips a step, from what is stored."""
    tiny.write_experiment(tmp_path)
    default = load_config()
    ours = plain(tiny.config())
    values = plain(default) | {"mixture": ours["mixture"]}
    values["network"] |= {"caption": ours["network"]["caption"]}
    values["train"] |= {
        "n_steps": 100,
        "batch_size": 16,
        "pair_batch_size": 16,
        "pair_s": ours["train"]["pair_s"],
        "mixed_precision": "no",
        "n_workers": 0,
        "valid_every": 50,
        "save_every": 100,
    }
    config = parse(type(default), values)
    folders = {name: tmp_path / name for name in ("bank", "mixtures", "weights")}
    feature_extraction.extract(
        config, **folders, sets=tmp_path / "strong", out=tmp_path / "features", progress=False
    )
    history = run(tmp_path, config, "flam", features=tmp_path / "features")
    golden.compare(history, "default")
