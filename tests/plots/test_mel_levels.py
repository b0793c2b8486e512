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
    assert 1 <= len(db) <= mel_levels.N_COLUMNS
    assert np.isfinite(db).all()


@pytest.mark.parametrize("minutes", [1, 30])
def test_a_short_sound_of_a_long_recording_is_seen_where_it_is(minutes):
    rate, places_s = 8000, 60 * minutes * np.array([0.123, 0.5003, 0.987])
    samples = 1e-4 * np.random.default_rng(0).standard_normal(60 * minutes * rate)
    for at_s in places_s:
        at = round(at_s * rate)
        samples[at : at + rate // 5] += tone(1000, 0.2, rate=rate)
    loudest = mel_levels.levels_db(samples, rate).max(axis=1)
    column_s = 60 * minutes / len(loudest)
    seen_s = (np.flatnonzero(loudest > np.median(loudest) + 20) + 0.5) * column_s
    away_s = np.abs(seen_s[:, None] - (places_s + 0.1))  # from the middle of each
    assert (away_s.min(axis=0) < column_s).all()
    assert (away_s.min(axis=1) < 0.2 + column_s).all()
