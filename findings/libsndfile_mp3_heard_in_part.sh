#!/usr/bin/env bash
# soundfile reads a part of an MP3 of variable rate that does not say its length, and says nothing.
#
# Without a Xing, Info or VBRI frame, which encoders that write to a stream leave out, libsndfile
# guesses the number of samples from the size of the first frames. Where these are larger than the
# average (three loud seconds, then silence) `read()` ends at the guess: no error, no warning.
# FFmpeg decodes all of the same file.
#
# Seen with soundfile 0.14.0 (libsndfile 1.2.2) and av 18.1.0, on Python 3.11:
#     written: 60.0 s
#     soundfile: 16.9 s
#     FFmpeg: 60.0 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check soundfile==0.14.0 av==18.1.0 numpy==2.3.5
cat > try.py <<'PYTHON'
import av
import numpy as np
import soundfile

RATE, SECONDS = 44100, 60
samples = np.random.default_rng(0).normal(0, 0.001, RATE * SECONDS).astype(np.float32)
samples[: 3 * RATE] *= 300
with av.open("a.mp3", "w", options={"write_xing": "0"}) as out:
    stream = out.add_stream("libmp3lame", rate=RATE, layout="mono")
    stream.codec_context.qscale = True
    stream.codec_context.global_quality = 4
    frame = av.AudioFrame.from_ndarray(samples.clip(-1, 1)[None], format="fltp", layout="mono")
    frame.sample_rate = RATE
    for each in (frame, None):
        out.mux(stream.encode(each))

heard, _ = soundfile.read("a.mp3")
with av.open("a.mp3") as file:
    decoded = sum(frame.samples for frame in file.decode(audio=0))
print(f"written: {SECONDS:.1f} s")
print(f"soundfile: {len(heard) / RATE:.1f} s")
print(f"FFmpeg: {decoded / RATE:.1f} s")
assert len(heard) < 30 * RATE
assert decoded >= SECONDS * RATE
PYTHON
venv/bin/python try.py
