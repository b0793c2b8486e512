"""Of what commands write: files, standard output by the name -, and folders."""

import json
import subprocess
import sys

import pyarrow.parquet
import pytest
import score_folders
import soundfile
from sounds import RATE, noise

from flamlib.cli import arguments, listen, main
from flamlib.inference import detector
from flamlib.search import indexing

MANY = ["-c", "a bell", "--threshold", "0", "--model", arguments.CHECKPOINT]


def call(*given):
    return main.main([str(each) for each in given])


@pytest.fixture
def two(here, tmp_path):
    names = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for path, seconds in zip(names, (1.0, 2.0), strict=True):
        soundfile.write(path, noise(seconds), RATE)
    return names


@pytest.fixture
def nothing_is_heard(monkeypatch):
    monkeypatch.setattr(detector, "score", lambda *_, **__: pytest.fail("heard"))
    monkeypatch.setattr(indexing, "_open", lambda *_: pytest.fail("loaded"))


@pytest.mark.parametrize("n", [1, 2])
def test_events_are_printed_to_a_dash(here, two, capfd, n):
    assert call("detect", *two[:n], *MANY) == 0
    printed, _ = capfd.readouterr()
    assert call("detect", *two[:n], *MANY, "-o", "-") == 0
    assert capfd.readouterr().out == printed
    assert printed.count("\n") == 1 + n
    assert not (here / "-").exists()


def test_tables_that_are_no_text_go_to_a_pipe(two, tmp_path):
    asked = ["detect", *two, *MANY, "--format", "parquet", "-o"]
    assert call(*asked, tmp_path / "p.parquet") == 0
    command = [sys.executable, "-m", "flamlib", *map(str, asked), "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout == (tmp_path / "p.parquet").read_bytes()


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl", "parquet"])
def test_of_several_recordings_a_file_is_one_table_of_all(two, tmp_path, capsys, suffix):
    gone, out = tmp_path / "gone.wav", tmp_path / f"new.{suffix}"
    assert call("detect", *two, gone, *MANY, "-o", out) == 1
    printed, told = capsys.readouterr()
    assert "2 recordings heard, 1 skipped, 2 events" in printed
    assert "flam: skipped gone.wav: no such file" in told
    assert out.is_file()
    if suffix == "parquet":
        assert pyarrow.parquet.read_table(out)["filename"].to_pylist() == ["a.wav", "b.wav"]
        return
    assert call("detect", *two, gone, *MANY, "--format", suffix) == 1
    assert capsys.readouterr().out == out.read_text()


def test_of_several_recordings_other_names_are_folders(two, tmp_path):
    for name, content in (("found", "events.tsv"), ("found.tsv/", "events.tsv")):
        assert call("detect", *two, *MANY, "-o", f"{tmp_path}/{name}") == 0
        assert (tmp_path / name / content).is_file()
    assert call("detect", *two, *MANY, "-o", tmp_path / "found.tsv") == 0, "the folder goes on"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["-o", "new.txt"], "one table is tsv, csv, jsonl or parquet, and -o FOLDER/ takes all"),
        (["-o", "new.VTT"], "one table is tsv, csv, jsonl or parquet"),
        (["-o", "new.tsv", "--format", "tsv,csv"], "one table is tsv, csv, jsonl or parquet"),
        (["-o", "new.tsv", "--format", "raven"], "one table is tsv, csv, jsonl or parquet"),
        (["-o", "-", "--format", "vtt"], "one table is tsv, csv, jsonl or parquet"),
        (["-o", "new.tsv", "--scores", "scores"], "--scores of several recordings needs -o FOLDER"),
        (["-o", "new", "--scores", "-"], "several recordings need a folder"),
        (["-o", "new", "--html", "-"], "several recordings need a folder"),
    ],
)
def test_what_no_table_can_hold_is_refused_before_anything_is_heard(
    two, tmp_path, capsys, monkeypatch, nothing_is_heard, more, told
):
    assert call("detect", *two, *MANY, *more) == 2
    assert told in capsys.readouterr().err
    assert not [path for path in two[0].parent.iterdir() if path.name.startswith(("new", "-"))]


@pytest.mark.parametrize("n", [1, 2])
def test_a_list_of_captions_is_not_replaced_by_what_is_found(
    two, tmp_path, capsys, nothing_is_heard, n
):
    captions = tmp_path / "captions.tsv"
    captions.write_text("caption\na bell\n")
    assert call("detect", *two[:n], "--captions", captions, "-o", captions) == 2
    assert f"{captions} is read, and would be replaced" in capsys.readouterr().err
    assert captions.read_text() == "caption\na bell\n"


def test_numbers_that_are_printed_stand_alone(tmp_path, monkeypatch, capfd):
    """What a command prints beside its file goes to standard error then."""
    monkeypatch.chdir(tmp_path)
    score_folders.write(tmp_path)
    asked = ["evaluate", "scores", "--ground-truth", "truth.tsv", "--durations", "durations.tsv"]
    assert call(*asked, "--resamples", "0", "-o", "-") == 0
    printed, told = capfd.readouterr()
    assert json.loads(printed)["systems"].keys() == {"scores"}
    assert told.startswith("5 clips, ")
    assert call(*asked, "--resamples", "0", "-o", "-", "--quiet") == 0
    assert capfd.readouterr() == (printed, "")


@pytest.mark.parametrize(
    "given",
    [
        ["index", "sounds", "--out", "-"],
        ["segments", "finds.tsv", "-o", "-"],
        ["adapt", "labels.tsv", "-o", "-"],
        ["embed", "sounds", "-"],
        ["mix", "-", "-n", "1"],
        ["export", "model", "-"],
        ["import-clap", "model", "-"],
    ],
)
def test_where_a_folder_is_written_standard_output_is_refused(given, capsys):
    with pytest.raises(SystemExit, match="2"):
        call(*given)
    assert "- is standard output, and a folder is written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "package", "extra"),
    [
        (["detect", "a.wav", "--format", "parquet", "-o", "x"], "pyarrow", "serve"),
        (["detect", "a.wav", "-o", "x.parquet"], "pyarrow", "serve"),
        (["detect", "a.wav", "b.wav", "-o", "x.parquet"], "pyarrow", "serve"),
        (["detect", "a.wav", "b.wav", "-o", "x", "--format", "tsv,parquet"], "pyarrow", "serve"),
        (["search", "index", "a bell", "-o", "x.parquet"], "pyarrow", "serve"),
        (["index", "a.wav", "--out", "x", "--jobs", "2"], "distributed", "search"),
        (["embed", ".", "x", "--jobs", "2"], "distributed", "serve"),
        (["embed", ".", "x", "--scheduler", "tcp://here:1"], "distributed", "serve"),
    ],
)
def test_a_package_that_is_missing_is_told_before_the_work(
    two, tmp_path, capsys, monkeypatch, nothing_is_heard, given, package, extra
):
    model = str(arguments.model_folder(None))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    asked = ["-c", "a bell"] if given[0] == "detect" else []
    assert call(*given, *asked, "--model", model) == 2
    told = f'flam {given[0]} needs {package}: pip install "flamlib[{extra}]"\n'
    assert capsys.readouterr() == ("", told)
    assert not (tmp_path / "x").exists()


def test_a_microphone_that_cannot_be_is_told_before_a_model_is_loaded(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    monkeypatch.setattr(listen, "loaded", lambda _: pytest.fail("loaded"))
    assert call("listen", "-c", "a bell") == 2
    assert "the microphone needs sounddevice" in capsys.readouterr().err
