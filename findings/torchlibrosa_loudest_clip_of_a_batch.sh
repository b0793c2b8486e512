#!/usr/bin/env bash
# torchlibrosa's log-mel spectrogram of a clip depends on the loudest clip of its batch.
#
# LogmelFilterBank raises what is more than top_db (80 dB by default) below the highest number to that
# level, as librosa.power_to_db does, so that of silence there is a floor. The highest number is that of
# the whole batch: beside a loud clip the quiet parts of a soft one are gone, alone they are there. So
# features, embeddings and losses of a clip change with what it is batched with, in evaluation, too, and
# those that were computed one by one are not those of a batch. No error and no warning; the docstrings
# say nothing of batches. With top_db=None, as PANNs and CLAP set it, a clip is the same in any batch.
#
# Seen with torchlibrosa 0.1.0, librosa 0.11.0, torch 2.13.0, on Python 3.11: a second of noise that
# fades from -60 to -100 dBFS, 101 frames of 64 bands
#     alone: -100.0 to -40.8 dB
#     beside a sine of 0 dBFS: -50.3 to -40.8 dB, 97 % of the numbers differ, by 49.7 dB at most
#     with top_db=None: 0 % of the numbers differ
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    torchlibrosa==0.1.0 librosa==0.11.0 torch==2.13.0 numpy==2.3.5
cat > try.py <<'PYTHON'
import numpy as np
import torch
from torchlibrosa.stft import LogmelFilterBank, Spectrogram

RATE = 32000
second = torch.arange(RATE) / RATE
noise = torch.from_numpy(np.random.default_rng(0).normal(size=RATE).astype(np.float32))
soft = 10 ** -(3 + 2 * second) * noise
loud = torch.sin(2 * torch.pi * 1000 * second)
spectrogram = Spectrogram(n_fft=1024, hop_length=320)


def of_first(clips, **how):
    mel = LogmelFilterBank(sr=RATE, n_fft=1024, n_mels=64, **how)
    return mel(spectrogram(torch.stack(clips)))[0]


alone, beside = of_first([soft]), of_first([soft, loud])
print(f"alone: {alone.min():.1f} to {alone.max():.1f} dB")
share, most = (alone != beside).float().mean(), (alone - beside).abs().max()
print(
    f"beside a sine of 0 dBFS: {beside.min():.1f} to {beside.max():.1f} dB,"
    f" {share:.0%} of the numbers differ, by {most:.1f} dB at most".replace("%", " %")
)
assert share > 0.8 and most > 40, (share, most)
without = [of_first(clips, top_db=None) for clips in ([soft], [soft, loud])]
share = (without[0] - without[1]).abs().gt(1e-3).float().mean()
print(f"with top_db=None: {share:.0%} of the numbers differ".replace("%", " %"))
assert share == 0
PYTHON
venv/bin/python -W ignore try.py
