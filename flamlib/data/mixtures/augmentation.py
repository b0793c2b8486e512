"""Augmentation of recordings: equaliser, low-pass, reverberation, pitch and tempo, codecs, loops.

Few recordings of a caption, each mastered in its own way, would teach a model the mastering.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pedalboard
import scipy.signal
from jaxtyping import Float

from flamlib.waveforms import audio, collection

DIRECT_RANGE_DB = 20.0  # the direct sound of a room is this close to the largest reflection
CROSSFADE_S = 0.5  # between the end and the beginning of a looped background


def augment(
    waveform: Float[np.ndarray, "sample"],
    sample_rate: int,
    rng: np.random.Generator,
    *,
    eq_db: float | int,
    lowpass_prob: float | int,
    reverb_prob: float | int,
    pitch_semitones: Sequence[float | int] = (0.0, 0.0),
    stretch: Sequence[float | int] = (1.0, 1.0),
    rooms: Sequence[Float[np.ndarray, "of_room"]] = (),
    room_prob: float | int = 0.0,
    codec_prob: float | int = 0.0,
) -> Float[np.ndarray, "longer"]:
    """Return a random variation of a recording, as through another microphone in another room.

    Args:
        waveform: the recording.
        sample_rate: in Hz.
        rng: decides everything that is random.
        eq_db: largest gain or attenuation of the two or three bands of a random equaliser, dB.
        lowpass_prob: probability of a low-pass between 2 and 7 kHz. The recordings of old packages
            are dull (11 kHz), which must not give their captions away.
        reverb_prob: probability of synthetic reverberation, T60 from 0.1 to 0.6 s.
        pitch_semitones: [lowest, highest] pitch shift at the same length; default none.
        stretch: [lowest, highest] factor of the length at the same pitch; default 1. Both by Rubber
            Band, through pedalboard.
        rooms: impulse responses, see `read_rooms`.
        room_prob: probability of a convolution with one of them; default 0.
        codec_prob: probability of MP3 at a low rate, or GSM full rate, and back; default 0.
    """
    waveform = _transpose(waveform, sample_rate, rng, pitch_semitones, stretch)
    waveform = _equalise(waveform, sample_rate, rng, eq_db)
    if rng.random() < lowpass_prob:
        cutoff = min(np.exp(rng.uniform(np.log(2000), np.log(7000))), 0.45 * sample_rate)
        order = int(rng.integers(2, 11))  # from a closed door to an old sound card
        sections = scipy.signal.butter(order, cutoff, fs=sample_rate, output="sos")
        waveform = scipy.signal.sosfilt(sections, waveform)
    if rng.random() < reverb_prob:
        waveform = _reverberate(waveform, sample_rate, rng)
    if room_prob and rng.random() < room_prob:
        waveform = scipy.signal.oaconvolve(waveform, rooms[int(rng.integers(len(rooms)))])
    if codec_prob and rng.random() < codec_prob:
        waveform = _encode(waveform, sample_rate, rng)
    return waveform.astype(np.float32)


def read_rooms(folder: str | Path, sample_rate: int) -> list[Float[np.ndarray, "of_room"]]:
    """Read the impulse responses in a folder, cut to begin with their direct sound, of energy 1.

    So a room neither delays a sound nor changes its level much. The direct sound begins where the
    response first comes within 20 dB of its largest sample (ISO 3382-1), which between hard walls
    is a later reflection. Raises ValueError for a folder without a recording, and for a recording
    that cannot be read or is silent.
    """
    rooms = []
    for path in sorted(Path(folder).glob("*")):
        if not collection.is_named_as_audio(path):
            continue
        try:
            response, _ = audio.read(path, sample_rate=sample_rate)
        except audio.Unreadable as error:
            raise ValueError(f"impulse response {error}") from error
        energy = np.linalg.norm(response)
        if not energy:
            raise ValueError(f"impulse response {path}: silent")
        amplitude = np.abs(response)
        direct = np.argmax(amplitude >= amplitude.max() * 10 ** (-DIRECT_RANGE_DB / 20))
        rooms.append(response[direct:] / energy)
    if not rooms:
        raise ValueError(f"{folder}: no impulse responses (.wav, .flac and other audio) in it")
    return rooms


def _transpose(waveform, sample_rate, rng, pitch_semitones, stretch):
    semitones = factor = None
    if pitch_semitones[0] != pitch_semitones[1] or pitch_semitones[0]:
        semitones = rng.uniform(*pitch_semitones)
    if stretch[0] != stretch[1] or stretch[0] != 1:
        factor = rng.uniform(*stretch)
    if semitones is None and factor is None:
        return waveform
    transposed = pedalboard.time_stretch(
        waveform[None].astype(np.float32),
        sample_rate,
        stretch_factor=1 / (factor or 1.0),  # pedalboard's is a speed
        pitch_shift_in_semitones=semitones or 0.0,
    )
    return transposed[0]


def _encode(waveform, sample_rate, rng):
    if rng.random() < 0.5:
        codec = pedalboard.MP3Compressor(vbr_quality=float(rng.uniform(6, 9.5)))
    else:
        codec = pedalboard.GSMFullRateCompressor()
    return codec(waveform.astype(np.float32), sample_rate)


def _equalise(waveform, sample_rate, rng, eq_db):
    """One shelf and one or two bells at random frequencies, each between -eq_db and eq_db.

    Adding (gain - 1) times the output of a low-pass of first order to the sound is a shelf; adding
    that of a band-pass, whose phase is zero at its centre, is a bell.
    """
    for band in range(int(rng.integers(2, 4))):
        gain = 10 ** (rng.uniform(-eq_db, eq_db) / 20)
        hz = np.exp(rng.uniform(np.log(100), np.log(0.4 * sample_rate)))
        if band == 0:
            b, a = scipy.signal.butter(1, hz, fs=sample_rate)
        else:
            half = 2 ** (rng.uniform(0.5, 2.5) / 2)  # a width of half to two and a half octaves
            edges = hz / half, min(hz * half, 0.49 * sample_rate)
            b, a = scipy.signal.butter(1, edges, "bandpass", fs=sample_rate)
        waveform = waveform + (gain - 1) * scipy.signal.lfilter(b, a, waveform)
    return waveform


def _reverberate(waveform, sample_rate, rng):
    """The sound followed by noise that decays by 60 dB in T60 = 0.1 to 0.6 s.

    response(t) = delta(t) + noise(t) * 10^(-3 t / T60),  energy of the second -12 to 3 dB
    """
    t60 = np.exp(rng.uniform(np.log(0.1), np.log(0.6)))
    t = np.arange(int(t60 * sample_rate)) / sample_rate
    tail = rng.standard_normal(len(t)) * 10 ** (-3 * t / t60)
    tail *= 10 ** (rng.uniform(-12, 3) / 20) / np.linalg.norm(tail)
    wet = scipy.signal.oaconvolve(waveform, tail)
    wet[: len(waveform)] += waveform
    return wet


def loop(
    waveform: Float[np.ndarray, "sample"], sample_rate: int, clip_s: float
) -> Float[np.ndarray, "longer"]:
    """Return a background at least as long as a clip: a shorter one is looped to twice that length.

    The end is faded into the beginning at equal power, sin^2 + cos^2 = 1, because two moments of a
    background are uncorrelated: at equal amplitude, rain would dip by 3 dB in every period.
    """
    if len(waveform) >= clip_s * sample_rate:
        return waveform
    n_fade = min(round(CROSSFADE_S * sample_rate), len(waveform) // 2)
    angle = np.pi / 2 * (np.arange(n_fade) + 0.5) / max(n_fade, 1)
    seam = waveform[:n_fade] * np.sin(angle) + waveform[len(waveform) - n_fade :] * np.cos(angle)
    period = np.concatenate([seam, waveform[n_fade : len(waveform) - n_fade]])
    n_samples = int(np.ceil(2 * clip_s * sample_rate))
    return np.resize(period, n_samples).astype(np.float32)
