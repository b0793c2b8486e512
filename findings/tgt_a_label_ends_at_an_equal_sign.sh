#!/usr/bin/env bash
# tgt ends a label at an equal sign: "call = A" and "call = B" are both "cal".
#
# In a TextGrid as Praat saves it, each line is a name, " = " and a value. `tgt.io.read_textgrid` takes what is
# between the first " = " and the next, and then the quotation marks off: of a label that has " = " itself,
# such as "call = A" or "SNR = 6 dB", what is behind it is lost, and the letter before the blank goes
# with the quotation mark that is not there. Names of tiers end in the same way, so that one that is
# asked for by its name is missing. `write_to_file` then stores the labels so. No error and no warning; in
# Praat's short format, and by praatio, labels are whole.
#
# Seen with tgt 1.5, praatio 6.2.2, on Python 3.11:
#     tgt: tier 'typ', ['cal', 'cal', 'wind']
#     tgt, short format: tier 'type = call', ['call = A', 'call = B', 'wind']
#     praatio: tier 'type = call', ['call = A', 'call = B', 'wind']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check tgt==1.5 praatio==6.2.2 numpy==2.3.5
cat > try.py <<'PYTHON'
import praatio.textgrid
import tgt

NAME, LABELS = "type = call", ["call = A", "call = B", "wind"]
tier = tgt.IntervalTier(0, len(LABELS), NAME)
tier.add_annotations([tgt.Interval(i, i + 1, label) for i, label in enumerate(LABELS)])
grid = tgt.TextGrid()
grid.add_tier(tier)
for kind in ("long", "short"):
    tgt.io.write_to_file(grid, f"{kind}.TextGrid", format=kind)

found = {}
for name, path in {"tgt": "long.TextGrid", "tgt, short format": "short.TextGrid"}.items():
    [read] = tgt.io.read_textgrid(path).tiers
    found[name] = read.name, [interval.text for interval in read]
[read] = praatio.textgrid.openTextgrid("long.TextGrid", includeEmptyIntervals=False).tiers
found["praatio"] = read.name, [interval.label for interval in read.entries]
for name, (tier_name, labels) in found.items():
    print(f"{name}: tier {tier_name!r}, {labels}")
whole = NAME, LABELS
assert list(found.values()) == [("typ", ["cal", "cal", "wind"]), whole, whole], found
PYTHON
venv/bin/python -W ignore try.py
