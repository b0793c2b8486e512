#!/usr/bin/env bash
# transformers' extractor for AST pads a short clip with what is louder than most sounds.
#
# ASTFeatureExtractor makes 1024 frames of each clip, 10.24 s. A shorter one, a sound of ESC-50 say, is
# filled up with zeros, not in the waveform but in the log-mel spectrogram, where silence is about -16
# and 0 is the level of loud noise; then all is normalised. So the second half of a clip of five seconds
# is a constant 0.467, higher than 97 % of the numbers of a tone at -20 dB and all of noise at -50 dB,
# and not the -1.28 that silence has. AST has no attention mask, so the model hears it as sound. A clip
# that was padded with silence before has other features from its end on, and whether a data set was
# padded on disk decides about an embedding. No error, and no warning of it.
#
# Seen with transformers 5.24.0, torch 2.13.0, numpy 2.3.5, on Python 3.11: clips of five seconds, 1024 frames
#     tone at -20 dB: mean -1.082, padding 0.467, above 97 % of the tone; after silence instead: -1.278
#     noise at -50 dB: mean -0.380, padding 0.467, above 100 % of the noise; after silence instead: -1.278
#     noise at -30 dB: mean 0.118, padding 0.467, above 81 % of the noise; after silence instead: -1.278
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export HF_HUB_OFFLINE=1 HF_HOME="$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    transformers==5.24.0 torch==2.13.0 numpy==2.3.5
cat > try.py <<'PYTHON'
import numpy as np
from transformers import ASTFeatureExtractor

RATE, SECONDS, N_SOUND = 16000, 5, 490  # frames that hold nothing but sound
extract = ASTFeatureExtractor()


def features(clip):
    """Return what the model is given of one clip: [frame, mel band]."""
    [found] = extract(clip.astype(np.float32), sampling_rate=RATE, return_tensors="np").input_values
    assert found.shape == (1024, 128)
    return found


noise = np.random.default_rng(0).normal(size=SECONDS * RATE)
tone = np.sqrt(2) * np.sin(2 * np.pi * 440 * np.arange(SECONDS * RATE) / RATE)
silence = np.zeros(6 * RATE)
clips = {"tone at -20 dB": tone / 10, "noise at -50 dB": noise / 316, "noise at -30 dB": noise / 31.6}
shares = []
for name, clip in clips.items():
    short, filled = features(clip), features(np.concatenate([clip, silence]))
    assert np.allclose(short[:N_SOUND], filled[:N_SOUND], atol=1e-4)
    sound, [padding], [quiet] = short[:N_SOUND], np.unique(short[520:]), np.unique(filled[520:])
    shares.append(round(100 * (sound < padding).mean()))
    print(
        f"{name}: mean {sound.mean():.3f}, padding {padding:.3f}, above {shares[-1]} % of the "
        f"{name.split()[0]}; after silence instead: {quiet:.3f}"
    )
    assert abs(padding - 0.467) < 0.001 and abs(quiet + 1.278) < 0.01
assert shares == [97, 100, 81], shares
PYTHON
venv/bin/python -W ignore try.py
