"""Read recordings as mono waveforms, resample them, and measure A-weighted levels."""

from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr
from jaxtyping import Float

FLOOR_DB = -120.0  # the lowest level: that of digital silence
ENDLESS = 2**40  # samples; libsndfile reports more for a header without a length
GATE_DB = 20.0  # hops quieter than the loudest by more are left out of the level of the whole


class Unreadable(Exception):
    """A recording that cannot be used: `path`, and the reason `why`."""

    def __init__(self, path: str | Path, why: str):
        super().__init__(path, why)  # both as args, so that the error survives a process pool
        self.path, self.why = path, why

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"


def read(
    path: str | Path,
    *,
    sample_rate: int | None = None,
    start_s: float | int = 0.0,
    stop_s: float | int | None = None,
) -> tuple[Float[np.ndarray, "sample"], int]:
    """Read a recording, in any format that libsndfile reads, as a mono waveform.

    Args:
        path: the file.
        sample_rate: of the waveform, Hz; None: that of the file.
        start_s: begin of the part to read, in seconds.
        stop_s: its end, in seconds; None: that of the file.

    Returns:
        The waveform, float32, and its sample rate.

    Raises:
        Unreadable: the file is missing or damaged, has no samples in that part, holds NaN or
            infinity, or is a FLAC written to a pipe, whose header does not have its length.
    """
    try:
        with soundfile.SoundFile(path) as file:
            if file.frames >= ENDLESS:
                raise Unreadable(path, "its header does not say how long it is; write it again")
            native_rate = file.samplerate
            start = round(start_s * native_rate)
            stop = file.frames if stop_s is None else round(stop_s * native_rate)
            if not 0 <= start < min(stop, file.frames):
                raise Unreadable(
                    path, f"no samples from {start_s} s to {stop_s} s of {file.frames} samples"
                )
            file.seek(start)
            channels = file.read(stop - start, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise Unreadable(path, str(error)) from error
    if not len(channels):
        raise Unreadable(path, "no samples could be decoded: a truncated file?")
    if not np.isfinite(channels).all():
        raise Unreadable(path, "holds NaN or infinity")

    waveform = mono(channels)
    if sample_rate is None:
        return waveform, native_rate
    return resample(waveform, native_rate, sample_rate), sample_rate


def mono(channels: Float[np.ndarray, "sample channel"]) -> Float[np.ndarray, "sample"]:
    """Return the average of the channels, or the loudest one if averaging would cancel the sound.

    Cancelling means that the average has more than 6.1 dB less power than the loudest channel. Two
    independent channels lose 3 dB and a silent one beside another 6.02 dB, which is no cancelling;
    two in opposite phase lose everything.
    """
    if channels.shape[1] == 1:
        return channels[:, 0]
    average = channels.mean(axis=1)
    powers = np.mean(np.square(channels, dtype=np.float64), axis=0)
    loudest = int(np.argmax(powers))
    if np.mean(np.square(average, dtype=np.float64)) < 10**-0.61 * powers[loudest]:
        return np.ascontiguousarray(channels[:, loudest])
    return average


def resample(
    waveform: Float[np.ndarray, "sample"], from_rate: float | int, to_rate: float | int
) -> Float[np.ndarray, "resampled"]:
    """Return the waveform at another sample rate (soxr, high quality)."""
    if from_rate == to_rate:
        return waveform
    return soxr.resample(waveform, from_rate, to_rate, quality="HQ")


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


def a_weighted_db(
    waveform: Float[np.ndarray, "sample"],
    sample_rate: int,
    *,
    window_s: float = 0.05,
    hop_s: float = 0.025,
    n_skipped: int = 0,
) -> Float[np.ndarray, "hop"]:
    """Return the A-weighted level of every hop, in dBFS (a square wave of amplitude 1 has 0 dB).

    Hop h is the time [h, h + 1) * hop_s, measured under a sine window centred on it:

        level[h] = 10 log10( sum over f of |A(f) X[h, f]|^2 / mean of window^2 ), at least -120

    Weighting the spectrum of the window instead of filtering the signal keeps a loud sound out of
    hops that it does not reach. With hop_s = window_s / 2 the squared windows add up to 1, so the
    mean power of the hops is the power of the whole. Before and after the waveform is silence.

    Args:
        waveform: mono.
        sample_rate: in Hz.
        window_s: length of the window in seconds.
        hop_s: length of a hop in seconds.
        n_skipped: number of hops at each end that are not computed and returned as -120 dB; the
            other hops are unaffected.
    """
    n_window = round(window_s * sample_rate)
    n_hops = max(1, int(np.ceil(len(waveform) / (hop_s * sample_rate) - 1e-9)))
    centres = (np.arange(n_hops) + 0.5) * hop_s * sample_rate
    starts = np.round(centres - n_window / 2).astype(int)  # no drift where a hop is 275.6 samples

    before = max(0, -starts[0])
    after = max(0, starts[-1] + n_window - len(waveform))
    padded = np.zeros(before + len(waveform) + after, np.float32)
    padded[before : before + len(waveform)] = waveform
    window, weights = _window(n_window, sample_rate)
    power = np.empty(n_hops)
    for block in range(0, n_hops, 2048):  # a minute-long background in bounded memory
        hops = slice(block, block + 2048)
        measured = range(max(block, n_skipped), min(block + 2048, n_hops - n_skipped))
        rows = np.zeros((len(power[hops]), len(weights)), np.float32)
        if measured:
            begins = [starts[hop] + before for hop in measured]
            spectrum = np.fft.rfft(np.stack([padded[k : k + n_window] for k in begins]) * window)
            # Into a matrix of all rows: the product of fewer rows may differ in its last bit.
            rows[measured.start - block : measured.stop - block] = (
                spectrum.real**2 + spectrum.imag**2
            )
        power[hops] = rows @ weights
    return power_db(power)


@cache
def _window(n_window, sample_rate):
    """The sine window, and the weights of the powers of its spectrum in their sum."""
    window = np.sin(np.pi * (np.arange(n_window) + 0.5) / n_window).astype(np.float32)
    gain = a_weighting(np.fft.rfftfreq(n_window, 1 / sample_rate))
    # The spectrum of a real signal has every bin twice, except 0 Hz and the Nyquist frequency.
    twice = np.where((np.arange(len(gain)) == 0) | (2 * np.arange(len(gain)) == n_window), 1, 2)
    return window, (twice * gain**2 / (n_window * np.sum(window**2))).astype(np.float32)


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
