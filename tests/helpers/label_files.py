"""Label files of every kind, as each tool writes them."""

import json

from flamlib.sound_events.events import Event

DOG, RAIN = Event(0.5, 1.25, "a dog barks"), Event(1.0, 3.0, "rain; heavy: #1, « naß »")
RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)"
# Of several recordings opened as one.
RAVEN_SEQUENCE = RAVEN + "\tBegin File\tFile Offset (s)\tSpecies\n"


def jams(*annotations):
    return json.dumps({"annotations": list(annotations), "file_metadata": {"duration": 10.0}})


def scaper(*events, namespace="scaper", role="foreground"):
    """As scaper writes it: a background, and a value whose duration is from before stretching."""
    background = Event(0.0, 10.0, "noise")
    return {
        "namespace": namespace,
        "data": [
            {
                "time": onset,
                "duration": offset - onset,
                "value": {"label": caption, "role": this, "event_duration": 99.0},
                "confidence": 1.0,
            }
            for this, (onset, offset, caption) in [("background", background)]
            + [(role, event) for event in events]
        ],
    }


def tags(*events):
    return {
        "namespace": "tag_open",
        "data": [
            {"time": a, "duration": b - a, "value": c, "confidence": None} for a, b, c in events
        ],
    }


def rows(*events, before="", after=""):
    return "".join(f"{before}{a}\t{b}\t{c}{after}\n" for a, b, c in events)


def raven(*events, columns="\tAnnotation", views=("Spectrogram 1",)):
    lines = [RAVEN + columns]
    for number, (onset, offset, caption) in enumerate(events, start=1):
        lines += [f"{number}\t{view}\t1\t{onset}\t{offset}\t100\t8000\t{caption}" for view in views]
    return "\n".join(lines) + "\n"


# Every kind of file, as each tool writes it, with these events.
KINDS = {
    "audacity": (".txt", rows),
    "audacity with frequencies": (
        ".txt",
        lambda *events: "".join(rows(e) + "\\\t120.5\t8000.0\n" for e in events),
    ),
    "audacity, the first with frequencies": (
        ".txt",
        lambda *events: rows(*events[:1], after="\n\\\t120.5\t8000.0") + rows(*events[1:]),
    ),
    "raven": (".txt", raven),
    "raven, two views": (".txt", lambda *e: raven(*e, views=("Waveform 1", "Spectrogram 1"))),
    "raven, a column of one's own": (".txt", lambda *e: raven(*e, columns="\tWhat I hear")),
    "dcase": (".tsv", lambda *e: "onset\toffset\tevent_label\n" + rows(*e)),
    "dcase with names": (
        ".tsv",
        lambda *e: "filename\tonset\toffset\tevent_label\n" + rows(*e, before="a.wav\t"),
    ),
    "dcase without a header": (".txt", lambda *e: rows(*e, before="a.wav\t")),
    "commas": (
        ".csv",
        lambda *e: "onset,offset,event_label\n" + "".join(f'{a},{b},"{c}"\n' for a, b, c in e),
    ),
    "dcase_util": (  # tabs, whatever the name
        ".csv",
        lambda *e: (
            "event_label\tfilename\toffset\tonset\n"
            + "".join(f"{c}\ta.wav\t{b}\t{a}\n" for a, b, c in e)
        ),
    ),
    "opensoundscape": (
        ".csv",
        lambda *e: (
            ",audio_file,annotation_file,annotation,start_time,end_time,low_f,high_f\n"
            + "".join(f'0,a.wav,x.txt,"{c}",{a},{b},0.0,8000.0\n' for a, b, c in e)
        ),
    ),
    "crowsetta's simple-seq": (
        ".csv",
        lambda *e: "onset_s,offset_s,label\n" + "".join(f'{a},{b},"{c}"\n' for a, b, c in e),
    ),
    "crowsetta's generic-seq": (
        ".csv",
        lambda *e: (
            "label,onset_s,offset_s,onset_sample,offset_sample,notated_path,annot_path,sequence,"
            "annotation\n" + "".join(f'"{c}",{a},{b},,,a.wav,x.csv,0,0\n' for a, b, c in e)
        ),
    ),
    "scaper": (".jams", lambda *e: jams(scaper(*e))),
    "scaper 0": (".jams", lambda *e: jams(scaper(*e, namespace="sound_event"))),
    "tags": (".jams", lambda *e: jams({"namespace": "tempo", "data": []}, tags(*e))),
}


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path
