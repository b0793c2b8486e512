#!/usr/bin/env bash
# torchaudio's loudness clips the sound before it measures it, so that loud sounds come out too soft.
#
# `functional.loudness` (and `transforms.Loudness`) weights a sound by two biquad filters, the first of
# which raises what is above 2 kHz by 4 dB. torchaudio's biquads cut their results to -1 to 1: `lfilter`,
# by which they work, says so and has an option against it, they have neither. So samples within -1 to
# 1 are clipped where they are loud or bright, and a mixture that exceeds 1, before it is brought to a
# level, much more: a sound of ten times the amplitude is not 20 LU louder, and all samples on the
# scale of 16 bits have about one loudness. No error and no warning; the documentation promises ITU-R
# BS.1770-4, by which a sine of 997 Hz at full scale has -3.01 LKFS. To be right, divide the sound by
# a number and add its level.
#
# Seen with torchaudio 2.11.0, torch 2.13.0, on Python 3.11: LKFS, and what the same function gives
# for the sound at a peak of 0.1, with the level added that was taken
#     sine of 997 Hz, full scale: -3.28, should be -3.05
#     sine of 4 kHz, full scale: -2.13, should be 0.22
#     noise of RMS 1: -2.57, should be 3.13
#     the same noise on the scale of 16 bits: -0.92, should be 93.44
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    torchaudio==2.11.0 torch==2.13.0 numpy==2.3.5
# Built for CUDA; filters need none of it, and it does not load beside a torch for CPUs.
rm -f venv/lib/python3*/site-packages/torchaudio/lib/*.so
cat > try.py <<'PYTHON'
import math

import torch
from torchaudio.functional import loudness

RATE = 48000
time = torch.arange(2 * RATE, dtype=torch.float64) / RATE
noise = torch.randn(1, 2 * RATE, dtype=torch.float64, generator=torch.manual_seed(0))
sounds = {
    "sine of 997 Hz, full scale": torch.sin(2 * math.pi * 997 * time)[None],
    "sine of 4 kHz, full scale": torch.sin(2 * math.pi * 4000 * time)[None],
    "noise of RMS 1": noise,
    "the same noise on the scale of 16 bits": 32768 * noise,
}
measured, meant = {}, {}
for name, sound in sounds.items():
    scale = 10 * float(sound.abs().max())  # so that nothing comes near 1
    measured[name] = float(loudness(sound, RATE))
    meant[name] = float(loudness(sound / scale, RATE)) + 20 * math.log10(scale)
    print(f"{name}: {measured[name]:.2f}, should be {meant[name]:.2f}")

too_soft = [meant[name] - measured[name] for name in sounds]
assert abs(meant["sine of 997 Hz, full scale"] + 3.01) < 0.1, "what the recommendation says"
assert 0.1 < too_soft[0] < too_soft[1] < too_soft[2] < too_soft[3], too_soft
assert too_soft[3] > 80, too_soft
PYTHON
venv/bin/python try.py
