import numpy as np
import pytest

from flamlib.metrics import outcomes, retrieval


def once(outcome):
    """Every statistic of an outcome, with each clip drawn once."""
    return {
        name: float(make()(np.ones(n, dtype=int)))
        for n, makers in outcome.resamplings
        for name, make in makers.items()
    }


def embedded(n_clips=12, n_captions=30, seed=0):
    rng = np.random.default_rng(seed)
    clip_of_caption = rng.integers(0, n_clips, n_captions)
    clip_emb = rng.normal(size=(n_clips, 6))
    return clip_emb, clip_emb[clip_of_caption] + rng.normal(size=(n_captions, 6)), clip_of_caption


def test_every_number_of_a_search_has_its_statistic():
    given = embedded()
    outcome = outcomes.retrieval_outcome(*given)
    expected = retrieval.retrieval(*given)
    assert outcome.metrics == expected | {"n_clips": 12, "n_captions": 30}
    drawn = once(outcome)
    assert set(drawn) == {name for name in expected if not name.endswith("_n")}
    for name, value in drawn.items():
        assert value == pytest.approx(expected[name]), name


def test_a_clip_is_drawn_with_its_captions():
    clip_emb, caption_emb, clip_of_caption = embedded()
    [(n_units, makers)] = outcomes.retrieval_outcome(
        clip_emb, caption_emb, clip_of_caption
    ).resamplings
    assert n_units == 12
    times = np.random.default_rng(1).multinomial(12, np.full(12, 1 / 12))
    found, _ = retrieval.ranks(clip_emb, caption_emb, clip_of_caption)
    ranks = np.repeat(found.first_rank, times[clip_of_caption[found.query]])
    assert makers["t2a_r5"]()(times) == pytest.approx(np.mean(ranks <= 5))
    assert makers["t2a_median_rank"]()(times) == np.median(ranks)


def test_captions_that_clips_share_are_counted_and_both_ways_of_counting_given():
    clip_emb, caption_emb, clip_of_caption = embedded()
    text_of_caption = np.arange(30)
    alone = outcomes.retrieval_outcome(
        clip_emb, caption_emb, clip_of_caption, text_of_caption=text_of_caption
    )
    plain = outcomes.retrieval_outcome(clip_emb, caption_emb, clip_of_caption)
    assert alone.metrics == plain.metrics | {"n_shared": 0}
    others = np.flatnonzero(clip_of_caption != clip_of_caption[0])[:2]
    text_of_caption[others] = 0
    text_of_caption[np.flatnonzero(clip_of_caption == clip_of_caption[0])[-1]] = 0
    shared = outcomes.retrieval_outcome(
        clip_emb, caption_emb, clip_of_caption, text_of_caption=text_of_caption
    )
    assert shared.metrics["n_shared"] == np.count_nonzero(text_of_caption == 0)
    for name in ("t2a_r1", "t2a_r10", "a2t_r5"):
        assert shared.metrics[f"{name}_own"] == plain.metrics[name] <= shared.metrics[name]
    [(n_units, _)] = shared.resamplings
    assert n_units == 12
    for name, value in once(shared).items():
        assert value == pytest.approx(shared.metrics[name]), name


def test_a_caption_of_many_clips_is_drawn_as_itself():
    clip_emb, caption_emb, _ = embedded()
    relevant = np.random.default_rng(2).random((30, 12)) < 0.2
    outcome = outcomes.retrieval_outcome(clip_emb, caption_emb, relevant=relevant)
    assert [n for n, _ in outcome.resamplings] == [30, 12]
    for name, value in once(outcome).items():
        assert value == pytest.approx(outcome.metrics[name]), name
    assert outcome.metrics["t2a_n"] == relevant.any(axis=1).sum()


def test_every_accuracy_has_its_statistic():
    rng = np.random.default_rng(0)
    truth, folds = rng.integers(0, 8, 40), rng.integers(1, 6, 40)
    class_emb = rng.normal(size=(8, 5))
    clip_emb = class_emb[truth] + rng.normal(size=(40, 5))
    by_template = {"name": class_emb, "sound_of": rng.normal(size=(8, 5))}
    outcome = outcomes.classification_outcome(clip_emb, by_template, truth, folds)
    drawn = once(outcome)
    by_fold = {f"fold_{fold}" for fold in np.unique(folds)}
    named = {"top1", "top5", "macro", "fold_mean", "top1_name", "top1_sound_of"}
    assert set(drawn) == named | by_fold
    alone = outcomes.classification_outcome(clip_emb, by_template, truth, 0 * folds)
    assert set(once(alone)) == named  # one fold is no other number than all
    for name, value in drawn.items():
        assert value == pytest.approx(outcome.metrics[name]), name
    assert outcome.metrics["top1"] == outcome.metrics["top1_name"]
    assert (outcome.metrics["n_clips"], outcome.metrics["n_captions"]) == (40, 8)
    assert set(outcome.metrics["per_fold"]) == {str(fold) for fold in np.unique(folds)}


def test_models_are_tested_against_one_on_the_same_draws():
    good, bad = embedded(), embedded(seed=1)
    judged = {"flam": outcomes.retrieval_outcome(*good), "same": outcomes.retrieval_outcome(*good)}
    judged["other"] = outcomes.retrieval_outcome(good[0], bad[1], good[2])
    table = outcomes.compare(judged, against="flam", n_resamples=49, seed=0)
    for name in ("t2a_r5", "a2t_median_rank"):
        low, value, high = (table["flam"][f"{name}{end}"] for end in ("_low", "", "_high"))
        assert low <= value <= high
        assert table["difference"]["same"][name] == table["difference"]["same"][f"{name}_high"] == 0
        assert table["difference"]["other"][name] == pytest.approx(value - table["other"][name])
    assert "t2a_n_low" not in table["flam"]
