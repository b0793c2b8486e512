#!/usr/bin/env bash
# soundevent's mean average precision of detected events leaves out every false alarm.
#
# `sound_event_detection` matches predictions with annotations and gives measures of all of them. A
# prediction that matches nothing has no true class, and its "mean average precision" drops what has none,
# as the task of classifying given events needs it. So 15 false alarms, scored higher than the three
# events that are found, leave it at 1. And a clip for which there is no prediction is not evaluated at
# all: a system that found nothing in it, and so wrote nothing about it, keeps all measures at 1,
# where one with an empty prediction loses. No error, and no warning of either (scikit-learn's are of
# other measures); the documentation does not say so. Give a `ClipPrediction` for each clip, and count
# false alarms in `matches`.
#
# Seen with soundevent 2.10.0, scikit-learn 1.8.0, numpy 2.3.5, on Python 3.11: mean average precision
# and accuracy, of three events in two clips
#     all found: 1.0, 1.0
#     all found, 15 false alarms: 1.0, 0.167
#     of one clip nothing, an empty prediction: 0.917, 0.667
#     of one clip nothing, no prediction: 1.0, 1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    'soundevent[evaluation]==2.10.0' scikit-learn==1.8.0 scipy==1.17.1 shapely==2.1.2 rasterio==1.4.4 \
    soundfile==0.14.0 xarray==2025.12.0 numpy==2.3.5 pandas==2.3.3
cat > try.py <<'PYTHON'
from soundevent import data
from soundevent.evaluation import sound_event_detection

recording = data.Recording(path="a.wav", duration=60, channels=1, samplerate=48000)
clips = [data.Clip(recording=recording, start_time=s, end_time=s + 30) for s in (0, 30)]
kind = data.term_from_key("event")
dog, cat = (data.Tag(term=kind, value=value) for value in ("dog", "cat"))


def sound(start):
    return data.SoundEvent(
        recording=recording, geometry=data.TimeInterval(coordinates=[start, start + 1])
    )


def annotated(clip, events):
    annotations = [
        data.SoundEventAnnotation(sound_event=sound(start), tags=[tag]) for start, tag in events
    ]
    return data.ClipAnnotation(clip=clip, sound_events=annotations)


def predicted(clip, events, score=0.8):
    predictions = [
        data.SoundEventPrediction(
            sound_event=sound(start), score=score, tags=[data.PredictedTag(tag=tag, score=score)]
        )
        for start, tag in events
    ]
    return data.ClipPrediction(clip=clip, sound_events=predictions)


first, second = [(1, dog), (5, cat)], [(31, dog)]
truth = [annotated(clips[0], first), annotated(clips[1], second)]
right = [predicted(clips[0], first), predicted(clips[1], second)]
alarms = predicted(clips[0], [(10 + start, dog) for start in range(15)], score=0.95)
noisy = data.ClipPrediction(
    clip=clips[0], sound_events=[*right[0].sound_events, *alarms.sound_events]
)
systems = {
    "all found": right,
    "all found, 15 false alarms": [noisy, right[1]],
    "of one clip nothing, an empty prediction": [right[0], predicted(clips[1], [])],
    "of one clip nothing, no prediction": [right[0]],
}
found = {}
for name, predictions in systems.items():
    evaluation = sound_event_detection(predictions, truth, [dog, cat])
    measures = {m.term.label: round(m.value, 3) for m in evaluation.metrics}
    found[name] = measures["Mean Average Precision"], measures["Accuracy"]
    print(f"{name}: {found[name][0]}, {found[name][1]}")
assert list(found.values()) == [(1, 1), (1, 0.167), (0.917, 0.667), (1, 1)], found
PYTHON
venv/bin/python -W ignore try.py
