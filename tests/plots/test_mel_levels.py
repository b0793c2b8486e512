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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000, 192_000])
def test_noise_fills_all_bands_at_any_rate(rate):
    db = mel_levels.levels_db(np.random.default_rng(0).normal(size=rate), rate)[2:-2]
    assert db.mean(axis=0).min() > db.max() - 40


@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize("n_samples", [1, 100, 3_000_000])
def test_of_any_length_there_are_columns_and_not_too_many(n_samples, rate):
    db = mel_levels.levels_db(np.zeros(n_samples), rate)
    assert 1 <= len(db) <= mel_levels.N_COLUMNS + 2
    assert np.isfinite(db).all()
