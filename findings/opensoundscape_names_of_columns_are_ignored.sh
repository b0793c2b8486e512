#!/usr/bin/env bash
# opensoundscape ignores the names of columns that it is given for a Raven selection table.
#
# `BoxedAnnotations.from_raven_files` takes times from "Begin Time (s)" and "End Time (s)". Where
# several recordings were opened as one, these count from the beginning of the first of them, and the
# time within its own recording is in "File Offset (s)". `column_mapping_dict` is for such a table: its
# documentation has it update the standard names. The argument is overwritten before it is read, so
# that labels keep the times of the stream: a wren at 5 s of the second recording stays at 65 s, in
# silence or in another bird. A name that is not in the table is not missed either. No error and no
# warning. Rename the columns of the file before, or those of `.df` afterwards.
#
# Seen with opensoundscape 0.13.2, pandas 2.3.3, on Python 3.11: starts and ends in s
#     without a mapping: [12.0, 65.0] and [14.0, 67.0]
#     with one to the columns of the recording: [12.0, 65.0] and [14.0, 67.0]
#     with one of a column that is not there: [12.0, 65.0] and [14.0, 67.0]
#     the columns renamed in the file: [12.0, 5.0] and [14.0, 7.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    pandas==2.3.3 numpy==2.3.5 scikit-learn==1.9.1 librosa==0.11.0 matplotlib==3.10.8 torch==2.13.0
# Without what its networks need: the module of tables is imported alone.
venv/bin/pip install --quiet --disable-pip-version-check --no-deps opensoundscape==0.13.2
cat > try.py <<'PYTHON'
import importlib.util
import sys
import types

import pandas as pd

package = types.ModuleType("opensoundscape")
package.__path__ = importlib.util.find_spec("opensoundscape").submodule_search_locations
sys.modules["opensoundscape"] = package
from opensoundscape.annotations import BoxedAnnotations  # noqa: E402

# As Raven saves it, but for "File End (s)", which it does not have.
TABLE = pd.DataFrame(
    [
        [1, "Spectrogram 1", 1, 12.0, 14.0, 500.0, 4000.0, "a.wav", 12.0, 14.0, "robin"],
        [2, "Spectrogram 1", 1, 65.0, 67.0, 500.0, 4000.0, "b.wav", 5.0, 7.0, "wren"],
    ],
    columns=[
        "Selection",
        "View",
        "Channel",
        "Begin Time (s)",
        "End Time (s)",
        "Low Freq (Hz)",
        "High Freq (Hz)",
        "Begin File",
        "File Offset (s)",
        "File End (s)",
        "Species",
    ],
)
OF_STREAM = {"Begin Time (s)": "stream_start", "End Time (s)": "stream_end"}
IN_FILE = {"File Offset (s)": "start_time", "File End (s)": "end_time"}
STANDARD = {"File Offset (s)": "Begin Time (s)", "File End (s)": "End Time (s)"}


def times(table, mapping=None):
    table.to_csv("a.txt", sep="\t", index=False)
    read = BoxedAnnotations.from_raven_files("a.txt", "Species", column_mapping_dict=mapping).df
    return read["start_time"].tolist(), read["end_time"].tolist()


renamed = TABLE.drop(columns=[*OF_STREAM]).rename(columns=STANDARD)
found = {
    "without a mapping": times(TABLE),
    "with one to the columns of the recording": times(TABLE, {**OF_STREAM, **IN_FILE}),
    "with one of a column that is not there": times(TABLE, {"Begin": "start_time"}),
    "the columns renamed in the file": times(renamed),
}
for name, (starts, ends) in found.items():
    print(f"{name}: {starts} and {ends}")
of_stream, of_file = ([12.0, 65.0], [14.0, 67.0]), ([12.0, 5.0], [14.0, 7.0])
assert list(found.values()) == [of_stream, of_stream, of_stream, of_file], found
PYTHON
venv/bin/python -W ignore try.py
