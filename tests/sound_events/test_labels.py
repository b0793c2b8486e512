import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from label_files import DOG, KINDS, RAIN, RAVEN_SEQUENCE, jams, raven, scaper, tags, write

from flamlib import texts
from flamlib.sound_events import labels, raw_events
from flamlib.sound_events.detection import Detection, to_audacity_labels, write_detections
from flamlib.sound_events.events import Event, write_events
from flamlib.sound_events.jams import write_jams


def read(path, recording="a.wav"):
    return [Event(*event[1:]) for event in labels.read(path).of(recording)]


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def test_every_kind_has_the_same_events(tmp_path, kind):
    suffix, text = kind
    assert read(write(tmp_path / f"a{suffix}", text(DOG, RAIN))) == [DOG, RAIN]
    assert not labels.read(tmp_path / f"a{suffix}").scored


@pytest.mark.parametrize(
    ("changed", "encoding"),
    [
        (("\n", "\r\n"), "utf-8-sig"),
        (("\n", "\r"), "utf-8"),
        (("\n", "\n\n"), "utf-8"),
        (("\n", "\n"), "utf-8-sig"),
    ],
)
def test_byte_order_marks_line_ends_and_blank_lines_change_nothing(
    tmp_path, kind, changed, encoding
):
    suffix, text = kind
    path = write(tmp_path / f"a{suffix}", text(DOG, RAIN).replace(*changed), encoding)
    assert read(path) == [DOG, RAIN]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named(tmp_path, kind, encoding):
    suffix, text = kind
    event = DOG if encoding != "utf-16" else RAIN
    path = write(tmp_path / f"a{suffix}", text(event), encoding)
    with pytest.raises(ValueError, match=rf"a{suffix}: .*UTF-16.*save it as UTF-8"):
        labels.read(path)


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (Event(2.0, 1.0, "rain"), "0 <= onset <= offset"),
        (Event(-1.0, 1.0, "rain"), "0 <= onset <= offset"),
        (Event(0.0, float("inf"), "rain"), "expected a number"),
        (Event(float("nan"), 1.0, "rain"), "expected a number"),
        (Event(0.5, 1.5, " "), "without a label|empty"),
    ],
)
def test_what_cannot_be_an_event_is_refused_with_its_line(tmp_path, kind, event, why):
    suffix, text = kind
    path = write(tmp_path / f"a{suffix}", text(DOG, event))
    with pytest.raises(ValueError, match=rf"a{suffix}, (line|event) \d+.*({why})"):
        labels.read(path)


def test_a_decimal_comma_is_named(tmp_path):
    path = write(tmp_path / "a.txt", "0,5\t1,25\ta dog barks\n")
    with pytest.raises(ValueError, match=r"line 1: onset is '0,5', .*decimal point, not a comma"):
        labels.read(path)


def test_a_mark_without_a_duration_is_left_out_and_counted_whatever_the_kind(tmp_path, kind):
    suffix, text = kind
    path = write(tmp_path / f"a{suffix}", text(DOG, Event(2.0, 2.0, "click")))
    events, repairs = raw_events.repair(labels.read(path).of("a.wav"), 10.0)
    assert (events, repairs) == ([DOG], {"zero_length": 1})


def test_events_end_with_the_recording_whatever_the_kind(tmp_path, kind):
    suffix, text = kind
    late = [Event(9.0, 14.0, "rain"), Event(5.0, 10.000000000000002, "wind"), Event(11, 12, "x")]
    path = write(tmp_path / f"a{suffix}", text(*late))
    events, repairs = raw_events.repair(labels.read(path).of("a.wav"), 10.0)
    assert events == [Event(5.0, 10.0, "wind"), Event(9.0, 10.0, "rain")]
    assert repairs == {"clipped": 1, "beyond": 1}


# What we write is read back.

captions = st.text(min_size=1).map(texts.normal).filter(bool)
detections = st.lists(
    st.builds(
        lambda a, b, caption, score: Detection(
            min(a, b) / 50, max(a, b) / 50 + 0.32, caption, score
        ),
        *(st.integers(0, 500), st.integers(0, 500), captions, st.floats(0, 1)),
    ),
    min_size=1,
    max_size=4,
)


@given(detections)
def test_what_is_detected_is_read_back(tmp_path_factory, found):
    folder = tmp_path_factory.mktemp("detected")
    expected = [Event(round(a, 6), round(b, 6), caption) for a, b, caption, _ in found]
    write(folder / "a.txt", to_audacity_labels(found))
    write_detections(folder / "a.tsv", found, filename="a.wav")
    for path in (folder / "a.txt", folder / "a.tsv"):
        assert read(path) == expected, path.name
        assert labels.read(path).scored, path.name


@given(detections)
def test_the_events_of_mixtures_are_read_back(tmp_path_factory, found):
    folder = tmp_path_factory.mktemp("mixtures")
    events = [Event(a, b, caption) for a, b, caption, _ in found]
    write_jams(folder / "a.jams", events, 20.0, sandbox={})
    write_events(folder / "events.tsv", {"a.wav": events, "b.wav": []})
    assert read(folder / "events.tsv") == events
    assert read(folder / "events.tsv", "b.flac") == []
    for one, other in zip(sorted(read(folder / "a.jams")), sorted(events), strict=True):
        assert one == (pytest.approx(other.onset), pytest.approx(other.offset), other.caption)


def test_a_score_in_some_labels_alone_is_part_of_them(tmp_path):
    path = write(tmp_path / "a.txt", "0\t1\tsiren (0.75)\n1\t2\tdog\n")
    assert [event.caption for event in labels.read(path).of("a")] == ["siren (0.75)", "dog"]


# BirdNET and reviews


def test_birdnet_s_csv_is_read_as_its_raven_table_is(tmp_path):
    text = (
        "Start (s),End (s),Scientific name,Common name,Confidence,File\n"
        "3.0,6.0,Tyto alba,Barn Owl,0.83,C:\\rec\\a.wav\n"
    )
    found = labels.beside(write(tmp_path / "a.BirdNET.results.csv", text).parent / "a.flac")
    assert found is None  # a model's
    found = labels.read(tmp_path / "a.BirdNET.results.csv")
    assert [event[1:] for event in found.of("a.flac")] == [(3.0, 6.0, "Barn Owl")]
    assert found.scored
    found = labels.read(write(tmp_path / "b.csv", text.replace("Confidence", "Note")))
    assert not found.scored


def test_birdnet_s_kaleidoscope_table_has_the_path_in_three_columns(tmp_path):
    """Header and number formats as BirdNET-Analyzer 2.4.0 writes them."""
    text = (
        "INDIR,FOLDER,IN FILE,OFFSET,DURATION,scientific_name,common_name,confidence,lat,lon,week,"
        "overlap,sensitivity\n"
        "/data,site 1,a.wav,3.0,3.0,Tyto alba,Barn Owl,0.8312,-1.0000,-1.0000,-1,0.0,1.0\n"
        "/data,site 2,a.wav,0.0,3.0,Tyto alba,Barn Owl,0.4312,-1.0000,-1.0000,-1,0.0,1.0\n"
        ",,b.wav,0.0,3.0,Tyto alba,Barn Owl,0.4312,-1.0000,-1.0000,-1,0.0,1.0\n"
    )
    path = write(tmp_path / "a.BirdNET.results.kaleidoscope.csv", text)
    found = labels.read(path)
    assert found.scored
    assert list(found.events) == ["/data/site 1/a.wav", "/data/site 2/a.wav", "b.wav"]
    assert [e[1:] for e in found.of("rec/site 1/a.flac")] == [(3.0, 6.0, "Barn Owl")]
    assert labels.stem(path) == "a"
    write(path, text.replace("3.0,3.0", "3.0,long"))
    with pytest.raises(ValueError, match="line 2: DURATION is 'long', expected a number"):
        labels.read(path)


@pytest.mark.parametrize(
    ("name", "label", "caption"),
    [
        ("a.BirdNET.results.txt", "Tyto alba, Barn Owl", "Barn Owl"),
        ("a.BirdNET.results.txt", "Tyto alba", "Tyto alba"),  # of Perch's labels
        ("a.txt", "a dog, barking", "a dog, barking"),
    ],
)
def test_a_track_may_have_confidences_behind_its_labels(tmp_path, name, label, caption):
    """As BirdNET-Analyzer 2.4.0 writes it for Audacity."""
    path = write(tmp_path / name, f"0.0\t3.0\t{label}\t0.8312\n3.0\t6.0\t{label}\t0.4\n")
    found = labels.read(path)
    assert [event[1:] for event in found.of("a.wav")] == [(0, 3, caption), (3, 6, caption)]
    assert found.scored
    assert labels.beside(tmp_path / "a.wav") is None  # a model's


@pytest.mark.parametrize(
    "header",
    [
        "onset\toffset\tevent_label\tscore\treview",
        "Begin Time (s)\tEnd Time (s)\tAnnotation\tScore\tReview",
    ],
)
def test_what_a_review_rejected_is_no_event(tmp_path, header):
    rows = "0\t1\tdog\t0.9\tyes\n2\t3\tcat\t0.8\tno\n4\t5\towl\t0.7\t\n"
    path = write(tmp_path / "a.txt", f"{header}\n{rows}")
    assert [event.caption for event in labels.read(path).of("a.wav")] == ["dog", "owl"]
    every = labels.read(path, rejected=True).of("a.wav")
    assert [event.caption for event in every] == ["dog", "cat", "owl"]
    nothing = write(tmp_path / "b.txt", f"{header}\n2\t3\tcat\t0.8\tno\n")
    assert dict(labels.read(nothing).events) == {"": []}


@pytest.mark.parametrize("name", ["audacity", "raven", "dcase", "scaper", "tags"])
def test_a_recording_in_which_nothing_sounds_has_no_events(tmp_path, name):
    suffix, text = KINDS[name]
    assert read(write(tmp_path / f"a{suffix}", text())) == []


# What is no label file


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("a.txt", "Recorded in May\n", "its first line is 'Recorded in May'"),
        ("a.tsv", "onset\toffset\ta dog barks\n0\t1\t0.5\n", "its first line is 'onset"),
        ("a.csv", "path,caption\n", "its first line is 'path,caption'"),
        ("a.jams", jams({"namespace": "beat", "data": []}), "it has beat"),
        ("a.jams", jams(), "it has none"),
        ("a.jams", "{", "not a JAMS file"),
        ("a.jams", "[" * 100_000, "not a JAMS file"),
        ("a.jams", "", "not a JAMS file"),
        ("a.jams", jams({"namespace": "tag_open", "data": [{}]}), "not a JAMS file.*value"),
        ("a.jams", jams({"namespace": ["tag_open"], "data": []}), "not a JAMS file"),
        ("a.json", jams({"namespace": "chord", "data": []}), "it has chord"),
    ],
)
def test_another_kind_is_refused_with_what_was_found(tmp_path, name, text, what):
    path = write(tmp_path / name, text)
    with pytest.raises(labels.NoLabels, match=what) as refused:
        labels.read(path)
    assert str(refused.value).startswith(f"{path}: ")


def refusal(path):
    """Why a file is not read; None if it is."""
    try:
        labels.read(path)
    except ValueError as error:
        return str(error)
    return None


@given(st.binary(max_size=80))
def test_no_content_ends_in_another_error(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("any")
    for name in ("a.txt", "a.jams", "a.csv"):
        (folder / name).write_bytes(content)
        assert str(folder / name) in (refusal(folder / name) or str(folder / name))


leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = st.recursive(
    leaf, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v, max_size=3)
)


@given(
    st.fixed_dictionaries({"time": leaf, "duration": leaf, "value": values | st.just({"role": 1})}),
    st.sampled_from(labels.NAMESPACES),
)
def test_no_json_ends_in_another_error(tmp_path_factory, observation, namespace):
    path = tmp_path_factory.mktemp("any") / "a.jams"
    path.write_text(jams({"namespace": namespace, "data": [observation]}))
    if (why := refusal(path)) is not None:
        assert str(path) in why
        return
    for event in labels.read(path).of("a.wav"):
        assert 0 <= event.onset <= event.offset < float("inf")


# Which file belongs to which recording


@pytest.mark.parametrize(
    "name",
    ["a b.txt", "a b.TSV", "a b.csv", "a b.jams", "a b.Table.1.selections.txt", "a b.wav.txt",
     "a b.BirdNET.selection.table.txt", "a b.BirdNET.results.csv"],
)  # fmt: skip
def test_a_label_file_is_found_beside_its_recording(tmp_path, name):
    text = "onset,offset,event_label\n0,1,x\n" if name.endswith("csv") else "0\t1\tx\n"
    text = jams(tags(Event(0, 1, "x"))) if name.endswith("jams") else text
    write(tmp_path / name, text)
    write(tmp_path / "other.txt", "0\t1\ty\n")
    write(tmp_path / "._a b.txt", "\0\0")
    found = labels.beside(tmp_path / "a b.wav")
    assert [event.caption for event in found.of("a b.wav")] == ["x"]
    assert labels.beside(tmp_path / "c.wav") is None


def test_names_are_compared_as_they_are_read(tmp_path):
    write(tmp_path / "cafe\u0301.txt", "0\t1\tx\n")
    assert labels.beside(tmp_path / "caf\u00e9.wav") is not None
    write(tmp_path / "t.tsv", "filename\tonset\toffset\tevent_label\ncafe\u0301.wav\t0\t1\tx\n")
    assert len(labels.read(tmp_path / "t.tsv").of("caf\u00e9.flac")) == 1


def test_notes_and_detections_beside_a_recording_are_no_labels(tmp_path):
    write(tmp_path / "a.txt", "Recorded in May\n")
    write_detections(tmp_path / "a.tsv", [Detection(0, 1, "x", 0.5)], filename="a.wav")
    assert labels.beside(tmp_path / "a.wav") is None
    write(tmp_path / "a.Table.1.selections.txt", raven(DOG))
    assert labels.beside(tmp_path / "a.wav").path.name == "a.Table.1.selections.txt"


def test_of_two_texts_nobody_knows_which_is_right_and_of_scaper_s_two_the_jams_is(tmp_path):
    write(tmp_path / "a.txt", "0\t1\tx\n")
    write(tmp_path / "a.tsv", "0\t1\ty\n")
    with pytest.raises(ValueError, match=r"a\.tsv and .*a\.txt: which of them has the labels"):
        labels.beside(tmp_path / "a.wav")
    write(tmp_path / "a.jams", jams(scaper(DOG)))
    assert labels.beside(tmp_path / "a.wav").path.suffix == ".jams"


def test_labels_of_another_recording_are_refused(tmp_path):
    path = write(tmp_path / "a.txt", RAVEN_SEQUENCE + "1\tS 1\t1\t5\t6\t0\t1\tb.wav\t5.0\towl\n")
    with pytest.raises(ValueError, match=r"a\.txt: has labels of b\.wav and not of a\.wav"):
        labels.read(path).of("a.wav")


ROOMS = "filename\tonset\toffset\tevent_label\n{}\t0.5\t1.5\tdog\n{}\t3\t4\tcat\n"
RAVEN_ROOMS = RAVEN_SEQUENCE.replace("Begin File", "Begin Path") + (
    "1\tS 1\t1\t0.5\t1.5\t0\t1\t{}\t0.5\tdog\n2\tS 1\t1\t63\t64\t0\t1\t{}\t3\tcat\n"
)
DOG_IN, CAT_IN = [Event(0.5, 1.5, "dog")], [Event(3.0, 4.0, "cat")]


@pytest.mark.parametrize("text", [ROOMS, RAVEN_ROOMS])
@pytest.mark.parametrize(
    "names",
    [
        ("room1/a.wav", "room2/a.wav"),
        ("room1\\a.wav", "room2\\a.wav"),
        ("./room1/a", "room2/a"),
        ("room1/a.mp3", "room2/a.wav"),
        ("a.wav", "room2/a.wav"),
    ],
)
def test_recordings_of_one_name_are_told_apart_by_their_folders(tmp_path, text, names):
    file = labels.read(write(tmp_path / "t.txt", text.format(*names)))
    for folder in (tmp_path, ""):
        for room, expected in (("room1", DOG_IN), ("room2", CAT_IN)):
            of = file.of(Path(folder, room, "a.wav"))
            assert [Event(*event[1:]) for event in of] == expected


@pytest.mark.parametrize("text", [ROOMS, RAVEN_ROOMS])
@pytest.mark.parametrize("names", [("room1/a.wav", "room2\\a.wav"), ("a.mp3", "a.ogg")])
def test_of_two_recordings_that_may_be_meant_none_is_taken(tmp_path, text, names):
    file = labels.read(write(tmp_path / "t.txt", text.format(*names)))
    one, two = (name.replace("\\", "/") for name in names)
    for recording in ("a.wav", tmp_path / "room3/a.wav"):
        with pytest.raises(ValueError, match=rf"t\.txt: which of {one}, {two} is .*a\.wav\?"):
            file.of(recording)


@pytest.mark.parametrize("name", ["room1/a.wav", "room1\\a.wav", "C:\\rec\\a.wav", "a.mp3", "a"])
def test_one_recording_of_a_name_is_found_in_another_folder(tmp_path, name):
    path = write(tmp_path / "t.tsv", ROOMS.format(name, "b.wav"))
    assert read(path, tmp_path / "here/a.wav") == DOG_IN
    path = write(tmp_path / "t.tsv", ROOMS.format("room1/a.wav", "room1\\a.wav"))
    assert read(path, tmp_path / "here/a.wav") == DOG_IN + CAT_IN


def test_what_scaper_itself_writes_is_read(tmp_path):
    with warnings.catch_warnings():  # that there is no sox, and of its own defaults
        warnings.simplefilter("ignore")
        import dscaper

        for label in ("dog_bark", "noise"):
            (tmp_path / label / label).mkdir(parents=True)
            soundfile.write(tmp_path / label / label / "a.wav", np.ones(48000) / 9, 16000)
        mixer = dscaper.Scaper(10.0, str(tmp_path / "dog_bark"), str(tmp_path / "noise"))
        first = {"source_file": ("choose", []), "source_time": ("const", 0)}
        mixer.add_background(label=("const", "noise"), **first)
        for onset in (1.0, 7.0):
            mixer.add_event(
                label=("const", "dog_bark"),
                event_time=("const", onset),
                event_duration=("const", 2.5),
                snr=("const", 10),
                pitch_shift=None,
                time_stretch=None,
                **first,
            )
        files = {"jams_path": str(tmp_path / "a.jams"), "txt_path": str(tmp_path / "a.txt")}
        mixer.generate(None, no_audio=True, **files)
    expected = [Event(1.0, 3.5, "dog_bark"), Event(7.0, 9.5, "dog_bark")]
    assert read(tmp_path / "a.jams") == read(tmp_path / "a.txt") == expected
    assert labels.beside(tmp_path / "a.wav").path.suffix == ".jams"


@pytest.mark.parametrize(
    "lines",
    [
        ["filename\tonset\toffset\tevent_label", 'a.wav\t0.5\t1\t"a dog, ""barking"""'],
        ["a.wav\t0.5\t1\t\"a dog, \"\"barking\"\"\""],
        ['0.5\t1\t"a dog, ""barking"""'],
        ["Selection\tBegin Time (s)\tEnd Time (s)\tAnnotation",
         '1\t0.5\t1\t"a dog, ""barking"""'],
    ],
)  # fmt: skip
def test_quotes_that_excel_writes_are_no_letters(tmp_path, lines):
    (tmp_path / "a.txt").write_bytes("\r\n".join([*lines, ""]).encode())
    [event] = labels.read(tmp_path / "a.txt").of("a.wav")
    assert event[1:] == (0.5, 1.0, 'a dog, "barking"')
