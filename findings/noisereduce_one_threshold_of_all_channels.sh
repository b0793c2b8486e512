#!/usr/bin/env bash
# noisereduce measures the noise in the mean of the channels: of eight it hardly removes any.
#
# `reduce_noise(..., stationary=True)` mutes what is not above the noise, and takes arrays of (channels,
# frames). It measures the noise in the mean of the channels, where that of several microphones partly
# cancels: the threshold falls by 3 dB with every doubling of channels. Noise that is lowered by 30 dB
# alone is lowered by 4 dB as one of eight channels. And all have one threshold: beside a channel with
# 30 dB more gain a call is muted that is 19 dB above the noise of its own. Noise that is given
# (`y_noise`) is averaged in the same way. With stationary=False each channel has a threshold of its own. No
# error and no warning; the documentation does not say so. Call it once for each channel.
#
# Seen with noisereduce 3.0.3, numpy 2.3.5, scipy 1.17.1, on Python 3.11: by how much the first channel of
# equal, independent noise is lowered; what remains of a call in the softer one of two channels
#     1 channel: 29.5 dB, stationary=False 28.6 dB
#     2 channels: 15.4 dB, stationary=False 28.6 dB
#     8 channels: 3.9 dB, stationary=False 28.6 dB
#     the call: alone -1.5 dB, beside the louder channel nothing
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    noisereduce==3.0.3 numpy==2.3.5 scipy==1.17.1
cat > try.py <<'PYTHON'
import numpy as np
from noisereduce import reduce_noise

RATE, SECONDS = 32000, 10
noise = np.random.default_rng(0).normal(0, 0.01, (8, SECONDS * RATE)).astype(np.float32)


def level(samples):
    with np.errstate(divide="ignore"):
        return 10 * np.log10(np.mean(samples.astype(float) ** 2))


def lowered(channels, stationary, **options):
    clean = reduce_noise(noise[:channels], RATE, stationary=stationary, **options)
    return level(noise[0]) - level(clean[0])


found = {}
for channels in (1, 2, 8):
    found[channels], of_each = lowered(channels, True), lowered(channels, False)
    name = "channel" if channels == 1 else "channels"
    print(f"{channels} {name}: {found[channels]:.1f} dB, stationary=False {of_each:.1f} dB")
    assert of_each > 25, of_each
assert found[1] > 25 and 10 < found[2] < 20 and found[8] < 6, found
assert abs(lowered(8, True, y_noise=noise) - found[8]) < 0.1

# A hiss of a second, 19 dB above the noise, in both channels; the second was recorded 30 dB louder.
second = slice(3 * RATE, 4 * RATE)
call = np.zeros_like(noise[0])
call[second] = 9 * noise[2, second]
soft, loud = noise[0] + call, 10**1.5 * (noise[1] + call)
alone = reduce_noise(soft, RATE, stationary=True)
beside = reduce_noise(np.stack([soft, loud]), RATE, stationary=True)[0]
kept, left = (level(clean[second]) - level(soft[second]) for clean in (alone, beside))
is_left = f"{left:.1f} dB" if left > -100 else "nothing"
print(f"the call: alone {kept:.1f} dB, beside the louder channel {is_left}")
assert kept > -3 and left < -40, (kept, left)
PYTHON
venv/bin/python -W ignore try.py
