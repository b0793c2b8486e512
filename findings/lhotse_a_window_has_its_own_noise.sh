#!/usr/bin/env bash
# lhotse scales the noise anew for each window of a mixture: it rises and falls with the signal.
#
# `cut.mix(noise, snr=10)` mixes when audio is loaded, and scales the noise by the energy of the signal.
# The documentation specifies the SNR with regard to the cut that noise is mixed to. But of a part of the
# mixture (`cut_into_windows`, `trim_to_supervisions`, `truncate`) it is that of the part: a window with a
# call has loud noise, the window before it next to none, and one of zeros the noise as it is in its
# file. Joined, the windows are not the mixture; a detector that is trained on them can go by the level
# of the noise, and one that is tested has every soft window clean. No error and no warning. Store the
# mixture first, and cut what `save_audio` returns.
#
# Seen with lhotse 1.33.0, torch 2.13.0, numpy 2.3.5, on Python 3.11: level in dBFS of 10 s with a call, an
# SNR of 10 dB, and of the noise in windows of a second
#     the whole: signal -16, noise -26
#     soft: signal -80, noise in the mixture -26, in its window -90, stored -26
#     a call: signal -9, noise in the mixture -26, in its window -19, stored -26
#     zeros: signal -inf, noise in the mixture -26, in its window -20, stored -26
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    lhotse==1.33.0 torch==2.13.0 numpy==2.3.5 soundfile==0.14.0 urllib3==2.8.0
cat > try.py <<'PYTHON'
import numpy as np
import soundfile
from lhotse import CutSet, Recording

RATE, SECONDS, SNR = 16000, 10, 10
PLACES = {"soft": 0, "a call": 2, "zeros": 8}  # s

rng = np.random.default_rng(0)
time = np.arange(SECONDS * RATE) / RATE
signal = rng.normal(0, 1e-4, time.size)
signal[(time >= 2) & (time < 4)] += 0.5 * np.sin(2 * np.pi * 1000 * time[: 2 * RATE])
signal[time >= 7] = 0
noise = rng.normal(0, 0.1, time.size)


def cut(samples, name):
    soundfile.write(name, samples, RATE, subtype="FLOAT")
    return Recording.from_file(name).to_cut()


def level(samples):
    with np.errstate(divide="ignore"):
        return 10 * np.log10(np.mean(samples**2))


def windows(mixture):
    return [window.load_audio()[0] for window in CutSet.from_cuts([mixture]).cut_into_windows(1)]


mixture = cut(signal, "signal.wav").mix(cut(noise, "noise.wav"), snr=SNR)
whole = mixture.load_audio()[0]
print(f"the whole: signal {level(signal):.0f}, noise {level(whole - signal):.0f}")
assert abs(level(signal) - level(whole - signal) - SNR) < 0.1

lazy, stored = windows(mixture), windows(mixture.save_audio("mixture.wav", encoding="FLOAT"))
assert np.allclose(np.concatenate(stored), whole, atol=1e-3)
for name, second in PLACES.items():
    part = slice(second * RATE, (second + 1) * RATE)
    sound, as_mixed = level(signal[part]), level(whole[part] - signal[part])
    alone, of_stored = level(lazy[second] - signal[part]), level(stored[second] - signal[part])
    print(
        f"{name}: signal {sound:.0f}, noise in the mixture {as_mixed:.0f}, "
        f"in its window {alone:.0f}, stored {of_stored:.0f}"
    )
    expected = level(noise[part]) if np.isinf(sound) else sound - SNR
    assert abs(alone - expected) < 0.1 and abs(alone - as_mixed) > 5, (name, alone)
    assert abs(of_stored - as_mixed) < 0.2, (name, of_stored)
PYTHON
venv/bin/python -W ignore try.py
