from dataclasses import replace

import numpy as np
import pytest
import torch
from heldouts import write_model
from sounds import noise

from flamlib.adaptation import learn
from flamlib.adaptation.adapter import Adapted
from flamlib.adaptation.choose import Criterion
from flamlib.adaptation.own_labels import LabelledFrames
from flamlib.models.caption_thresholds import Chosen
from flamlib.models.flam import FLAM
from flamlib.sound_events.events import Event
from flamlib.sound_events.smoothing import Smoothing

FRAME_S, DIM, N = 0.1, 6, 60
F1 = Criterion("f1")


def recording(number, rng):
    """Frames of noise; those of an event point to axis 1, though the caption's text to axis 0."""
    frames = rng.normal(size=(N, DIM))
    events = [Event(1.0, 2.0, "rain"), Event(3.5, 4.1, "rain")]
    for event in events:
        first, stop = round(event.onset / FRAME_S), round(event.offset / FRAME_S)
        frames[first:stop] += 3 * np.eye(DIM)[1] + np.eye(DIM)[0]
    frames /= np.linalg.norm(frames, axis=1, keepdims=True)
    return LabelledFrames(f"{number}.wav", events, None, N * FRAME_S, frames.astype(np.float32))


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    recordings = [recording(number, rng) for number in range(6)]
    start = np.zeros((2, DIM + 1))
    start[0, 0], start[1, 2] = 10.0, 10.0
    own = [Chosen(caption, 0.9, False, 0) for caption in ("rain", "wind")]
    return learn.Examples(
        recordings, ["rain", "wind"], FRAME_S, Smoothing(3), start, np.array([-4.0, -3.0]), own
    )


def test_scores_are_those_of_the_adapted_model(tmp_path):
    write_model(tmp_path / "flam")
    base = FLAM.from_pretrained(tmp_path / "flam")
    start, bias = learn.start_of(base.embed_captions(["rain", "wind"]))
    weights = start + np.random.default_rng(0).normal(size=start.shape)
    frames = base.embed_audio(noise(3.0), 16_000).frame_emb[0].numpy()
    one = LabelledFrames("a.wav", [], None, len(frames) * base.frame_s, frames)
    own = [Chosen(caption, 0.9, False, 0) for caption in ("rain", "wind")]
    examples = learn.Examples([one], ["rain", "wind"], base.frame_s, Smoothing(), start, bias, own)
    adapted = Adapted(base, ["rain", "wind"], torch.from_numpy(weights).float())
    [expected] = adapted.score(noise(3.0), 16_000, ["rain", "wind"]).numpy()
    [found] = learn.clips(examples, [0], {0: weights}).scores.scores
    assert pytest.approx(expected, abs=1e-5) == found.T


def test_each_level_is_worth_more_where_the_text_points_elsewhere(examples):
    worth = {
        level: learn.held_out(examples, level, F1).mean()
        for level in (None, "thresholds", "scale", "heads")
    }
    assert worth["heads"]["average_precision"] > worth[None]["average_precision"] + 0.1
    assert worth["heads"]["f1"] > worth["thresholds"]["f1"] >= worth[None]["f1"]
    assert worth["thresholds"]["average_precision"] == worth[None]["average_precision"]


def test_a_recording_that_is_held_out_has_no_say(examples):
    rows = list(range(6))
    before = learn.out_of_fold(examples, rows, "heads")
    [fold] = [fold for fold in learn.deal(examples, rows) if 0 in fold]
    changed = [
        one._replace(events=[Event(0.0, 1.0, "rain")]) if row in fold else one
        for row, one in enumerate(examples.recordings)
    ]
    after = learn.out_of_fold(replace(examples, recordings=changed), rows, "heads")
    assert all((after[row] == before[row]).all() for row in fold)
    assert any((after[row] != before[row]).any() for row in rows if row not in fold)


def test_every_recording_is_held_out_once(examples):
    for n in (2, 3, 5, 11):
        recordings = [examples.recordings[0]._replace(path=f"{number}.wav") for number in range(n)]
        folds = learn.deal(replace(examples, recordings=recordings), list(range(n)))
        assert sorted(row for fold in folds for row in fold) == list(range(n))
        assert len(folds) == min(n, learn.N_FOLDS)


def test_a_recording_with_labels_and_a_review_is_on_one_side(examples):
    reviewed = [each._replace(decisions=[True, True]) for each in examples.recordings]
    both = replace(examples, recordings=[*examples.recordings, *reviewed])
    folds = learn.deal(both, list(range(12)))
    sides = [{both.recordings[row].path for row in fold} for fold in folds]
    assert sum(map(len, sides)) == 6
    assert sorted(row for fold in folds for row in fold) == list(range(12))
    one = replace(examples, recordings=[examples.recordings[0], reviewed[0]])
    assert len(learn.deal(one, [0, 1])) == 1
    [rain, _] = learn.thresholds_of(one, [0, 1], "heads", F1)
    assert rain.n_events == 4, "of a single recording: it is fitted to itself"


@pytest.mark.parametrize("duration_s", [0.4, 0.33, 0.39])
def test_a_caption_all_through_its_clips_has_no_frame_without_it(examples, duration_s):
    """However little of the last frame lies in the clip."""
    frames = np.random.default_rng(0).normal(size=(4, DIM)).astype(np.float32)
    clips = [
        LabelledFrames(f"{number}.wav", [Event(0.0, duration_s, "rain")], None, duration_s, frames)
        for number in range(3)
    ]
    whole = replace(examples, recordings=clips)
    assert (learn.fit(whole, range(3), "heads") == examples.start).all()


@pytest.mark.parametrize("level", learn.LEVELS)
def test_a_caption_without_events_stays_as_it_is(examples, level):
    weights = learn.fit(examples, range(6), level)
    assert (weights[1] == examples.start[1]).all()
    assert (weights[0] != examples.start[0]).any() == (level != "thresholds")


def test_unreviewed_frames_have_no_say(examples):
    """Whatever lies outside the reviewed events."""
    events = [Event(1.0, 2.0, "rain"), Event(4.5, 5.0, "rain"), Event(2.5, 3.0, "wind")]
    recordings = [
        each._replace(events=events, decisions=[True, False, True]) for each in examples.recordings
    ]
    reviewed = replace(examples, recordings=recordings)
    before = learn.fit(reviewed, range(6), "heads")
    others = [each._replace(values=each.values.copy()) for each in recordings]
    for each in others:
        each.values[:10] = each.values[-10:] = 7.0
    after = learn.fit(replace(reviewed, recordings=others), range(6), "heads")
    assert after == pytest.approx(before)
    assert (before[0] != examples.start[0]).any()
    assert (before[1] == examples.start[1]).all(), "nothing says what wind is not"


def test_one_recording_is_enough_to_fit(examples):
    one = replace(examples, recordings=examples.recordings[:1])
    [rain, _] = learn.thresholds_of(one, [0], "heads", F1)
    assert rain.n_events == 2


def test_a_fit_is_made_once_and_anew_of_other_examples(examples, monkeypatch):
    fitted = learn.fit(examples, range(6), "heads")

    def fit(*args, **how):
        raise AssertionError("fitted again")

    monkeypatch.setattr(learn.logistic, "fit", fit)
    assert learn.fit(examples, list(range(6)), "heads") is fitted
    with pytest.raises(AssertionError, match="fitted again"):
        learn.fit(examples, range(5), "heads")
    with pytest.raises(AssertionError, match="fitted again"):
        learn.fit(replace(examples, start=2 * examples.start), range(6), "heads")
