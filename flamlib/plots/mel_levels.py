"""Levels of a spectrogram on the mel scale, as figures and pages show them."""

import math

import numpy as np
from jaxtyping import Float
from torchaudio.functional import melscale_fbanks

from flamlib.waveforms import audio

N_FFT, N_MELS, MEL_HZ = 1024, 96, (50.0, 8000.0)
HIGHEST_RATE = 20_000  # above it the lowest bands would be narrower than what a window tells apart
RANGE_DB = 70.0  # of a spectrogram's colours
FLOOR_DB = -100.0  # of silence
N_COLUMNS = 2000  # enough for any width on paper
_WINDOWS = 2**13  # that are transformed at once


def levels_db(
    waveform: Float[np.ndarray, "sample"], sample_rate: int
) -> Float[np.ndarray, "column mel"]:
    """Return a log-mel spectrogram of mono samples in decibels, in `N_COLUMNS` at most.

    Its rows are `N_MELS` bands between the frequencies of `limits`. Of a long recording a column is
    the mean power of all windows in it, so that no sound falls between two columns.
    """
    if sample_rate > HIGHEST_RATE:
        waveform = audio.resample(waveform, sample_rate, HIGHEST_RATE)
        sample_rate = HIGHEST_RATE
    padded = np.pad(waveform.astype(np.float32), N_FFT // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[:: N_FFT // 4]
    filters = melscale_fbanks(N_FFT // 2 + 1, *limits(sample_rate), N_MELS, sample_rate).numpy()
    edges = np.linspace(0, len(windows), min(N_COLUMNS, len(windows)) + 1).astype(int)
    n_at_once = max(1, _WINDOWS * (len(edges) - 1) // len(windows))
    columns = []
    for first in range(0, len(edges) - 1, n_at_once):
        some = edges[first : first + n_at_once + 1]
        weighted = windows[some[0] : some[-1]] * np.hanning(N_FFT).astype(np.float32)
        power = np.abs(np.fft.rfft(weighted)) ** 2 @ filters
        n_windows = np.diff(some)[:, None].astype(power.dtype)
        columns.append(np.add.reduceat(power, some[:-1] - some[0]) / n_windows)
    return 10 * np.log10(np.concatenate(columns) + 10 ** (FLOOR_DB / 10))


def shown_db(level_db: Float[np.ndarray, "column mel"]) -> tuple[float, float]:
    """Return the levels in decibels that have the darkest and the brightest colour: the loudest
    `RANGE_DB`, and of silence, which is the loudest of itself, those above it."""
    top = max(float(level_db.max()), FLOOR_DB + RANGE_DB)
    return top - RANGE_DB, top


def limits(sample_rate: int) -> tuple[float, float]:
    """Return the lowest and the highest frequency of `levels_db`, in hertz."""
    return MEL_HZ[0], min(MEL_HZ[1], sample_rate / 2)


def mel(hz: float | int) -> float:
    """Return a frequency on the mel scale, which `levels_db` divides evenly."""
    return 2595 * math.log10(1 + hz / 700)
