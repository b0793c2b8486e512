#!/usr/bin/env bash
# soundata's events of DCASE's bioacoustic set have every class of their file, heard or not.
#
# In the annotations for training (few-shot bioacoustic events) each class has a column, and each event POS,
# NEG or UNK in it. `load_events` of `dcase_bioacoustic`, and with it `clip.events`, makes the label of an
# event of the names of all columns, whatever stands in them: all events of a file of three birds have
# one label, of three names. `load_POSevents` (`clip.POSevents`) has the classes marked POS, but keeps
# events of none of them, with an empty label: split at commas, a class called "". No error and no
# warning; the documentation calls both audio events. Read the columns of the table itself.
#
# Seen with soundata 1.0.1, numpy 2.3.5, on Python 3.11: starts in s and labels, where the first event is
# AMRE, the second BBWA, the third perhaps BTBW (UNK), the fourth AMRE and BBWA
#     events: 1.0 "AMRE,BBWA,BTBW", 2.0 "AMRE,BBWA,BTBW", 3.0 "AMRE,BBWA,BTBW", 4.0 "AMRE,BBWA,BTBW"
#     POSevents: 1.0 "AMRE", 2.0 "BBWA", 3.0 "", 4.0 "AMRE,BBWA"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    soundata==1.0.1 numpy==2.3.5 pandas==2.3.3 librosa==0.11.0 'setuptools<81'
cat > a.csv <<'CSV'
Audiofilename,Starttime,Endtime,AMRE,BBWA,BTBW
a.wav,1.0,1.5,POS,NEG,NEG
a.wav,2.0,2.5,NEG,POS,NEG
a.wav,3.0,3.5,NEG,NEG,UNK
a.wav,4.0,4.5,POS,POS,NEG
CSV
cat > try.py <<'PYTHON'
from soundata.datasets import dcase_bioacoustic

found = {}
for name, load in {
    "events": dcase_bioacoustic.load_events,
    "POSevents": dcase_bioacoustic.load_POSevents,
}.items():
    events = load("a.csv")
    assert events.intervals[:, 0].tolist() == [1, 2, 3, 4] and events.confidence.tolist() == [1] * 4
    found[name] = list(events.labels)
    pairs = zip(events.intervals[:, 0], events.labels)
    print(f"{name}:", ", ".join(f'{start} "{label}"' for start, label in pairs))
assert found["events"] == ["AMRE,BBWA,BTBW"] * 4, found
assert found["POSevents"] == ["AMRE", "BBWA", "", "AMRE,BBWA"], found
PYTHON
venv/bin/python -W ignore try.py
