"""Filter a waveform by a gain that depends on frequency, with a filter of 50 ms."""

from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np
from jaxtyping import Float

REACH_S = 0.025  # of the filter, to either side

Gain = Callable[[Float[np.ndarray, "bin"]], Float[np.ndarray, "bin"]]


def apply(
    gain: Gain, waveform: Float[np.ndarray, "sample"], sample_rate: int, start: int, stop: int
) -> Float[np.ndarray, "part"]:
    """Return a part of the filtered waveform, without delay: float64.

    Beyond its ends the waveform goes on as its own point reflection, so that neither a constant nor
    the slope of a rumble makes a step there.

    Args:
        gain: the amplitude gain at frequencies in Hz; nothing at 0 Hz.
        waveform: mono.
        sample_rate: in Hz.
        start: first sample of the part.
        stop: its end.
    """
    # Imported here: scipy takes a third of a second, and detection needs nothing of it.
    from scipy.fft import next_fast_len

    n_reach = round(REACH_S * sample_rate)
    first, last = start - n_reach, stop + n_reach
    part = np.asarray(waveform[max(first, 0) : last], np.float64)
    part = _reflect(part, max(-first, 0))
    part = _reflect(part[::-1], max(last - len(waveform), 0))[::-1]
    n_fft = next_fast_len(len(part), real=True)
    spectrum = np.fft.rfft(part, n_fft) * _response(gain, sample_rate, n_fft)
    return np.fft.irfft(spectrum, n_fft)[2 * n_reach : len(part)]


def _reflect(part, n):
    """The part and before it n samples: its reflection in its first sample, over and over."""
    while n > 0:
        mirrored = part[n:0:-1] if len(part) > 1 else part[[0] * n]
        part, n = np.concatenate([2 * part[0] - mirrored, part]), n - len(mirrored)
    return part


@cache
def _design(gain, sample_rate):
    """The filter, symmetric around its middle.

    Cut off at `REACH_S`, the filter of a gain would let through a constant. What the cut takes from
    the lowest frequencies is put back by a few cosines under the taper, by least squares of the
    relative error; their sum is such that of a constant nothing is left.
    """
    n_reach, n_fft = round(REACH_S * sample_rate), 8 * sample_rate
    t = np.arange(-n_reach, n_reach + 1)
    taper = np.cos(np.pi / 2 * t / (n_reach + 1))
    taps = taper * np.fft.irfft(gain(np.fft.rfftfreq(n_fft, 1 / sample_rate)), n_fft)[t]
    cosines = taper * np.cos(np.pi * np.outer(np.arange(6), t) / (n_reach + 1))
    hz = np.geomspace(2, min(400, 0.45 * sample_rate), 200)
    waves = np.cos(2 * np.pi / sample_rate * np.outer(hz, t))
    weight = np.minimum(np.sqrt(hz / 50), 1) / gain(hz)
    # Last, and by far the heaviest: the response to a constant.
    responses = np.vstack([weight[:, None] * (waves @ cosines.T), 1e9 * cosines.sum(1)])
    lacking = np.append(weight * (gain(hz) - waves @ taps), -1e9 * taps.sum())
    return taps + np.linalg.lstsq(responses, lacking)[0] @ cosines


@lru_cache(maxsize=64)
def _response(gain, sample_rate, n_fft):
    return np.fft.rfft(_design(gain, sample_rate), n_fft)
