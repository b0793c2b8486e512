import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sounds import RATE, noise

from flamlib import audio
from flamlib.augmentation import augment, looped

NOTHING = {"eq_db": 0.0, "lowpass_share": 0.0, "reverb_share": 0.0}


def impulse(rate=RATE):
    waveform = np.zeros(rate, np.float32)
    waveform[0] = 1
    return waveform


@given(st.integers(0, 2**32), st.sampled_from([8000, 16000, 48000]))
def test_an_equaliser_changes_no_frequency_by_more_than_its_bands(seed, rate):
    rng = np.random.default_rng(seed)
    heard = augment(impulse(rate), rate, rng, **NOTHING | {"eq_db": 6.0})
    gain_db = 20 * np.log10(np.abs(np.fft.rfft(heard)))
    assert np.abs(gain_db).max() < 3 * 6.0 + 0.1


def test_no_change_is_no_change():
    waveform = noise(0.5).astype(np.float32)
    np.testing.assert_allclose(
        augment(waveform, RATE, np.random.default_rng(0), **NOTHING), waveform, atol=1e-6
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_low_pass_leaves_the_low_and_takes_the_high(seed):
    rng = np.random.default_rng(seed)
    heard = augment(impulse(48000), 48000, rng, **NOTHING | {"lowpass_share": 1.0})
    gain_db = 20 * np.log10(np.abs(np.fft.rfft(heard)) + 1e-9)
    assert gain_db[500] == pytest.approx(0, abs=1)
    assert gain_db[20000] < -15


@pytest.mark.parametrize("seed", range(5))
def test_a_room_adds_a_tail_that_dies_out(seed):
    rng = np.random.default_rng(seed)
    heard = augment(impulse(), RATE, rng, **NOTHING | {"reverb_share": 1.0})
    tail = heard[1:]
    assert heard[0] == pytest.approx(1, abs=0.5)
    assert 10**-1.3 < np.sum(tail**2) < 10**0.4  # -12 to 3 dB
    assert len(heard) <= RATE + 0.6 * RATE
    energy = np.cumsum(tail[::-1] ** 2)[::-1]
    assert energy[round(0.3 * RATE)] < 1e-2 * energy[0]


@pytest.mark.parametrize("n_samples", [1, 2, 1000, RATE // 2, 3 * RATE, 10 * RATE - 1])
def test_a_short_background_goes_round(n_samples):
    waveform = noise(10, 0.1).astype(np.float32)[:n_samples]
    assert len(looped(waveform, RATE, 10.0)) == 20 * RATE


def test_a_long_background_stays_as_it_is():
    waveform = noise(10).astype(np.float32)
    assert looped(waveform, RATE, 10.0) is waveform


def test_the_seam_of_a_loop_is_no_louder_and_no_quieter():
    heard = looped(noise(3, 0.1).astype(np.float32), RATE, 10.0)
    levels = audio.a_weighted_db(heard, RATE, window_s=0.2, hop_s=0.1)[1:-1]
    assert np.ptp(levels) < 2.5
