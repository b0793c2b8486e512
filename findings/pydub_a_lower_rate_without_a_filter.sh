#!/usr/bin/env bash
# pydub's set_frame_rate leaves out the filter: a tone of 9 kHz is one of 7 kHz at 16 kHz, as loud.
#
# `AudioSegment.set_frame_rate` resamples by `audioop.ratecv`, which takes numbers between two samples
# from the line between them. A rate of 16 kHz holds nothing above 8 kHz, so what is above has to be
# filtered out before; here it is folded down at full level instead. Cymbals, birds and hiss become
# sounds that nobody heard, in all that is prepared in this way for a model of speech or of YAMNet's 16
# kHz. Upwards the same line leaves images: of a tone of 3 kHz at 8 kHz, one of 5 kHz at 16 kHz. Mixing
# (`overlay`, `append`) changes rates so, too. No error and no warning; the documentation says that a
# lower rate loses quality. soxr, librosa, torchaudio and FFmpeg filter.
#
# Seen with pydub 0.25.1, soxr 1.1.0, on Python 3.11: what is at the new rate of a sine, level in dB
# relative to it, the tone itself aside
#     9000 Hz, 48000 to 16000 Hz: pydub 7000 Hz at 0.0 dB, soxr nothing
#     9000 Hz, 44100 to 16000 Hz: pydub 7000 Hz at -1.2 dB, soxr nothing
#     3000 Hz, 8000 to 16000 Hz: pydub 5000 Hz at -10.2 dB, soxr nothing
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
# Since Python 3.13 audioop is a package.
venv/bin/pip install --quiet --disable-pip-version-check \
    pydub==0.25.1 soxr==1.1.0 numpy==2.3.5 'audioop-lts==0.2.2; python_version >= "3.13"'
cat > try.py <<'PYTHON'
import numpy as np
import soxr
from pydub import AudioSegment

PEAK = 0.5


def strongest(samples, rate, besides=None):
    """Return frequency and level of the strongest tone but one, in dB relative to a sine of PEAK."""
    inner = samples[len(samples) // 4 : -len(samples) // 4]  # ends aside
    window = np.hanning(len(inner))
    heights = 2 * np.abs(np.fft.rfft(inner * window)) / window.sum() / PEAK
    frequencies = np.fft.rfftfreq(len(inner), 1 / rate)
    if besides is not None:
        heights[np.abs(frequencies - besides) < 50] = 0
    place = heights.argmax()
    return round(frequencies[place]), 20 * np.log10(max(heights[place], 1e-9))


for tone, rate, new_rate, other, seen_db in (
    (9000, 48000, 16000, 7000, 0.0),
    (9000, 44100, 16000, 7000, -1.2),
    (3000, 8000, 16000, 5000, -10.2),
):
    sine = PEAK * np.sin(2 * np.pi * tone * np.arange(2 * rate) / rate)
    samples = np.rint(sine * 32767).astype(np.int16)
    segment = AudioSegment(samples.tobytes(), frame_rate=rate, sample_width=2, channels=1)
    by_pydub = np.array(segment.set_frame_rate(new_rate).get_array_of_samples()) / 32767
    by_soxr = soxr.resample(sine, rate, new_rate)
    kept = tone if tone < new_rate / 2 else None
    heard, level_db = strongest(by_pydub, new_rate, besides=kept)
    _, of_soxr_db = strongest(by_soxr, new_rate, besides=kept)
    by_soxr_too = "nothing" if of_soxr_db < -100 else f"{of_soxr_db:.1f} dB"
    print(
        f"{tone} Hz, {rate} to {new_rate} Hz:"
        f" pydub {heard} Hz at {level_db + 0:.1f} dB, soxr {by_soxr_too}"
    )
    assert heard == other and abs(level_db - seen_db) < 0.1, (heard, level_db)
    assert of_soxr_db < -100, of_soxr_db
PYTHON
venv/bin/python -W ignore try.py
