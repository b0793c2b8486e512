import numpy as np
import pytest
from sounds import tone

from flamlib.plots import mel_levels


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_a_tone_is_loudest_at_its_place_on_the_mel_scale(rate):
    db = mel_levels.levels_db(tone(1000, 1.0, rate=rate), rate)
    low, high = map(mel_levels.mel, mel_levels.limits(rate))
    place = (mel_levels.mel(1000) - low) / (high - low)
    assert db.mean(axis=0).argmax() / mel_levels.N_MELS == pytest.approx(place, abs=0.03)


@pytest.mark.parametrize("n_samples", [1, 100, 3_000_000])
def test_of_any_length_there_are_columns_and_not_too_many(n_samples):
    db = mel_levels.levels_db(np.zeros(n_samples), 16000)
    assert 1 <= len(db) <= mel_levels.N_COLUMNS + 2
    assert np.isfinite(db).all()
