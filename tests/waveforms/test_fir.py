import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamlib.waveforms import fir


def high_pass(hz):
    return hz**2 / (hz**2 + 300.0**2)


@given(st.integers(1, 3000), st.sampled_from([1000, 8000, 44100]), st.data())
def test_a_part_is_the_part_of_the_whole(n_samples, rate, data):
    waveform = np.random.default_rng(n_samples).uniform(-1, 1, n_samples)
    start = data.draw(st.integers(0, n_samples - 1))
    stop = data.draw(st.integers(start + 1, n_samples))
    whole = fir.apply(high_pass, waveform, rate, 0, n_samples)
    part = fir.apply(high_pass, waveform, rate, start, stop)
    np.testing.assert_allclose(part, whole[start:stop], atol=1e-9)


@pytest.mark.parametrize("rate", [100, 8000, 48000])
def test_of_a_constant_and_of_a_slope_nothing_is_left(rate):
    waveform = 0.3 + 2.0 * np.arange(rate) / rate
    np.testing.assert_allclose(fir.apply(high_pass, waveform, rate, 0, rate), 0, atol=1e-9)


@pytest.mark.parametrize("hz", [50, 300, 2000])
def test_a_tone_keeps_its_phase_and_gets_the_gain(hz):
    tone = np.sin(2 * np.pi * hz * np.arange(8000) / 8000)
    heard = fir.apply(high_pass, tone, 8000, 1000, 7000)
    np.testing.assert_allclose(heard, high_pass(hz) * tone[1000:7000], atol=0.01)


def test_what_the_filter_does_not_reach_is_left_alone():
    click = np.zeros(8000)
    click[4000] = 1
    heard = fir.apply(high_pass, click, 8000, 0, 8000)
    reach = round(fir.REACH_S * 8000)
    np.testing.assert_allclose(
        np.delete(heard, np.arange(4000 - reach, 4001 + reach)), 0, atol=1e-12
    )
