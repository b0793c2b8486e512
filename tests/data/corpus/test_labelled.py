import numpy as np
import pytest
import soundfile
from handmade import clip, tone, write_catalogue, write_tsv
from label_files import KINDS, raven, write
from sounds import noise

from flamlib.data.corpus import catalogue, labelled, own_sounds, recordings
from flamlib.sound_events.detection import Detection, to_audacity_labels
from flamlib.sound_events.events import Event
from flamlib.waveforms import audio

RATE = 16000
COLUMNS = [*own_sounds.COLUMNS, *own_sounds.OPTIONAL]
DOG, BELL = Event(0.25, 0.75, "a dog barks twice"), Event(1.0, 1.75, "a bell rings")


@pytest.fixture
def own(tmp_path):
    """A folder with a recording of two seconds; adds it and what lies beside it."""
    write_catalogue(tmp_path / "catalogue", [clip()])
    (tmp_path / "own/deep").mkdir(parents=True)
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "own/a.wav", noise(2.0), RATE)

    def add(*rows):
        if rows:
            write_tsv(tmp_path / "own/sounds.tsv", COLUMNS, rows)
        return own_sounds.add(catalogue.read(tmp_path / "catalogue"), tmp_path / "own")

    return add


def sounds(found):
    return found.clips[found.clips["package"] == "own"].to_dict("records")


def why(found):
    return [row["why"] for row in found.left_out]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("named", [False, True])
def test_every_label_is_a_sound_of_its_own(own, tmp_path, kind, named):
    suffix, text = KINDS[kind]
    row = {"path": "a.wav", "split": "valid", "licence": "CC0"}
    name = f"notes{suffix}" if named else f"a{suffix}"
    write(tmp_path / "own" / name, text(DOG, BELL))
    found = own(row | {"labels": name if named else ""})
    one, other = sounds(found)
    assert [one["caption"], other["caption"]] == [DOG.caption, BELL.caption]
    assert one["group"] == other["group"]
    assert (one["split"], one["licence"], one["role"]) == ("valid", "CC0", "foreground")
    whole, _ = audio.read(tmp_path / "own/a.wav")
    for row, (onset, offset, _) in zip((one, other), (DOG, BELL), strict=True):
        path, part = labelled.split_part(row["member"])
        stored = recordings.store(row, tmp_path / "own" / path, tmp_path, **part)
        kept, _ = audio.read(tmp_path / stored["path"])
        np.testing.assert_allclose(
            kept, whole[round(onset * RATE) : round(offset * RATE)], atol=1e-4
        )
        assert (stored["onset"], stored["offset"]) == ("0.000", f"{offset - onset:.3f}")
    assert not found.left_out


def test_without_a_table_every_recording_with_a_label_file_is_taken(own, tmp_path):
    soundfile.write(tmp_path / "own/deep/b.flac", tone(300, 2.0), RATE)
    soundfile.write(tmp_path / "own/unlabelled.wav", tone(300, 2.0), RATE)
    write(tmp_path / "own/a.txt", "0.25\t0.75\ta dog barks twice\n")
    write(tmp_path / "own/deep/b.Table.1.selections.txt", raven(BELL))
    assert [(row["member"], row["caption"]) for row in sounds(own())] == [
        ("a.wav#t=0.25,0.75", DOG.caption),
        ("deep/b.flac#t=1.0,1.75", BELL.caption),
    ]


def test_of_sounds_at_one_time_none_is_alone_and_each_is_listed(own, tmp_path):
    rows = ["0 1 rain", "0.5 0.6 dog", "1 1.2 bell", "1.2 1.5 wind", "1.4 1.6 Wind", "2 2 click"]
    write(tmp_path / "own/a.txt", "\n".join(rows).replace(" ", "\t"))
    found = own({"path": "a.wav"})
    assert [(row["member"], row["caption"]) for row in sounds(found)] == [
        ("a.wav#t=1.0,1.2", "bell"),
        ("a.wav#t=1.2,1.6", "wind"),  # two that read the same and overlap are one
    ]
    assert why(found) == [
        "a.txt: 1 labels without a duration",
        "a.txt: another sound during 'rain' from 0 to 1 s",
        "a.txt: another sound during 'dog' from 0.5 to 0.6 s",
    ]


def test_a_row_with_a_caption_is_as_it_was(own, tmp_path):
    write(tmp_path / "own/a.txt", "0\t1\train\n")
    [row] = sounds(own({"path": "a.wav", "caption": "a yard"}))
    assert (row["member"], row["caption"]) == ("a.wav", "a yard")


def test_a_label_beyond_the_end_is_no_sound(own, tmp_path):
    write(tmp_path / "own/a.txt", "1.5\t9\train\n9\t10\tdog\n")
    for row in sounds(own({"path": "a.wav"})):
        path, part = labelled.split_part(row["member"])
        stored = recordings.store(row, tmp_path / "own" / path, tmp_path, **part)
        if row["caption"] == "rain":
            assert (stored["duration_s"], stored["offset"]) == ("0.500", "0.500")
            [note] = stored["notes"]
            assert "to end at 9 s, but the recording ends at 2 s" in note
        else:
            assert "no samples" in stored


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"path": "a.wav"}, "no caption, and no label file beside the recording"),
        ({"path": "a.wav", "labels": "gone.txt"}, "no file gone.txt"),
        ({"path": "a.wav", "caption": "x", "labels": "l.txt"}, "without a caption"),
        ({"path": "a.wav", "role": "background", "labels": "l.txt"}, "without a caption"),
        ({"path": "a.wav", "labels": "l.txt", "onset": "1"}, "no onset: a label file has them"),
        ({"path": "a.wav", "labels": "l.txt", "family": "x"}, "no family: a label file has them"),
    ],
)
def test_a_row_that_cannot_be_meant_is_named(own, tmp_path, row, message):
    write(tmp_path / "own/l.txt", "0\t1\train\n")
    with pytest.raises(ValueError, match=rf"sounds\.tsv, line 2: .*{message}"):
        own(row)


def test_a_label_that_cannot_be_read_is_named(own, tmp_path):
    write(tmp_path / "own/a.txt", "0\t1\train\n1\t0\train\n")
    with pytest.raises(ValueError, match=r"a\.txt, line 2: an event from 1.0 to 0.0 s"):
        own({"path": "a.wav"})


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.csv", "onset;offset;event_label\n0;1;rain\n", "its first line is 'onset;offset"),
        ("a.tsv", "from\tto\twhat\n0\t1\train\n", "its first line is 'from"),
        ("a.txt", "0\t1\train (0.90)\n", "detections with scores, which count where"),
    ],
)
def test_a_file_beside_a_recording_that_does_not_count_is_named(own, tmp_path, name, text, why):
    write(tmp_path / "own" / name, text)
    with pytest.raises(ValueError, match=rf"no label file .* counts; .*{name}: .*{why}"):
        own({"path": "a.wav"})


@pytest.mark.parametrize(("value", "counts"), [("sure", True), ("", True), ("0.83", False)])
def test_only_numbers_in_a_column_of_confidence_are_scores(own, tmp_path, value, counts):
    text = raven(BELL, columns="\tAnnotation\tConfidence").replace("rings", f"rings\t{value}")
    write(tmp_path / "own/a.txt", text)
    if counts:
        assert [row["caption"] for row in sounds(own({"path": "a.wav"}))] == [BELL.caption]
    else:
        with pytest.raises(ValueError, match=r"a\.txt: detections with scores"):
            own({"path": "a.wav"})


def test_detections_are_labels_only_where_they_are_named(own, tmp_path):
    write(tmp_path / "own/a.txt", to_audacity_labels([Detection(0.25, 0.75, "rain", 0.9)]))
    with pytest.raises(ValueError, match=r"no label file beside the recording"):
        own({"path": "a.wav"})
    [row] = sounds(own({"path": "a.wav", "labels": "a.txt"}))
    assert row["caption"] == "rain"


def test_a_missing_recording_is_listed(own, tmp_path):
    write(tmp_path / "own/gone.txt", "0\t1\train\n")
    found = own({"path": "gone.wav"}, {"path": "a.wav", "caption": "a yard"})
    assert len(sounds(found)) == 1
    assert found.left_out == [{"package": "own", "member": "gone.wav", "why": "no such recording"}]
    found = own({"path": "gone.wav", "labels": "gone.txt"})
    assert why(found) == ["no such recording"]
