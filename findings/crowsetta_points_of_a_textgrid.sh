#!/usr/bin/env bash
# Of a TextGrid whose labels are points, crowsetta's annotation is empty.
#
# `TextGrid.from_file(...).to_annot()` has the intervals of a grid alone: one with a tier of points and
# none of intervals is an annotation without `seq`, one with both lacks the points, and nothing is
# said. `TextGrid.tiers` has all of them. And Praat writes a quotation mark inside a label twice; both
# stay in the label.
#
# Seen with crowsetta 5.1.2, on Python 3.11:
#     tiers: [(1.5, 'a ""click""')]
#     annotation: no seq
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check crowsetta==5.1.2
cat > try.py <<'PYTHON'
import pathlib

import crowsetta

pathlib.Path("a.TextGrid").write_text('''File type = "ooTextFile"
Object class = "TextGrid"

0
2
<exists>
1
"TextTier"
"clicks"
0
2
1
1.5
"a ""click"""
''')
grid = crowsetta.formats.seq.TextGrid.from_file("a.TextGrid")
points = [(point.number, point.mark) for tier in grid.tiers for point in tier.points]
print(f"tiers: {points}")
found = getattr(grid.to_annot(), "seq", None)
print(f"annotation: {'no seq' if not found else found}")
assert (points, found or None) == ([(1.5, 'a ""click""')], None)
PYTHON
venv/bin/python try.py
