import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from sounds import RATE, noise, tone

from flamlib.data.mixtures import augmentation
from flamlib.data.mixtures.augmentation import augment, loop
from flamlib.waveforms import decibels

NOTHING = {"eq_db": 0.0, "lowpass_prob": 0.0, "reverb_prob": 0.0}


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
    heard = augment(impulse(48000), 48000, rng, **NOTHING | {"lowpass_prob": 1.0})
    gain_db = 20 * np.log10(np.abs(np.fft.rfft(heard)) + 1e-9)
    assert gain_db[500] == pytest.approx(0, abs=1)
    assert gain_db[20000] < -15


@pytest.mark.parametrize("seed", range(5))
def test_a_room_adds_a_tail_that_dies_out(seed):
    rng = np.random.default_rng(seed)
    heard = augment(impulse(), RATE, rng, **NOTHING | {"reverb_prob": 1.0})
    tail = heard[1:]
    assert heard[0] == pytest.approx(1, abs=0.5)
    assert 10**-1.3 < np.sum(tail**2) < 10**0.4  # -12 to 3 dB
    assert len(heard) <= RATE + 0.6 * RATE
    energy = np.cumsum(tail[::-1] ** 2)[::-1]
    assert energy[round(0.3 * RATE)] < 1e-2 * energy[0]


@pytest.mark.parametrize("n_samples", [1, 2, 1000, RATE // 2, 3 * RATE, 10 * RATE - 1])
def test_a_short_background_goes_round(n_samples):
    waveform = noise(10, 0.1).astype(np.float32)[:n_samples]
    assert len(loop(waveform, RATE, 10.0)) == 20 * RATE


def test_a_long_background_stays_as_it_is():
    waveform = noise(10).astype(np.float32)
    assert loop(waveform, RATE, 10.0) is waveform


def test_the_seam_of_a_loop_is_no_louder_and_no_quieter():
    heard = loop(noise(3, 0.1).astype(np.float32), RATE, 10.0)
    levels = decibels.a_weighted_db(heard, RATE, window_s=0.2, hop_s=0.1)[1:-1]
    assert np.ptp(levels) < 2.5


def augmented(waveform, seed=0, **changes):
    return augment(waveform, RATE, np.random.default_rng(seed), **NOTHING | changes)


def tone_of_a_second():
    return tone(440, 1.0).astype(np.float32)


def loudest_hz(waveform):
    return np.argmax(np.abs(np.fft.rfft(waveform))) * RATE / len(waveform)


def test_a_stretched_sound_lasts_longer_at_the_same_pitch():
    longer = augmented(tone_of_a_second(), stretch=[2.0, 2.0])
    assert len(longer) == pytest.approx(2 * len(tone_of_a_second()), rel=0.01)
    assert loudest_hz(longer) == pytest.approx(loudest_hz(tone_of_a_second()), rel=0.01)


def test_a_transposed_sound_is_as_long_at_another_pitch():
    higher = augmented(tone_of_a_second(), pitch_semitones=[12.0, 12.0])
    assert len(higher) == pytest.approx(len(tone_of_a_second()), rel=0.01)
    assert loudest_hz(higher) == pytest.approx(2 * loudest_hz(tone_of_a_second()), rel=0.01)


def test_a_codec_leaves_the_sound_and_takes_what_is_inaudible():
    noisy = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.1
    for seed in range(4):
        heard = augmented(noisy, seed=seed, codec_prob=1.0)
        assert len(heard) == len(noisy)
        assert not np.allclose(heard, noisy, atol=1e-3)
        assert 0.02 < np.std(heard) < 0.2


def test_a_room_answers_after_the_sound(tmp_path):
    response = np.zeros(RATE // 2)
    response[1000], response[5000] = 0.5, 0.25
    soundfile.write(tmp_path / "hall.wav", response, RATE)
    (tmp_path / "LICENCE").write_text("not a recording")
    [room] = augmentation.read_rooms(tmp_path, RATE)
    assert np.linalg.norm(room) == pytest.approx(1, abs=1e-3)
    click = np.zeros(RATE, np.float32)
    click[100] = 1.0
    heard = augmented(click, rooms=[room], room_prob=1.0)
    assert np.flatnonzero(np.abs(heard) > 0.1).tolist() == [100, 4100]


def test_a_room_begins_with_its_direct_sound_though_a_reflection_is_louder(tmp_path):
    response = 1e-4 * np.random.default_rng(0).standard_normal(RATE // 2)
    response[1000], response[1400], response[5000] = 0.3, 0.5, -0.6
    soundfile.write(tmp_path / "hall.wav", response, RATE)
    [room] = augmentation.read_rooms(tmp_path, RATE)
    loud = np.flatnonzero(np.abs(room) > 0.1)
    assert loud.tolist() == [0, 400, 4000]


def test_what_is_no_room_is_named(tmp_path):
    with pytest.raises(ValueError, match="no impulse responses"):
        augmentation.read_rooms(tmp_path, RATE)
    soundfile.write(tmp_path / "hall.wav", np.zeros(100), RATE)
    with pytest.raises(ValueError, match=r"hall\.wav: silent"):
        augmentation.read_rooms(tmp_path, RATE)
    (tmp_path / "hall.wav").write_text("x")
    with pytest.raises(ValueError, match=r"impulse response .*hall\.wav"):
        augmentation.read_rooms(tmp_path, RATE)


def test_whatever_is_done_to_a_sound_is_done_again_from_the_same_seed():
    every = {"pitch_semitones": [-3, 3], "stretch": [0.8, 1.2], "codec_prob": 1.0}
    assert np.array_equal(
        augmented(tone_of_a_second(), **every), augmented(tone_of_a_second(), **every)
    )
