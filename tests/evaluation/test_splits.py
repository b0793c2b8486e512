import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from heldouts import FRAME_S, N_FRAMES, read_split, write_artifacts
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flamlib.evaluation import splits
from flamlib.evaluation.splits import EvalSplit, SplitLogits
from flamlib.models.flam import FLAM
from flamlib.sound_events.detection import events_from_scores
from flamlib.sound_events.events import active_frames, read_events


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_artifacts(tmp_path_factory.mktemp("heldout"))


@pytest.fixture(scope="module")
def split(folder):
    return read_split(folder)[0]


def random_logits(split, seed=0):
    rng = np.random.default_rng(seed)
    return SplitLogits(
        split,
        rng.normal(0, 3, split.active.shape).astype(np.float32),
        rng.normal(-4, 1, len(split.captions)).astype(np.float32),
    )


def test_every_clip_is_scored_for_every_caption_of_the_split(split):
    assert split.captions == sorted({e.caption for r in split.mixtures for e in r.labels})
    assert split.active.shape == (len(split.mixtures), len(split.captions), N_FRAMES)


def test_the_events_of_a_clip_are_when_its_captions_are_true(split):
    """Also where it is true because another caption is: a bell that rings is a tone."""
    for events, active in zip(split.events, split.active, strict=True):
        frames = active_frames(
            events, split.captions, n_frames=N_FRAMES, frame_s=FRAME_S, clip_s=split.clip_s
        )
        assert (frames == active).all()
    tone, rings = split.captions.index("a tone"), split.captions.index("a bell rings")
    assert split.active[:, rings].any()
    assert (split.active[:, tone] | ~split.active[:, rings]).all()


def test_what_cannot_be_said_is_unknown(split):
    """A hiss might be called a rattle, so where one sounds the other is not asked for."""
    hiss, rattle = split.captions.index("a hiss"), split.captions.index("a rattle")
    for recipe, known in zip(split.mixtures, split.known, strict=True):
        sounding = {event.caption for event in recipe.labels}
        assert known[hiss] == ("a rattle" not in sounding)
        assert known[rattle] == ("a hiss" not in sounding)


def test_mixtures_without_sounds_are_refused(folder):
    split, bank, lexicon = read_split(folder)
    silent = [recipe._replace(labels=()) for recipe in split.mixtures]
    with pytest.raises(ValueError, match="none of the 12 mixtures has an event"):
        EvalSplit.from_mixtures("quiet", silent, bank, lexicon, frame_s=FRAME_S)


def test_frames_stand_below_one_another(split):
    numbered = np.arange(split.active.size, dtype=float).reshape(split.active.shape)
    table = split.frame_table(numbered)
    for clip, caption, frame in [(0, 0, 0), (1, 2, 3), (11, 1, 7)]:
        row = clip * N_FRAMES + frame
        assert table.scores[row, caption] == numbered[clip, caption, frame]
        assert table.active[row, caption] == split.active[clip, caption, frame]
        assert table.clip[row] == clip
        assert (table.known[row] == split.known[clip]).all()


def test_scores_by_clip_are_those_by_frame(split):
    logits = random_logits(split)
    by_clip, by_frame = logits.clip_scores().by_frame, logits.score_table()
    for name in ("scores", "active", "clip", "known"):
        assert (getattr(by_clip, name) == getattr(by_frame, name)).all(), name


def test_the_active_share_is_that_of_the_known_frames(split):
    for caption, share in enumerate(split.active_share()):
        frames = [split.active[i, caption] for i, known in enumerate(split.known) if known[caption]]
        assert share == pytest.approx(np.mean(frames))


def test_logits_at_the_prior_say_nothing(split):
    bias = np.array([-9.0, -1.0, 3.0, 0.5])
    logits = SplitLogits(split, np.broadcast_to(bias[None, :, None], (2, 4, 4)), bias)
    assert logits.scores() == pytest.approx(0.5)
    assert logits.probs()[0, :, 0] == pytest.approx(1 / (1 + np.exp(-bias)))


@given(arrays(np.float32, 20, elements=st.floats(-50, 25, width=32)), st.floats(-12, 0))
def test_scores_have_the_order_of_the_logits(split, logits, bias):
    of_split = SplitLogits(split, logits[None, None], np.array([bias]))
    for sure in (of_split.scores(), of_split.probs()):
        assert ((sure >= 0) & (sure <= 1)).all()
        order = np.argsort(logits)
        apart = np.diff(logits[order]) > 1e-3
        assert (np.diff(sure[0, 0, order])[apart] > 0).all()


def test_calibration_finds_the_multiplier_and_the_shift(split):
    """The truth is drawn with probability sigmoid(0.7 evidence - 2)."""
    rng = np.random.default_rng(0)
    shape = (400, len(split.captions), 40)
    evidence = rng.normal(0, 4, shape).astype(np.float32)
    logits = 0.7 * evidence - 2
    drawn = EvalSplit(
        "drawn",
        split.mixtures[:1] * 400,
        split.captions,
        [],
        rng.random(shape) < 1 / (1 + np.exp(-logits)),
        np.ones(shape[:2], bool),
        FRAME_S,
    )
    uncalibrated = SplitLogits(drawn, evidence, np.zeros(len(split.captions), np.float32))
    fitted = splits.platt_scale(uncalibrated, uncalibrated)
    assert fitted.logits == pytest.approx(logits, abs=0.1)
    rate = drawn.active.mean()
    assert fitted.logit_bias == pytest.approx(math.log(rate / (1 - rate)))
    assert fitted.probs().mean() == pytest.approx(rate, abs=1e-3)


@pytest.mark.parametrize("factor", [1, 0, -1])
def test_calibration_keeps_the_order_of_any_evidence(split, factor):
    """Of evidence that is right, that is worth nothing, and that is wrong."""
    noise = random_logits(split)
    evidence = noise.logits / 5 + 4 * np.float32(factor) * split.active
    uncalibrated = replace(noise, logits=evidence)
    fitted = splits.platt_scale(uncalibrated, uncalibrated)
    assert (np.argsort(fitted.scores(), axis=None) == np.argsort(evidence, axis=None)).all()


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_a_model_says_the_same_in_batches_of_any_size(folder, batch_size):
    split, bank, _ = read_split(folder)
    model = FLAM.from_pretrained(folder / "artifacts/checkpoints/flam")
    logits = splits.predict_logits(model, split, bank, batch_size=batch_size, progress=False)
    recipe = split.mixtures[3]
    waveform = splits.recipes.render(bank, recipe)
    alone = {
        method: model.score(waveform, bank.sample_rate, split.captions, method)[0].numpy()
        for method in ("unbiased", "biased")
    }
    assert logits.scores()[3] == pytest.approx(alone["unbiased"], abs=1e-5)
    assert logits.probs()[3] == pytest.approx(alone["biased"], abs=1e-5)


def test_other_tools_find_scores_and_truth(split, tmp_path):
    logits = {"flam": random_logits(split), "other": random_logits(split, seed=1)}
    splits.write_scores(tmp_path / "scores", {split.name: split}, {split.name: logits})
    truth = tmp_path / "scores/ground_truth/seen_captions"
    assert read_events(truth / "events.tsv") == dict(zip(split.clips, split.events, strict=True))
    durations = pd.read_csv(truth / "durations.tsv", sep="\t", index_col="filename")["duration"]
    assert durations.to_dict() == dict.fromkeys(split.clips, split.clip_s)
    assert len(pd.read_csv(truth / "unknown.tsv", sep="\t")) == (~split.known).sum()

    for model, of_model in logits.items():
        table = pd.read_parquet(tmp_path / f"scores/{model}/seen_captions.parquet")
        assert list(table) == ["filename", "onset", "offset", *split.captions]
        for i, (clip, frames) in enumerate(table.groupby("filename", sort=False)):
            assert clip == split.clips[i]
            assert frames["onset"].tolist() == split.frame_edges[:-1].tolist()
            assert frames["offset"].tolist() == split.frame_edges[1:].tolist()
            scores = frames[split.captions].to_numpy().T
            assert scores == pytest.approx(of_model.scores()[i], abs=1e-6)


def test_the_true_events_are_found_in_perfect_scores(split):
    """The frames of the labels and the edges of the scores are one grid."""
    found = events_from_scores(
        split.active[0].T.astype(float), split.frame_edges, split.captions,
        threshold=0.5, min_duration_s=0.0, merge_gap_s=0.0,
    )  # fmt: skip
    assert {f.caption for f in found} == {e.caption for e in split.events[0]}
    for event in split.events[0]:
        nearest = min(abs(f.onset - event.onset) for f in found if f.caption == event.caption)
        assert nearest <= FRAME_S


def test_a_plot_has_the_active_captions_and_the_absent_ones_of_the_highest_scores(split):
    all_scores = random_logits(split).scores()
    for clip, events in enumerate(split.events):
        shown = splits.plot_inputs(split, all_scores, clip, n_absent=1)
        sounding = {event.caption for event in events}
        [*first, last] = shown["captions"]
        silent = [
            j
            for j, caption in enumerate(split.captions)
            if split.known[clip, j] and caption not in sounding
        ]
        if silent:
            loudest = max(silent, key=lambda j: all_scores[clip, j].max())
            assert (set(first), last) == (sounding, split.captions[loudest])
        for caption, scores in zip(shown["captions"], shown["scores"].T, strict=True):
            assert (scores == all_scores[clip, split.captions.index(caption)]).all()
        assert shown["ground_truth"] == events
