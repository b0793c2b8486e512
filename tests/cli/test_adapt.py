"""Of `flam adapt`, and of what `flam thresholds` has in common with it."""

import json
import os
import threading

import pytest

from flamlib.cli import main

LEVELS = ["thresholds", "scale", "heads"]


def run(*arguments):
    return main.main([str(each) for each in arguments])


@pytest.mark.parametrize("command", ["thresholds", "adapt"])
def test_a_word_that_the_model_cannot_read_is_told_once(
    labelled_folder, small_model, capsys, command
):
    """However many recordings there are: captions are read once."""
    table = labelled_folder / "events.tsv"
    table.write_text(table.read_text().replace("a tone", "a zzyzx"))
    assert run(command, "events.tsv", "--model", small_model, "-o", "mine") == 0
    assert capsys.readouterr().err.count("cannot read zzyzx") == 1


@pytest.mark.parametrize("command", ["thresholds", "adapt"])
def test_labels_may_come_from_a_pipe(labelled_folder, small_model, capsys, command):
    os.mkfifo("pipe")
    given = [command, "pipe", "--model", small_model, "-o", "mine"]
    assert run(*given) == 2
    assert "pipe: a pipe, beside which no recordings are; name --audio" in capsys.readouterr().err
    content = (labelled_folder / "events.tsv").read_bytes()
    threading.Thread(target=lambda: (labelled_folder / "pipe").write_bytes(content)).start()
    assert run(*given, "--audio", ".") == 0
    assert "2 recordings" in capsys.readouterr().out


@pytest.mark.parametrize("level", ["thresholds", "scale", "heads"])
def test_an_adapter_is_written_and_detect_uses_it(labelled_folder, small_model, capsys, level):
    assert run("adapt", "events.tsv", "--model", small_model, "-o", "mine", "--level", level) == 0
    said = capsys.readouterr().out
    assert f"\n{level}" in said, "a row of its scores on recordings held out"
    about = json.loads((labelled_folder / "mine/adapter.json").read_text())
    assert about["captions"] == ([] if level == "thresholds" else ["a tone"])
    assert set(about["held_out"]) == {"the model", *LEVELS[: LEVELS.index(level) + 1]}
    detect = ["detect", "a.wav", "-c", "a tone", "--model", small_model]
    assert run(*detect, "--adapter", "mine") == 0
    assert "thresholds of captions with examples: a tone" in capsys.readouterr().err
    assert run(*detect, "--adapter", "nothing") == 2
    assert "adapter.json is missing" in capsys.readouterr().err


def test_of_one_recording_no_scores_are_claimed(labelled_folder, small_model, capsys):
    (labelled_folder / "a.txt").write_text("1.0\t2.0\ta tone\n")
    assert run("adapt", "a.txt", "--model", small_model, "-o", "mine") == 0
    assert "how good it is on others is unknown" in capsys.readouterr().out
    (labelled_folder / "other").mkdir()
    (labelled_folder / "other/thesis.txt").write_text("years")
    assert run("adapt", "a.txt", "--model", small_model, "-o", "other") == 2
    assert "more than an adapter" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["thresholds", "adapt"])
def test_a_review_is_enough(labelled_folder, small_model, capsys, command):
    """Detections of one caption, the decisions on them, and no other labels."""
    rows = "".join(
        f"{name}.wav\t{onset}\t{onset + 1}\ta tone\t0.9\t{answer}\n"
        for name in "ab"
        for onset, answer in ((0.0, "no"), (1.0, "yes"), (2.0, ""))
    )
    header = "filename\tonset\toffset\tevent_label\tscore\treview\n"
    (labelled_folder / "found.tsv").write_text(header + rows)
    given = [command, "found.tsv", "--model", small_model, "-o", "mine"]
    assert run(*given) == 0
    said = capsys.readouterr()
    assert "Warning" not in said.err
    assert run(*given, "--precision", "0.5") == 0
    capsys.readouterr()
    assert run(*given, "--false-per-hour", "5") == 2
    assert "reviewed detections say nothing of false spans an hour" in capsys.readouterr().err
    (labelled_folder / "found.tsv").write_text(header + rows.replace("yes", "no"))
    assert run(*given) == 2
    assert "no event in the labelled recordings" in capsys.readouterr().err
