#!/usr/bin/env bash
# audformat takes whole seconds for nanoseconds where they are text, and all numbers beside a unit.
#
# `segmented_index` makes the index of segments from starts and ends. Its documentation has numbers
# as seconds, and times with a unit as well ("1ms"). A list of both has the numbers in nanoseconds:
# 8.25 beside "12s" becomes 0. So do whole numbers as text, which is what csv makes of the starts of
# AudioCaps or VGGSound; "8.25" is refused. A table of a database, with whole seconds in it, has
# segments of no length when the database is loaded, and the right ones by audformat's `read_csv`.
# No error and no warning.
#
# Seen with audformat 1.4.3, pandas 2.3.3, on Python 3.11: starts, in seconds
#     [8.25, 12]: [8.25, 12.0]
#     [8.25, '12s']: [8e-09, 12.0]
#     ['8', '12']: [8e-09, 1.2e-08]
#     8 and 12 in a table, read_csv: [8.0, 12.0]
#     8 and 12 in a table, Database.load: [8e-09, 1.2e-08]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    audformat==1.4.3 pandas==2.3.3 numpy==2.3.5
cat > try.py <<'PYTHON'
import pathlib

import audformat

TABLE = "db/db.events.csv"


def starts_of(index):
    return [start.value / 1e9 for start in index.get_level_values("start")]  # of nanoseconds


found = {
    str(starts): starts_of(audformat.segmented_index(["a.wav"] * 2, starts))
    for starts in ([8.25, 12], [8.25, "12s"], ["8", "12"])
}

database = audformat.Database("sounds")
database["events"] = audformat.Table(audformat.segmented_index(["a.wav"] * 2, [8, 12], [9, 13]))
database.save("db", storage_format="csv")
pathlib.Path(TABLE).write_text("file,start,end\na.wav,8,9\na.wav,12,13\n")  # as by hand
by_reader, by_database = audformat.utils.read_csv(TABLE), audformat.Database.load("db")
found["8 and 12 in a table, read_csv"] = starts_of(by_reader)
found["8 and 12 in a table, Database.load"] = starts_of(by_database["events"].index)

for name, starts in found.items():
    print(f"{name}: {starts}")
assert list(found.values()) == [
    [8.25, 12.0],
    [8e-9, 12.0],
    [8e-9, 12e-9],
    [8.0, 12.0],
    [8e-9, 12e-9],
], found
PYTHON
venv/bin/python try.py
