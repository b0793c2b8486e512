import json
from pathlib import Path

import pandas as pd
import pytest
import scipy.io
from label_files import DOG, KINDS, RAIN, write

from flamlib.search import finds
from flamlib.search.finds import Find
from flamlib.sound_events.detection import Detection
from flamlib.sound_events.event_tables import FORMATS, Found

SOUNDS = [Detection(0.5, 1.25, "a dog barks", 0.75), Detection(1.0, 3.0, "rain; « naß »", 0.5)]
EXPECTED = [(s.onset, s.offset, s.caption, s.score) for s in SOUNDS]


@pytest.mark.parametrize("form", sorted(FORMATS.keys() - {"vtt"}))
def test_what_detect_writes_is_read_with_its_scores(tmp_path, form):
    path = tmp_path / f"a{FORMATS[form].suffix}"
    path.write_bytes(FORMATS[form].encode([Found("sub/a.wav", SOUNDS, 16000)]))
    found = finds.read(path)
    assert [find[3:7] for find in found] == EXPECTED
    assert {find.recording for find in found} == ({"sub/a.wav"} if FORMATS[form].is_joint else {""})


@pytest.mark.parametrize("kind", KINDS)
def test_label_files_of_other_tools_have_no_scores(tmp_path, kind):
    suffix, text = KINDS[kind]
    write(tmp_path / f"a{suffix}", text(DOG, RAIN))
    for path in (tmp_path / f"a{suffix}", tmp_path):
        assert [find[3:7] for find in finds.read(path)] == [(*DOG, None), (*RAIN, None)]


def test_what_crowsetta_reads_has_neither_scores_nor_channels(tmp_path):
    """A file of MATLAB is no text, of which fields could be read."""
    pytest.importorskip("crowsetta", reason='pip install "flamlib[crowsetta]"')
    scipy.io.savemat(
        tmp_path / "a.wav.not.mat",
        {"onsets": [500.0], "offsets": [1250.0], "labels": "b", "Fs": 8000.0, "fname": "a.wav"}
        | {"min_int": 5.0, "min_dur": 20.0, "threshold": 1.0, "sm_win": 2.0},
    )
    for path in (tmp_path, tmp_path / "a.wav.not.mat"):
        [find] = finds.read(path)
        assert find[3:] == (0.5, 1.25, "b", None, None)


KALEIDOSCOPE = "INDIR,FOLDER,IN FILE,OFFSET,DURATION,scientific_name,common_name,confidence\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a.BirdNET.selection.table.txt",
            "Selection\tBegin Time (s)\tEnd Time (s)\tCommon Name\tConfidence\n"
            "1\t3.0\t6.0\tRook\t0.8123\n",
        ),
        ("a.BirdNET.results.txt", "3.0\t6.0\tCorvus frugilegus, Rook\t0.8123\n"),
        (
            "a.BirdNET.results.kaleidoscope.csv",
            KALEIDOSCOPE + "/data,rec,a.wav,3.0,3.0,Corvus frugilegus,Rook,0.8123\n",
        ),
    ],
)
def test_tables_of_birdnet_have_confidences(tmp_path, name, text):
    write(tmp_path / name, text)
    [find] = finds.read(tmp_path)
    assert find[3:7] == (3.0, 6.0, "Rook", 0.8123)


def test_of_a_recording_that_was_heard_twice_the_last_line_counts(tmp_path):
    lines = [
        {"name": "a.wav", "path": "/x/a.wav", "events": [[0.0, 1.0, "rain", 0.9]]},
        {"name": "b.wav", "path": "/x/b.wav", "why": "no samples"},
        {"name": "a.wav", "path": "/x/a.wav", "events": [[2.0, 3.0, "rain", 0.8]]},
    ]
    log = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / finds.DETECTED).write_text(log + '{"name": "c.wav", "pa')  # killed here
    for more in ("", "\n" + json.dumps(lines[1]) + "\n"):  # and then went on
        with (tmp_path / finds.DETECTED).open("a") as file:
            file.write(more)
        [find] = finds.read(tmp_path)
        assert find[2:7] == ("/x/a.wav", 2.0, 3.0, "rain", 0.8)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("no", ["no", False])
def test_what_a_review_rejected_is_no_find(tmp_path, suffix, no):
    yes = "yes" if no else True
    rows = [
        {"filename": "a.wav", "onset": k, "offset": k + 1, "event_label": "rain", "review": said}
        for k, said in enumerate([yes, no, None])
    ]
    frame, path = pd.DataFrame(rows), tmp_path / f"events{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    assert [find.onset for find in finds.read(path)] == [0.0, 2.0]


def test_what_is_hidden_is_no_label_file(tmp_path):
    """As macOS leaves a file beside each, and a file server former states of all of them."""
    for name in ("a.txt", ".snapshot/hourly/a.txt"):
        write(tmp_path / name, "0\t1\train\n")
    (tmp_path / "._a.txt").write_bytes(b"\0\5\x16\7\xe2")
    assert [find.table for find in finds.read(tmp_path)] == [tmp_path / "a.txt"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"filename": "a"}\n', "line 1: no onset"),
        ("a.jsonl", "[1]\n", "line 1: not an object of JSON"),
        (
            "a.jsonl",
            '{"filename":"a","onset":2,"offset":1,"event_label":"x"}\n',
            "line 1: an event",
        ),
        ("a.jsonl", '{"filename":"a","onset":"x","offset":1,"event_label":"x"}\n', "line 1: could"),
        ("a.parquet", "no", "not a Parquet file"),
        ("a.txt", "once upon a time\n", "not an Audacity label track"),
        (finds.DETECTED, '{"name": "a"}\n{}\n', "line 1: not what `flam detect` writes"),
    ],
)
def test_what_is_none_is_refused_with_its_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        finds.read(tmp_path if name == finds.DETECTED else tmp_path / name)
    assert str(refused.value).startswith(str(tmp_path / name))


def test_neighbours_of_one_caption_and_recording_are_joined():
    def of(onset, offset, score=None, recording="a", caption="rain"):
        return Find(Path("t"), "t, line 1", recording, onset, offset, caption, score)

    apart = [of(6.0, 9.0, 0.2), of(0.0, 3.0, 0.5), of(3.5, 6.0, 0.9), of(0.5, 1.0)]
    others = [of(3.0, 4.0, recording="b"), of(3.0, 4.0, caption="wind")]
    assert finds.join([*apart, *others], 0.5) == [of(0.0, 9.0, 0.9), *others]
    assert finds.join(apart, 0.4) == [of(0.0, 3.0, 0.5), of(3.5, 9.0, 0.9)]


def test_a_recording_is_found_by_path_here_beside_its_table_and_in_a_folder(tmp_path, monkeypatch):
    for name in ("here/a.wav", "tables/b.flac", "audio/sub/c.mp3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path / "here")
    table, anywhere = tmp_path / "tables/b.txt", finds.Recordings()
    assert anywhere.find(str(tmp_path / "here/a.wav"), table) == tmp_path / "here/a.wav"
    assert anywhere.find("a.wav", table).resolve() == tmp_path / "here/a.wav"
    for name in ("b.flac", "b.wav", ""):  # the file is named after its recording
        found = anywhere.find(name, table)
        assert found == (None if name == "b.wav" else tmp_path / "tables/b.flac")
    assert anywhere.find("c.mp3", table) is None
    in_folder = finds.Recordings(tmp_path / "audio")
    for name in ("c.mp3", "sub/c.mp3", "c", "sub\\c.mp3"):
        assert in_folder.find(name, table) == tmp_path / "audio/sub/c.mp3"


def test_label_files_in_a_folder_are_of_the_recordings_that_they_are_named_after(tmp_path):
    selection = "Begin Time (s)\tEnd Time (s)\tAnnotation\n0.5\t1.5\train\n"
    for name, content in {
        "labels/one/a.Table.1.selections.txt": selection,
        "labels/two/a.Table.1.selections.txt": selection,
        "labels/deep/b.txt": selection,
        "labels/deep/b.flac": "",  # beside it
        "audio/one/a.wav": "",
        "audio/two/a.wav": "",
        "audio/b.wav": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    beside, in_folder = finds.Recordings(), finds.Recordings(tmp_path / "audio")
    tables = [find.table for find in finds.read(tmp_path / "labels")]
    assert [t.parent.name for t in tables] == ["deep", "one", "two"]
    assert [in_folder.find("", table) for table in tables] == [
        tmp_path / "audio" / name for name in ("b.wav", "one/a.wav", "two/a.wav")
    ]
    assert [beside.find("", t) for t in tables] == [tmp_path / "labels/deep/b.flac", None, None]


def test_a_recording_that_was_moved_is_found_by_the_end_of_its_path(tmp_path):
    for name in ("new/x/a.wav", "new/y/a.wav", "new/y/b.wav", "new/c.flac"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    table = tmp_path / "t.tsv"
    for name in ("/old/x/a.wav", "C:\\old\\x\\a.wav", "mnt/nas/x/a.wav", "/old/x/a"):
        found = finds.Recordings(tmp_path / "new")
        assert found.find(name, table) == tmp_path / "new/x/a.wav"
    assert found.find("/old/c.flac", table) == tmp_path / "new/c.flac"
    for name in ("/old/z/a.wav", "/old/b.wav/z", "/old/x/b.wav", "/old/c.wav"):
        assert found.find(name, table) is None
    whole = (tmp_path / "new/y/b.wav").as_posix()[1:]  # as `flam detect` calls one of two
    assert finds.Recordings().find(whole, table) == tmp_path / "new/y/b.wav"


def test_one_recording_is_not_taken_for_two(tmp_path):
    """Recorders of two places give the same names."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x/a.wav").touch()
    found, table = finds.Recordings(tmp_path / "x"), tmp_path / "t.tsv"
    assert found.find("/old/x/a.wav", table) == tmp_path / "x/a.wav"
    assert found.find("x/a.wav", table) == tmp_path / "x/a.wav"
    with pytest.raises(ValueError, match=r"^/old/x/a.wav and /old/y/a.wav: which of them is .*x/a"):
        found.find("/old/y/a.wav", table)


def test_a_folder_is_listed_once_for_all_tables_in_it(tmp_path, monkeypatch):
    listed, glob = [], Path.glob
    for k in range(5):
        (tmp_path / f"{k}.wav").touch()
    found = finds.Recordings()
    monkeypatch.setattr(Path, "glob", lambda self, what: listed.append(self) or glob(self, what))
    for k in range(5):
        for _ in range(2):
            assert found.find("", tmp_path / f"{k}.txt") == tmp_path / f"{k}.wav"
    assert listed == [tmp_path]
