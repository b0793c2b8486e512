#!/usr/bin/env bash
# papermill does not see a parameter on whose line there is a second "=", not even in a comment.
#
# papermill 2.7.0 lists the parameters of a notebook by reading the cell tagged `parameters` line by
# line. A line with two "=" is passed over with the warning "Unable to parse line", so that a
# default with a helpful comment, such as
#
#     overrides = ""  # such as "lr=0.1"
#
# is missing from `papermill --help-notebook` and `inspect_notebook`. A value given for it is
# announced as "Passed unknown parameter", and reaches the notebook all the same.
#
# Seen with papermill 2.7.0, on Python 3.11:
#     known: ['plain']
#     warned: Passed unknown parameter: commented
#     value in the notebook: 5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check papermill==2.7.0 ipykernel==7.4.0
cat > try.py <<'PYTHON'
import logging

import nbformat
import papermill

cell = nbformat.v4.new_code_cell('plain = 1  # a number\ncommented = 2  # such as "lr=0.1"')
cell.metadata["tags"] = ["parameters"]
kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
cells = [cell, nbformat.v4.new_code_cell("print(commented)")]
nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), "a.ipynb")

warned = []


class Keep(logging.Handler):
    def emit(self, record):
        warned.append(record.getMessage())


logging.getLogger("papermill").addHandler(Keep())
known = sorted(papermill.inspect_notebook("a.ipynb"))
given = {"plain": 1, "commented": 5}
done = papermill.execute_notebook("a.ipynb", "b.ipynb", given, progress_bar=False)
value = done.cells[-1].outputs[0].text.strip()
unknown = [text for text in warned if text.startswith("Passed unknown parameter")]
print("papermill", papermill.__version__)
print("known:", known)
print("warned:", *unknown)
print("value in the notebook:", value)
assert known == ["plain"], "papermill sees the commented parameter now"
assert unknown == ["Passed unknown parameter: commented"], unknown
assert value == "5", value
PYTHON
venv/bin/python try.py
