"""Of `flam index` and `flam search`."""

import json
import os
import shutil
from pathlib import Path

import pytest
import soundfile
from bad_files import GOOD, write_bad_files
from heldouts import write_model
from sounds import RATE, noise, tone

from flamlib.cli import main
from flamlib.search import archive, archive_part
from flamlib.storage import tables

COLUMNS = ["filename", "onset", "offset", "event_label", "score"]


@pytest.fixture
def sounds(here, tmp_path, monkeypatch):
    """In a folder with two recordings; the project's model is that of the index."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sounds").mkdir()
    soundfile.write("sounds/a.wav", noise(3.0), RATE)
    soundfile.write("sounds/犬.wav", tone(800, 1.0), RATE)
    shutil.copytree(here / "artifacts/checkpoints/flam", "model")
    return tmp_path / "sounds"


@pytest.fixture
def index(sounds, capsys):
    assert main.main(["index", "sounds", "--out", "index", "--model", "model"]) == 0
    assert capsys.readouterr().out == "index: 2 files, 2 recordings embedded\n"
    return "index"


@pytest.mark.filterwarnings("error:the model cannot read")
@pytest.mark.usefixtures("sounds")
def test_no_word_is_read_where_nothing_is_asked():
    """One that the model cannot read would be told to a user who never wrote it."""
    assert main.main(["index", "sounds", "--out", "index", "--model", "model"]) == 0
    assert main.main(["embed", "sounds", "vectors", "--model", "model"]) == 0


def search(capsys, *arguments):
    assert main.main(["search", *arguments]) == 0
    out, told = capsys.readouterr()
    header, *rows = [line.split("\t") for line in out.splitlines()]
    assert header == COLUMNS
    return rows, told


def test_moments_are_printed_the_surest_first_by_caption(index, capsys):
    rows, told = search(capsys, index, "a dog barks", "rain falls", "-k", "2")
    assert {row[0] for row in rows} <= {"sounds/a.wav", "sounds/犬.wav"}
    for caption in {row[3] for row in rows}:
        scores = [float(row[4]) for row in rows if row[3] == caption]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) <= 2
    assert "Traceback" not in told


def test_approximately_the_same_is_found_and_an_earlier_index_is_mended(index, capsys):
    rows, _ = search(capsys, index, "a dog barks")
    assert search(capsys, index, "a dog barks", "--approximate")[0] == rows
    shutil.rmtree("index/coarse")
    assert main.main(["search", index, "a dog barks", "--approximate"]) == 2
    out, told = capsys.readouterr()
    assert (out, told.count("\n"), "call `flam index` on its folders" in told) == ("", 1, True)
    assert main.main(["index", "sounds", "--out", "index"]) == 0
    assert capsys.readouterr().out == "index: 2 files, 0 recordings embedded\n"
    assert search(capsys, index, "a dog barks", "--approximate")[0] == rows


def test_captions_of_a_table_and_a_file_of_objects(index, capsys, tmp_path):
    tables.write("captions.tsv", [("caption", "label"), ("rain falls", "rain")])
    asked = ["search", index, "--captions", "captions.tsv", "-o"]
    assert main.main([*asked, "found.csv"]) == 0
    assert main.main([*asked, "found.jsonl"]) == 0
    assert main.main([*asked, "found.txt", "--format", "jsonl"]) == 0
    assert Path("found.txt").read_bytes() == Path("found.jsonl").read_bytes()
    rows = [json.loads(line) for line in Path("found.jsonl").read_text("utf-8").splitlines()]
    assert {row["event_label"] for row in rows} <= {"rain"}
    in_table = [*tables.read("found.csv", COLUMNS)]
    assert [row["filename"] for row in in_table] == [row["filename"] for row in rows]


def test_a_file_that_is_gone_is_said_and_then_forgotten(index, sounds, capsys):
    (sounds / "a.wav").unlink()
    rows, told = search(capsys, index, "a dog barks", "a bell", "the rain", "tone")
    if any(row[0] == "sounds/a.wav" for row in rows):
        assert f"flam: {sounds / 'a.wav'}: no longer there" in told
    assert main.main(["index", "sounds", "--out", index]) == 0
    assert ", 1 forgotten" in capsys.readouterr().out
    rows, told = search(capsys, index, "a dog barks", "a bell", "the rain", "tone")
    assert "sounds/a.wav" not in {row[0] for row in rows}
    assert "no longer" not in told


def test_files_and_folders_are_removed_by_name(index, sounds, capsys):
    assert main.main(["index", "--remove", "sounds/a.wav", "--out", index]) == 0
    assert "1 file, 0 recordings embedded, 1 forgotten" in capsys.readouterr().out
    assert (sounds / "a.wav").exists()
    assert main.main(["index", "--remove", "sounds", "--out", index]) == 0
    assert "0 files" in capsys.readouterr().out
    rows, told = search(capsys, index, "a dog barks")
    assert rows == []
    assert "nothing is indexed" in told


def test_a_folder_that_is_empty_today_forgets_nothing(index, sounds, capsys):
    """A disk that is not mounted, say."""
    shutil.move("sounds", "elsewhere")
    sounds.mkdir()
    assert main.main(["index", "sounds", "--out", index]) == 2
    assert "sounds: no WAV" in capsys.readouterr().err
    assert len(archive.read(sounds.parent / index).paths) == 2


def test_a_folder_that_is_not_there_today_forgets_nothing(index, sounds, capsys):
    """And neither does one in it; a file that was named is forgotten when it is gone."""
    (sounds / "deep").mkdir()
    soundfile.write("sounds/deep/b.wav", noise(0.5, seed=7), RATE)
    assert main.main(["index", "sounds", "--out", index]) == 0
    shutil.move("sounds", "elsewhere")
    for given, kept in (("sounds", "3 files"), ("sounds/deep", "1 file")):
        capsys.readouterr()
        assert main.main(["index", given, "--out", index]) == 1
        out, told = capsys.readouterr()
        assert out == "index: 3 files, 0 recordings embedded, 1 skipped\n"
        assert f"{given}: no such file" in told
        assert f"kept {kept} of folders that are not there; --remove forgets them" in told
    assert main.main(["index", "sounds/a.wav", "--out", index]) == 1
    assert len(archive.read(sounds.parent / index).paths) == 2
    assert main.main(["index", "--remove", "sounds", "--out", index]) == 0
    assert archive.read(sounds.parent / index).paths == {}


def test_a_folder_of_detections_becomes_no_index_and_an_index_no_such_folder(index, sounds, capsys):
    """Both have a recordings.jsonl."""
    assert main.main(["detect", "sounds", "-c", "rain", "-o", "found", "--model", "model"]) == 0
    before = {p: p.read_bytes() for of in ("found", index) for p in Path(of).glob("*.*")}
    for command in (
        ["index", "sounds", "-o", "found"],
        ["detect", "sounds", "-c", "rain", "-o", index],
    ):
        capsys.readouterr()
        assert main.main([*command, "--model", "model"]) == 2
        assert "recordings.jsonl is of something else" in capsys.readouterr().err
    assert {p: p.read_bytes() for of in ("found", index) for p in Path(of).glob("*.*")} == before


def test_an_index_is_made_from_elsewhere_too(index, sounds, capsys, monkeypatch):
    monkeypatch.chdir(sounds)
    again = ["index", "../sounds/a.wav", ".", "--out", "../index", "--model", "../model"]
    assert main.main(again) == 0
    assert "2 files, 0 recordings embedded\n" in capsys.readouterr().out
    rows, _ = search(capsys, "../index", "a dog barks", "the rain", "--model", "../model")
    assert {row[0] for row in rows} <= {"a.wav", "犬.wav"}


def test_of_a_folder_of_bad_files_each_is_said(here, tmp_path, capsys):
    bad = write_bad_files(tmp_path / "sounds")
    assert main.main(["index", str(tmp_path / "sounds"), "--out", str(tmp_path / "index")]) == 1
    out, told = capsys.readouterr()
    assert f"1 file, 1 recording embedded, {len(bad)} skipped" in out
    for name in bad:
        assert told.count(f"{os.sep}{name}: ") == 1
    assert GOOD not in told


def damage(index, what):
    [part] = (index / archive.PARTS).iterdir()
    if what == "truncated":
        part.write_bytes(part.read_bytes()[:-5])
    elif what == "of another kind":
        part.write_bytes(part.read_bytes().replace(b'"I8"', b'"U8"'))
    elif what == "another model":
        write_model(index.parent / "model", seed=9)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("truncated", "cut off"),
        ("of another kind", "its codes are U8, expected I8"),
        ("another model", "an index of another model"),
    ],
)
def test_an_index_that_cannot_be_used_is_refused_in_a_sentence(index, sounds, capsys, what, said):
    damage(sounds.parent / index, what)
    assert main.main(["search", index, "a dog barks"]) == 2
    out, told = capsys.readouterr()
    assert (out, told.count("\n"), said in told) == ("", 1, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "nothing", "rain"], "nothing: no index"),
        (["search", "index"], "what is looked for?"),
        (["search", "index", "--like", "nothing.wav"], "nothing.wav: "),
        (["search", "index", "--like", "index/index.json"], "index.json: "),
        (["search", "index", "rain", "Rain "], "a caption is given twice"),
        (["search", "index", "the rain " * 300], "tokens, but the encoder accepts at most"),
        (["search", "index", "rain", "--model", "nothing"], "nothing: no such folder"),
        (["search", "index", "rain", "--like", "sounds/a.wav", "--approximate"], "--like is asked"),
        (["search", "index", "rain", "--format", "parquet"], "name a file with -o"),
        (["search", "index", "rain", "-o", "sounds"], "a folder, not a file"),
        (["index", "--out", "index"], "nothing to do"),
        (["index", "sounds", "--out", "sounds/a.wav", "--model", "model"], "a file, not a folder"),
        (["index", "sounds", "--out", "index", "--model", "nothing"], "nothing: no such folder"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(index, capsys, arguments, said):
    assert main.main(arguments) == 2
    out, told = capsys.readouterr()
    assert (out, told.count("\n"), said in told) == ("", 1, True)


def test_examples_are_called_by_their_names_and_stand_behind_captions(index, capsys):
    odd = os.fsdecode(b"caf\xe9.wav")
    shutil.copy("sounds/a.wav", odd)
    asked = ["a dog barks", "--like", "sounds/犬.wav", "--like", "sounds/a.wav", "--like", odd]
    rows, _ = search(capsys, index, *asked, "-k", "1")
    assert [row[3] for row in rows][-3:] == ["犬.wav", "a.wav", "caf\\udce9.wav"]
    assert all(0.5 < float(row[4]) <= 1 for row in rows)


def test_more_captions_than_are_asked_at_once(index, capsys):
    captions = [f"a dog barks {n}" for n in range(20)]
    rows, _ = search(capsys, index, *captions, "-k", "1")
    assert {row[3] for row in rows} <= set(captions)


def test_parts_keep_their_suffix(index, sounds):
    [part] = (sounds.parent / index / archive.PARTS).iterdir()
    assert part.suffix == archive_part.SUFFIX
