#!/usr/bin/env bash
# torch_audiomentations' pink noise is brown, and it is one second of noise, over and over.
#
# `AddColoredNoise` documents f_decay as the "frequency power decay" 1 / f ** f_decay: 1 is pink noise,
# whose power falls by 3 dB an octave, 2 is brown, by 6 dB, -1 and -2 are blue and violet. It divides
# the amplitude by that, so that all of them are twice as steep: what is asked to be pink is brown.
# And it makes one second of noise for an example and repeats it, so that in 10 s every sample of
# noise comes ten times: there is a period to learn, and an average over seconds does not lower it.
# The documentation does not say so. No error and no warning; the ratio to the signal is as asked.
#
# Seen with torch_audiomentations 0.12.0, torchaudio 2.11.0, torch 2.13.0, on Python 3.11: dB per octave
# above 1 kHz, correlation of the first second with the fifth
#     white, f_decay 0: 0.0 dB, correlation 1.000
#     pink, f_decay 1: -5.8 dB, correlation 1.000
#     brown, f_decay 2: -11.5 dB, correlation 1.000
#     blue, f_decay -1: 5.8 dB, correlation 1.000
#     violet, f_decay -2: 11.7 dB, correlation 1.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    torch_audiomentations==0.12.0 torchaudio==2.11.0 torch==2.13.0 numpy==2.3.5
# Built for CUDA; noise needs none of it, and it does not load beside a torch for CPUs.
rm -f venv/lib/python3*/site-packages/torchaudio/lib/*.so
cat > try.py <<'PYTHON'
import numpy as np
import torch
from torch_audiomentations import AddColoredNoise

RATE, N_FFT, SECONDS = 32000, 4096, 10
COLOURS = {"white": 0, "pink": 1, "brown": 2, "blue": -1, "violet": -2}
sound = torch.full((1, 1, SECONDS * RATE), 0.1)


def slope(noise):
    """Of the power density, in dB per octave, from 1 to 16 kHz."""
    window = torch.hann_window(N_FFT)
    spectrum = torch.stft(noise, N_FFT, window=window, return_complex=True)
    power, hz = spectrum.abs().square().mean(-1), torch.arange(N_FFT // 2 + 1) * RATE / N_FFT
    octaves = [power[(hz >= low) & (hz < 2 * low)].mean() for low in (1000, 2000, 4000, 8000)]
    return float(np.polyfit(range(4), 10 * np.log10(octaves), 1)[0])


for name, decay in COLOURS.items():
    torch.manual_seed(0)
    add = AddColoredNoise(
        min_snr_in_db=0,
        max_snr_in_db=0,
        min_f_decay=decay,
        max_f_decay=decay,
        p=1.0,
        sample_rate=RATE,
        output_type="dict",
    )
    noise = (add(sound).samples - sound)[0, 0]
    falls = slope(noise)
    alike = float(torch.corrcoef(noise.reshape(SECONDS, RATE)[[0, 4]])[0, 1])
    print(f"{name}, f_decay {decay}: {falls:.1f} dB, correlation {alike:.3f}")
    assert abs(noise.square().mean().sqrt() - 0.1) < 1e-3, "the ratio is as asked"
    assert abs(falls + 2 * 3.01 * decay) < 1, "twice what the name of the colour says"
    assert alike > 0.999, "the same second"
PYTHON
venv/bin/python -W ignore try.py
