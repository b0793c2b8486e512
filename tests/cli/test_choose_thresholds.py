"""Of `flam thresholds`."""

import csv
import io
import json
import shutil

import pytest

from flamlib.cli import main

DETECT = ["detect", "a.wav", "-c", "a tone", "--thresholds", "mine.json", "--model"]


def run(*arguments):
    return main.main([str(each) for each in arguments])


def test_a_caption_of_a_few_examples_is_not_said_to_have_none(labelled_folder, small_model, capsys):
    given = ["thresholds", "events.tsv", "--model", small_model, "-o", "mine.json"]
    assert run(*given, "--precision", "0.9") == 0
    detect = [*DETECT, small_model]
    assert run(*detect) == 0
    told = capsys.readouterr().err
    assert "thresholds of captions without enough examples: a tone" in told


def test_thresholds_are_chosen_and_detect_uses_them(labelled_folder, small_model, capsys):
    given = ["thresholds", "events.tsv", "--model", small_model, "-o", "mine.json"]
    assert run(*given, "--recall", "recall.tsv") == 0
    assert "2 recordings, 0.00 h; highest F1" in capsys.readouterr().out
    made = json.loads((labelled_folder / "mine.json").read_text())
    assert list(made["captions"]) == ["a tone"]
    assert made["captions"]["a tone"]["n_events"] == 2
    table = list(csv.reader((labelled_folder / "recall.tsv").open(), delimiter="\t"))
    assert [row[0] for row in table] == ["caption", "a tone", "all captions"]

    detect = [*DETECT, small_model]
    made["captions"]["a tone"]["threshold"] = 0.0
    (labelled_folder / "mine.json").write_text(json.dumps(made))
    assert run(*detect) == 0
    said = capsys.readouterr()
    [_, row] = csv.reader(io.StringIO(said.out), delimiter="\t")
    assert [float(edge) for edge in row[1:3]] == pytest.approx([0, 3]), "the whole recording"
    assert run(*detect, "--median-frames", "3") == 2
    assert (
        "with a hysteresis of 0.75, not with a median of 3 frames and a hysteresis of 0.75"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("wanted", [("--precision", "0.9"), ("--false-per-hour", "6")])
def test_what_is_wanted_is_kept_on_the_recordings(labelled_folder, small_model, capsys, wanted):
    given = ["thresholds", "events.tsv", "--model", small_model, "-o", "mine.json"]
    assert run(*given, *wanted) == 0
    assert f"at {'a precision of 0.9' if 'prec' in wanted[0] else '6 false spans'}" in (
        capsys.readouterr().out
    )
    assert json.loads((labelled_folder / "mine.json").read_text())["fallback"] >= 0


def test_what_cannot_be_used_is_told_without_traceback(labelled_folder, small_model, capsys):
    end = ["--model", small_model, "-o", "mine.json"]
    for arguments, why in (
        (["lost.tsv", *end], "lost.tsv: no such file or folder"),
        (["events.tsv", "--audio", "nowhere", *end], "nowhere: no such folder"),
        (["events.tsv", "--model", small_model, "-o", "events.tsv"], "would be overwritten"),
        (["events.tsv", "--model", small_model, "-o", "."], "a folder; name a file in it"),
        (["a.wav", *end], "a.wav"),
    ):
        assert run("thresholds", *arguments) == 2, arguments
        said = capsys.readouterr().err
        assert why in said
        assert "Traceback" not in said
    (labelled_folder / "b.wav").write_bytes(b"not audio")
    assert run("thresholds", "events.tsv", *end) == 0
    assert "flam: skipped" in capsys.readouterr().err


def test_thresholds_of_another_model_are_refused(labelled_folder, small_model, capsys):
    assert run("thresholds", "events.tsv", "--model", small_model, "-o", "mine.json") == 0
    other = labelled_folder / "other"
    shutil.copytree(small_model, other)
    with (other / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        last = weights.read(1)
        weights.seek(-1, 2)
        weights.write(bytes([last[0] ^ 1]))
    capsys.readouterr()
    detect = ["detect", "a.wav", "-c", "a tone", "--model", other, "--thresholds", "mine.json"]
    assert run(*detect) == 2
    assert "mine.json: thresholds of another model than" in capsys.readouterr().err
