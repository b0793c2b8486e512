import json
import unicodedata
from typing import get_args, get_type_hints

import pytest
import set_files
from bad_files import GOOD, write_bad_files
from label_files import DOG, KINDS, RAIN, write
from set_files import write_audio, write_text

from flamlib.data.datasets import testsets
from flamlib.experiment.params.sounds import PublicSet
from flamlib.experiment.params.trials import TestSetName
from flamlib.sound_events.events import Event


def test_every_set_has_a_fixture_in_its_official_layout():
    assert set(set_files.WRITERS) == set(testsets.SETS)


@pytest.mark.parametrize("name", testsets.SETS)
def test_a_set_is_read_for_its_task_and_says_where_it_differs_from_the_official_one(tmp_path, name):
    expected = testsets.SETS[name]
    found = testsets.read(name, set_files.WRITERS[name](tmp_path))
    assert (found.name, found.task) == (name, expected.task)
    assert 0 < found.coverage <= 1
    for clip in found.present:
        assert clip.duration_s > 0
        assert {event.caption for event in clip.events} <= set(found.captions)
        assert bool(clip.captions) == (found.task == "retrieval")
        assert (clip.label in found.captions) == (found.task == "classification")
    if expected.n_listed:
        note = f"{len(found.clips)} clips listed, {expected.n_listed} in the official set"
        assert note in found.notes


@pytest.mark.parametrize("name", testsets.SETS)
def test_a_recording_that_is_lost_is_counted_and_one_that_is_not_listed_is_not(tmp_path, name):
    root = set_files.WRITERS[name](tmp_path)
    before = testsets.read(name, root)
    gone = before.present[0]
    write_audio(gone.path.with_name("not listed.wav"), 1.0)
    gone.path.unlink()
    if len(before.present) == 1:
        with pytest.raises(ValueError, match="not one is below"):
            testsets.read(name, root)
        return
    after = testsets.read(name, root)
    assert [clip.name for clip in after.clips] == [clip.name for clip in before.clips]
    assert set(after.missing) == {*before.missing, gone.name}
    assert after.coverage < before.coverage


@pytest.mark.parametrize("name", testsets.SETS)
def test_a_file_that_is_no_audio_is_as_good_as_lost(tmp_path, name):
    root = set_files.WRITERS[name](tmp_path)
    before = testsets.read(name, root)
    if len(before.present) > 1:
        before.present[0].path.write_text("version https://git-lfs.github.com/spec/v1")
        assert before.present[0].name in testsets.read(name, root).missing


@pytest.mark.parametrize(
    ("name", "read"),
    [(name, testsets.read) for name in testsets.SETS]
    + [
        (name, lambda n, f: testsets.training_set({"name": n, "folder": f}))
        for name in testsets.STRONG
    ],
)
def test_a_set_without_its_table_says_which_file_of_which_set_and_where_from(tmp_path, name, read):
    with pytest.raises(FileNotFoundError) as missing:
        read(name, tmp_path)
    home = testsets.HOMES.get(name) or testsets.HOMES[name.partition("_")[0]]
    message = str(missing.value)
    assert message.startswith(f"{name}: {tmp_path}")
    assert message.endswith(f"{tmp_path} must hold the official files ({home})")
    assert "Errno" not in message


def test_vggsound_lists_as_many_clips_as_its_official_test():
    assert testsets.SETS["vggsound"].n_listed == 15446


STRONG_WRITERS = {
    "audioset_strong": set_files.audioset,
    "desed": set_files.desed,
    "maestro": set_files.maestro,
    "urbansed": set_files.urban_sed,
    "tacos": set_files.tacos,
}


@pytest.mark.parametrize("name", testsets.STRONG)
def test_strong_labels_to_train_on_have_the_same_form(tmp_path, name):
    root = STRONG_WRITERS[name](tmp_path)
    found = testsets.training_set({"name": name, "folder": str(root)})
    assert found.present
    for clip in found.present:
        assert clip.events
        assert {event.caption for event in clip.events} <= set(found.captions)
        assert all(0 <= onset < offset <= clip.duration_s for onset, offset, _ in clip.events)
    # What rounding leaves is no repair; the only one is DESED's event beyond its clip.
    assert found.repairs == ({"clipped": 1} if name == "desed" else {})
    evaluated = {clip.name for set_name in testsets.SETS if set_name.startswith(name)
                 for clip in testsets.read(set_name, root).clips}  # fmt: skip
    assert not evaluated & {clip.name for clip in found.clips}


def test_a_set_to_train_on_is_named_with_its_folder_or_is_a_table_of_one_s_own(tmp_path):
    entry = {"name": "maestro", "folder": str(set_files.maestro(tmp_path / "maestro"))}
    found = testsets.training_set(entry)
    assert (found.name, found.closed, len(found.present)) == ("maestro", True, 1)
    found = testsets.training_set({"name": "tacos", "folder": set_files.tacos(tmp_path / "tacos")})
    assert (found.name, found.closed) == ("tacos", False)
    table = tmp_path / "asfx/events.tsv"
    own = {"name": "mine", "table": table, "audio": set_files.asfx_sed(tmp_path / "asfx")}
    assert testsets.training_set(own).closed
    assert not testsets.training_set(own | {"closed": False}).closed


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ({"name": "desed"}, ValueError, "mix.strong.folder is missing"),
        ({"name": "a", "folder": "b", "weight": 1}, ValueError, "no parameter mix.strong.weight"),
        ({"name": "esc50", "folder": "."}, ValueError, "'esc50': expected one of audioset_strong"),
        ({"name": 5, "table": "t", "audio": "a"}, ValueError, "name = 5: expected text"),
        (
            {"name": "a", "table": "t", "audio": "a", "closed": "false"},
            ValueError,
            "closed = 'false': expected true or false",
        ),
        ({"name": "desed", "folder": "nowhere"}, FileNotFoundError, "nowhere is no folder"),
    ],
)
def test_a_set_to_train_on_that_cannot_be_meant_is_refused(entry, error, message):
    with pytest.raises(error, match=message):
        testsets.training_set(entry)


def test_a_table_without_times_is_not_to_train_on(tmp_path):
    set_files.asfx(tmp_path)
    entry = {"name": "mine", "table": tmp_path / "captions.csv", "audio": tmp_path / "audio"}
    with pytest.raises(ValueError, match=r"captions\.csv: no onset, offset and event_label"):
        testsets.training_set(entry)


def test_one_s_own_tables_join_by_their_headers(tmp_path):
    write_audio(tmp_path / "audio/a.wav", 2.0)
    tables = {
        "sed": ("t.tsv", "filename\tonset\toffset\tevent_label", "a.wav\t0.0\t1.0\tA Dog"),
        "retrieval": ("c.csv", "filename,caption", "a.wav,a dog"),
        "classification": ("l.csv", "filename,fold,label", "a.wav,3,dog"),
    }
    for task, (table, *lines) in tables.items():
        write_text(tmp_path / table, *lines)
        found = testsets.read_own("mine", tmp_path / table, tmp_path / "audio")
        assert (found.task, len(found.present)) == (task, 1)
    assert found.clips[0].fold == 3
    write_text(tmp_path / "x.csv", "filename,colour", "a.wav,red")
    with pytest.raises(ValueError, match=r"x.csv, line 1: beside filename"):
        testsets.read_own("mine", tmp_path / "x.csv", tmp_path / "audio")
    write_text(tmp_path / "x.csv", "filename,label")
    with pytest.raises(ValueError, match=r"a header and no rows"):
        testsets.read_own("mine", tmp_path / "x.csv", tmp_path / "audio")


@pytest.mark.parametrize(
    "header", ["filename,onset,offset,event_label", "filename,caption", "filename,label"]
)
@pytest.mark.parametrize("name", ["t.csv", "T.CSV"])
def test_a_table_may_quote_its_header_and_end_in_an_empty_column(tmp_path, header, name):
    write_audio(tmp_path / "audio/a.wav", 2.0)
    row = {4: "a.wav,0,1,dog", 2: "a.wav,dog"}[len(header.split(","))]
    quoted = '"' + header.replace(",", '","') + '"'
    write_text(tmp_path / name, quoted + ",", row + ",")
    assert len(testsets.read_own("mine", tmp_path / name, tmp_path / "audio").present) == 1


@pytest.mark.parametrize(
    "header", ["filename\tonset\toffset\tevent_label", "filename\tcaption", "filename\tlabel"]
)
def test_a_column_of_one_s_own_table_stands_once(tmp_path, header):
    write_audio(tmp_path / "audio/a.wav", 2.0)
    last = header.split("\t")[-1]
    write_text(tmp_path / "t.tsv", f"{header}\t{last}", "a.wav\t0\t1\tdog\tcat")
    with pytest.raises(ValueError, match=f"t.tsv, line 1: column '{last}' stands twice"):
        testsets.read_own("mine", tmp_path / "t.tsv", tmp_path / "audio")


SAME = (
    "Caf\u00e9",
    "cafe\u0301",
    "CAF\u00c9",
    "caf\u00e9\u00a0",
    "ca\u200bf\u00e9",
    "\uff43af\u00e9",
)


@pytest.mark.parametrize("order", [SAME, SAME[::-1]])
def test_labels_that_read_the_same_are_one_class_in_the_first_spelling(tmp_path, order):
    for i in range(len(order)):
        write_audio(tmp_path / f"audio/{i}.wav", 2.0, seed=i)
    events = [f"{i}.wav\t0\t1\t{text}" for i, text in enumerate(order)]
    write_text(tmp_path / "e.tsv", "filename\tonset\toffset\tevent_label", *events)
    found = testsets.read_own("mine", tmp_path / "e.tsv", tmp_path / "audio")
    [caption] = found.captions
    assert caption == unicodedata.normalize("NFC", order[0].strip())
    assert {event.caption for clip in found.clips for event in clip.events} == {caption}
    assert len(found.notes) == 1
    assert "read the same" in found.notes[0]

    write_text(
        tmp_path / "l.tsv", "filename\tlabel", *(f"{i}.wav\t{t}" for i, t in enumerate(order))
    )
    found = testsets.read_own("mine", tmp_path / "l.tsv", tmp_path / "audio")
    assert len(found.captions) == 1
    assert {clip.label for clip in found.clips} == set(found.captions)


@pytest.mark.parametrize("header", ["onset\toffset\tevent_label", "caption", "label"])
@pytest.mark.parametrize(
    ("on_disk", "names"),
    [
        ("caf\u00e9.wav", ("caf\u00e9.wav", "cafe\u0301.wav")),
        ("sub/a.wav", ("sub/a.wav", "sub\\a.wav")),
        ("sub/a.wav", ("a", "./sub/a.wav")),
    ],
)
def test_two_names_of_a_recording_are_one_clip(tmp_path, header, on_disk, names):
    write_audio(tmp_path / "audio" / on_disk, 4.0)
    write_audio(tmp_path / "audio/b.wav", 1.0)
    values = {"onset\toffset\tevent_label": ("0\t1\train", "2\t3\train")}
    rows = [f"{n}\t{v}" for n, v in zip(names, values.get(header, ("rain", "wind")), strict=True)]
    write_text(tmp_path / "t.tsv", f"filename\t{header}", *rows)
    if header == "label":
        with pytest.raises(ValueError, match=r"line 3: filename .* is listed twice, first in"):
            testsets.read_own("mine", tmp_path / "t.tsv", tmp_path / "audio")
        return
    [clip] = testsets.read_own("mine", tmp_path / "t.tsv", tmp_path / "audio").clips
    assert (clip.name, clip.path) == (names[0], tmp_path / "audio" / on_disk)
    assert len(clip.events) == 2 or list(clip.captions) == ["rain", "wind"]


@pytest.mark.parametrize("name", ["x" * 5000, "../b.wav", "..\\b.wav", "C:\\b.wav", "\\", "a\0b"])
@pytest.mark.parametrize("header", ["caption", "label"])
def test_a_name_that_no_recording_has_is_of_one_that_is_missing(tmp_path, name, header):
    write_audio(tmp_path / "audio/a.wav", 1.0)
    write_audio(tmp_path / "b.wav", 1.0)
    write_text(tmp_path / "t.tsv", f"filename\t{header}", "a.wav\train", f"{name}\twind")
    found = testsets.read_own("mine", tmp_path / "t.tsv", tmp_path / "audio")
    assert found.missing == [name]


OWN_ROWS = {
    "filename\tonset\toffset\tevent_label": "0.0\t1.0\tA Dog",
    "filename\tcaption": "a dog",
    "filename\tlabel": "dog",
}


def own_of(folder, header, *names):
    """A set of these files of one's own, in each form of a table."""
    write_text(folder / "t.tsv", header, *[f"{name}\t{OWN_ROWS[header]}" for name in names])
    return testsets.read_own("mine", folder / "t.tsv", folder / "audio")


@pytest.mark.parametrize("header", OWN_ROWS)
def test_a_name_with_a_folder_is_of_the_recording_there_and_of_no_other(tmp_path, header):
    audio = tmp_path / "audio"
    write_audio(audio / "dog/001.wav", 2.0)
    names = ["dog/001.wav", "cat/001.wav"]
    assert [c.path for c in own_of(tmp_path, header, *names).clips] == [audio / names[0], None]
    write_audio(audio / "cat/001.wav", 1.0, seed=1)
    found = own_of(tmp_path, header, *names)
    assert [clip.path for clip in found.clips] == [audio / name for name in names]
    with pytest.raises(ValueError, match=r"which of them is '001'"):
        own_of(tmp_path, header, "001.wav")
    write_audio(audio / "001.wav", 1.0, seed=2)
    assert own_of(tmp_path, header, "001.wav").clips[0].path == audio / "001.wav"
    write_audio(audio / "deep/caf\u0065\u0301/a.flac", 1.0)
    for name in ("a.wav", "deep/caf\u00e9/a.flac"):
        assert own_of(tmp_path, header, name).clips[0].path.name == "a.flac"


@pytest.mark.parametrize("header", OWN_ROWS)
def test_spaces_around_a_name_are_none_of_it(tmp_path, header):
    write_audio(tmp_path / "audio/a.wav", 2.0)
    [clip] = own_of(tmp_path, header, " a.wav ").clips
    assert (clip.name, clip.path) == ("a.wav", tmp_path / "audio/a.wav")
    if header.endswith("label") and "onset" not in header:
        with pytest.raises(ValueError, match=r"line 3: filename 'a.wav' is listed twice"):
            own_of(tmp_path, header, "a.wav", "a.wav ")


def test_a_table_without_an_event_to_be_heard_is_refused(tmp_path):
    write_audio(tmp_path / "audio/a.wav", 2.0)
    header = "filename\tonset\toffset\tevent_label"
    for rows in (["a.wav"], ["a.wav", "gone.wav\t0.0\t1.0\tdog"], ["a.wav\t2.5\t3.0\tdog"]):
        write_text(tmp_path / "t.tsv", header, *rows)
        with pytest.raises(ValueError, match=r"mine: .*t\.tsv has no event for the recordings in"):
            testsets.read_own("mine", tmp_path / "t.tsv", tmp_path / "audio")


@pytest.mark.parametrize("header", OWN_ROWS)
@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a.mp3"], [True]),
        (["a.mp3", "a.wav"], [False, True]),
        (["a.wav", "b.wav", "a.mp3"], [True, False, False]),
        (["a.mp3", "a.ogg"], [False, False]),
    ],
)
def test_of_names_with_several_suffixes_one_is_of_the_recording(tmp_path, header, names, found):
    write_audio(tmp_path / "audio/a.wav", 2.0)
    write_audio(tmp_path / "audio/c.wav", 2.0)
    clips = own_of(tmp_path, header, *names, "c.wav").clips
    assert [(clip.name, clip.path is not None) for clip in clips] == [
        *zip(names, found, strict=True),
        ("c.wav", True),
    ]


LABEL_FILES = {
    "a.txt": "0.5\t1.5\tDog bark\n\\\t100\t4000\n",
    "b.Table.1.selections.txt": (
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tAnnotation\n"
        "1\tWaveform 1\t1\t0.25\t0.75\tdog  bark\n1\tSpectrogram 1\t1\t0.25\t0.75\tdog  bark\n"
    ),
    "deep/c.jams": json.dumps(
        {"annotations": [{"namespace": "scaper", "data": [set_files.scaper(0.0, 9.0, "rain")]}]}
    ),
    "gone.tsv": "onset\toffset\tevent_label\n0\t1\train\n",
    "README.txt": "Labelled in May.\n",
}


def label_files(root):
    """A folder of label files of every kind, and of recordings, one without labels."""
    for name, content in LABEL_FILES.items():
        write_text(root / "labels" / name, *content.splitlines())
    for name in ("a.wav", "b.flac", "deep/c.ogg", "unlabelled.wav"):
        write_audio(root / "audio" / name, 2.0)
    return {"name": "mine", "table": str(root / "labels"), "audio": str(root / "audio")}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.wav.txt", "0\t1\train\n"),
        ("a.csv", "onset,offset,event_label\n0,1,rain\n"),
        ("all.tsv", "filename\tonset\toffset\tevent_label\na.wav\t0\t1\train\n"),
    ],
)
def test_of_two_texts_with_labels_of_one_recording_none_is_taken(tmp_path, name, text):
    entry = label_files(tmp_path)
    write_text(tmp_path / "labels" / name, text)
    with pytest.raises(ValueError, match=r"a\.(txt|csv) and .*: which of them has the labels"):
        testsets.training_set(entry)


def test_a_label_file_of_a_missing_recording_is_of_no_other(tmp_path):
    entry = label_files(tmp_path)
    (tmp_path / "labels/a.txt").rename(tmp_path / "labels/a.wav.txt")
    write_text(tmp_path / "labels/a.mp3.txt", "0\t1\train\n")
    found = testsets.training_set(entry)
    assert sorted(found.missing) == ["a.mp3", "gone"]
    assert {c.name: list(c.events) for c in found.present}["a.wav"] == [Event(0.5, 1.5, "Dog bark")]


def test_a_folder_of_label_files_is_a_set(tmp_path):
    entry = label_files(tmp_path)
    [evaluated], _ = testsets.read_all({}, [entry])
    for found in (evaluated, testsets.training_set(entry)):
        assert found.captions == ["Dog bark", "rain"]
        assert {clip.name: list(clip.events) for clip in found.present} == {
            "a": [Event(0.5, 1.5, "Dog bark")],
            "b": [Event(0.25, 0.75, "Dog bark")],
            "deep/c": [Event(0.0, 2.0, "rain")],
        }
        assert (found.missing, found.repairs) == (["gone"], {"clipped": 1})
        assert "1 recordings without a label file left out" in found.notes
        assert "1 files that hold no labels left out: README.txt" in found.notes


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_label_file_is_a_set_and_so_is_a_folder_of_them(tmp_path, kind):
    suffix, text = KINDS[kind]
    write_audio(tmp_path / "audio/a.wav", 2.0)
    table = write(tmp_path / f"labels/a{suffix}", text(DOG, RAIN))
    for labelled in (table, table.parent):
        entry = {"name": "mine", "table": str(labelled), "audio": str(tmp_path / "audio")}
        for found in (testsets.read_all({}, [entry])[0][0], testsets.training_set(entry)):
            [clip] = found.clips
            assert clip.events == [DOG, RAIN._replace(offset=2.0)]
            assert found.captions == sorted((DOG.caption, RAIN.caption))


@pytest.mark.parametrize("name", ["a.txt", "b.Table.1.selections.txt", "deep/c.jams"])
def test_one_label_file_is_a_set_of_the_recording_it_is_named_after(tmp_path, name):
    entry = label_files(tmp_path)
    of_one = entry | {"table": str(tmp_path / "labels" / name)}
    [clip] = testsets.training_set(of_one).clips
    whole = {one.path: one.events for one in testsets.training_set(entry).present}
    assert [event[:2] for event in clip.events] == [event[:2] for event in whole[clip.path]]


def test_label_files_and_recordings_may_share_a_folder(tmp_path):
    write_audio(tmp_path / "x/a.wav", 2.0)
    write_text(tmp_path / "x/a.txt", "0\t1\tdog")
    [clip] = testsets.read_own("mine", tmp_path / "x", tmp_path / "x").clips
    assert clip.events == [Event(0.0, 1.0, "dog")]


def test_a_table_or_folder_that_is_not_there_is_named(tmp_path):
    entry = label_files(tmp_path)
    for key in ("table", "audio"):
        with pytest.raises(FileNotFoundError, match=r"mine: .*nowhere is not there"):
            testsets.training_set(entry | {key: str(tmp_path / "nowhere")})
    write_text(tmp_path / "t.txt", "Labelled in May.")
    with pytest.raises(ValueError, match=r"t\.txt: not an Audacity label track"):
        testsets.training_set(entry | {"table": str(tmp_path / "t.txt")})


def test_no_set_of_one_s_own_is_called_as_what_is_reported_beside_it(tmp_path):
    table = str(set_files.asfx(tmp_path) / "captions.csv")
    for name in ("seen_captions", "heldout_unseen", "supplied"):
        entry = {"name": name, "table": table, "audio": str(tmp_path / "audio")}
        with pytest.raises(ValueError, match=rf"'{name}' is no name .* seen_captions, unseen_"):
            testsets.read_all({}, [entry])


def test_what_there_is_is_read_and_what_there_is_not_is_told(tmp_path):
    folders = dict.fromkeys(testsets.SETS) | {"esc50": str(set_files.esc50(tmp_path / "esc"))}
    own = {"name": "mine", "table": str(tmp_path / "l.csv"), "audio": str(tmp_path)}
    write_audio(tmp_path / "a.wav", 1.0)
    write_text(tmp_path / "l.csv", "filename,label", "a.wav,dog")
    found, skipped = testsets.read_all(folders, [own])
    assert [one.name for one in found] == ["esc50", "mine"]
    assert set(skipped) == set(testsets.SETS) - {"esc50"}
    with pytest.raises(ValueError, match=r"already"):
        testsets.read_all(folders, [own, own])
    with pytest.raises(ValueError, match=r"no parameter testsets.folders.esc51; did you mean"):
        testsets.read_all({"esc51": None}, [])
    with pytest.raises(ValueError, match=r"testsets.own\[0\].table is missing"):
        testsets.read_all({}, [{"name": "mine"}])


def test_a_path_is_as_from_the_base_wherever_one_is(tmp_path, monkeypatch):
    base, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    set_files.esc50(base / "esc")
    set_files.asfx_sed(base / "own")
    set_files.maestro(base / "maestro")
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    own = {"name": "mine", "table": "own/events.tsv", "audio": "own/audio"}
    read, _ = testsets.read_all({"esc50": "esc"}, [own], base=base)
    assert [one.name for one in read] == ["esc50", "mine"]
    in_full = own | {"table": base / own["table"], "audio": base / own["audio"]}
    for entry in (own, in_full, {"name": "maestro", "folder": "maestro"}):
        assert testsets.training_set(entry, base=base).present
    monkeypatch.setenv("HOME", str(base))
    assert testsets.read_all({"esc50": "~/esc"}, [], base=elsewhere)[0]


def test_a_folder_without_any_of_the_audio_is_refused(tmp_path):
    root = set_files.esc50(tmp_path)
    for path in root.rglob("*.wav"):
        path.unlink()
    with pytest.raises(ValueError, match=r"esc50: 3 clips are listed and not one is below"):
        testsets.read("esc50", root)
    with pytest.raises(FileNotFoundError, match=r"is no folder"):
        testsets.read("esc50", tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no test set 'esc51'"):
        testsets.read("esc51", root)


def own_tables(folder, names):
    """The tables that a set of one's own may have, of the same recordings."""
    rows = {
        "label": ["filename\tlabel", *(f"{name}\tdog" for name in names)],
        "caption": ["filename\tcaption", *(f"{name}\ta dog" for name in names)],
        "events": [
            "filename\tonset\toffset\tevent_label",
            *(f"{name}\t0.1\t0.5\tdog" for name in names),
        ],
        "raven": [
            "Begin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tAnnotation",
            *(f"0.1\t0.5\t{name}\t0.1\tdog" for name in names),
        ],
    }
    for kind, lines in rows.items():
        write_text(folder / f"{kind}.tsv", *lines)
    for name in names:
        write_text(folder / f"labels/{name}.txt", "0.1\t0.5\tdog")
    return {kind: folder / f"{kind}.tsv" for kind in rows} | {"label files": folder / "labels"}


def test_of_a_folder_of_bad_files_the_good_one_is_used_and_each_other_is_listed(tmp_path):
    bad = write_bad_files(tmp_path / "audio")
    audio = str(tmp_path / "audio")
    for kind, table in own_tables(tmp_path, [GOOD, *bad]).items():
        entry = {"name": "mine", "table": str(table), "audio": audio}
        doors = [testsets.read_own(*entry.values()), testsets.read_all({}, [entry])[0][0]]
        if kind not in ("label", "caption"):
            doors.append(testsets.training_set(entry))
        for found in doors:
            assert [clip.name for clip in found.present] == [GOOD], kind
            assert sorted(found.skipped) == bad, kind
            assert all(found.skipped.values()), kind


def test_what_is_cut_off_is_used_with_a_note(tmp_path):
    write_audio(tmp_path / "audio/a.wav", 2.0)
    whole = (tmp_path / "audio/a.wav").read_bytes()
    (tmp_path / "audio/a.wav").write_bytes(whole[: len(whole) // 2])
    write_text(tmp_path / "t.tsv", "filename\tlabel\na.wav\tdog\n")
    found = testsets.read_own("mine", tmp_path / "t.tsv", tmp_path / "audio")
    assert [note for note in found.notes if note.startswith("a.wav: ")]


def test_the_parameters_know_the_names_of_all_sets():
    assert set(get_args(TestSetName)) == set(testsets.SETS)
    names = get_type_hints(PublicSet)["name"]
    assert set(get_args(names)) == set(testsets.STRONG)
