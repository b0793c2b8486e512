#!/usr/bin/env bash
# soundfile.write ends a short FLAC or Ogg on a full disk without an error, and half of it is there.
#
# The encoders of libsndfile hold back what they have until the file is closed; that closing failed
# is not told. (A WAV of the same length is refused, and so is a long FLAC: "System error.") Written
# to memory and then to the disk by Python, it is an OSError. A limit of file size stands for the
# full disk.
#
# Seen with soundfile 0.14.0 (libsndfile of its wheel), on Python 3.11:
#     FLAC: no error, 2618 of 5237 bytes
#     WAV: System error.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.3.5
cat > try.py <<'PYTHON'
import os
import resource
import signal

import numpy as np
import soundfile

noise = (3000 * np.random.default_rng(0).standard_normal(3000)).astype("int16")
soundfile.write("whole.flac", noise, 16000)
whole = os.path.getsize("whole.flac")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (whole // 2, whole // 2))
soundfile.write("half.flac", noise, 16000)  # no error
half = os.path.getsize("half.flac")
print(f"FLAC: no error, {half} of {whole} bytes", flush=True)
assert half == whole // 2
try:
    soundfile.write("half.wav", noise, 16000)
except soundfile.LibsndfileError as error:
    print("WAV:", error, flush=True)
else:
    raise AssertionError("the WAV is not refused")
PYTHON
venv/bin/python try.py
