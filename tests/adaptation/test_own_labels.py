import numpy as np
import pytest
import soundfile
from sounds import RATE, noise

from flamlib.adaptation import own_labels
from flamlib.sound_events.events import Event


def write(folder, *names, seconds=2.0):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(seconds), RATE)


def by_name(found):
    return {each.path.name: [e.caption for e in each.events] for each in found}


def hear(found, *, n_frames=20, frame_s=0.1):
    captions = own_labels.captions_of(found)
    values = np.zeros((n_frames, len(captions)), np.float32)
    recordings, skipped = own_labels.read(
        found, captions, lambda path: (values, n_frames * frame_s)
    )
    assert not skipped
    return own_labels.clips_of(recordings, captions, frame_s)


def test_recordings_are_found_by_a_table_a_label_file_and_a_folder(tmp_path):
    write(tmp_path, "a.wav", "b.wav", "sub/c.wav", "alone.wav")
    (tmp_path / "table.tsv").write_text(
        "filename\tonset\toffset\tevent_label\na.wav\t0\t1\train\nc.flac\t0\t1\ta döor\n"
        "b.wav\t\t\t\nlost.wav\t0\t1\train\n"
    )
    found, skipped = own_labels.find([tmp_path / "table.tsv"])
    assert by_name(found) == {"a.wav": ["rain"], "c.wav": ["a döor"], "b.wav": []}
    assert list(skipped) == ["lost.wav"]
    assert "no recording of that name" in skipped["lost.wav"]

    (tmp_path / "b.txt").write_text("0.5\t1.0\twind\n")
    found, skipped = own_labels.find([tmp_path])
    assert by_name(found) == {"b.wav": ["wind"]}
    assert set(skipped) == {str(tmp_path / n) for n in ("a.wav", "alone.wav", "sub/c.wav")}
    elsewhere = tmp_path / "labels"
    elsewhere.mkdir()
    (tmp_path / "b.txt").rename(elsewhere / "b.txt")
    found, _ = own_labels.find([elsewhere / "b.txt"], tmp_path)
    assert by_name(found) == {"b.wav": ["wind"]}


def test_of_recordings_of_one_name_the_folder_says_which(tmp_path):
    """As `flam detect` calls them by their whole paths, and recorders of two places alike."""
    write(tmp_path, "x/a.wav", "y/a.wav", "y/b.1.wav")
    (tmp_path / "labels").mkdir()
    whole = tmp_path.as_posix()[1:]
    names = (f"{whole}/y/a.wav", "old\\x\\a.wav", "b.1", "z/c.wav", "a.wav")
    rows = [f"{name}\t0\t1\train {k}\n" for k, name in enumerate(names)]
    table = tmp_path / "labels/t.tsv"
    table.write_text("filename\tonset\toffset\tevent_label\n" + "".join(rows))
    found, skipped = own_labels.find([table], tmp_path)
    of = {each.path.relative_to(tmp_path).as_posix(): each.events[0].caption for each in found}
    assert of == {"y/a.wav": "rain 0", "x/a.wav": "rain 1", "y/b.1.wav": "rain 2"}
    assert sorted(skipped) == ["a.wav", "z/c.wav"]
    assert "which of them" in skipped["a.wav"]
    assert "no recording of that name" in skipped["z/c.wav"]


def test_a_label_file_of_one_recording_lies_in_a_folder_named_as_that_of_the_recording(tmp_path):
    """As `flam detect` writes them into a folder of its own, and recorders call all files alike."""
    recordings, found = tmp_path / "field", tmp_path / "found"
    for name in ("1.wav", "a/1.wav", "b/1.wav"):
        write(recordings, name)
        file = found / f"{name}.Table.1.selections.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = f"Begin Time (s)\tEnd Time (s)\tAnnotation\n0\t1\train in {name}\n"
        file.write_text(rows)
    labelled, skipped = own_labels.find(sorted(found.rglob("*.txt")), recordings)
    assert skipped == {}
    of = {e.path.relative_to(recordings).as_posix(): e.events[0].caption for e in labelled}
    assert of == {name: f"rain in {name}" for name in ("1.wav", "a/1.wav", "b/1.wav")}

    (recordings / "1.wav").unlink()  # now its labels may be those of either
    _, skipped = own_labels.find(sorted(found.rglob("*.txt")), recordings)
    assert list(skipped) == [str(found / "1.wav.Table.1.selections.txt")]
    assert "which of them" in skipped[str(found / "1.wav.Table.1.selections.txt")]


def test_a_recording_that_is_labelled_twice_is_refused(tmp_path):
    write(tmp_path, "a.wav")
    for name in ("one.tsv", "two.tsv"):
        (tmp_path / name).write_text("filename\tonset\toffset\tevent_label\na.wav\t0\t1\train\n")
    with pytest.raises(ValueError, match=r"a.wav: labelled twice, in .*one.tsv and in .*two.tsv"):
        own_labels.find([tmp_path / "one.tsv", tmp_path / "two.tsv"])


def test_nothing_labelled_is_an_error_and_so_are_detections_without_decisions(tmp_path):
    write(tmp_path, "a.wav")
    with pytest.raises(ValueError, match=r"no labelled recording in .*a.wav: no labels"):
        own_labels.find([tmp_path])
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0\t1\train\n")
    with pytest.raises(ValueError, match="apart from the recordings are given as files"):
        own_labels.find([tmp_path / "labels"], tmp_path)
    (tmp_path / "found.tsv").write_text(
        "filename\tonset\toffset\tevent_label\tscore\na.wav\t0\t1\train\t0.9\n"
    )
    with pytest.raises(ValueError, match="detections of a model, not labels; add a column review"):
        own_labels.find([tmp_path / "found.tsv"])


def test_of_a_review_only_the_reviewed_events_are_known(tmp_path):
    write(tmp_path, "a.wav")
    path = tmp_path / "review.tsv"
    path.write_text(
        "filename\tonset\toffset\tevent_label\tscore\tReview\n"
        "a.wav\t0.1\t0.5\train\t0.9\tyes\na.wav\t1.0\t1.5\tRain\t0.8\tno\n"
        "a.wav\t1.5\t1.9\twind\t0.8\t\na.wav\t0\t0.3\twind\t0.8\tNO\n"
    )
    found, _ = own_labels.find([path])
    clips = hear(found)
    assert clips.reviewed.all()
    assert clips.of.tolist() == [0, 0, 0]
    assert clips.scores.captions == ["rain", "wind"]
    assert clips.scores.known.tolist() == [[True, False], [True, False], [False, True]]
    assert clips.scores.durations == pytest.approx([0.4, 0.5, 0.3])
    assert [len(events) for events in clips.scores.ground_truth] == [1, 0, 0]
    path.write_text(path.read_text().replace("NO", "maybe"))
    with pytest.raises(ValueError, match=r"review.tsv, line 5: Review is 'maybe', expected yes"):
        own_labels.find([path])


def test_a_review_may_be_a_selection_table_of_raven(tmp_path):
    """With a column added there; such a table is named after its recording and does not name it."""
    write(tmp_path, "a.wav")
    (tmp_path / "a.Table.1.selections.txt").write_text(
        "Selection\tBegin Time (s)\tEnd Time (s)\tAnnotation\tScore\tReview\n"
        "1\t0.1\t0.5\train\t0.9\tyes\n2\t1.0\t1.5\train\t0.8\tno\n"
        "3\t1\t2\twind\t0.8\t\n"
    )
    [found], skipped = own_labels.find([tmp_path / "a.Table.1.selections.txt"])
    assert (found.path, skipped) == (tmp_path / "a.wav", {})
    assert [(e.onset, e.caption) for e in found.events] == [(0.1, "rain"), (1.0, "rain")]
    assert found.decisions == [True, False]


def test_a_selection_that_raven_has_in_two_views_was_reviewed_once(tmp_path):
    """And of several recordings opened as one each has times of its own."""
    write(tmp_path, "a.wav", "b.wav")
    (tmp_path / "both.txt").write_text(
        "Selection\tView\tBegin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tAnnotation"
        "\tReview\n"
        + "".join(
            f"{number}\t{view}\t{begin}\t{begin + 0.5}\t{name}\t{onset}\train\t{answer}\n"
            for number, begin, name, onset, answer in (
                (1, 0.25, "a.wav", 0.25, "yes"),
                (2, 3.0, "b.wav", 1.0, "no"),
            )
            for view in ("Waveform 1", "Spectrogram 1")
        )
    )
    found, _ = own_labels.find([tmp_path / "both.txt"])
    assert [
        (each.path.name, [(e.onset, e.offset) for e in each.events], each.decisions)
        for each in found
    ] == [("a.wav", [(0.25, 0.75)], [True]), ("b.wav", [(1.0, 1.5)], [False])]


def test_a_long_recording_is_cut_outside_its_events(tmp_path, monkeypatch):
    monkeypatch.setattr(own_labels, "CUT_S", 1.0)
    events = [Event(0.5, 1.35, "rain"), Event(1.3, 1.7, "wind"), Event(3.9, 5.0, "rain")]
    values = np.arange(100, dtype=np.float32).reshape(50, 2)
    one = own_labels.LabelledFrames(tmp_path / "a.wav", events, None, 5.0, values)
    clips = own_labels.clips_of([one], ["rain", "wind"], 0.1)
    assert (np.concatenate(clips.scores.scores) == values).all()
    assert sum(clips.scores.durations) == pytest.approx(5.0)
    assert len(clips.of) > 1
    starts = np.cumsum([0.0, *clips.scores.durations])[:-1]
    moved = [
        (e.onset + start, e.offset + start, e.caption)
        for start, of in zip(starts, clips.scores.ground_truth, strict=True)
        for e in of
    ]
    for found, expected in zip(sorted(moved), sorted(events), strict=True):
        assert found[:2] == pytest.approx(expected[:2])
        assert found[2] == expected.caption


def test_what_cannot_be_read_is_told_and_the_rest_read(tmp_path):
    write(tmp_path, "a.wav", "b.wav")
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("0.5\t1.0\twind\n")
    found, _ = own_labels.find([tmp_path])

    def values_of(path):
        if path.name == "a.wav":
            raise ValueError("the end is missing")
        return np.zeros((20, 1), np.float32), 2.0

    recordings, skipped = own_labels.read(found, ["wind"], values_of)
    assert [each.path.name for each in recordings] == ["b.wav"]
    assert skipped == {str(tmp_path / "a.wav"): "the end is missing"}
    with pytest.raises(ValueError, match="none of the labelled recordings can be used"):
        own_labels.read(found[:1], ["wind"], values_of)
