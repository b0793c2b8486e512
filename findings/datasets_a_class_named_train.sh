#!/usr/bin/env bash
# A class of sounds called "train" is all that datasets' audiofolder loads of a folder.
#
# `load_dataset("audiofolder", data_dir=...)` takes the names of folders for classes. But a folder or
# file whose name holds the word train, test, dev, eval or the like is a split first, and where there
# is one, whatever names no split is left out. So of dog/, rain/ and train/, classes of ESC-50, the
# recordings of trains remain, as the split "train" that everyone asks for, and without a label, there
# being one class; of files beside a metadata.csv those with "train" in their names remain, without
# the metadata. No error and no warning. `data_files="FOLDER/**"` loads all of them.
#
# Seen with datasets 5.2.0, on Python 3.11:
#     dog, rain, railway: {'train': 9}, columns ['audio', 'label']
#     dog, rain, train: {'train': 3}, columns ['audio']
#     files with captions: {'train': 3}, columns ['audio', 'caption']
#     one called "train passes": {'train': 1}, columns ['audio']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export HF_HUB_OFFLINE=1 HF_HOME="$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    datasets==5.2.0 soundfile==0.14.0 numpy==2.3.5 pandas==2.3.3
cat > try.py <<'PYTHON'
import pathlib

import datasets
import numpy as np
import soundfile


def write(path):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(1600), 16000)


def loaded(folder):
    """How many recordings each split has, and the columns of the first."""
    files = datasets.load_dataset_builder("audiofolder", data_dir=folder).config.data_files
    sounds = {str(k): sum(f.endswith(".wav") for f in paths) for k, paths in files.items()}
    rows = datasets.load_dataset("audiofolder", data_dir=folder, streaming=True)
    return sounds, sorted(rows["train"].features)


def classes(*names):
    folder = "of classes " + names[-1][::-1]  # a folder that names no split
    for name in names:
        for i in range(3):
            write(f"{folder}/{name}/{i}.wav")
    return loaded(folder)


def captioned(*names):
    folder = "of captions " + names[-1][::-1]
    for name in names:
        write(f"{folder}/{name}.wav")
    rows = "".join(f"{name}.wav,a {name}\n" for name in names)
    pathlib.Path(folder, "metadata.csv").write_text("file_name,caption\n" + rows)
    return loaded(folder)


found = {
    "dog, rain, railway": classes("dog", "rain", "railway"),
    "dog, rain, train": classes("dog", "rain", "train"),
    "files with captions": captioned("dog barks", "rain falls", "tram passes"),
    'one called "train passes"': captioned("dog barks", "rain falls", "train passes"),
}
for name, (sounds, columns) in found.items():
    print(f"{name}: {sounds}, columns {columns}")
assert list(found.values()) == [
    ({"train": 9}, ["audio", "label"]),
    ({"train": 3}, ["audio"]),
    ({"train": 3}, ["audio", "caption"]),
    ({"train": 1}, ["audio"]),
], found
PYTHON
venv/bin/python try.py
