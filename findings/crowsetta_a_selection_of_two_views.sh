#!/usr/bin/env bash
# crowsetta counts each selection of a Raven table once for every view that was open.
#
# A selection table of Raven has a row for each selection and view: where waveform and spectrogram were
# open, two rows have one number in "Selection", alike but for "View". `Raven.from_file` takes every row
# for an annotation, and `to_annot` leaves out both columns, so that two calls are four boxes, pairwise the
# same. Counts and rates of calls are doubled, and where boxes are matched one to one a detector that
# misses nothing misses half of them. No error and no warning; the documentation has tables of one
# view alone. Rraven, which reads such tables in R, keeps the spectrogram's rows by default; here, keep the
# rows of one view in `raven.df` before.
#
# Seen with crowsetta 5.1.2, pandas 2.3.3, numpy 2.3.5, on Python 3.11: boxes of a table of two calls
#     one view: wren at 1.0 s, robin at 4.0 s
#     two views: wren at 1.0 s, wren at 1.0 s, robin at 4.0 s, robin at 4.0 s
#     two views, those of the spectrogram: wren at 1.0 s, robin at 4.0 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    crowsetta==5.1.2 pandas==2.3.3 numpy==2.3.5
cat > try.py <<'PYTHON'
import pathlib

from crowsetta.formats.bbox import Raven

COLUMNS = ["Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"]
COLUMNS += ["Low Freq (Hz)", "High Freq (Hz)", "Annotation"]
CALLS = {"wren": (1.0, 1.5, 3000.0, 8000.0), "robin": (4.0, 5.0, 2000.0, 7000.0)}


def read(*views):
    rows = [COLUMNS]
    for number, (label, box) in enumerate(CALLS.items(), 1):
        rows += [(number, view, 1, *box, label) for view in views]
    lines = ["\t".join(map(str, row)) + "\n" for row in rows]
    pathlib.Path("a.txt").write_text("".join(lines))
    return Raven.from_file("a.txt")


kept = read("Waveform 1", "Spectrogram 1")
kept.df = kept.df[kept.df["View"] == "Spectrogram 1"]
found = {}
for name, table in {
    "one view": read("Spectrogram 1"),
    "two views": read("Waveform 1", "Spectrogram 1"),
    "two views, those of the spectrogram": kept,
}.items():
    found[name] = [f"{box.label} at {box.onset} s" for box in table.to_annot().bboxes]
    print(f"{name}:", ", ".join(found[name]))
once, twice = (
    [f"{label} at {box[0]} s" for label, box in CALLS.items() for _ in range(n)] for n in (1, 2)
)
assert list(found.values()) == [once, twice, once], found
PYTHON
venv/bin/python -W ignore try.py
