#!/usr/bin/env bash
# soundata's events of STARSS and TAU-NIGENS end a frame early, and those of one frame have no length.
#
# The annotations of these sets (DCASE's sound event localisation) are rows of frames of 100 ms. The loaders
# of `starss2022`, `tau2020sse_nigens` and `tau2021sse_nigens` make intervals of them, "in the form
# [start_time, end_time]", that end where the last frame begins. Each piece of an event loses 100 ms;
# one of a single frame, as of a knock, loses all. So the end of each event that is detected rightly
# counts as a false alarm, and totals of what is labelled are too low, the more so the shorter the
# sounds are. No error and no warning. Add `time_step` to the ends.
#
# Seen with soundata 1.0.1, numpy 2.3.5, on Python 3.11: two events, of frames 10 to 19 and of frame 30
#     starss2022: [1.0, 1.9], [3.0, 3.0] s, 9 of 11 frames
#     tau2020sse_nigens: [1.0, 1.9], [3.0, 3.0] s, 9 of 11 frames
#     tau2021sse_nigens: [1.0, 1.9], [3.0, 3.0] s, 9 of 11 frames
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    soundata==1.0.1 numpy==2.3.5 pandas==2.3.3 librosa==0.11.0 'setuptools<81'
cat > try.py <<'PYTHON'
from importlib import import_module

FRAMES = [*range(10, 20), 30]
with open("a.csv", "w") as file:  # frame, class, source, azimuth, elevation
    file.writelines(f"{frame},2,0,-30,10\n" for frame in FRAMES)

for name in ("starss2022", "tau2020sse_nigens", "tau2021sse_nigens"):
    events = import_module(f"soundata.datasets.{name}").load_spatialevents("a.csv")
    assert (events.labels, events.time_step, events.intervals_unit) == (["2"], 0.1, "seconds")
    [intervals] = [[interval.tolist() for interval in of_event] for of_event in events.intervals]
    frames = sum(round((end - start) / events.time_step) for start, end in intervals)
    print(f"{name}: {', '.join(map(str, intervals))} s, {frames} of {len(FRAMES)} frames")
    assert intervals == [[1.0, 1.9], [3.0, 3.0]], intervals
PYTHON
venv/bin/python -W ignore try.py
