#!/usr/bin/env bash
# safetensors 0.8 scrambles the spectrograms of librosa, and every array that lies by columns.
#
# `safetensors.numpy.save_file` writes the numbers of an array and its shape. Version 0.7 wrote them row
# by row, whatever the array; 0.8 writes an array in Fortran's order as it lies in memory, column by
# column, and reads it row by row: of the right shape and type, with every number in it, at other
# places. No error and no warning. The documentation wants arrays "contiguous and dense", which these
# are; `safetensors.torch` refuses such tensors. librosa's `stft`, `melspectrogram` and `mfcc` give such
# arrays, and so does `to_numpy` of a pandas table. `numpy.ascontiguousarray` before saving helps.
#
# Seen with safetensors 0.7.0 and 0.8.0, librosa 0.11.0, pandas 2.3.3, numpy 2.3.5, on Python 3.11:
# frequencies of the loudest bins of a tone of 1 kHz, frames that are as they were, a table of 2 by 3
#     0.7.0: 1000 to 1000 Hz, 93 of 93 frames, [[0, 1, 2], [3, 4, 5]]
#     0.8.0: 0 to 7938 Hz, 0 of 93 frames, [[0, 3, 1], [4, 2, 5]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
cat > try.py <<'PYTHON'
import sys

import librosa
import numpy as np
import pandas as pd
import safetensors
from safetensors.numpy import load_file, save_file

RATE, N_FFT = 16000, 512
tone = np.sin(2 * np.pi * 1000 * np.arange(3 * RATE) / RATE).astype(np.float32)
spectrogram = np.abs(librosa.stft(tone, n_fft=N_FFT, hop_length=N_FFT, center=False))
table = pd.DataFrame([[0, 1, 2], [3, 4, 5]], dtype=np.float32).to_numpy()
assert spectrogram.flags.f_contiguous and table.flags.f_contiguous

save_file({"spectrogram": spectrogram, "table": table}, "given.safetensors")
read = load_file("given.safetensors")
again = read["spectrogram"]
assert again.shape == spectrogram.shape and again.dtype == spectrogram.dtype
loudest = librosa.fft_frequencies(sr=RATE, n_fft=N_FFT)[again.argmax(axis=0)]
same = int((again == spectrogram).all(axis=0).sum())
numbers = read["table"].astype(int).tolist()
print(
    f"{safetensors.__version__}: {loudest.min():.0f} to {loudest.max():.0f} Hz, "
    f"{same} of {spectrogram.shape[1]} frames, {numbers}"
)
if sys.argv[1] == "right":
    assert np.array_equal(again, spectrogram) and np.array_equal(read["table"], table)
else:
    assert numbers == [[0, 3, 1], [4, 2, 5]], numbers
    assert same == 0 and loudest.min() < 500 and loudest.max() > 4000
    assert np.array_equal(np.sort(again, None), np.sort(spectrogram, None)), "the same numbers"
save_file({"rows": np.ascontiguousarray(spectrogram)}, "rows.safetensors")
assert np.array_equal(load_file("rows.safetensors")["rows"], spectrogram)
PYTHON
try() {
    venv/bin/pip install --quiet --disable-pip-version-check \
        "safetensors==$1" librosa==0.11.0 pandas==2.3.3 numpy==2.3.5
    venv/bin/python -W ignore try.py "$2"
}
try 0.7.0 right
try 0.8.0 scrambled
