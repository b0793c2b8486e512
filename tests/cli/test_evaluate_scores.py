import json
import shutil

import pytest
import score_folders

from flamlib.cli import main


@pytest.fixture
def world(tmp_path, monkeypatch):
    score_folders.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(*more):
    files = ["--ground-truth", "truth.tsv", "--durations", "durations.tsv"]
    return main.main(["evaluate", "scores", *more, *files, "--resamples", "5"])


def test_one_system_is_a_table_and_json(world, capsys):
    assert evaluate("-o", "out.json") == 0
    out, told = capsys.readouterr()
    found = json.loads((world / "out.json").read_text())["systems"]["scores"]
    assert out.startswith("5 clips, 3 captions, ")
    assert f"PSDS1                             {found['metrics']['psds1']:.3f} [" in out
    assert found["captions"].keys() == {"caption 0", "caption 1", "caption 2"}
    assert told == ""


def test_two_systems_are_compared_on_the_clips_that_both_have(world, capsys):
    shutil.copytree("scores", "other")
    (world / "other/2.tsv").unlink()
    assert evaluate("other", "--threshold", "0.5") == 0
    out, told = capsys.readouterr()
    assert out.startswith("4 clips, ")
    assert "scores - other" in out
    assert "other: 1 clips without a table, which are left out: 2" in told


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["nowhere"], "nowhere: not a folder"),
        (["scores"], "given twice"),
        (["--segment", "0"], "--segment more than 0"),
        (["-o", "scores"], "scores"),
        (["durations.tsv"], "durations.tsv: not a folder"),
    ],
)
def test_a_mistake_is_a_sentence(world, capsys, more, complaint):
    assert evaluate(*more) == 2
    out, told = capsys.readouterr()
    assert complaint in told
    assert "Traceback" not in told
    assert out == ""


@pytest.mark.parametrize("name", ["truth.tsv", "durations.tsv"])
@pytest.mark.parametrize("content", ["", "\n \r\n", "\ufeff"])
def test_a_file_with_nothing_in_it_is_called_empty(world, capsys, name, content):
    (world / name).write_text(content, encoding="utf-8")
    assert evaluate() == 2
    assert capsys.readouterr() == ("", f"flam: {name}: the file is empty\n")
