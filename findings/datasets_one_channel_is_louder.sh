#!/usr/bin/env bash
# One channel, as datasets' Audio and torchcodec make it of a stereo file, is 3 dB above the mean.
#
# `num_channels=1` has FFmpeg mix the channels. It adds left and right at 0.707 each, and scales the
# sum of these factors down to 1 only where samples are integers; torchcodec asks for floats. So a
# file with one sound in both channels comes out 3 dB louder than the same sound in a mono file, of
# 5.1 channels 10.7 dB, and above 1: a set of both kinds has two levels, and what is stored again in
# 16 bits is cut. Without `num_channels`, `["array"]` of datasets is the mean, as in librosa. It is so
# in PyAV, too: mono in "s16" is the mean, in "flt" the louder sum. No error and no warning; neither
# docstring says how channels are mixed.
#
# Needs the shared libraries of FFmpeg (Debian: apt-get install ffmpeg), as torchcodec does.
#
# Seen with datasets 5.2.0, torchcodec 0.13.0 (with FFmpeg 5.1.9), torch 2.13.0, av 18.1.0 (with FFmpeg
# 8.1.2), on Python 3.11: the peak of a sine of 0.8 that is in all channels of a 16-bit WAV
#     1 channel: datasets 0.800, num_channels=1 0.800, torchcodec 0.800, PyAV s16 0.800, flt 0.800
#     2 channels: datasets 0.800, num_channels=1 1.131, torchcodec 1.131, PyAV s16 0.800, flt 1.131
#     6 channels: datasets 0.800, num_channels=1 2.731, torchcodec 2.731, PyAV s16 0.800, flt 2.731
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export HF_HUB_OFFLINE=1 HF_HOME="$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    datasets==5.2.0 torchcodec==0.13.0 torch==2.13.0 av==18.1.0 soundfile==0.14.0 \
    numpy==2.3.5 pandas==2.3.3
cat > try.py <<'PYTHON'
import av
import datasets
import numpy as np
import soundfile
from torchcodec.decoders import AudioDecoder

PEAK = 0.8
sine = PEAK * np.sin(2 * np.pi * 1000 * np.arange(48000) / 48000)


def peak(samples):
    return round(float(np.abs(samples).max()), 3)


def of_datasets(path, **how):
    rows = datasets.Dataset.from_dict({"audio": [path]})
    return peak(rows.cast_column("audio", datasets.Audio(**how))[0]["audio"]["array"])


def of_pyav(path, kind):
    with av.open(path) as file:
        resampler = av.AudioResampler(format=kind, layout="mono")
        pieces = [
            piece.to_ndarray()
            for frame in [*file.decode(audio=0), None]
            for piece in resampler.resample(frame)
        ]
    return peak(np.concatenate(pieces, axis=1).astype(float) / (32768 if kind == "s16" else 1))


for n_channels, mixed in ((1, PEAK), (2, PEAK * 2**0.5), (6, PEAK * (2 + 2**0.5))):
    name, path = f"{n_channels} channel{'s' * (n_channels > 1)}", f"{n_channels}.wav"
    soundfile.write(path, np.repeat(sine[:, None], n_channels, axis=1), 48000, subtype="PCM_16")
    found = {
        "datasets": of_datasets(path),
        "num_channels=1": of_datasets(path, num_channels=1),
        "torchcodec": peak(AudioDecoder(path, num_channels=1).get_all_samples().data.numpy()),
        "PyAV s16": of_pyav(path, "s16"),
        "flt": of_pyav(path, "flt"),
    }
    print(name + ":", ", ".join(f"{by} {value:.3f}" for by, value in found.items()))
    for by, value in found.items():
        is_mean = by in ("datasets", "PyAV s16")
        assert abs(value - (PEAK if is_mean else mixed)) < 2e-3, (name, by, value)
PYTHON
venv/bin/python -W ignore try.py
