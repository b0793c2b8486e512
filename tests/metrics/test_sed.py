from dataclasses import replace

import numpy as np
import pytest
from scored_frames import clip_scores
from sklearn.metrics import roc_auc_score

from flamlib.metrics import bootstrap, f1, sed
from flamlib.metrics import clip_scores as of_clips
from flamlib.metrics.sed import Criteria
from flamlib.sound_events.events import Event
from flamlib.sound_events.smoothing import Smoothing

CRITERIA = Criteria(
    segment_s=1.0, max_fpr=0.1, collar_s=0.2, collar_rate=0.2, smoothing=Smoothing(3)
)


def test_the_numbers_are_those_of_the_frames():
    of = clip_scores()
    rows, found = of.by_frame, sed.compute(of, CRITERIA, threshold=0.8)
    expected = [roc_auc_score(a, s) for a, s in zip(rows.active.T, rows.scores.T, strict=True)]
    assert found["auroc_macro"] == pytest.approx(np.mean(expected))
    counts = rows.counts_at(0.8).sum(axis=0)
    claimed = rows.scores >= 0.8
    assert counts[:, 0].tolist() == (claimed & rows.active).sum(axis=0).tolist()
    assert counts[:, 1].tolist() == claimed.sum(axis=0).tolist()
    assert (found["n_clips"], found["n_captions"], found["n_unknown"]) == (6, 3, 0)


def test_smoothing_is_for_detections_and_not_for_ranking():
    plain, smooth = (
        sed.compute(
            clip_scores(), Criteria(1.0, 0.1, 0.2, 0.2, smoothing=Smoothing(n)), threshold=0.8
        )
        for n in (1, 3)
    )
    assert plain["psds1"] == plain["psds1_raw"] == smooth["psds1_raw"]
    assert plain["auroc_macro"] == smooth["auroc_macro"]
    assert plain["psds2"] != smooth["psds2"]


def test_what_is_unknown_might_as_well_be_anything():
    known = np.random.default_rng(0).random((6, 3)) < 0.7
    one = clip_scores(known=known)
    poisoned = [np.where(k, s, 9.0) for s, k in zip(one.scores, known, strict=True)]
    other = clip_scores(known=known, scores=poisoned)
    first, second = (sed.compute(of, CRITERIA, threshold=0.8) for of in (one, other))
    assert first == pytest.approx(second, nan_ok=True)
    assert first["n_unknown"] == (~known).sum() > 0


def test_every_clip_once_is_the_number_itself():
    of = clip_scores()
    found = sed.compute(of, CRITERIA, threshold=0.8)
    once = np.ones(6, dtype=int)
    made = sed.statistics(of, CRITERIA, threshold=0.8)
    assert set(made) <= set(found)
    for name, make in made.items():
        assert make()(once) == pytest.approx(found[name], abs=1e-9), name


def test_a_better_model_is_told_from_a_worse_one():
    good = clip_scores(n_clips=30)
    noise = np.random.default_rng(0)
    bad = clip_scores(n_clips=30, scores=[s + noise.normal(0, 3, s.shape) for s in good.scores])
    makers = {
        name: sed.statistics(of, CRITERIA, threshold=0.8)
        for name, of in (("good", good), ("bad", bad))
    }
    bounds, tests = sed.confidence_intervals(
        makers, 30, against=[("good", "bad")], n_resamples=99, seed=0
    )
    assert bounds["bad"]["auroc_macro_high"] < bounds["good"]["auroc_macro_low"]
    compared = tests["good - bad"]
    assert compared["auroc_macro_p"] == 2 / 100
    low, difference, high = (compared[f"auroc_macro{end}"] for end in ("_low", "", "_high"))
    assert 0 < low < difference < high


def test_a_number_that_one_model_lacks_is_bounded_for_the_other_alone():
    makers = {"both": lambda: bootstrap.clip_mean(np.arange(4.0))}
    more = makers | {"one": lambda: bootstrap.clip_mean(np.arange(4.0) + 7)}
    bounds, tests = sed.confidence_intervals(
        {"a": makers, "b": more}, 4, against=[("a", "b")], n_resamples=9, seed=0
    )
    assert set(bounds["a"]) == {"both_low", "both_high"}
    assert 7 <= bounds["b"]["one_low"] <= bounds["b"]["one_high"] <= 10
    assert set(tests["a - b"]) == {"both", "both_low", "both_high", "both_p"}


def test_the_best_threshold_is_the_best():
    smooth = clip_scores().smoothed(CRITERIA.smoothing)
    threshold, best = sed.best_threshold(smooth, n_thresholds=19)
    found = sed.compute(clip_scores(), CRITERIA, threshold=threshold)
    assert best == pytest.approx(found["f1"])
    rows = smooth.by_frame
    for other in np.linspace(0.05, 0.95, 19):
        found = f1.f1_of_counts(rows.counts_at(other))["f1_macro"]
        assert found <= best + 1e-12


def test_a_caption_and_clips_without_events_crash_nothing():
    quiet = clip_scores(ground_truth=[[Event(1.0, 2.0, "caption 0")], *[[]] * 5])
    found = sed.compute(quiet, CRITERIA, threshold=0.8)
    assert found["n_skipped"] == 2
    assert 0 <= found["psds1_mean"] <= 1
    nothing = clip_scores(ground_truth=[[]] * 6)
    found = sed.compute(nothing, CRITERIA, threshold=0.8)
    assert np.isnan([found["auroc_macro"], found["psds1"], found["event_f1"]]).all()


@pytest.mark.parametrize("block", [1, 200, 1000])
@pytest.mark.parametrize("median_frames", [1, 3])
def test_a_large_set_is_judged_in_blocks_to_the_same_bit(monkeypatch, block, median_frames):
    known = np.random.default_rng(1).random((6, 3)) < 0.8
    of = clip_scores(known=known)
    criteria = replace(CRITERIA, smoothing=Smoothing(median_frames))
    whole = sed.compute_with_captions(of, criteria, threshold=0.6)
    best = sed.best_threshold(of, n_thresholds=19)
    monkeypatch.setattr(of_clips, "BLOCK", block)
    assert sed.best_threshold(of, n_thresholds=19) == best
    metrics, by_caption = sed.compute_with_captions(of, criteria, threshold=0.6)
    np.testing.assert_equal((metrics, by_caption), whole)
