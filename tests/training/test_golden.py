"""The losses of a training, step by step, as they were: a silent change of training shows here.

Where a change is meant, write the new curves with

    python -m pytest tests/training/test_golden.py --basetemp "$TMPDIR/golden"

and copy `$TMPDIR/golden/*/<model>.tsv` to `tests/training/golden`; say in the commit why they
changed.
"""

from pathlib import Path

import pandas as pd
import pytest
import tiny
from accelerate.state import AcceleratorState, GradientState, PartialState

from flamlib.models import dual_encoder
from flamlib.training import fit
from flamlib.training.inputs import TrainInputs

GOLDEN = Path(__file__).parent / "golden"
# One machine repeats them to the digit. Kernels of another processor add in another order: with
# AVX2 instead of AVX-512 the largest difference in 100 steps was 4e-5.
ACROSS_MACHINES = 1e-3


@pytest.mark.parametrize("model", ["flam", "mga_clap"])
def test_the_losses_of_a_hundred_steps_are_as_they_were(model, tmp_path, monkeypatch):
    monkeypatch.setattr(dual_encoder, "audio_tower", lambda **settings: tiny.TinyAudioTower())
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
    tiny.write_corpus(tmp_path)
    tiny.write_text_tower(tmp_path / "weights/tiny_text")
    inputs = TrainInputs(
        bank=tmp_path / "bank",
        mixtures=tmp_path / "train.parquet",
        valid=tmp_path / "valid.parquet",
        sets=tmp_path / "strong",
        captions=tmp_path / "data/captions.tsv",
        weights=tmp_path / "weights",
    )
    config = tiny.config(n_steps=100, n_warmup=10, log_every=5, valid_every=20, save_every=100)
    folders = {"resume": tmp_path / "resume", "curves": tmp_path / "curves"}
    fit.fit(config, model, inputs, tmp_path / "model", **folders)
    found = pd.DataFrame(fit.read_history(tmp_path / "model"))
    found.to_csv(tmp_path / f"{model}.tsv", sep="\t", index=False)
    golden = pd.read_csv(GOLDEN / f"{model}.tsv", sep="\t")
    pd.testing.assert_frame_equal(found, golden, rtol=ACROSS_MACHINES, check_dtype=False)
