#!/usr/bin/env bash
# psds_eval gives 0 to a perfect system if the data have a single class.
#
# psds_eval 0.5.3: detections equal to the ground truth score 1 where there are two classes, and 0
# where the second class is left out of both, with and without a penalty between classes (alpha_st).
#
# Seen with psds_eval 0.5.3, pandas 2.3.3, numpy 1.26.4, on Python 3.11:
#     two classes: 1.0 1.0
#     one class: 0.0 0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    psds-eval==0.5.3 pandas==2.3.3 numpy==1.26.4 setuptools==80.9.0
cat > try.py <<'PYTHON'
import warnings

import pandas as pd
from psds_eval import PSDSEval

warnings.simplefilter("ignore")
durations = pd.DataFrame({"filename": ["a.wav"], "duration": [10.0]})
truth = pd.DataFrame(
    [("a.wav", 0.0, 1.0, "dog"), ("a.wav", 5.0, 6.0, "cat")],
    columns=["filename", "onset", "offset", "event_label"],
)


def psds(events, alpha_st):
    judge = PSDSEval(
        ground_truth=events, metadata=durations, dtc_threshold=0.7, gtc_threshold=0.7
    )
    for _ in range(3):  # three thresholds, at all of which it is right
        judge.add_operating_point(events)
    return float(judge.psds(alpha_ct=0, alpha_st=alpha_st, max_efpr=100).value)


both = [psds(truth, 0), psds(truth, 1)]
one = [psds(truth[:1], 0), psds(truth[:1], 1)]
print("two classes:", *both)
print("one class:", *one)
assert both == [1.0, 1.0]
assert one == [0.0, 0.0]
PYTHON
venv/bin/python try.py
