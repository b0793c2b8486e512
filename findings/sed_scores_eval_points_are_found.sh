#!/usr/bin/env bash
# sed_scores_eval takes events without a duration for found wherever anything of the class is detected.
#
# A point label, or a short event whose times were rounded to one value, is an event whose onset is
# its offset. The criteria of intersection (`intersection_based`: PSDS, F1) count it as a true positive
# if anything of its class is detected in the clip, however far away, and even if that is a false
# alarm: recall and PSDS rise with every such row, and nothing is said. With a duration of a
# millisecond the same events are missed, as they should be. Leave such rows out.
#
# The package is compiled when it is installed: needs a C compiler.
#
# Seen with sed_scores_eval 0.0.4, on Python 3.11: one event of the clip is detected, two others are
# nowhere near a detection
#     the two others 0.001 s: recall 0.333, PSDS 0.333
#     the two others 0.0 s: recall 1.0, PSDS 1.0
#     the two others 0.0 s, and a false alarm alone: recall 0.667
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    sed_scores_eval==0.0.4 numpy==1.26.4 pandas==2.3.3
cat > try.py <<'PYTHON'
import numpy as np
from sed_scores_eval import intersection_based
from sed_scores_eval.base_modules.scores import create_score_dataframe

DETECTED = [0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]  # from 1 s to 3 s of ten
scores = {"a": create_score_dataframe(np.array(DETECTED)[:, None], np.arange(11.0), ["dog"])}
criteria = {"dtc_threshold": 0.7, "gtc_threshold": 0.7}


def measure(first, duration):
    """Recall at 0.5 and PSDS; an event, and two more that are not detected."""
    truth = {"a": [(*first, "dog")] + [(t, t + duration, "dog") for t in (7.0, 8.5)]}
    _, _, recall, _ = intersection_based.fscore(scores, truth, threshold=0.5, **criteria)
    psds, *_ = intersection_based.psds(scores, truth, {"a": 10.0}, **criteria)
    return round(float(recall["dog"]), 3), round(float(psds), 3)


short, points = (measure((1.0, 3.0), duration) for duration in (0.001, 0.0))
recall, _ = measure((4.0, 6.0), 0.0)
print(f"the two others 0.001 s: recall {short[0]}, PSDS {short[1]}")
print(f"the two others 0.0 s: recall {points[0]}, PSDS {points[1]}")
print(f"the two others 0.0 s, and a false alarm alone: recall {recall}")
assert short == (0.333, 0.333), "one of three is found"
assert points == (1.0, 1.0), "points are missed, or refused, now"
assert recall == 0.667, "a false alarm finds no points now"
PYTHON
venv/bin/python try.py
