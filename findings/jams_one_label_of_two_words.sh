#!/usr/bin/env bash
# With pandas 3 one label of two words makes JAMS' import_lab lose all labels of one word.
#
# `jams.util.import_lab` makes an annotation of a .lab file: start, end and label in each line, as sound
# editors write them. Columns are split at blanks by default, with tabs or without, and its documentation
# has each row take its last column that is not empty: of "door knock" that is "knock". pandas 2 filled
# shorter rows with None; pandas 3 has NaN, which does not count as empty, so that every label with
# fewer words than the longest becomes NaN: of a hundred dogs and one door knock the knock remains. No
# error and no warning. jams asks for any pandas, and pip takes the newest. `save` refuses the annotation,
# with `strict=False` NaN is in the file, which is no JSON. Pass `sep="\t"`.
#
# Seen with jams 0.3.5, pandas 2.3.3 and 3.1.1, numpy 2.3.5, on Python 3.11:
#     pandas 2.3.3: "dog", "rain" give ['dog', 'rain']; with "door knock" ['dog', 'rain', 'knock']
#     pandas 3.1.1: "dog", "rain" give ['dog', 'rain']; with "door knock" [nan, nan, 'knock']
#     pandas 3.1.1, sep="\t": ['dog', 'rain', 'door knock']
#     pandas 3.1.1, saved with strict=False: "value": NaN
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
cat > try.py <<'PYTHON'
import pathlib

import jams
import pandas as pd

WORDS = ["dog", "rain", "door knock"]


def read(labels, **options):
    rows = [f"{i}.0\t{i}.5\t{label}\n" for i, label in enumerate(labels)]
    pathlib.Path("a.lab").write_text("".join(rows))
    annotation = jams.util.import_lab("tag_open", "a.lab", **options)
    assert [o.time for o in annotation] == [float(i) for i in range(len(labels))]
    return annotation


def values(annotation):
    return [observation.value for observation in annotation]


few, all_of_them, by_tabs = read(WORDS[:2]), read(WORDS), read(WORDS, sep="\t")
name = f"pandas {pd.__version__}"
print(f'{name}: "dog", "rain" give {values(few)}; with "door knock" {values(all_of_them)}')
assert values(few) == WORDS[:2], values(few)
assert values(by_tabs) == WORDS, values(by_tabs)
if pd.__version__ < "3":
    assert values(all_of_them) == ["dog", "rain", "knock"], values(all_of_them)
    raise SystemExit
assert str(values(all_of_them)) == "[nan, nan, 'knock']", values(all_of_them)
print(f'{name}, sep="\\t": {values(by_tabs)}')

document = jams.JAMS()
document.file_metadata.duration = 10.0
document.annotations.append(all_of_them)
document.save("a.jams", strict=False)
saved = [line.strip(" ,") for line in pathlib.Path("a.jams").read_text().splitlines()]
print(f"{name}, saved with strict=False:", '"value": NaN' if '"value": NaN' in saved else saved)
assert saved.count('"value": NaN') == 2, saved
PYTHON
for pandas in 2.3.3 3.1.1; do
    venv/bin/pip install --quiet --disable-pip-version-check \
        jams==0.3.5 mir_eval==0.8.2 "pandas==$pandas" numpy==2.3.5
    venv/bin/python -W ignore try.py
done
