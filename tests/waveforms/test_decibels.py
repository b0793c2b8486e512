import numpy as np
import pytest
import scipy.signal
import sounds
from hypothesis import given
from hypothesis import strategies as st

from flamlib.waveforms import decibels

RATE = 16000


def tone(hz, seconds=1.0, rate=RATE):
    return sounds.tone(hz, seconds, level=1.0, rate=rate).astype(np.float32)


@pytest.mark.parametrize(
    ("hz", "expected_db"), [(63, -26.2), (125, -16.1), (1000, 0.0), (4000, 1.0), (8000, -1.1)]
)
def test_a_tone_is_weighted_as_the_standard_says(hz, expected_db):
    """Table 3 of IEC 61672-1; a sine of amplitude one has an RMS of -3.01 dB.

    The curve is steep at 63 Hz, where a window of 50 ms sees 20 Hz to either side.
    """
    levels = decibels.a_weighted_db(tone(hz, rate=48000), 48000)
    np.testing.assert_allclose(levels[5:-5], expected_db - 3.01, atol=0.6)


@pytest.mark.parametrize("rate", [8000, 11025, 44100])
def test_the_hops_powers_add_up_to_the_whole(rate):
    noise = np.random.default_rng(0).normal(size=3 * rate).astype(np.float32)
    spectrum = np.fft.rfft(noise)
    gain = decibels.a_weighting(np.fft.rfftfreq(len(noise), 1 / rate))
    power = 2 * np.sum(np.abs(gain * spectrum) ** 2) / len(noise) ** 2
    levels = decibels.a_weighted_db(noise, rate)
    assert len(levels) == 120
    assert decibels.mean_db(levels) == pytest.approx(10 * np.log10(power), abs=0.1)


def test_hops_do_not_drift_at_odd_rates():
    """A hop of 25 ms is 275.625 samples at 11025 Hz; after a minute the click is still in place."""
    waveform = np.zeros(60 * 11025, np.float32)
    waveform[round(59.0125 * 11025)] = 1
    levels = decibels.a_weighted_db(waveform, 11025)
    assert len(levels) == 2400
    assert np.argmax(levels) == 2360  # [59, 59.025) s


def test_a_click_is_heard_only_by_windows_that_reach_it():
    waveform = np.zeros(RATE, np.float32)
    waveform[4200] = 1  # the middle of hop 10, [4000, 4400)
    levels = decibels.a_weighted_db(waveform, RATE)
    assert np.argmax(levels) == 10
    assert levels[10] > -35
    assert (np.delete(levels, [9, 10, 11]) == decibels.FLOOR_DB).all()


@pytest.mark.parametrize("n_samples", [1, 10, 399, 400, 401])
def test_short_and_silent_sounds_have_levels_too(n_samples):
    levels = decibels.a_weighted_db(np.zeros(n_samples, np.float32), RATE)
    assert levels.tolist() == [decibels.FLOOR_DB] * -(-n_samples // 400)


def test_it_agrees_with_a_filter_in_time():
    """The A curve as an analogue filter, made digital at 8 times the rate, then windowed."""
    rate, factor = RATE, 8
    noise = np.random.default_rng(0).normal(size=rate).astype(np.float32)
    noise *= np.linspace(0, 1, rate, dtype=np.float32)
    poles = (
        -2 * np.pi * np.array([20.598997, 20.598997, 107.65265, 737.86223, 12194.217, 12194.217])
    )
    gain = 1 / np.abs(scipy.signal.freqs_zpk([0] * 4, poles, 1, worN=[2 * np.pi * 1000])[1][0])
    zeros, poles, gain = scipy.signal.bilinear_zpk([0] * 4, poles, gain, rate * factor)
    fine = scipy.signal.resample_poly(noise, factor, 1)
    filtered = scipy.signal.sosfilt(scipy.signal.zpk2sos(zeros, poles, gain), fine)[::factor]
    slow = [
        10 * np.log10(np.mean((filtered[h * 400 - 200 : h * 400 + 600] * window) ** 2) * 2)
        for h in range(1, 39)
        for window in [np.sin(np.pi * (np.arange(800) + 0.5) / 800)]
    ]
    np.testing.assert_allclose(decibels.a_weighted_db(noise, rate)[1:39], slow, atol=0.7)


@pytest.mark.parametrize("rate", [11025, 16000, 48000])
def test_hops_that_are_not_asked_for_change_nothing_of_the_others(rate):
    """Also in the second of the blocks in which a long sound is measured."""
    for seconds in (0.001, 0.06, 0.125, 5.0):
        waveform = np.random.default_rng(0).normal(0, 0.1, max(1, round(seconds * rate)))
        waveform = waveform.astype(np.float32)
        whole = decibels.a_weighted_db(waveform, rate)
        for first, n in ((0, 1), (1, 2), (38, 7), (60, 1000)):
            if first < len(whole):
                some = decibels.a_weighted_db(waveform, rate, first=first, n_hops=n)
                np.testing.assert_allclose(some, whole[first : first + n], atol=1e-3)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize(
    ("hz", "within_db"), [(5, 2), (10, 2), (20, 2), (50, 0.6), (1000, 0.1), (3500, 0.1)]
)
def test_the_level_of_a_tone_is_that_of_the_curve(rate, hz, within_db):
    """Whole seconds of a tone, whose mean power the windows do not change."""
    curve_db = 20 * np.log10(decibels.a_weighting(np.array([float(hz)]))[0])
    levels = decibels.a_weighted_db(tone(hz, 4.0, rate), rate)
    assert decibels.mean_db(levels[40:-40]) == pytest.approx(curve_db - 3.01, abs=within_db)


@given(
    st.floats(-1, 1), st.floats(0, 0.1), st.integers(1, 5000), st.sampled_from([8000, 11025, 44100])
)
def test_a_constant_is_silence_and_changes_no_level(constant, amplitude, n_samples, rate):
    noise = np.random.default_rng(n_samples).uniform(-amplitude, amplitude, n_samples)
    levels = decibels.a_weighted_db(noise.astype(np.float32), rate)
    moved = decibels.a_weighted_db((noise + constant).astype(np.float32), rate)
    np.testing.assert_allclose(moved, levels, atol=0.1 if amplitude > 1e-3 else 30)
    alone = np.full(n_samples, constant, np.float32)
    assert (decibels.a_weighted_db(alone, rate) == decibels.FLOOR_DB).all()


RUMBLES = {"constant": (0.0, 0.01), "10 Hz": (10.0, 0.05), "5 Hz": (5.0, 0.1)}


@pytest.mark.parametrize("phase", [0.0, 0.7, np.pi / 2, 4.0])
@pytest.mark.parametrize("rumble", RUMBLES)
def test_a_rumble_that_begins_and_ends_with_the_recording_is_no_sound(rumble, phase):
    """40 dB below a tone of amplitude 0.02, as the curve has it, also at its two ends."""
    hz, amplitude = RUMBLES[rumble]
    t = np.arange(3 * RATE) / RATE
    low = amplitude * (np.cos(2 * np.pi * hz * t + phase) if hz else np.ones_like(t))
    assert decibels.a_weighted_db(low.astype(np.float32), RATE).max() < -37 - 40
