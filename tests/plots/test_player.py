import io

import numpy as np
import pytest
import soundfile
from sounds import tone

from flamlib.plots.player import RATE, player


def decoded(shown):
    return soundfile.read(io.BytesIO(shown.data))


@pytest.mark.parametrize("rate", [8000, 22255, 48000, 192000])
def test_it_plays_the_sound_at_its_pitch(rate):
    shown = player(tone(440, 2.0, rate=rate), rate)
    samples, played = decoded(shown)
    assert len(samples) / played == pytest.approx(2.0, abs=0.15)  # MP3 has whole frames
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() * played / len(samples) == pytest.approx(440, rel=0.02)


def test_a_minute_takes_less_than_a_megabyte():
    noise = np.random.default_rng(0).normal(size=60 * RATE).astype(np.float32) * 0.1
    assert len(player(noise, RATE).data) < 1e6


def test_browsers_are_told_what_it_is():
    page = player(tone(440, 0.5), 16000)._repr_html_()
    assert "data:audio/mpeg;base64," in page


@pytest.mark.parametrize("n_samples", [1, 50])
def test_a_moment_and_what_is_too_loud_are_played(n_samples):
    samples, _ = decoded(player(np.full(n_samples, 3.0), 16000))
    assert np.abs(samples).max(initial=0) < 1.5
