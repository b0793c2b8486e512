#!/usr/bin/env bash
# An array of 16-bit samples becomes a square wave in a column of datasets' Audio.
#
# `datasets.Audio` takes {"array": ..., "sampling_rate": ...} of any type of number. With soundfile,
# up to version 3, samples of int16, as scipy.io.wavfile and many decoders give them, were stored as
# they are. Now they are cast to float32 as they stand and encoded as if 1 were full scale, so that
# each sample but 0 is cut to -1 or 1, without a word; an array of floats is cut in the same way
# where it exceeds 1, and stored in 16 bits. What is decoded has the right length and rate.
#
# Needs the shared libraries of FFmpeg (Debian: apt-get install ffmpeg), as torchcodec does.
#
# Seen with datasets 3.6.0 (soundfile 0.14.0) and 5.2.0 (torchcodec 0.13.0), on Python 3.11:
#     given: [0, 5753, 10097, 11969, 10911, 7181] of 32768
#     3.6.0: [0, 5753, 10097, 11969, 10911, 7181] of 32768
#     5.2.0: [0, 32767, 32767, 32767, 32767, 32767] of 32768
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export HF_HUB_OFFLINE=1
python3 -m venv venv
cat > try.py <<'PYTHON'
import io
import sys

import datasets
import numpy as np
import soundfile

given = (12000 * np.sin(np.arange(16000) * 0.5)).astype(np.int16)
rows = [{"audio": {"array": given, "sampling_rate": 16000}}]
of_audio = datasets.Features({"audio": datasets.Audio()})
kept = datasets.Dataset.from_list(rows, features=of_audio)
kept = kept.cast_column("audio", datasets.Audio(decode=False))
stored, _ = soundfile.read(io.BytesIO(kept[0]["audio"]["bytes"]), dtype="int16")
if sys.argv[1] == "same":
    print("given:", given[:6].tolist(), "of 32768")
print(f"{datasets.__version__}:", stored[:6].tolist(), "of 32768")
assert len(stored) == len(given)
cut = np.where(given > 0, 32767, np.where(given < 0, -32768, 0))
assert np.array_equal(stored, given if sys.argv[1] == "same" else cut)
PYTHON
venv/bin/pip install --quiet --disable-pip-version-check \
    datasets==3.6.0 soundfile==0.14.0 librosa==0.11.0 numpy==2.3.5 pandas==2.3.3
venv/bin/python -W ignore try.py same
venv/bin/pip install --quiet --disable-pip-version-check \
    datasets==5.2.0 torchcodec==0.13.0 torch==2.13.0
venv/bin/python -W ignore try.py cut
