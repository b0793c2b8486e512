"""Levels of waveforms in decibels, weighted by the A curve.

Levels are in dBFS: a square wave of amplitude 1 has 0 dB.
"""

from functools import cache

import numpy as np
from jaxtyping import Float

from flamlib.waveforms import fir

FLOOR_DB = -120.0  # the lowest level: that of digital silence
BLOCK_HOPS = 40  # measured at once
MAX_GAIN = 1.16  # of the A curve, at 2.5 kHz
GATE_DB = 20.0  # hops quieter than the loudest by more are left out of the level of the whole


def a_weighting(frequency_hz: Float[np.ndarray, "bin"]) -> Float[np.ndarray, "bin"]:
    """Return the amplitude gain of the A curve of IEC 61672-1, which is 1 at 1 kHz.

    R(f) = f^4 / ((f^2 + 20.6^2) (f^2 + 107.7^2)^1/2 (f^2 + 737.9^2)^1/2 (f^2 + 12194^2))
    A(f) = R(f) / R(1000)
    """

    def response(f):
        f = np.square(f, dtype=np.float64)
        low = (f + 20.598997**2) * np.sqrt((f + 107.65265**2) * (f + 737.86223**2))
        return f**2 / (low * (f + 12194.217**2))

    return response(frequency_hz) / response(1000.0)


def a_weighted(
    waveform: Float[np.ndarray, "sample"], sample_rate: int
) -> Float[np.ndarray, "sample"]:
    """Return a waveform as the A curve weights it (`fir.apply`): float64, without delay."""
    weighted = np.empty(len(waveform))
    for start in range(0, len(waveform), sample_rate):  # in bounded memory
        stop = min(start + sample_rate, len(waveform))
        weighted[start:stop] = fir.apply(a_weighting, waveform, sample_rate, start, stop)
    return weighted


def a_weighted_db(
    waveform: Float[np.ndarray, "sample"],
    sample_rate: int,
    *,
    window_s: float = 0.05,
    hop_s: float = 0.025,
    first: int = 0,
    n_hops: int | None = None,
) -> Float[np.ndarray, "hop"]:
    """Return the A-weighted level of every hop, in dBFS (a square wave of amplitude 1 has 0 dB).

    Hop h is the time [h, h + 1) * hop_s, measured under a sine window centred on it:

        level[h] = 10 log10( mean of (window * a_weighted)^2 / mean of window^2 ), at least -120

    It is at most as high as the curve could make what lies under the window, which keeps a loud
    sound out of hops that it does not reach. With hop_s = window_s / 2 the squared windows add up
    to 1, so the mean power of the hops is the power of the whole. Before and after the waveform is
    silence, but a constant or a rumble that ends there makes no sound (`fir.apply`). The level of a
    tone is that of the curve within 2 dB from 5 to 40 Hz, and within 0.6 dB above.

    Args:
        waveform: mono.
        sample_rate: in Hz.
        window_s: length of the window in seconds.
        hop_s: length of a hop in seconds.
        first: the first hop to measure.
        n_hops: how many to measure, if there are as many; None: all.
    """
    squared_window = _squared_window(round(window_s * sample_rate))
    n_window = len(squared_window)
    n_all = max(1, int(np.ceil(len(waveform) / (hop_s * sample_rate) - 1e-9)))
    last = n_all if n_hops is None else min(first + n_hops, n_all)
    centres = (np.arange(first, last) + 0.5) * hop_s * sample_rate
    # No drift where a hop is 275.6 samples.
    starts = np.round(centres - n_window / 2).astype(int).tolist()
    levels = []
    for block in range(0, len(starts), BLOCK_HOPS):  # a long background in bounded memory
        begins = starts[block : block + BLOCK_HOPS]
        begin, end = begins[0], begins[-1] + n_window
        a, b = max(begin, 0), min(end, len(waveform))
        heard = np.zeros((2, end - begin))
        heard[0, a - begin : b - begin] = fir.apply(a_weighting, waveform, sample_rate, a, b)
        heard[1, a - begin : b - begin] = waveform[a:b]
        heard *= heard
        rows = np.stack([heard[:, k - begin : k - begin + n_window] for k in begins])
        weighted, own = (rows @ squared_window).T
        levels.append(np.minimum(weighted, MAX_GAIN**2 * own))
    return power_db(np.concatenate(levels))


@cache
def _squared_window(n):
    """The square of a sine window, of sum 1."""
    squared = np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2
    return squared / squared.sum()


def power_db(power: Float[np.ndarray, "*axes"]) -> Float[np.ndarray, "*axes"]:
    """Return 10 log10 of a power as float32, at least -120."""
    return (10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10)))).astype(np.float32)


def mean_db(levels_db: Float[np.ndarray, "hop"]) -> float:
    """Return the level of the mean power of hops: the level of the sound as a whole.

    >>> round(mean_db(np.array([-20.0, -120.0])), 2)  # half the power is 3 dB less
    -23.01
    """
    return float(10 * np.log10(np.mean(10 ** (np.asarray(levels_db, dtype=np.float64) / 10))))


def gated_db(levels_db: Float[np.ndarray, "hop"]) -> float:
    """Return the level of a sound's loud part: mean power of the hops within 20 dB of the loudest.

    Otherwise the pauses between the strokes of a hammer, or the long tail of a bell, would lower
    the level of a sound.

    >>> round(gated_db(np.array([-90.0, -20.0, -20.0, -60.0])), 3)
    -20.0
    """
    return mean_db(levels_db[levels_db >= levels_db.max() - GATE_DB])
