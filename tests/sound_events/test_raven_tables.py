import pytest
from label_files import DOG, RAVEN, RAVEN_SEQUENCE, raven, write

from flamlib.sound_events import labels
from flamlib.sound_events.events import Event

DOG_IN, CAT_IN = [Event(0.5, 1.5, "dog")], [Event(3.0, 4.0, "cat")]


def read(path, recording="a.wav"):
    return [Event(*event[1:]) for event in labels.read(path).of(recording)]


def test_raven_s_times_in_several_recordings_are_those_in_the_file(tmp_path):
    text = RAVEN_SEQUENCE + (
        "1\tSpectrogram 1\t1\t5.0\t6.5\t0\t1\ta.wav\t5.0\towl\n"
        "2\tSpectrogram 1\t1\t65.0\t66.5\t0\t1\tb.wav\t5.0\tlark\n"
    )
    found = labels.read(write(tmp_path / "t.txt", text))
    assert {name: [e[1:] for e in of] for name, of in found.events.items()} == {
        "a.wav": [(5.0, 6.5, "owl")],
        "b.wav": [(5.0, 6.5, "lark")],
    }
    without = text.replace("File Offset (s)", "Offset of it (s)")
    with pytest.raises(ValueError, match=r"first of 2 recordings; add the column 'File Offset"):
        labels.read(write(tmp_path / "t.txt", without))


@pytest.mark.parametrize("is_repeated", [True, False])
def test_of_joined_selection_tables_each_has_its_own_times(tmp_path, is_repeated):
    """As by cat, with the header again, or by pandas."""
    head = RAVEN + "\tBegin File\tAnnotation\tScore\tReview\n"
    parts = [
        f"1\tS 1\t1\t{at}\t{at + 1}\t0\t1\t{name}\towl\t0.9\tyes\n"
        f"2\tS 1\t1\t{at + 5}\t{at + 6}\t0\t1\t{name}\tlark\t0.8\t\n"
        for name, at in (("a.wav", 3.0), ("b.wav", 1.0))
    ]
    path = write(tmp_path / "t.txt", head + (head if is_repeated else "").join(parts))
    found = labels.read(path)
    assert {name: [e[1:] for e in of] for name, of in found.events.items()} == {
        "a.wav": [(3.0, 4.0, "owl"), (8.0, 9.0, "lark")],
        "b.wav": [(1.0, 2.0, "owl"), (6.0, 7.0, "lark")],
    }
    unnamed = path.read_text().replace("Begin File", "Where (s)")
    with pytest.raises(ValueError, match="joined; a column 'Begin File' has to name them"):
        labels.read(write(tmp_path / "t.txt", unnamed))


def test_birdnet_s_dummy_row_is_of_a_recording_in_which_nothing_sounds(tmp_path):
    """Its `combine_raven_tables` leaves out what is `nocall` by name and by code."""
    head = "Begin Time (s)\tEnd Time (s)\tCommon Name\tSpecies Code\tConfidence\tBegin Path\n"
    nothing = "0\t3\tnocall\tnocall\t1.0\t/data/a.wav\n"
    found = labels.read(write(tmp_path / "a.txt", head + nothing))
    assert (dict(found.events), found.scored) == ({"a.wav": []}, True)
    real = "0\t3\tEurasian Wren\teurwre\t0.9\t/data/a.wav\n3\t6\tnocall\tx\t0.9\t/data/a.wav\n"
    [events] = labels.read(write(tmp_path / "b.txt", head + real + nothing)).events.values()
    assert [event.caption for event in events] == ["Eurasian Wren", "nocall"]


def test_birdnet_s_paths_are_those_of_its_own_computer(tmp_path):
    text = (
        f"{RAVEN}\tCommon Name\tSpecies Code\tConfidence\tBegin Path\tFile Offset (s)\n"
        "1\tSpectrogram 1\t1\t3.0\t6.0\t0\t15000\tBarn Owl\tbrnowl\t0.83\tC:\\rec\\a.wav\t3.0\n"
    )
    found = labels.read(write(tmp_path / "a.BirdNET.selection.table.txt", text))
    assert [event[1:] for event in found.of("a.flac")] == [(3.0, 6.0, "Barn Owl")]
    assert found.scored


def test_selections_of_one_time_are_two_where_raven_has_two(tmp_path):
    text = raven(DOG, DOG._replace(caption="rain"), views=("Waveform 1", "Spectrogram 1"))
    assert len(read(write(tmp_path / "a.txt", text))) == 2


def test_raven_without_a_column_of_labels_says_what_there_is(tmp_path):
    for columns in ("", "\tWhat\tWho"):
        text = raven(DOG, columns=columns).replace("a dog barks", "a\tb" if columns else "")
        with pytest.raises(ValueError, match=r"which column has the labels\? Call it Annotation"):
            labels.read(write(tmp_path / "a.txt", text))


def test_recordings_of_one_name_opened_as_one_need_their_paths(tmp_path):
    """Raven's Begin File has no folder."""
    rows = [
        ["1", "S 1", "1", "0.5", "1.5", "0", "1", "a.wav", "0.5", "dog", "C:\\one\\a.wav"],
        ["2", "S 1", "1", "63", "64", "0", "1", "a.wav", "3", "cat", "C:\\two\\a.wav"],
    ]
    head = RAVEN_SEQUENCE.rstrip("\n") + "\tBegin Path\n"
    text = head + "".join("\t".join(row) + "\n" for row in rows)
    file = labels.read(write(tmp_path / "t.txt", text))
    for folder, expected in (("one", DOG_IN), ("two", CAT_IN)):
        assert [Event(*event[1:]) for event in file.of(f"sets/{folder}/a.wav")] == expected
    text = RAVEN_SEQUENCE + "".join("\t".join(row[:-1]) + "\n" for row in rows)
    with pytest.raises(
        ValueError, match=r"t.txt, line 3: several recordings are called a\.wav; add"
    ):
        labels.read(write(tmp_path / "t.txt", text))


@pytest.mark.parametrize("name", ["a.csv", "a.txt"])
def test_a_selection_table_may_have_gone_through_a_spreadsheet(tmp_path, name):
    text = raven(DOG, DOG._replace(onset=5.0, offset=6.0))
    text = text.replace("\t", ",") if name == "a.csv" else text
    file = labels.read(write(tmp_path / name, text))
    assert [event.onset for event in file.of("a.wav")] == [DOG.onset, 5.0]
    assert dict(file.events).keys() == {""}
