import json
import shutil
from contextlib import suppress

import numpy as np
import pytest
import soundfile
from heldouts import write_model
from sounds import RATE, noise

from flamlib.inference import detect_many, detector
from flamlib.inference.questions import Question, Questions
from flamlib.models.flam import FLAM
from flamlib.sound_events import detection
from flamlib.sound_events.smoothing import Smoothing

ASKED = Questions(
    format=1, model="0" * 64, captions=[Question(caption="a bell", threshold=0.0)], median_frames=1
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "flam"
    write_model(folder)
    return FLAM.from_pretrained(folder)


@pytest.fixture
def recordings(tmp_path):
    for k in range(3):
        soundfile.write(tmp_path / f"{k}.wav", noise(1.0 + k), RATE)
    return {f"{k}.wav": tmp_path / f"{k}.wav" for k in range(3)}


def test_every_recording_is_heard_as_if_it_were_alone(model, recordings, tmp_path):
    detect_many.write(model, recordings, tmp_path / "out", ASKED, formats=["jsonl"])
    rows = map(json.loads, (tmp_path / "out/events.jsonl").read_text().splitlines())
    found = {row["filename"]: (row["onset"], row["offset"], row["score"]) for row in rows}
    for name, path in recordings.items():
        scores = detector.score(model, path, ["a bell"], method="unbiased", smoothing=Smoothing(1))
        [event] = ASKED.events(scores)
        assert found[name] == (event.onset, event.offset, event.score)


def test_a_name_with_a_line_break_reads_alike_in_all_tables(model, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1.0), RATE)
    (tmp_path / "none.wav").write_bytes(b"")
    names = {"new\nline\t.wav": tmp_path / "a.wav", "no\nne.wav": tmp_path / "none.wav"}
    done = detect_many.write(model, names, tmp_path / "out", ASKED, scores=tmp_path / "scores")
    assert done.n_new == len(done.skipped) == 1
    for table, name in (
        ("events", "new line .wav"),
        ("durations", "new line .wav"),
        ("skipped", "no ne.wav"),
    ):
        [_, row] = (tmp_path / f"out/{table}.tsv").read_text().splitlines()
        assert row.startswith(f"{name}\t")


def test_captions_are_embedded_once(model, recordings, tmp_path, monkeypatch):
    embedded = []
    read = model.read_captions
    monkeypatch.setattr(model, "read_captions", lambda asked: embedded.append(asked) or read(asked))
    detect_many.write(model, recordings, tmp_path / "out", ASKED)
    assert embedded == [["a bell"]]


@pytest.mark.parametrize("left", [0, 1, 60])
def test_a_call_that_was_killed_is_gone_on_with(model, recordings, tmp_path, left):
    """Also where the last line was half written."""
    out = tmp_path / "out"
    detect_many.write(model, recordings, out, ASKED)
    whole = (out / "events.tsv").read_bytes()
    log = out / detect_many.LOG
    first, *_ = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(first + first[:left])
    (out / "events.tsv").unlink()
    done = detect_many.write(model, recordings, out, ASKED)
    assert (done.n_new, done.n_kept, done.skipped) == (2, 1, {})
    assert (out / "events.tsv").read_bytes() == whole


def test_a_file_that_goes_meanwhile_is_skipped_and_done_once_it_is_back(
    model, recordings, tmp_path, monkeypatch
):
    content = recordings["1.wav"].read_bytes()
    detect_one = detect_many.detect_one

    def detect_and_remove(model, name, *given, **how):
        recordings["1.wav"].unlink(missing_ok=True)
        return detect_one(model, name, *given, **how)

    monkeypatch.setattr(detect_many, "detect_one", detect_and_remove)
    done = detect_many.write(model, recordings, tmp_path / "out", ASKED)
    assert (done.n_new, done.skipped) == (2, {"1.wav": "no such file"})
    assert "1.wav\tno such file" in (tmp_path / "out/skipped.tsv").read_text()
    monkeypatch.undo()
    recordings["1.wav"].write_bytes(content)
    done = detect_many.write(model, recordings, tmp_path / "out", ASKED)
    assert (done.n_new, done.n_kept, done.skipped) == (1, 2, {})
    assert not (tmp_path / "out/skipped.tsv").exists()


@pytest.mark.parametrize("meanwhile", ["heard without them", "written by another call"])
def test_pages_and_scores_are_those_of_the_recording_as_it_is(
    model, recordings, tmp_path, meanwhile
):
    one, out = {"0.wav": recordings["0.wav"]}, tmp_path / "out"
    pages = detect_many.Pages(tmp_path / "pages", "model", [])
    wanted = {"pages": pages, "scores": tmp_path / "scores"}

    def call(out, **wanted):
        return detect_many.write(model, one, out, ASKED, **wanted)

    call(out, pages=pages)
    call(out, scores=tmp_path / "scores")
    assert call(out, **wanted).n_kept == 1
    soundfile.write(recordings["0.wav"], noise(2.0), RATE)
    call(out)
    if meanwhile == "written by another call":
        soundfile.write(recordings["0.wav"], noise(4.0), RATE)
        call(tmp_path / "another", **wanted)
        soundfile.write(recordings["0.wav"], noise(2.0), RATE)
    assert call(out, **wanted).n_new == 1
    assert detection.read_scores(tmp_path / "scores/0.tsv")[1][-1] == 2.0
    assert (out / "durations.tsv").read_text() == "filename\tduration\n0.wav\t2.0\n"
    assert '"duration_s": 2.0' in pages.place("0.wav").read_text()


def listed(out):
    rows = map(json.loads, (out / "events.jsonl").read_text().splitlines())
    return [(row["filename"], round(row["offset"], 3)) for row in rows]


def test_recordings_of_one_name_that_come_one_after_the_other_are_all_kept(
    model, tmp_path, monkeypatch
):
    """As the recorders of two places give the same names."""
    out, n_new = tmp_path / "out", []
    for k, place in enumerate(("one", "two"), start=1):
        (tmp_path / place).mkdir()
        soundfile.write(tmp_path / place / "a.wav", noise(float(k)), RATE)
    one, two = ({"a.wav": tmp_path / place / "a.wav"} for place in ("one", "two"))
    whole = f"{tmp_path.as_posix()[1:]}/two/a.wav"
    both = {f"{tmp_path.as_posix()[1:]}/one/a.wav": one["a.wav"], whole: two["a.wav"]}
    for recordings in (one, two, one, two, both):
        done = detect_many.write(model, recordings, out, ASKED, formats=["jsonl"])
        n_new.append(done.n_new)
    assert listed(out) == [("a.wav", 1.0), (whole, 2.0)]
    assert n_new == [1, 1, 0, 0, 0]


def test_of_two_recordings_of_one_name_no_table_of_scores_is_replaced(model, tmp_path):
    for k, place in enumerate(("one", "two"), start=1):
        (tmp_path / place).mkdir()
        soundfile.write(tmp_path / place / "a.wav", noise(float(k)), RATE)
    out, scores = tmp_path / "out", tmp_path / "scores"
    detect_many.write(model, {"a.wav": tmp_path / "one/a.wav"}, out, ASKED, scores=scores)
    two = {"0.wav": tmp_path / "one/a.wav", "a.wav": tmp_path / "two/a.wav"}
    with pytest.raises(ValueError, match=r"the score tables of a.wav and .*two/a.wav would have"):
        detect_many.write(model, two, out, ASKED, scores=scores)
    assert [path.name for path in scores.iterdir()] == ["a.tsv"]  # it was said before any was heard
    assert detection.read_scores(scores / "a.tsv")[1][-1] == 1.0


def test_no_copy_takes_the_place_of_the_recording_that_it_is_of(model, tmp_path):
    out, deep = tmp_path / "out", tmp_path / "deep"
    deep.mkdir()
    soundfile.write(deep / "a.wav", noise(1.0), RATE)
    detect_many.write(model, {"a.wav": deep / "a.wav"}, out, ASKED, formats=["jsonl"])
    shutil.copy(deep / "a.wav", tmp_path / "a.wav")
    both = {"a.wav": tmp_path / "a.wav", "deep/a.wav": deep / "a.wav"}
    for n_new in (1, 0):
        done = detect_many.write(model, both, out, ASKED, formats=["jsonl"])
        assert (done.n_new, done.n_kept) == (n_new, 2 - n_new)
        assert [name for name, _ in listed(out)] == ["a.wav", f"{tmp_path.as_posix()[1:]}/a.wav"]


def test_a_recording_that_was_missing_has_its_name_when_it_is_found_elsewhere(model, tmp_path):
    out, new = tmp_path / "out", tmp_path / "new"
    detect_many.write(model, {"a.wav": tmp_path / "a.wav"}, out, ASKED, formats=["jsonl"])
    new.mkdir()
    soundfile.write(new / "a.wav", noise(1.0), RATE)
    detect_many.write(model, {"a.wav": new / "a.wav"}, out, ASKED, formats=["jsonl"])
    assert listed(out) == [("a.wav", 1.0)]
    assert not (out / "skipped.tsv").exists()


def test_a_recording_that_was_moved_is_not_heard_again_and_found_where_it_is(model, tmp_path):
    out, new = tmp_path / "out", tmp_path / "new"
    soundfile.write(tmp_path / "a.wav", noise(1.0), RATE)
    detect_many.write(model, {"a.wav": tmp_path / "a.wav"}, out, ASKED)
    new.mkdir()
    (tmp_path / "a.wav").rename(new / "a.wav")
    done = detect_many.write(model, {"a.wav": new / "a.wav"}, out, ASKED)
    assert (done.n_new, done.n_kept) == (0, 1)
    last = (out / detect_many.LOG).read_text().splitlines()[-1]
    assert json.loads(last)["path"] == str(new / "a.wav")


def test_silence_is_no_error(model, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    done = detect_many.write(model, {"s": tmp_path / "silent.wav"}, tmp_path / "out", ASKED)
    assert (done.n_new, done.skipped) == (1, {})


def test_results_of_other_questions_are_not_mixed(model, recordings, tmp_path):
    detect_many.write(model, recordings, tmp_path / "out", ASKED)
    other = Questions(format=1, model="0" * 64, captions=ASKED.captions, median_frames=3)
    with pytest.raises(ValueError, match=r"other parameters \(median_frames\)"):
        detect_many.write(model, recordings, tmp_path / "out", other)


def test_labels_that_were_corrected_stay_as_they_are(model, recordings, tmp_path):
    """People correct the label tracks of a folder, and detect in further recordings later."""
    out, formats = tmp_path / "out", ["tsv", "audacity"]
    first = {name: recordings[name] for name in ("0.wav", "1.wav")}
    detect_many.write(model, first, out, ASKED, formats=formats)
    (out / "0.wav.txt").write_text("0.1\t0.2\tmine\n")
    done = detect_many.write(model, recordings, out, ASKED, formats=formats)
    assert (done.n_new, done.n_kept, list(done.edited)) == (1, 2, ["0.wav.txt"])
    assert (out / "0.wav.txt").read_text() == "0.1\t0.2\tmine\n"
    assert {row.split("\t")[0] for row in (out / "events.tsv").read_text().splitlines()[1:]} == {
        *recordings
    }


@pytest.mark.parametrize("name", ["0.wav.txt", "events.tsv"])
def test_labels_that_lie_beside_the_recordings_are_not_written_over(
    model, recordings, tmp_path, name, monkeypatch
):
    """Nor when a call goes on with one that was stopped."""
    (tmp_path / name).write_text("0.1\t0.2\tmine\n")
    write, formats = detect_many._write_tables, ["tsv", "audacity"]

    def stop(*_):
        raise KeyboardInterrupt

    for then in (stop, write, write):
        monkeypatch.setattr(detect_many, "_write_tables", then)
        with suppress(KeyboardInterrupt, ValueError):
            detect_many.write(model, recordings, tmp_path, ASKED, formats=formats)
    assert (tmp_path / name).read_text() == "0.1\t0.2\tmine\n"
    assert (tmp_path / "1.wav.txt").exists() == (name != "events.tsv")


def test_a_table_that_was_reviewed_is_not_written_over(model, recordings, tmp_path):
    """It is said before anything is heard."""
    out = tmp_path / "out"
    detect_many.write(model, {"0.wav": recordings["0.wav"]}, out, ASKED)
    reviewed = (out / "events.tsv").read_text() + "0.wav\t0.1\t0.2\ta bell\t1\tyes\n"
    (out / "events.tsv").write_text(reviewed)
    log = (out / "recordings.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"events\.tsv is not as .* rename it"):
        detect_many.write(model, recordings, out, ASKED)
    assert (out / "events.tsv").read_text() == reviewed
    assert (out / "recordings.jsonl").read_bytes() == log
    (out / "events.tsv").rename(out / "reviewed.tsv")
    assert detect_many.write(model, recordings, out, ASKED).n_new == 2
