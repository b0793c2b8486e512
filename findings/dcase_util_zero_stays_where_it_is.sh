#!/usr/bin/env bash
# dcase_util's add_time moves the end of an event that begins at 0, and leaves its beginning at 0.
#
# `MetaDataContainer.add_time` adds a number of seconds to all times, as one wants it to bring the
# events of a part back to where it lies in the recording. A time of 0 is taken for none: an event
# from 0 to 2 s of a part that begins at 60 s becomes one from 0 to 62 s. Such events are no rarity:
# `filter_time_segment`, which cuts the part out, has every event that is cut at its edge begin at 0,
# so that the two do not undo each other. No error and no warning. Add the seconds to each event.
#
# Seen with dcase_util 0.2.20, sed_eval 0.2.1, on Python 3.11:
#     events: [(58.0, 62.0), (65.0, 66.0)]
#     60 to 70 s of it: [(0.0, 2.0), (5.0, 6.0)]
#     moved by 60 s: [(0.0, 62.0), (65.0, 66.0)]
#     against what was cut out: precision 0.048, recall 1.0 in segments of 1 s
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


whole = events((58.0, 62.0), (65.0, 66.0))
part = whole.filter_time_segment(start=60.0, stop=70.0)
print("events:", times(whole))
print("60 to 70 s of it:", times(part))
assert times(part) == [(0, 2), (5, 6)], times(part)
part.add_time(60.0)
print("moved by 60 s:", times(part))
assert times(part) == [(0, 62), (65, 66)], times(part)

metrics = SegmentBasedMetrics(["dog"], time_resolution=1.0)
metrics.evaluate(events((60.0, 62.0), (65.0, 66.0)), part, evaluated_length_seconds=70)
scores = metrics.results_overall_metrics()["f_measure"]
precision, recall = round(scores["precision"], 3), scores["recall"]
print(f"against what was cut out: precision {precision}, recall {recall} in segments of 1 s")
assert (precision, recall) == (0.048, 1.0), scores
PYTHON
venv/bin/python -W ignore try.py
