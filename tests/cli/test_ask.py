"""Of `flam detect`, `flam embed` and `flam export`."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
from bad_files import write_bad_files
from heldouts import write_model
from sounds import RATE, noise, tone

from flamlib import detection, files, tables
from flamlib.cli import arguments, main
from flamlib.inference import detector, export
from flamlib.models import caption_thresholds, released
from flamlib.models.caption_thresholds import CaptionThresholds, OwnThreshold
from flamlib.models.flam import FLAM

HEADER = ["filename", "onset", "offset", "event_label", "score"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a trained model, and a recording in it."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "dvc.yaml").touch()
    (folder / "notebooks").mkdir()
    write_model(folder / arguments.CHECKPOINT)
    samples = np.concatenate([noise(1.0), tone(800, 1.3), noise(2.0)])
    soundfile.write(folder / "sound.wav", samples, RATE)
    return folder


@pytest.fixture
def here(project, monkeypatch):
    """In the project's folder, where no model is released."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(released, "places", list)
    return project


@pytest.fixture
def small(project, monkeypatch):
    """A released model, with thresholds of its own."""
    folder = project / "released/flam-small"
    if not folder.exists():
        write_model(folder, seed=1)
        own = OwnThreshold(threshold=0.0, n_events=12, f1=0.5)
        thresholds = CaptionThresholds(
            format=1,
            model=files.sha256(folder / "model.safetensors"),
            method="unbiased",
            median_frames=3,
            criterion="best F1",
            min_events=10,
            fallback=1.0,
            novel=1.0,
            captions={"a dog barks": own},
        )
        caption_thresholds.write(folder, thresholds)
    monkeypatch.setattr(released, "places", lambda: [folder.parent])
    return folder


def events(text):
    header, *rows = csv.reader(io.StringIO(text), delimiter="\t")
    assert header == HEADER
    assert {name for name, *_ in rows} <= {"sound.wav"}
    return [(float(a), float(b), caption, float(score)) for _, a, b, caption, score in rows]


def call(*given):
    return main.main(["detect", *map(str, given)])


def test_events_go_to_the_screen(here, capsys):
    """Those that `detector` finds."""
    model = FLAM.from_pretrained(here / arguments.CHECKPOINT)
    captions = ["a dog barks", "a bell"]
    heard = detector.score(model, "sound.wav", captions, method="unbiased", median_frames=3)
    threshold = float(np.median(heard.scores))
    found = detector.events(heard, threshold=threshold, min_duration_s=0.0, merge_gap_s=0.0)
    asked = [argument for caption in captions for argument in ("-c", caption)]
    assert call("sound.wav", *asked, "--threshold", threshold) == 0
    printed = events(capsys.readouterr().out)
    assert found
    assert [e[:3] for e in printed] == [
        (pytest.approx(d.onset), pytest.approx(d.offset), d.caption) for d in found
    ]
    assert [e[3] for e in printed] == pytest.approx([d.score for d in found], rel=1e-5)


def test_or_to_a_file(here, tmp_path, capsys):
    out = tmp_path / "new/events.tsv"
    assert call("sound.wav", "-c", "a bell", "--threshold", "0", "-o", out) == 0
    assert capsys.readouterr().out == ""
    [(onset, offset, caption, score)] = events(out.read_text())
    assert (onset, offset, caption) == (0.0, pytest.approx(4.3), "a bell")
    assert 0 <= score <= 1


@pytest.mark.parametrize("name", ["events.csv", "events.CSV"])
def test_or_with_commas_as_a_file_of_that_name_has(here, tmp_path, capsys, name):
    assert call("sound.wav", "-c", 'a "bell", far', "--threshold", "0", "-o", tmp_path / name) == 0
    [row] = tables.read(tmp_path / name, ("filename", "onset", "offset", "event_label", "score"))
    assert (row["filename"], row["event_label"]) == ("sound.wav", 'a "bell", far')


def test_a_caption_asked_twice_in_two_spellings_is_told(here, capsys):
    assert call("sound.wav", "-c", "a bell", "-c", "A  Bell") == 2
    assert "given twice: 'a bell' and 'A Bell'" in capsys.readouterr().err


def test_or_to_audacity(here, capsys):
    call("sound.wav", "-c", "a bell", "--threshold", "0", "--format", "audacity")
    onset, offset, label = capsys.readouterr().out.rstrip("\n").split("\t")
    assert (float(onset), float(offset)) == (0.0, pytest.approx(4.3))
    assert label.startswith("a bell (")


def test_scores_of_frames_are_written_for_sed_scores_eval(here, tmp_path, capsys):
    captions, out = ["a dog barks", "a bell"], tmp_path / "scores/sound.tsv"
    asked = [argument for caption in captions for argument in ("-c", caption)]
    how = ["--median-frames", "3", "--threshold", "0"]
    assert call("sound.wav", *asked, *how, "--scores", out) == 0
    assert events(capsys.readouterr().out)  # beside them
    model = FLAM.from_pretrained(here / arguments.CHECKPOINT)
    heard = detector.score(model, "sound.wav", captions, method="unbiased", median_frames=3)
    scores, edges, named = detection.read_scores(out)
    np.testing.assert_array_equal(scores.astype(np.float32), heard.scores)
    np.testing.assert_array_equal(edges, heard.frame_edges)
    assert named == captions
    assert call("sound.wav", "-c", "onset", "--scores", out) == 2
    assert "cannot take 'onset' for a caption" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("scores", "more", "code", "to"),
    [
        ("/dev/stdout", [], 2, "pipe"),
        ("/dev/fd/1", [], 2, "file"),
        ("/dev/fd/1", ["-o", "/dev/stdout"], 2, "pipe"),
        ("/dev/stdout", ["-o", "/dev/null"], 0, "file"),
    ],
)
def test_two_tables_never_share_a_place(here, tmp_path, scores, more, code, to):
    asked = [sys.executable, "-m", "flamlib", "detect", "sound.wav", "-c", "a bell", *more]
    asked += ["--model", arguments.CHECKPOINT]
    with open(tmp_path / "out", "wb") as file:
        out = subprocess.PIPE if to == "pipe" else file
        done = subprocess.run(
            [*asked, "--scores", scores], stdout=out, stderr=subprocess.PIPE, check=False
        )
    printed = (done.stdout if to == "pipe" else (tmp_path / "out").read_bytes()).decode()
    assert done.returncode == code
    assert printed.count("onset\t") == (code == 0)
    assert (b"scores" in done.stderr) == (code == 2)


def test_a_caption_that_the_model_does_not_know_is_said(here, capsys):
    """The tower of this model has a token for no sign."""
    assert call("sound.wav", "-c", "\u2603", "-c", "a bell", "--threshold", "0.5") == 0
    told = "flam: the caption tower knows no word of '\u2603', which scores as any such text"
    assert told in capsys.readouterr().err.splitlines()


def test_of_bad_files_each_is_refused_and_a_folder_of_them_is_embedded(here, tmp_path, capsys):
    bad = write_bad_files(tmp_path / "sounds")
    for name in ("dead.wav", "pipe.wav", "folder.wav", "headerless.raw", "loud.wav", "nan.wav"):
        assert name in refused(capsys, tmp_path / "sounds" / name, "-c", "a bell")
    assert main.main(["embed", str(tmp_path / "sounds"), str(tmp_path / "out")]) == 0
    out, told = capsys.readouterr()
    assert f"1 recordings, 1 files, {len(bad)} skipped" in out
    lines = told.splitlines()
    for name in bad:
        assert sum(line.startswith(f"skipped {name}: ") for line in lines) == 1


def test_no_events_are_no_error(here, capsys):
    assert call("sound.wav", "-c", "a bell", "--min-duration", "60") == 0
    assert events(capsys.readouterr().out) == []


def test_the_model_is_found_from_within_the_project(here, monkeypatch, capsys):
    monkeypatch.chdir(here / "notebooks")
    assert call("../sound.wav", "-c", "a bell") == 0


def test_a_model_may_be_anywhere(project, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert (
        call(project / "sound.wav", "-c", "a bell", "--model", project / arguments.CHECKPOINT) == 0
    )


def refused(capsys, *given):
    assert call(*given) == 2
    out, message = capsys.readouterr()
    assert out == ""
    assert message.startswith("flam: ")
    assert message.count("\n") == 1, "one line, no traceback"
    return message


def test_a_file_that_is_not_there(here, tmp_path, capsys):
    assert "sond.wav: no such file" in refused(capsys, "sond.wav", "-c", "a bell")
    assert "notebooks: a folder" in refused(capsys, "notebooks", "-c", "a bell")
    os.mkfifo(tmp_path / "pipe.wav")
    assert "pipe.wav: not a file" in refused(capsys, tmp_path / "pipe.wav", "-c", "a bell")


def test_events_and_scores_need_a_file_each(here, capsys):
    asked = ["sound.wav", "-c", "a bell", "-o", "same.tsv", "--scores", "./same.tsv"]
    assert "name one file" in refused(capsys, *asked)
    assert not (here / "same.tsv").exists()


def test_a_caption_that_scores_cannot_hold_is_refused_before_the_work(here, capsys, monkeypatch):
    monkeypatch.setattr(detector, "score", lambda *_, **__: pytest.fail("scored"))
    message = refused(capsys, "sound.wav", "-c", "onset", "--scores", "scores.tsv")
    assert "sed_scores_eval cannot take 'onset'" in message


@pytest.mark.parametrize("option", ["-o", "--scores"])
def test_a_recording_is_not_replaced_by_what_is_found_in_it(here, capsys, option):
    content = (here / "sound.wav").read_bytes()
    asked = ["sound.wav", "-c", "a bell", option, here / "notebooks/../sound.wav"]
    assert "the recording would be replaced" in refused(capsys, *asked)
    assert (here / "sound.wav").read_bytes() == content


def test_a_file_that_is_no_audio(here, capsys):
    assert "dvc.yaml" in refused(capsys, "dvc.yaml", "-c", "a bell")


def test_what_is_wrong_in_a_recording_is_said(here, tmp_path, capsys):
    content = (here / "sound.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[: len(content) // 2])
    asked = ["-c", "a dog barks", "--threshold", "0.5", "--model", arguments.CHECKPOINT]
    assert call(tmp_path / "cut.wav", *asked) == 0
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"flam: {tmp_path / 'cut.wav'}: ")
    assert "cut off" in line


def test_the_released_model_is_the_default_and_brings_its_thresholds(
    small, here, capsys, monkeypatch
):
    monkeypatch.setattr(released, "places", lambda: [small.parent])
    assert call("sound.wav", "-c", "A dog  barks", "-c", "a bell") == 0
    out, told = capsys.readouterr()
    assert [event[:3] for event in events(out)] == [(0.0, pytest.approx(4.3), "A dog barks")]
    assert told.splitlines() == [
        "flam: model flam-small",
        "flam: thresholds of captions that validation knows: A dog barks 0 (12 events)",
        "flam: thresholds of other captions: a bell 1",
    ]
    assert call("sound.wav", "-c", "a dog barks", "--threshold", "1", "--model", "flam-small") == 0
    out, told = capsys.readouterr()
    assert (events(out), told) == ([], "")
    assert call("sound.wav", "-c", "a dog barks", "--method", "biased") == 0
    assert (
        "flam: thresholds of captions that validation does not know: a dog"
        in capsys.readouterr().err
    )


def test_thresholds_of_another_model_are_refused(small, project, tmp_path, capsys):
    copy = shutil.copytree(small, tmp_path / "copy")
    shutil.copy(project / arguments.CHECKPOINT / "model.safetensors", copy)
    message = refused(capsys, project / "sound.wav", "-c", "a bell", "--model", copy)
    assert "copy/thresholds.json: thresholds of another model" in message


def test_a_project_without_a_model(project, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(released, "places", list)
    message = refused(capsys, project / "sound.wav", "-c", "a bell")
    assert "--model FOLDER" in message
    (tmp_path / "dvc.yaml").touch()
    message = refused(capsys, project / "sound.wav", "-c", "a bell")
    assert "make repro" in message
    message = refused(capsys, project / "sound.wav", "-c", "a bell", "--model", "nowhere")
    assert "nowhere: no such folder" in message
    message = refused(capsys, project / "sound.wav", "-c", "a bell", "--model", tmp_path)
    assert "config.json is missing" in message


def test_captions_that_cannot_be_asked(here, capsys):
    assert "twice" in refused(capsys, "sound.wav", "-c", "a bell", "-c", "a  bell")
    assert "tokens" in refused(capsys, "sound.wav", "-c", "a bell " * 20)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["sound.wav"], "required: -c/--caption"),
        (["sound.wav", "-c", " "], "an empty caption"),
        (["sound.wav", "-c", "a bell", "--threshold", "1.5"], "1.5 is not from 0 to 1"),
        (["sound.wav", "-c", "a bell", "--threshold", "nan"], "'nan' is not a number"),
        (["sound.wav", "-c", "a bell", "--threshold", "low"], "'low' is not a number"),
        (["sound.wav", "-c", "a bell", "--median-frames", "4"], "not an odd number"),
        (["sound.wav", "-c", "a bell", "--merge-gap", "-1"], "not a duration"),
        (["sound.wav", "-c", "a bell", "--method", "best"], "invalid choice"),
    ],
)
def test_a_call_that_makes_no_sense(here, capsys, given, complaint):
    with pytest.raises(SystemExit) as left:
        call(*given)
    assert left.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_model_becomes_onnx(here, tmp_path, capsys, monkeypatch):
    """By `export`; here, that what it measured is printed and what it refuses is said."""
    asked = []

    def pretend(model, out, *, clip_s):
        asked.append((type(model), out, clip_s))
        return {"difference": 0.0}

    with pytest.raises(SystemExit, match="2"):
        main.main(["export", arguments.CHECKPOINT, str(tmp_path / "onnx"), "--clip", "0"])
    assert "a clip has more than 0 and at most 600 s" in capsys.readouterr().err
    monkeypatch.setattr(export, "export", pretend)
    assert main.main(["export", arguments.CHECKPOINT, "onnx", "--clip", "1"]) == 0
    assert json.loads(capsys.readouterr().out) == {"difference": 0.0}
    assert asked == [(FLAM, "onnx", 1.0)]


def test_a_folder_of_recordings_becomes_embeddings(here, tmp_path, capsys):
    (tmp_path / "sounds").mkdir()
    soundfile.write(tmp_path / "sounds/a.wav", noise(1.0), RATE)
    (tmp_path / "sounds/b.wav").write_bytes(b"no audio")
    asked = ["embed", str(tmp_path / "sounds"), str(tmp_path / "out"), "--shard-size", "1"]
    assert main.main(asked) == 0
    said, complained = capsys.readouterr()
    assert "1 recordings, 2 files" in said
    assert complained.startswith("skipped b.wav: ")
    assert pyarrow.parquet.read_table(tmp_path / "out/00000.parquet")["path"].to_pylist() == [
        "a.wav"
    ]
    assert main.main(["embed", str(tmp_path / "nothing"), str(tmp_path / "out")]) == 2
    assert "in this folder" in capsys.readouterr().err
