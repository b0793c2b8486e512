import math

import numpy as np
import pandas as pd
import pytest
from heldouts import FRAME_S, N_FRAMES, read_part, write_artifacts
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flamlib.detection import events_from_scores
from flamlib.evaluation import splits
from flamlib.evaluation.splits import Hearing, Part
from flamlib.events import active_frames, read_events
from flamlib.models.flam import FLAM


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_artifacts(tmp_path_factory.mktemp("heldout"))


@pytest.fixture(scope="module")
def part(folder):
    return read_part(folder)[0]


def random_hearing(part, seed=0):
    rng = np.random.default_rng(seed)
    return Hearing(
        rng.normal(0, 3, part.active.shape).astype(np.float32),
        rng.normal(-4, 1, len(part.captions)).astype(np.float32),
    )


def test_every_clip_is_asked_for_every_caption_that_sounds_anywhere(part):
    assert part.captions == sorted({e.caption for r in part.mixtures for e in r.labels})
    assert part.active.shape == (len(part.mixtures), len(part.captions), N_FRAMES)


def test_the_events_of_a_clip_are_when_its_captions_are_true(part):
    """Also where it is true because another caption is: a bell that rings is a tone."""
    for events, active in zip(part.events, part.active, strict=True):
        frames = active_frames(events, part.captions, n_frames=N_FRAMES, frame_s=FRAME_S)
        assert (frames == active).all()
    tone, rings = part.captions.index("a tone"), part.captions.index("a bell rings")
    assert part.active[:, rings].any()
    assert (part.active[:, tone] | ~part.active[:, rings]).all()


def test_what_cannot_be_said_is_unknown(part):
    """A hiss might be called a rattle, so where one sounds the other is not asked for."""
    hiss, rattle = part.captions.index("a hiss"), part.captions.index("a rattle")
    for recipe, known in zip(part.mixtures, part.known, strict=True):
        sounding = {event.caption for event in recipe.labels}
        assert known[hiss] == ("a rattle" not in sounding)
        assert known[rattle] == ("a hiss" not in sounding)


def test_mixtures_without_sounds_are_refused(folder):
    part, bank, lexicon = read_part(folder)
    silent = [recipe._replace(labels=()) for recipe in part.mixtures]
    with pytest.raises(ValueError, match="nothing sounds in any"):
        Part.of("quiet", silent, bank, lexicon, frame_s=FRAME_S)


def test_frames_stand_below_one_another(part):
    numbered = np.arange(part.active.size, dtype=float).reshape(part.active.shape)
    rows = part.by_frame(numbered)
    for clip, caption, frame in [(0, 0, 0), (1, 2, 3), (11, 1, 7)]:
        assert rows[clip * N_FRAMES + frame, caption] == numbered[clip, caption, frame]
        assert part.clip_by_frame[clip * N_FRAMES + frame] == clip
        assert (part.known_by_frame[clip * N_FRAMES + frame] == part.known[clip]).all()


def test_the_active_share_is_that_of_the_known_frames(part):
    for caption, share in enumerate(part.active_share):
        frames = [part.active[i, caption] for i, known in enumerate(part.known) if known[caption]]
        assert share == pytest.approx(np.mean(frames))


def test_logits_at_the_prior_say_nothing():
    bias = np.array([-9.0, -1.0, 3.0])
    heard = Hearing(np.broadcast_to(bias[None, :, None], (2, 3, 4)), bias)
    assert heard.score == pytest.approx(0.5)
    assert heard.prob[0, :, 0] == pytest.approx(1 / (1 + np.exp(-bias)))


@given(arrays(np.float32, 20, elements=st.floats(-50, 25, width=32)), st.floats(-12, 0))
def test_scores_have_the_order_of_the_logits(logits, bias):
    heard = Hearing(logits[None, None], np.array([bias]))
    for sure in (heard.score, heard.prob):
        assert ((sure >= 0) & (sure <= 1)).all()
        order = np.argsort(logits)
        apart = np.diff(logits[order]) > 1e-3
        assert (np.diff(sure[0, 0, order])[apart] > 0).all()


def test_calibration_finds_the_multiplier_and_the_shift(part):
    """The truth is drawn with probability sigmoid(0.7 evidence - 2)."""
    rng = np.random.default_rng(0)
    shape = (400, len(part.captions), 40)
    evidence = rng.normal(0, 4, shape).astype(np.float32)
    logits = 0.7 * evidence - 2
    drawn = Part(
        "drawn",
        part.mixtures[:1] * 400,
        part.captions,
        [],
        rng.random(shape) < 1 / (1 + np.exp(-logits)),
        np.ones(shape[:2], bool),
        FRAME_S,
    )
    heard = Hearing(evidence, np.zeros(len(part.captions), np.float32))
    fitted = splits.calibrated(heard, heard, drawn)
    assert fitted.logits == pytest.approx(logits, abs=0.1)
    rate = drawn.active.mean()
    assert fitted.logit_bias == pytest.approx(math.log(rate / (1 - rate)))
    assert fitted.prob.mean() == pytest.approx(rate, abs=1e-3)


@pytest.mark.parametrize("factor", [1, 0, -1])
def test_calibration_keeps_the_order_of_any_evidence(part, factor):
    """Of evidence that is right, that is worth nothing, and that is wrong."""
    noise = random_hearing(part)
    heard = noise._replace(logits=noise.logits / 5 + 4 * np.float32(factor) * part.active)
    fitted = splits.calibrated(heard, heard, part)
    assert (np.argsort(fitted.score, axis=None) == np.argsort(heard.logits, axis=None)).all()


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_a_model_says_the_same_in_batches_of_any_size(folder, batch_size):
    part, bank, _ = read_part(folder)
    model = FLAM.from_pretrained(folder / "artifacts/checkpoints/flam")
    heard = splits.hear(model, part, bank, batch_size=batch_size, progress=False)
    recipe = part.mixtures[3]
    waveform = splits.recipes.render(bank, recipe)
    alone = {
        method: model.score(waveform, bank.sample_rate, part.captions, method)[0].numpy()
        for method in ("unbiased", "biased")
    }
    assert heard.score[3] == pytest.approx(alone["unbiased"], abs=1e-5)
    assert heard.prob[3] == pytest.approx(alone["biased"], abs=1e-5)


def test_other_tools_find_scores_and_truth(part, tmp_path):
    hearings = {"flam": random_hearing(part), "other": random_hearing(part, seed=1)}
    splits.write_scores(tmp_path / "scores", {part.name: part}, {part.name: hearings})
    truth = tmp_path / "scores/ground_truth/seen_captions"
    assert read_events(truth / "events.tsv") == dict(zip(part.clips, part.events, strict=True))
    durations = pd.read_csv(truth / "durations.tsv", sep="\t", index_col="filename")["duration"]
    assert durations.to_dict() == dict.fromkeys(part.clips, part.clip_s)
    assert len(pd.read_csv(truth / "unknown.tsv", sep="\t")) == (~part.known).sum()

    for model, heard in hearings.items():
        table = pd.read_parquet(tmp_path / f"scores/{model}/seen_captions.parquet")
        assert list(table) == ["filename", "onset", "offset", *part.captions]
        for i, (clip, frames) in enumerate(table.groupby("filename", sort=False)):
            assert clip == part.clips[i]
            assert frames["onset"].tolist() == part.frame_edges[:-1].tolist()
            assert frames["offset"].tolist() == part.frame_edges[1:].tolist()
            scores = frames[part.captions].to_numpy().T
            assert scores == pytest.approx(heard.score[i], abs=1e-6)


def test_the_true_events_are_found_in_perfect_scores(part):
    """The frames of the labels and the edges of the scores are one grid."""
    found = events_from_scores(
        part.active[0].T.astype(float), part.frame_edges, part.captions,
        threshold=0.5, min_duration_s=0.0, merge_gap_s=0.0,
    )  # fmt: skip
    assert {f.caption for f in found} == {e.caption for e in part.events[0]}
    for event in part.events[0]:
        nearest = min(abs(f.onset - event.onset) for f in found if f.caption == event.caption)
        assert nearest <= FRAME_S


def test_a_scene_holds_what_sounds_and_what_might_be_taken_for_it(part):
    heard = random_hearing(part)
    for clip, events in enumerate(part.events):
        shown = splits.scene(part, heard.score, clip, n_absent=1)
        sounding = {event.caption for event in events}
        [*first, last] = shown["captions"]
        silent = [
            j
            for j, caption in enumerate(part.captions)
            if part.known[clip, j] and caption not in sounding
        ]
        if silent:
            loudest = max(silent, key=lambda j: heard.score[clip, j].max())
            assert (set(first), last) == (sounding, part.captions[loudest])
        for caption, scores in zip(shown["captions"], shown["scores"].T, strict=True):
            assert (scores == heard.score[clip, part.captions.index(caption)]).all()
        assert shown["truth"] == events
