"""Of `flam detect`."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import filelock
import numpy as np
import pytest
import soundfile
from bad_files import write_bad_files
from sounds import RATE, noise, tone

from flamlib.cli import arguments, main
from flamlib.inference import detector
from flamlib.models import released
from flamlib.models.flam import FLAM
from flamlib.sound_events import detection
from flamlib.sound_events.smoothing import Smoothing
from flamlib.storage import tables

HEADER = ["filename", "onset", "offset", "event_label", "score"]


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
    how = {"method": "unbiased", "smoothing": detector.smoothing_of(model)}
    heard = detector.score(model, "sound.wav", captions, **how)
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


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "vtt"])
def test_or_in_the_format_that_the_name_of_the_file_says(here, tmp_path, suffix):
    asked = ["sound.wav", "-c", "a bell", "--threshold", "0", "-o"]
    assert call(*asked, tmp_path / f"a.{suffix}") == 0
    assert call(*asked, tmp_path / "b", "--format", suffix) == 0
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / "b").read_bytes()


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
    how = ["--median-frames", "3", "--hysteresis", "0.5", "--threshold", "0"]
    assert call("sound.wav", *asked, *how, "--scores", out) == 0
    assert events(capsys.readouterr().out)  # beside them
    model = FLAM.from_pretrained(here / arguments.CHECKPOINT)
    how = {"method": "unbiased", "smoothing": Smoothing(3, 0.5)}
    heard = detector.score(model, "sound.wav", captions, **how)
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
    told = "flam: the model cannot read a word of '\u2603': all such captions score alike"
    assert told in capsys.readouterr().err.splitlines()


def test_quietly_the_same_is_printed_without_notes(here, capsys):
    given = ["sound.wav", "-c", "wobbling gong", "--threshold", "0"]
    assert call(*given) == 0
    printed, told = capsys.readouterr()
    assert call(*given, "--quiet") == 0
    assert capsys.readouterr() == (printed, "")
    assert told
    assert call("nowhere.wav", "-c", "a bell", "-q") == 2
    assert "nowhere.wav" in capsys.readouterr().err
    assert call(*given) == 0
    assert capsys.readouterr() == (printed, told), "the next call speaks again"


def test_of_bad_files_each_is_refused(here, tmp_path, capsys):
    write_bad_files(tmp_path / "sounds")
    for name in ("dead.wav", "pipe.wav", "headerless.raw", "loud.wav", "nan.wav"):
        assert name in refused(capsys, tmp_path / "sounds" / name, "-c", "a bell")


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
    assert "no WAV, FLAC" in refused(capsys, "notebooks", "-c", "a bell")
    assert "no audio matches it" in refused(capsys, "*.ogg", "-c", "a bell")
    os.mkfifo(tmp_path / "pipe.wav")
    assert "pipe.wav: not a file" in refused(capsys, tmp_path / "pipe.wav", "-c", "a bell")


def test_events_and_scores_need_a_file_each(here, capsys):
    asked = ["sound.wav", "-c", "a bell", "-o", "same.tsv", "--scores", "./same.tsv"]
    assert "name one file" in refused(capsys, *asked)
    assert not (here / "same.tsv").exists()


def test_a_caption_that_scores_cannot_hold_is_refused_before_the_work(here, capsys, monkeypatch):
    monkeypatch.setattr(detector, "score", lambda *_, **__: pytest.fail("scored"))
    assert call("sound.wav", "-c", "onset", "--scores", "scores.tsv") == 2
    message = capsys.readouterr().err  # the caption tower of the tests notes that word, too
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
    for other in (["--method", "biased"], ["--hysteresis", "3"]):
        assert call("sound.wav", "-c", "a dog barks", *other) == 0
        told = capsys.readouterr().err
        assert "threshold of every caption: 0.9, as the model's own are of other scores" in told


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
    assert "captions are needed: -c TEXT" in refused(capsys, "sound.wav")
    assert "twice" in refused(capsys, "sound.wav", "-c", "a bell", "-c", "a  bell")
    assert "tokens" in refused(capsys, "sound.wav", "-c", "a bell " * 20)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["-c", "a bell"], "required: AUDIO"),
        (["sound.wav", "-c", "a bell", "--format", "tsv,txt"], "no format 'txt'"),
        (["-", "-c", "a bell", "--pcm", "s16:1"], "'s16:1' is no PCM"),
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


MANY = ["-c", "a bell", "--threshold", "0"]


@pytest.fixture
def night(tmp_path):
    """A folder of two recordings and of files that are none."""
    (tmp_path / "night/late").mkdir(parents=True)
    soundfile.write(tmp_path / "night/a.wav", noise(2.0), RATE)
    soundfile.write(tmp_path / "night/late/b.flac", np.stack([noise(1.0), tone(440, 1.0)], 1), RATE)
    return tmp_path / "night"


def names(path):
    return [row["filename"] for row in tables.read(path, HEADER)]


def test_a_folder_is_detected_into_a_folder_and_a_bad_file_does_not_end_it(
    here, night, tmp_path, capsys
):
    bad = [f"bad/{name}" for name in write_bad_files(night / "bad")]
    assert call(night, *MANY, "-o", tmp_path / "out", "--format", "tsv,raven") == 1
    out, told = capsys.readouterr()
    for name in bad:
        assert sum(line.startswith(f"flam: skipped {name}: ") for line in told.splitlines()) == 1
    assert f"{len(bad)} skipped" in out
    assert {"a.wav", "late/b.flac"} <= {*names(tmp_path / "out/events.tsv")}
    assert (tmp_path / "out/late/b.flac.Table.1.selections.txt").is_file()
    skipped = tables.read(tmp_path / "out/skipped.tsv", ("filename", "why"))
    assert {row["filename"] for row in skipped} == {*bad}


def test_a_second_call_hears_only_what_is_new(here, night, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    assert call(night, *MANY, "-o", out) == 0
    once = (out / "events.tsv").read_bytes()
    heard = []
    score = detector.score
    monkeypatch.setattr(
        detector, "score", lambda *a, **k: heard.append(a[1].path) or score(*a, **k)
    )
    assert call(night, *MANY, "-o", out) == 0
    assert (heard, (out / "events.tsv").read_bytes()) == ([], once)
    soundfile.write(night / "a.wav", noise(3.0), RATE)
    assert call(night, *MANY, "-o", out, "--format", "vtt") == 0
    assert [path.name for path in heard] == ["a.wav"]
    assert (out / "late/b.flac.vtt").read_text().startswith("WEBVTT")
    assert call(night, "-c", "rain", "-o", out) == 2
    assert "made with other parameters (captions)" in capsys.readouterr().err


def test_files_are_printed_as_one_table_and_patterns_found(here, night, capsys):
    assert call(night / "a.wav", night / "late/*", night / "gone.wav", *MANY) == 1
    out, told = capsys.readouterr()
    header, *rows = out.splitlines()
    assert header.split("\t") == HEADER
    assert [row.split("\t")[0] for row in rows] == ["a.wav", "b.flac"]
    assert "flam: skipped gone.wav: no such file" in told


def test_the_parameters_of_a_call_are_used_again(here, night, tmp_path, capsys):
    table = tmp_path / "captions.tsv"
    table.write_text("caption\tlabel\tthreshold\na bell\tding\t0\na dog\t\t1\n")
    asked = ["--captions", table, "--merge-gap", "0.5", "--channel", "1"]
    assert call(night, *asked, "-o", tmp_path / "one") == 0
    params = tmp_path / "one/parameters.json"
    assert call(night, "--load-params", params, "-o", tmp_path / "two") == 0
    for name in ("parameters.json", "events.tsv"):
        one, two = ((tmp_path / run / name).read_text() for run in ("one", "two"))
        assert one == two
    assert "\tding\t" in one
    params.write_text("{}")
    capsys.readouterr()
    message = refused(capsys, night, "--load-params", params)
    assert "parameters.json: not parameters of flam detect" in message


@pytest.mark.parametrize("raw", [False, True])
def test_a_recording_may_come_from_a_pipe(here, capsys, raw):
    samples, rate = soundfile.read("sound.wav", dtype="int16")
    source = samples.astype("<i2").tobytes() if raw else (here / "sound.wav").read_bytes()
    pcm = ["--pcm", f"s16le:{rate}"] if raw else []
    asked = [sys.executable, "-m", "flamlib", "detect", "-", *MANY, *pcm]
    done = subprocess.run(
        [*asked, "--model", arguments.CHECKPOINT], input=source, capture_output=True, check=True
    )
    call("sound.wav", *MANY)
    assert done.stdout.decode() == capsys.readouterr().out.replace("sound.wav", "stdin")


def test_of_two_channels_one_can_be_heard(here, night, capsys, monkeypatch):
    stereo, heard, score = night / "late/b.flac", [], detector.score
    monkeypatch.setattr(
        detector, "score", lambda *a, **k: heard.append(a[1].read(0.0, 0.5)) or score(*a, **k)
    )
    channels, _ = soundfile.read(stereo, dtype="float32")
    for channel in (1, 2):
        assert call(stereo, *MANY, "--channel", channel) == 0
        np.testing.assert_array_equal(heard[-1], channels[: RATE // 2, channel - 1])
    capsys.readouterr()
    assert "no channel 3: it has 2" in refused(capsys, stereo, *MANY, "--channel", 3)


def test_the_surest_events_are_there_whatever_their_scores(here, capsys):
    assert call("sound.wav", "-c", "a bell", "--threshold", "1", "--top", "1") == 0
    assert len(events(capsys.readouterr().out)) == 1


def test_two_calls_do_not_write_to_one_folder(here, night, tmp_path, capsys):
    lock = filelock.FileLock(files_of := tmp_path / "out/.lock")
    files_of.parent.mkdir()
    with lock:
        assert call(night, *MANY, "-o", tmp_path / "out") == 2
    assert "another flam detect is writing there" in capsys.readouterr().err


def test_outputs_that_cannot_be_are_refused_before_the_work(here, night, capsys, monkeypatch):
    monkeypatch.setattr(detector, "score", lambda *_, **__: pytest.fail("scored"))
    assert "need a folder" in refused(capsys, "sound.wav", *MANY, "--format", "tsv,vtt")
    assert "parquet is no text" in refused(capsys, "sound.wav", *MANY, "--format", "parquet")
    assert "one table is tsv" in refused(capsys, night, *MANY, "--format", "raven")
    assert "needs -o FOLDER" in refused(capsys, night, *MANY, "--scores", "s")
    taken = refused(capsys, night, *MANY, "-o", "out", "--scores", here / "sound.wav")
    assert "need a folder" in taken
    same = refused(capsys, night, *MANY, "-o", "out", "--scores", "./out")
    assert "name one folder" in same
    taken = refused(capsys, night, *MANY, "-o", here / "sound.wav")
    assert "sound.wav: a file of several recordings" in taken


def test_a_page_is_written_of_one_recording_or_of_each(here, tmp_path, capsys):
    """In a folder that is gone on with, also where the events are known and the page is not."""
    asked = ["-c", "a bell", "--threshold", "0"]
    assert call("sound.wav", *asked, "--html", tmp_path / "one.html") == 0
    assert events(capsys.readouterr().out)
    shutil.copy("sound.wav", tmp_path / "a.wav")
    (tmp_path / "b.wav").write_text("no audio")
    out = ["-o", tmp_path / "out", "--html", tmp_path / "out"]
    assert call(tmp_path / "a.wav", tmp_path / "b.wav", *asked, "-o", tmp_path / "out") == 1
    for kept in ("", ", 1 as they were"):
        assert call(tmp_path / "a.wav", tmp_path / "b.wav", *asked, *out) == 1
        assert f"heard{kept}, 1 skipped" in capsys.readouterr().out
    for page in (tmp_path / "one.html", tmp_path / "out/a.wav.html"):
        assert 'id="data">{"name": ' in page.read_text("utf-8")
    assert not (tmp_path / "out/b.wav.html").exists()


def test_a_page_and_what_it_cannot_show(here, tmp_path, capsys):
    page = ["--html", tmp_path / "p.html"]
    assert "--top" in refused(capsys, "sound.wav", "-c", "a bell", "--top", "3", *page)
    assert "file of its own" in refused(
        capsys, "sound.wav", "-c", "a bell", *page, "-o", tmp_path / "p.html"
    )
    shutil.copy("sound.wav", tmp_path / "p.html")
    two = ["sound.wav", tmp_path / "p.html"]
    assert "need a folder" in refused(capsys, *two, "-c", "a bell", *page)


def test_the_scores_of_a_folder_are_evaluated(here, night, tmp_path, capsys):
    """By `flam evaluate`, with the durations that stand beside the events."""
    captions, how = ["a bell", "rain"], {"method": "unbiased", "smoothing": Smoothing()}
    asked = [word for caption in captions for word in ("-c", caption)]
    asked += ["--threshold", "0.5", "--hysteresis", "0", "-o", tmp_path / "out"]
    assert call(night, *asked, "--scores", tmp_path / "scores") == 0
    model = FLAM.from_pretrained(here / arguments.CHECKPOINT)
    for name, place in (("a", "a.wav"), ("b", "late/b.flac")):
        heard = detector.score(model, night / place, captions, **how)
        scores, edges, named = detection.read_scores(tmp_path / f"scores/{name}.tsv")
        np.testing.assert_array_equal(scores.astype(np.float32), heard.scores)
        assert (edges[-1], named) == (heard.frame_edges[-1], captions)
    truth, result = tmp_path / "truth.tsv", tmp_path / "result.json"
    tables.write(truth, [HEADER[:4], ("a.wav", "0", "1", "a bell"), ("b.flac", "0", "1", "Rain")])
    told = ["--ground-truth", truth, "--durations", tmp_path / "out/durations.tsv"]
    more = ["--resamples", "0", "-o", result]
    capsys.readouterr()
    assert main.main([str(a) for a in ["evaluate", tmp_path / "scores", *told, *more]]) == 0
    out, err = capsys.readouterr()
    assert (out.splitlines()[0], err) == ("2 clips, 2 captions, 2 events", "")
    assert json.loads(result.read_text())["systems"]["scores"]["captions"]["Rain"]["n_events"] == 1


def test_tables_of_scores_that_are_there_are_kept(night, here, tmp_path, capsys):
    asked = [night, *MANY, "-o", tmp_path / "out"]
    scores = ["--scores", tmp_path / "scores"]
    assert call(*asked) == 0
    assert call(*asked, *scores) == 0  # there were none
    assert "2 recordings heard, " in capsys.readouterr().out.splitlines()[-1]
    whole = (tmp_path / "scores/a.tsv").read_bytes()
    (tmp_path / "scores/a.tsv").unlink()
    assert call(*asked, *scores) == 0
    assert "1 recording heard, 1 as they were" in capsys.readouterr().out
    assert (tmp_path / "scores/a.tsv").read_bytes() == whole
    (night / "a.wav").write_bytes(b"no audio any more")
    assert call(*asked, *scores) == 1
    assert not (tmp_path / "scores/a.tsv").exists()


def test_two_recordings_never_share_a_table_of_scores(here, night, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(detector, "score", lambda *_, **__: pytest.fail("scored"))
    shutil.copy(night / "a.wav", night / "late/a.wav")
    assert call(night, *MANY, "-o", tmp_path / "out", "--scores", tmp_path / "scores") == 2
    told = capsys.readouterr().err
    assert "the score tables of a.wav and late/a.wav would have one name" in told


def test_standard_input_that_is_no_sound_is_called_so(here, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"no sound")))
    assert main.main(["detect", "-", "-c", "a bell", "--model", arguments.CHECKPOINT]) == 2
    assert capsys.readouterr().err.startswith("flam: standard input: damaged or no recording")
