#!/usr/bin/env bash
# librosa's time_to_frames gives the frame before, for some of the times that frames_to_time gives.
#
# The documentation of `time_to_frames` has the floor of times * sr / hop_length, which is whole for the
# time of a frame. In binary that product is now and then a little less; `time_to_samples` cuts off
# what is behind the point, so that a sample is lost, and with it the frame. At 48 kHz with hops of
# 10 ms 6 % of frames come back as the one before, at 44.1 kHz with hops of 512 samples 7 %, at 16 kHz
# with hops of 10 ms 0.6 %, elsewhere none. Events written in seconds and read as frames move or grow
# by a frame, labels in decimals do (0.29 s at 48 kHz is sample 13919), and so do onsets and beats
# that were asked for with `units="time"`. No error and no warning. Round to samples first.
#
# Seen with librosa 0.11.0, numpy 2.3.5, on Python 3.11: of 100000 frames those that come back as
# another
#     48000 Hz, hops of 480: 5982, the first 29 as 28, all by -1
#     44100 Hz, hops of 512: 7020, the first 15 as 14, all by -1
#     16000 Hz, hops of 160: 590, the first 201 as 200, all by -1
#     32000 Hz, hops of 500: 0
#     0.29 s at 48 kHz: sample 13919, frame 28 of 10 ms
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check librosa==0.11.0 numpy==2.3.5
cat > try.py <<'PYTHON'
import librosa
import numpy as np

frames = np.arange(100_000)
expected = {(48000, 480): 29, (44100, 512): 15, (16000, 160): 201, (32000, 500): None}
for (rate, hop), first in expected.items():
    of = {"sr": rate, "hop_length": hop}
    back = librosa.time_to_frames(librosa.frames_to_time(frames, **of), **of)
    [others] = np.nonzero(back != frames)
    told = f", the first {others[0]} as {back[others[0]]}, all by -1" if len(others) else ""
    print(f"{rate} Hz, hops of {hop}: {len(others)}{told}")
    assert (others[0] if len(others) else None) == first, others[:1]
    assert (back[others] == frames[others] - 1).all()
    assert len(others) > 500 or first is None

    exact = np.rint(librosa.frames_to_time(frames, **of) * rate).astype(int)
    assert (librosa.samples_to_frames(exact, hop_length=hop) == frames).all()

sample = librosa.time_to_samples(0.29, sr=48000)
frame = librosa.time_to_frames(0.29, sr=48000, hop_length=480)
print(f"0.29 s at 48 kHz: sample {sample}, frame {frame} of 10 ms")
assert (sample, frame) == (13919, 28), (sample, frame)
PYTHON
venv/bin/python try.py
