import io
import json

import pyarrow.parquet
import pytest

from flamlib.sound_events import event_tables, labels
from flamlib.sound_events.detection import Detection
from flamlib.sound_events.event_tables import FORMATS, Found
from flamlib.storage import tables

DOG = Detection(0.5, 1.25, "a dog barks", 0.83)
ODD = Detection(3599.9996, 3661.5, 'Wörter, "mit" <b> & 犬', 1.0)
FOUND = [
    Found("in/a.wav", [DOG, ODD], 16_000),
    Found("quiet.wav", [], 8_000),
    Found("b.flac", [DOG], 44_100, channel=2),
]


def read(tmp_path, kind, found):
    path = tmp_path / f"found{FORMATS[kind].suffix}"
    path.write_bytes(FORMATS[kind].encode(found))
    return path


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl", "parquet"])
def test_a_joint_table_holds_every_event_of_every_recording(tmp_path, kind):
    path = read(tmp_path, kind, FOUND)
    if kind in ("tsv", "csv"):
        rows = [row.fields for row in tables.read(path, event_tables.COLUMNS)]
    elif kind == "jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    else:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    assert [(row["filename"], row["event_label"]) for row in rows] == [
        ("in/a.wav", DOG.caption),
        ("in/a.wav", ODD.caption),
        ("b.flac", DOG.caption),
    ]
    for row, event in zip(rows, (DOG, ODD, DOG), strict=True):
        for name in ("onset", "offset", "score"):
            assert float(row[name]) == pytest.approx(getattr(event, name), rel=1e-6)


@pytest.mark.parametrize("kind", ["audacity", "raven"])
def test_a_track_of_a_recording_is_read_back_as_labels(tmp_path, kind):
    file = labels.read(read(tmp_path, kind, FOUND[:1]))
    assert [(event.onset, event.offset) for event in file.of("a.wav")] == [
        (pytest.approx(d.onset, abs=1e-6), pytest.approx(d.offset, abs=1e-6)) for d in (DOG, ODD)
    ]
    assert [event.caption.split(" (")[0] for event in file.of("a.wav")] == [
        DOG.caption,
        ODD.caption,
    ]


def test_raven_finds_the_columns_it_opens_a_table_by():
    header, *rows = FORMATS["raven"].encode(FOUND[2:]).decode().splitlines()
    assert header.split("\t") == [
        *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"),
        *("Low Freq (Hz)", "High Freq (Hz)", "Annotation", "Score"),
    ]
    [row] = rows
    assert row.split("\t") == [
        *("1", "Spectrogram 1", "2", "0.500000", "1.250000", "0.0", "22050.0"),
        *("a dog barks", "0.8300"),
    ]


def test_web_vtt_has_a_cue_for_each_event_and_no_markup():
    head, first, second = FORMATS["vtt"].encode(FOUND[:1]).decode().split("\n\n")
    assert head == "WEBVTT"
    assert first == "00:00:00.500 --> 00:00:01.250\na dog barks (0.83)"
    assert second.splitlines() == [
        "01:00:00.000 --> 01:01:01.500",
        'Wörter, "mit" &lt;b&gt; &amp; 犬 (1.00)',
    ]


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_found_is_a_table_without_rows(kind):
    encoded = FORMATS[kind].encode([Found("quiet.wav", [], 8_000)])
    if kind == "parquet":
        assert pyarrow.parquet.read_table(io.BytesIO(encoded)).num_rows == 0
    else:
        assert len(encoded.decode().splitlines()) == (kind in ("tsv", "csv", "raven", "vtt"))
