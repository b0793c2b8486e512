#!/usr/bin/env bash
# dcase_util's process_events ends a long event where a shorter one of its label within it ends.
#
# `MetaDataContainer.process_events` merges the events of one label that are nearer to each other than
# `minimum_event_gap`, as one wants it of what a system found. Events that overlap are merged,
# too, and the merged one ends where the last to begin ends, not the last to end. So a dog from 0 to 10 s
# and another from 2 to 3 s, as two annotators, two files of labels or a mixture have them, become one
# event from 0 to 3 s. No error and no warning. With `minimum_event_length` alone they stay.
#
# Seen with dcase_util 0.2.20, sed_eval 0.2.1, on Python 3.11:
#     0 to 10 s, 2 to 3 s: [(0.0, 3.0)]
#     0 to 10 s, 2 to 3 s, 5 to 6 s: [(0.0, 3.0), (5.0, 6.0)]
#     0 to 3 s, 2 to 10 s: [(0.0, 10.0)]
#     the first against itself, processed: precision 1.0, recall 0.3 in segments of 1 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    dcase_util==0.2.20 sed_eval==0.2.1 'setuptools<81'
cat > try.py <<'PYTHON'
from dcase_util.containers import MetaDataContainer
from sed_eval.sound_event import SegmentBasedMetrics


def events(*times):
    of_file = {"filename": "a.wav", "event_label": "dog"}
    return MetaDataContainer([{**of_file, "onset": on, "offset": off} for on, off in times])


def times(container):
    return [(event.onset, event.offset) for event in container]


nested = ((0, 10), (2, 3))
found = {}
for given in (nested, (*nested, (5, 6)), ((0, 3), (2, 10))):
    found[given] = times(events(*given).process_events(minimum_event_gap=0.1))
    print(", ".join(f"{on} to {off} s" for on, off in given) + ":", found[given])
assert list(found.values()) == [[(0, 3)], [(0, 3), (5, 6)], [(0, 10)]], found
assert times(events(*nested).process_events(minimum_event_length=0.1)) == list(nested)

metrics = SegmentBasedMetrics(["dog"], time_resolution=1.0)
metrics.evaluate(
    events(*nested),
    events(*nested).process_events(minimum_event_gap=0.1),
    evaluated_length_seconds=10,
)
scores = metrics.results_overall_metrics()["f_measure"]
print(
    f"the first against itself, processed: precision {scores['precision']}, "
    f"recall {scores['recall']} in segments of 1 s"
)
assert (scores["precision"], scores["recall"]) == (1.0, 0.3), scores
PYTHON
venv/bin/python -W ignore try.py
