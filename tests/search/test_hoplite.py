"""With the real perch-hoplite. It needs a hundred packages that nothing else here uses, so it is
not in the environment of the tests, and this file is skipped there."""

from itertools import pairwise

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from sounds import RATE, noise, tone

pytest.importorskip(
    "perch_hoplite", reason='perch-hoplite is not installed: pip install "flamlib[hoplite]"'
)
from ml_collections import config_dict
from perch_hoplite.db import brutalism, score_functions
from perch_hoplite.db.sqlite_usearch_impl import SQLiteUSearchDB
from perch_hoplite.zoo.zoo_interface import EmbeddingModel

from flamlib.models import baselines
from flamlib.search import hoplite, indexing
from flamlib.sound_events.events import frame_edges


@pytest.fixture
def model(here):
    return baselines.load(here / "artifacts/checkpoints/flam")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "audio/sub").mkdir(parents=True)
    soundfile.write(tmp_path / "audio/a.wav", noise(5.3), RATE)
    soundfile.write(tmp_path / "audio/sub/b.wav", tone(800, 4.0), RATE)
    (tmp_path / "audio/bad.wav").write_text("no sound")
    return tmp_path / "audio"


@given(st.floats(0.05, 9.0), st.sampled_from([0.32, 0.25, 0.02]), st.sampled_from([1.0, 5.0, 0.3]))
def test_a_window_is_the_mean_of_its_frames_by_what_lies_in_it(duration_s, frame_s, window_s):
    edges = frame_edges(duration_s, frame_s)
    frames = np.random.default_rng(0).normal(size=(len(edges) - 1, 3)).astype(np.float32)
    pooled, offsets = hoplite.pool(frames, duration_s, frame_s, window_s)
    assert offsets[0, 0] == 0.0
    assert offsets[-1, 1] == edges[-1]
    assert (offsets[1:, 0] == offsets[:-1, 1]).all()
    for (onset, offset), vector in zip(offsets, pooled, strict=True):
        shares = [
            max(0.0, min(offset, stop) - max(onset, start)) for start, stop in pairwise(edges)
        ]
        mean = np.average(frames, axis=0, weights=shares)
        assert vector == pytest.approx(mean, abs=1e-4)


def test_the_real_package_opens_a_database_and_searches_it_by_text(model, folder, tmp_path):
    skipped = {}
    hoplite.write(model, folder, tmp_path / "db", window_s=1.0, skipped=skipped)
    assert list(skipped) == ["bad.wav"]
    db = SQLiteUSearchDB.create(str(tmp_path / "db"))
    assert {r.filename for r in db.get_all_recordings()} == {"a.wav", "sub/b.wav"}
    assert db.count_embeddings() == 6 + 4
    vector = hoplite.query(model, "a dog barks")
    found = db.search(vector, 10, approximate=False)
    means = {}
    for path in (folder / "a.wav", folder / "sub/b.wav"):
        frames, duration_s, _ = indexing.embed(model, path)
        pooled, offsets = hoplite.pool(frames, duration_s, model.frame_s, 1.0)
        for window, score in zip(offsets, pooled @ vector, strict=True):
            means[path.relative_to(folder).as_posix(), *window] = score
    ranked = sorted(found, key=lambda result: -result.sort_score)
    assert len(ranked) == len(means)
    for result in ranked:
        window = db.get_window(result.window_id)
        name = db.get_recording(window.recording_id).filename
        assert result.sort_score == pytest.approx(means[name, *window.offsets], abs=2e-3)
    dot = score_functions.get_score_fn("dot")
    brute = brutalism.brute_search(db, vector, 3, dot)
    scores = sorted((r.sort_score for r in brute), reverse=True)
    assert scores == pytest.approx([r.sort_score for r in ranked[:3]], abs=1e-3)


def test_a_second_call_adds_what_is_new_and_other_windows_are_refused(model, folder, tmp_path):
    hoplite.write(model, folder, tmp_path / "db", window_s=5.0)
    soundfile.write(folder / "c.wav", noise(1.0), RATE)
    db = hoplite.write(model, folder, tmp_path / "db", window_s=5.0)
    assert db.count_embeddings() == 2 + 1 + 1
    with pytest.raises(ValueError, match="of another model or of other windows"):
        hoplite.write(model, folder, tmp_path / "db", window_s=1.0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no WAV"):
        hoplite.write(model, tmp_path / "empty", tmp_path / "other")


def test_a_model_is_one_of_theirs(here, model):
    wrapped = hoplite.HopliteModel(model, 1.0)
    assert isinstance(wrapped, EmbeddingModel)
    waveform = noise(2.5).astype(np.float32)
    outputs = wrapped.embed(waveform)
    assert outputs.embeddings.shape == (3, 1, len(hoplite.query(model, "rain")))
    batch = wrapped.batch_embed(np.stack([waveform, waveform]))
    assert np.allclose(batch.embeddings[1], outputs.embeddings)
    assert outputs.pooled_embeddings("mean", "squeeze").shape == outputs.embeddings.shape[-1:]
    config = config_dict.create(model=str(here / "artifacts/checkpoints/flam"), window_size_s=1.0)
    again = hoplite.HopliteModel.from_config(config).embed(waveform)
    assert np.allclose(again.embeddings, outputs.embeddings)
