#!/usr/bin/env bash
# A quotation mark in one label makes dcase_util read every row of an event table as a single field.
#
# The delimiter of a table is guessed by `csv.Sniffer`, which looks for text in quotes first: in a
# table with tabs, the label `say "hi"` makes it find the blank before the quotation mark. No error:
# the header becomes the name of one column, each row its text up to there, and nothing is an event.
#
# Seen with dcase_util 0.2.20, on Python 3.11:
#     without: [('a.wav', 0.5, 'a dog barks'), ('a.wav', 2.0, 'wind')]
#     with: [{'filename\tonset\toffset\tevent_label': 'a.wav\t0.5\t1.25\tsay'},
#            {'filename\tonset\toffset\tevent_label': 'a.wav\t2.0\t2.5\twind'}]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check dcase_util==0.2.20 'setuptools<81'
cat > try.py <<'PYTHON'
from dcase_util.containers import MetaDataContainer


def load(label):
    with open("events.tsv", "w") as table:
        table.write("filename\tonset\toffset\tevent_label\n")
        table.write(f"a.wav\t0.5\t1.25\t{label}\na.wav\t2.0\t2.5\twind\n")
    return [dict(item) for item in MetaDataContainer().load(filename="events.tsv")]


without = [(item["filename"], item["onset"], item["event_label"]) for item in load("a dog barks")]
quoted = load('say "hi"')
print("without:", without)
print("with:", quoted)
assert without == [("a.wav", 0.5, "a dog barks"), ("a.wav", 2.0, "wind")]
header = "filename\tonset\toffset\tevent_label"
assert quoted == [{header: "a.wav\t0.5\t1.25\tsay"}, {header: "a.wav\t2.0\t2.5\twind"}], quoted
PYTHON
venv/bin/python -W ignore try.py
