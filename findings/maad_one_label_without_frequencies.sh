#!/usr/bin/env bash
# scikit-maad reads an Audacity label track as empty if some of its labels have frequencies.
#
# Audacity writes a second line, which begins with a backslash, below a label that was drawn in the
# spectrogram, and none below one that was not; a track may hold both kinds. The documentation of
# `maad.util.read_audacity_annot` has it read either. Where it finds a backslash, it takes every second
# line for frequencies, and what cannot be read so becomes an empty table, as of a recording in which
# nothing was heard; so does a file that is not there. Where labels are numbers, some are lost, and
# the end of a lost one and its number become the frequencies of another. No error and no warning.
# Times are float32: at the end of a day they are off by up to 4 ms.
#
# Seen with scikit-maad 1.5.2, pandas 2.3.3, numpy 2.3.5, on Python 3.11: labels, their times, their
# frequencies
#     without frequencies: dog 1.0-2.0 s nan-nan Hz, rain 3.0-4.0 s nan-nan Hz
#     all with frequencies: dog 1.0-2.0 s 100.0-2000.0 Hz, rain 3.0-4.0 s 10.0-200.0 Hz
#     one of two with frequencies: nothing
#     no such file: nothing
#     numbers, the last with frequencies: 7.0 1.0-2.0 s 4.0-8.0 Hz, 9.0 5.0-6.0 s 10.0-200.0 Hz
#     a label at 86399.004 s: 86399.008 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    scikit-maad==1.5.2 pandas==2.3.3 numpy==2.3.5
cat > try.py <<'PYTHON'
import pathlib

from maad.util import read_audacity_annot

DOG, RAIN = "1.0\t2.0\tdog\n", "3.0\t4.0\train\n"
OF_DOG, OF_RAIN = "\\\t100.0\t2000.0\n", "\\\t10.0\t200.0\n"
NUMBERS = "1.0\t2.0\t7\n3.0\t4.0\t8\n5.0\t6.0\t9\n" + OF_RAIN


def read(track):
    if track is None:
        return read_audacity_annot("missing.txt")
    pathlib.Path("a.txt").write_text(track)
    return read_audacity_annot("a.txt")


def told(table):
    rows = table.itertuples()
    return [f"{r.label} {r.min_t}-{r.max_t} s {r.min_f}-{r.max_f} Hz" for r in rows]


tracks = {
    "without frequencies": DOG + RAIN,
    "all with frequencies": DOG + OF_DOG + RAIN + OF_RAIN,
    "one of two with frequencies": DOG + OF_DOG + RAIN,
    "no such file": None,
    "numbers, the last with frequencies": NUMBERS,
}
found = {name: told(read(track)) for name, track in tracks.items()}
for name, rows in found.items():
    print(f"{name}:", ", ".join(rows) or "nothing")
assert list(found.values()) == [
    ["dog 1.0-2.0 s nan-nan Hz", "rain 3.0-4.0 s nan-nan Hz"],
    ["dog 1.0-2.0 s 100.0-2000.0 Hz", "rain 3.0-4.0 s 10.0-200.0 Hz"],
    [],
    [],
    ["7.0 1.0-2.0 s 4.0-8.0 Hz", "9.0 5.0-6.0 s 10.0-200.0 Hz"],
], found

[late] = read("86399.004\t86400.0\tdog\n")["min_t"].tolist()
print(f"a label at 86399.004 s: {round(late, 3)} s")
assert abs(86399.004 - late) > 0.003, late
PYTHON
venv/bin/python -W ignore try.py
