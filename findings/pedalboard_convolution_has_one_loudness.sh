#!/usr/bin/env bash
# pedalboard's Convolution with the impulse response [1.0] makes sound 18 dB softer.
#
# Every impulse response is scaled to one energy, that of a single sample of 1/8, before it is used:
# [1.0] and [0.5] give the same, and so do a room and the same room 20 dB softer. So the level of the
# result, and with it the ratio to a noise that is added at a known level, is not that of the
# convolution, differences of level within a set of responses are gone, and `mix` weighs the scaled
# wet part against a dry one as it was. Docstring and documentation do not say so, and no argument
# switches it off. (It is the default of JUCE, which does the work.)
#
# Seen with pedalboard 0.9.26, scipy 1.16.3, numpy 2.3.5, on Python 3.11:
#     [1.0]: level -18.1 dB of fftconvolve's, shape equal
#     [0.5]: level -12.0 dB of fftconvolve's, shape equal
#     a room: level -45.4 dB of fftconvolve's, shape equal
#     a room, 20 dB softer: level -25.4 dB of fftconvolve's, shape equal
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    pedalboard==0.9.26 scipy==1.16.3 numpy==2.3.5
cat > try.py <<'PYTHON'
import numpy as np
from pedalboard import Convolution
from scipy.signal import fftconvolve

RATE = 16000
rng = np.random.default_rng(0)
sound = rng.normal(0, 0.1, 2 * RATE).astype(np.float32)
room = (rng.normal(size=RATE // 2) * np.exp(-np.arange(RATE // 2) / 1000)).astype(np.float32)
responses = {
    "[1.0]": np.float32([1.0]),
    "[0.5]": np.float32([0.5]),
    "a room": room,
    "a room, 20 dB softer": room / 10,
}
for name, response in responses.items():
    heard = Convolution(response, mix=1.0, sample_rate=RATE)(sound, RATE)
    meant = fftconvolve(sound, response)[: len(sound)]
    level = 10 * np.log10(np.sum(heard**2) / np.sum(meant**2))
    shape = np.corrcoef(heard, meant)[0, 1]
    assert shape > 0.9999
    print(f"{name}: level {level:.1f} dB of fftconvolve's, shape equal")
    assert abs(level + 10 * np.log10(64 * np.sum(response**2))) < 0.1
PYTHON
venv/bin/python try.py
