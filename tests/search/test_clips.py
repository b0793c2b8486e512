import math
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from flamlib.search import clips
from flamlib.search.clips import Wanted
from flamlib.search.finds import Find
from flamlib.storage import tables

RATE = 8000


def find(onset=1.0, offset=1.5, caption="rain", score=0.5, recording="a.wav"):
    return Find(Path("t.tsv"), "t.tsv, line 2", recording, onset, offset, caption, score)


@pytest.fixture
def ramp(tmp_path):
    """Four seconds whose sample values say where they are."""
    samples = np.arange(4 * RATE, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    return lambda find: tmp_path / "a.wav"


scores = st.lists(st.integers(0, 40).map(lambda i: i / 40), min_size=1, max_size=30)


@given(scores, st.integers(1, 12))
def test_the_surest_are_no_less_sure_than_any_other(scores, n):
    finds = [find(onset=float(i), offset=i + 0.5, score=s) for i, s in enumerate(scores)]
    chosen = clips.choose(finds, Wanted(n, "surest"))
    assert [each.score for each in chosen] == sorted(scores, reverse=True)[:n]


@given(scores, st.integers(1, 12), st.sampled_from([*clips._ORDERS]))
def test_of_more_the_same_are_picked_first_in_whatever_order_they_stand(scores, n, pick):
    finds = [find(onset=float(i), offset=i + 0.5, score=s) for i, s in enumerate(scores)]
    chosen = clips.choose(finds, Wanted(n, pick))
    assert len(chosen) == min(n, len(finds))
    assert clips.choose(finds[::-1], Wanted(math.inf, pick))[:n] == chosen
    assert sorted(clips.choose(finds, Wanted(math.inf, pick))) == sorted(finds)


@given(scores, st.integers(1, 12))
def test_balanced_takes_as_many_from_each_tenth_as_there_are(scores, n):
    finds = [find(onset=float(i), offset=i + 0.5, score=s) for i, s in enumerate(scores)]
    low, high = min(scores), max(scores)
    tenth = {f: min(int(10 * (f.score - low) / ((high - low) or 1)), 9) for f in finds}
    chosen = [tenth[f] for f in clips.choose(finds, Wanted(n, "balanced"))]
    of_all = list(tenth.values())
    for one in set(of_all):
        for other in set(of_all):  # none has two more than another that has some left
            assert chosen.count(one) <= chosen.count(other) + 1 or (
                chosen.count(other) == of_all.count(other)
            )


def test_a_share_a_least_score_and_captions_that_read_the_same():
    finds = [find(caption=c, score=s) for c in ("Rain", "rain", "wind") for s in (0.1, 0.5, 0.9)]
    half = clips.choose(finds, Wanted(0.5, "surest"))
    assert [(f.caption, f.score) for f in half] == [
        ("Rain", 0.9), ("Rain", 0.9), ("Rain", 0.5), ("wind", 0.9), ("wind", 0.5)
    ]  # fmt: skip
    sure = clips.choose(finds, Wanted(math.inf, "surest", min_score=0.5))
    assert {f.score for f in sure} == {0.5, 0.9}
    assert clips.choose([], Wanted(5, "balanced")) == []


def test_finds_without_scores_are_all_taken_or_some_at_random():
    finds = [find(onset=float(i), offset=i + 1.0, score=None) for i in range(5)]
    assert len(clips.choose(finds, Wanted(9, "surest"))) == 5
    assert len(clips.choose(finds, Wanted(2, "random"))) == 2
    for wanted in (Wanted(2, "surest"), Wanted(2, "balanced"), Wanted(9, "surest", 0.5)):
        with pytest.raises(ValueError, match=r"t.tsv, line 2: has no score, and"):
            clips.choose(finds, wanted)


def test_a_clip_has_the_samples_of_its_find_and_its_surroundings(tmp_path, ramp):
    finds = [find(1.0, 1.5), find(0.1, 0.2), find(3.5, 4.5)]
    done = clips.write(finds, tmp_path / "out", ramp, context_s=0.25)
    assert done == (3, 0, [])
    rows = tables.read(tmp_path / "out/segments.tsv", clips.COLUMNS)
    for row, (begin, end) in zip(rows, [(0.75, 1.75), (0.0, 0.45), (3.25, 4.0)], strict=True):
        samples, rate = soundfile.read(tmp_path / "out" / row["clip"], dtype="int16")
        assert rate == RATE
        assert samples.tolist() == [*range(round(begin * RATE), round(end * RATE))]
        assert row.number("clip_onset") == begin
    assert rows[0]["clip"] == "rain/0.5000_rain_a_1.00s.wav"


@pytest.mark.parametrize("form", clips.FORMATS)
def test_every_format_is_read_back_at_its_length(tmp_path, ramp, form):
    clips.write([find(1.0, 2.0)], tmp_path / "out", ramp, form=form)
    [path] = (tmp_path / "out/rain").iterdir()
    assert soundfile.info(path).duration == pytest.approx(1.0, abs=0.1)


def test_names_are_letters_of_any_script_and_never_the_same(tmp_path, ramp):
    captions = ["../../etc", "a/b", "A b", "a b", "犬が吠える", "!!!", "x" * 300]
    finds = [find(caption=c, recording=f"{c}/a.wav") for c in captions] + [find(), find()]
    assert clips.write(finds, tmp_path / "out", ramp).n_written == len(finds)
    inside = [p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*.wav")]
    assert len({str(path).casefold() for path in inside}) == len(finds)
    assert {path.parts[0] for path in inside} == {
        *("etc", "a-b", "A-b-2", "a-b-3", "犬が吠える", "-", "x" * 60, "rain")
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav", "out"]


def test_a_name_with_a_tab_or_a_line_break_is_cut_and_listed(tmp_path, ramp):
    finds = [find(recording=name) for name in ("a\tb.wav", "a\nb  c.wav", "gone\r\n.wav")]
    done = clips.write(
        finds, tmp_path / "out", lambda find: None if "gone" in find.recording else ramp(find)
    )
    assert (done.n_written, len(done.skipped)) == (2, 1)
    # Each break is a blank, as in the tables of events that are cut.
    for name, listed in (("segments", ["a b.wav", "a b  c.wav"]), ("skipped", ["gone  .wav"])):
        rows = tables.read(tmp_path / f"out/{name}.tsv", ("filename", "onset"))
        assert [row["filename"] for row in rows] == listed


def test_a_name_that_is_no_utf8_is_cut_and_listed_as_in_tables_of_events(tmp_path, ramp):
    names = [os.fsdecode(b"/night/caf\xe9.wav"), os.fsdecode(b"gone\xe9.wav")]
    finds = [find(recording=name) for name in names]
    done = clips.write(
        finds, tmp_path / "out", lambda find: None if "gone" in find.recording else ramp(find)
    )
    assert (done.n_written, len(done.skipped)) == (1, 1)
    for name, listed in (("segments", "/night/caf\\udce9.wav"), ("skipped", "gone\\udce9.wav")):
        [row] = tables.read(tmp_path / f"out/{name}.tsv", ("filename", "onset"))
        assert row["filename"] == listed


def test_a_stopped_call_goes_on_and_replaces_nothing(tmp_path, ramp):
    finds, out = [find(onset=i / 2, offset=i / 2 + 0.4) for i in range(5)], tmp_path / "out"

    def stop(n):
        if n == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clips.write(finds, out, ramp, progress=stop)
    before = sorted((out / "rain").iterdir())
    before[0].write_bytes(b"as I like it")
    assert len(before) == 2
    assert clips.write(finds, out, ramp) == (3, 2, [])
    assert before[0].read_bytes() == b"as I like it"
    for other in ({"context_s": 1.0}, {"form": "flac"}):
        with pytest.raises(ValueError, match=f"{out}: holds clips of other finds, or cut in anoth"):
            clips.write(finds, out, ramp, **other)
    with pytest.raises(ValueError, match="holds clips of other finds"):
        clips.write(finds[1:], out, ramp)


def test_of_two_calls_at_once_one_is_refused(tmp_path, ramp):
    """Both would count clips that the other writes, and the last would say what there is."""
    finds, said = [find()], []

    def other(n):
        with pytest.raises(ValueError, match="another flam segments is writing there"):
            clips.write(finds, tmp_path / "out", ramp)
        said.append(n)

    assert clips.write(finds, tmp_path / "out", ramp, progress=other) == (1, 0, [])
    assert said == [1]
    assert clips.write(finds, tmp_path / "out", ramp) == (0, 1, [])


def test_what_cannot_be_cut_is_listed_and_tried_again(tmp_path, ramp):
    (tmp_path / "bad.wav").write_text("no sound")
    where = {"a.wav": tmp_path / "a.wav", "bad.wav": tmp_path / "bad.wav", "gone.wav": None}
    finds = [find(recording=name) for name in where] + [find(9.0, 9.5)]
    done = clips.write(finds, tmp_path / "out", lambda f: where[f.recording])
    assert (done.n_written, done.n_kept, len(done.skipped)) == (1, 0, 3)
    rows = tables.read(tmp_path / "out/skipped.tsv", ("filename", "onset", "event_label", "why"))
    assert [row["filename"] for row in rows] == ["bad.wav", "gone.wav", "a.wav"]
    assert rows[1]["why"] == "no such recording"
    assert "ends before" in rows[2]["why"]
    assert clips.write(finds, tmp_path / "out", ramp) == (2, 1, [(finds[3], rows[2]["why"])])


@pytest.mark.parametrize("suffix", [".wav", ".mp3"])
def test_a_recording_is_opened_once_however_its_finds_stand(tmp_path, monkeypatch, suffix):
    """For each anew, a FLAC or MP3 of a day would be read to its end as often as it has finds."""
    opened, begin = [], clips.audio.Recording.__init__

    def count(self, path, **how):
        opened.append(path)
        begin(self, path, **how)

    rng = np.random.default_rng(0)
    where = {name: tmp_path / f"{name}{suffix}" for name in ("a", "b")}
    for path in where.values():
        soundfile.write(path, 0.1 * rng.standard_normal(9 * RATE), RATE)
    times = [(6.0, 7.0), (1.0, 5.0), (2.0, 2.5), (6.5, 8.0), (0.0, 1.5)]
    finds = [find(*at, score=k / 9, recording=n) for k, at in enumerate(times) for n in where]
    with monkeypatch.context() as patched:
        patched.setattr(clips.audio.Recording, "__init__", count)
        done = clips.write(finds, tmp_path / "out", lambda f: where[f.recording], context_s=0.25)
    assert done == (10, 0, [])
    assert sorted(opened) == [*where.values()]
    rows = tables.read(tmp_path / "out/segments.tsv", clips.COLUMNS)
    assert [row["filename"] for row in rows] == [f.recording for f in finds]
    for row, f in zip(rows, finds, strict=True):
        begin, end = max(0, f.onset - 0.25), f.offset + 0.25
        samples, _ = clips.audio.read(where[f.recording], start_s=begin, stop_s=end)
        clip, _ = soundfile.read(tmp_path / "out" / row["clip"])
        np.testing.assert_allclose(clip, samples.clip(-1, 1), atol=2**-15)
