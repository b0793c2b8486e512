"""Of `flam thresholds` and `flam adapt`."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
import soundfile
from heldouts import write_model
from sounds import RATE, noise, tone

from flamlib.cli import main
from flamlib.models import released

LEVELS = ["thresholds", "scale", "heads"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "flam"
    write_model(folder)
    return folder


@pytest.fixture
def labelled(tmp_path, model, monkeypatch):
    """Two recordings with tones between noise, and a table of when they sound."""
    monkeypatch.setattr(released, "places", list)
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        samples = np.concatenate([noise(1.0), tone(800, 1.0), noise(1.0)])
        soundfile.write(f"{name}.wav", samples, RATE)
    rows = "".join(f"{name}.wav\t1.0\t2.0\ta tone\n" for name in "ab")
    (tmp_path / "events.tsv").write_text(f"filename\tonset\toffset\tevent_label\n{rows}")
    return tmp_path


def run(*arguments):
    return main.main([str(each) for each in arguments])


def test_a_caption_of_a_few_examples_is_not_said_to_have_none(labelled, model, capsys):
    given = ["thresholds", "events.tsv", "--model", model, "-o", "mine.json", "--precision", "0.9"]
    assert run(*given) == 0
    detect = ["detect", "a.wav", "-c", "a tone", "--model", model, "--thresholds", "mine.json"]
    assert run(*detect) == 0
    told = capsys.readouterr().err
    assert "thresholds of captions without enough examples: a tone" in told


def test_thresholds_are_chosen_and_detect_uses_them(labelled, model, capsys):
    given = ["thresholds", "events.tsv", "--model", model, "-o", "mine.json"]
    assert run(*given, "--recall", "recall.tsv") == 0
    assert "2 recordings, 0.00 h; highest F1" in capsys.readouterr().out
    made = json.loads((labelled / "mine.json").read_text())
    assert list(made["captions"]) == ["a tone"]
    assert made["captions"]["a tone"]["n_events"] == 2
    table = list(csv.reader((labelled / "recall.tsv").open(), delimiter="\t"))
    assert [row[0] for row in table] == ["caption", "a tone", "all captions"]

    detect = ["detect", "a.wav", "-c", "a tone", "--model", model, "--thresholds", "mine.json"]
    made["captions"]["a tone"]["threshold"] = 0.0
    (labelled / "mine.json").write_text(json.dumps(made))
    assert run(*detect) == 0
    said = capsys.readouterr()
    [_, row] = csv.reader(io.StringIO(said.out), delimiter="\t")
    assert [float(edge) for edge in row[1:3]] == pytest.approx([0, 3]), "the whole recording"
    assert run(*detect, "--median-frames", "3") == 2
    assert (
        "with a hysteresis of 0.75, not with a median of 3 frames and a hysteresis of 0.75"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("command", ["thresholds", "adapt"])
def test_a_word_that_the_model_cannot_read_is_told_once(labelled, model, capsys, command):
    """However many recordings there are: captions are read once."""
    table = labelled / "events.tsv"
    table.write_text(table.read_text().replace("a tone", "a zzyzx"))
    assert run(command, "events.tsv", "--model", model, "-o", "mine") == 0
    assert capsys.readouterr().err.count("cannot read zzyzx") == 1


@pytest.mark.parametrize("wanted", [("--precision", "0.9"), ("--false-per-hour", "6")])
def test_what_is_wanted_is_kept_on_the_recordings(labelled, model, capsys, wanted):
    given = ["thresholds", "events.tsv", "--model", model, "-o", "mine.json"]
    assert run(*given, *wanted) == 0
    assert f"at {'a precision of 0.9' if 'prec' in wanted[0] else '6 false spans'}" in (
        capsys.readouterr().out
    )
    assert json.loads((labelled / "mine.json").read_text())["fallback"] >= 0


def test_what_cannot_be_used_is_told_without_traceback(labelled, model, capsys):
    end = ["--model", model, "-o", "mine.json"]
    for arguments, why in (
        (["lost.tsv", *end], "lost.tsv: no such file or folder"),
        (["events.tsv", "--audio", "nowhere", *end], "nowhere: no such folder"),
        (["events.tsv", "--model", model, "-o", "events.tsv"], "would be overwritten"),
        (["events.tsv", "--model", model, "-o", "."], "a folder; name a file in it"),
        (["a.wav", *end], "a.wav"),
    ):
        assert run("thresholds", *arguments) == 2, arguments
        said = capsys.readouterr().err
        assert why in said
        assert "Traceback" not in said
    (labelled / "b.wav").write_bytes(b"not audio")
    assert run("thresholds", "events.tsv", *end) == 0
    assert "flam: skipped" in capsys.readouterr().err


def test_thresholds_of_another_model_are_refused(labelled, model, capsys):
    assert run("thresholds", "events.tsv", "--model", model, "-o", "mine.json") == 0
    other = labelled / "other"
    shutil.copytree(model, other)
    with (other / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        last = weights.read(1)
        weights.seek(-1, 2)
        weights.write(bytes([last[0] ^ 1]))
    capsys.readouterr()
    detect = ["detect", "a.wav", "-c", "a tone", "--model", other, "--thresholds", "mine.json"]
    assert run(*detect) == 2
    assert "mine.json: thresholds of another model than" in capsys.readouterr().err


@pytest.mark.parametrize("level", ["thresholds", "scale", "heads"])
def test_an_adapter_is_written_and_detect_uses_it(labelled, model, capsys, level):
    assert run("adapt", "events.tsv", "--model", model, "-o", "mine", "--level", level) == 0
    said = capsys.readouterr().out
    assert f"\n{level}" in said, "a row of its scores on recordings held out"
    about = json.loads((labelled / "mine/adapter.json").read_text())
    assert about["captions"] == ([] if level == "thresholds" else ["a tone"])
    assert set(about["held_out"]) == {"the model", *LEVELS[: LEVELS.index(level) + 1]}
    detect = ["detect", "a.wav", "-c", "a tone", "--model", model]
    assert run(*detect, "--adapter", "mine") == 0
    assert "thresholds of captions with examples: a tone" in capsys.readouterr().err
    assert run(*detect, "--adapter", "nothing") == 2
    assert "adapter.json is missing" in capsys.readouterr().err


def test_of_one_recording_no_scores_are_claimed(labelled, model, capsys):
    (labelled / "a.txt").write_text("1.0\t2.0\ta tone\n")
    assert run("adapt", "a.txt", "--model", model, "-o", "mine") == 0
    assert "how good it is on others is unknown" in capsys.readouterr().out
    (labelled / "other").mkdir()
    (labelled / "other/thesis.txt").write_text("years")
    assert run("adapt", "a.txt", "--model", model, "-o", "other") == 2
    assert "more than an adapter" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["thresholds", "adapt"])
def test_a_review_is_enough(labelled, model, capsys, command):
    """Detections of one caption, the decisions on them, and no other labels."""
    rows = "".join(
        f"{name}.wav\t{onset}\t{onset + 1}\ta tone\t0.9\t{answer}\n"
        for name in "ab"
        for onset, answer in ((0.0, "no"), (1.0, "yes"), (2.0, ""))
    )
    header = "filename\tonset\toffset\tevent_label\tscore\treview\n"
    (labelled / "found.tsv").write_text(header + rows)
    given = [command, "found.tsv", "--model", model, "-o", "mine"]
    assert run(*given) == 0
    said = capsys.readouterr()
    assert "Warning" not in said.err
    assert run(*given, "--precision", "0.5") == 0
    capsys.readouterr()
    assert run(*given, "--false-per-hour", "5") == 2
    assert "reviewed detections say nothing of false spans an hour" in capsys.readouterr().err
    (labelled / "found.tsv").write_text(header + rows.replace("yes", "no"))
    assert run(*given) == 2
    assert "no event in the labelled recordings" in capsys.readouterr().err
