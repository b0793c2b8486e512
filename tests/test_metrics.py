import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from flamlib import metrics

levels = st.sampled_from([2, 5, 10_000])  # from many ties to hardly any
seeds = st.integers(0, 2**32 - 1)


def frames(seed, n_levels, n_frames=60, n_captions=4):
    """Scores with ties, labels that the scores know something of, some of them not known."""
    rng = np.random.default_rng(seed)
    active = rng.random((n_frames, n_captions)) < rng.choice([0.0, 0.1, 0.5, 1.0], n_captions)
    scores = np.floor((rng.random(active.shape) + 0.3 * active) * n_levels) / n_levels
    return scores, active, rng.random(active.shape) < 0.8


# Frame-wise ranking


def test_auroc_counts_pairs():
    """Active 3 and 1 against silent 2 and 0: three of four pairs are in order."""
    scores = np.array([[3.0], [2.0], [1.0], [0.0]])
    active = np.array([[True], [False], [True], [False]])
    assert metrics.frame_auroc(scores, active)["macro"] == 0.75
    assert metrics.frame_auroc(-scores, active)["macro"] == 0.25
    assert metrics.frame_auroc(0 * scores, active)["macro"] == 0.5


@settings(max_examples=40)  # scikit-learn takes a millisecond for each caption
@given(seeds, levels)
def test_auroc_and_average_precision_are_scikit_learns(seed, n_levels):
    scores, active, known = frames(seed, n_levels)
    auroc = metrics.frame_auroc(scores, active, known)
    precision = metrics.average_precision(scores, active, known)
    for i in range(scores.shape[1]):
        asked = known[:, i]
        if len(set(active[asked, i])) == 2:
            expected = roc_auc_score(active[asked, i], scores[asked, i])
            assert auroc["per_caption"][i] == pytest.approx(expected, abs=1e-12)
            expected = average_precision_score(active[asked, i], scores[asked, i])
            assert precision["per_caption"][i] == expected
        else:
            assert np.isnan(auroc["per_caption"][i])
            assert np.isnan(precision["per_caption"][i])
    if len(set(active[known])) == 2:
        expected = roc_auc_score(active[known], scores[known])
        assert auroc["pooled"] == pytest.approx(expected, abs=1e-12)


@given(seeds, levels)
def test_unknown_frames_might_as_well_be_absent_or_poisoned(seed, n_levels):
    scores, active, known = frames(seed, n_levels, n_captions=1)
    absent = metrics.frame_auroc(scores[known][:, None], active[known][:, None])
    poisoned = metrics.frame_auroc(np.where(known, scores, np.nan), active, known)
    assert poisoned["pooled"] == pytest.approx(absent["pooled"], nan_ok=True)


def test_captions_with_one_class_are_left_out_and_counted():
    scores = np.array([[0.9, 0.5, 0.1], [0.1, 0.5, 0.9]])
    active = np.array([[True, True, False], [False, True, False]])
    for result in (metrics.frame_auroc(scores, active), metrics.average_precision(scores, active)):
        assert (result["macro"], result["n_skipped"]) == (1.0, 2)
    nothing = metrics.frame_auroc(scores, np.zeros_like(active))
    assert np.isnan([nothing["macro"], nothing["pooled"]]).all()
    assert nothing["n_skipped"] == 3


def test_pooled_auroc_minds_a_caption_that_is_louder_and_macro_does_not():
    scores = np.array([[0.2, 0.9], [0.1, 0.8]])
    active = np.array([[True, True], [False, False]])
    result = metrics.frame_auroc(scores, active)
    assert (result["macro"], result["pooled"]) == (1.0, 0.75)


@pytest.mark.parametrize("measure", [metrics.frame_auroc, metrics.average_precision])
def test_a_score_that_is_not_a_number_is_found(measure):
    scores = np.zeros((3, 2))
    scores[2, 1] = np.nan
    with pytest.raises(ValueError, match="row 2, column 1 is NaN"):
        measure(scores, scores > 0)


# One threshold for all


@pytest.mark.parametrize("seed", range(10))
def test_f1_is_scikit_learns(seed):
    scores, active, known = frames(seed, n_levels=10)
    thresholds = np.array([0.0, 0.2, 0.4, 0.5, 2.0])
    result = metrics.f1_over_thresholds(scores, active, thresholds, known)
    heard = (active & known).any(axis=0)
    for i, threshold in enumerate(thresholds):
        claimed = scores >= threshold
        if heard.any():
            macro = np.mean(
                [
                    f1_score(active[k, c], claimed[k, c], zero_division=0.0)
                    for c, k in enumerate(known.T)
                    if heard[c]
                ]
            )
            assert result["f1_macro"][i] == pytest.approx(macro)
            pooled = f1_score(active[known], claimed[known], zero_division=0.0)
            assert result["f1_pooled"][i] == pytest.approx(pooled)
        else:
            assert np.isnan(result["f1_macro"][i])


def test_the_best_threshold_is_the_lowest_of_the_best():
    scores, active = np.array([[0.9], [0.6], [0.1]]), np.array([[True], [True], [False]])
    result = metrics.f1_over_thresholds(scores, active, np.array([0.05, 0.2, 0.5, 0.7]))
    assert result["f1_macro"].tolist() == pytest.approx([0.8, 1.0, 1.0, 2 / 3])
    assert result["best_macro"] == result["best_pooled"] == 0.2


def test_a_score_at_the_threshold_is_a_detection_in_any_precision():
    scores, active = np.array([[0.7], [0.1]], dtype=np.float32), np.array([[True], [False]])
    assert metrics.f1_over_thresholds(scores, active, np.array([0.7]))["f1_macro"] == [1.0]


def test_thresholds_out_of_order_are_refused():
    with pytest.raises(ValueError, match="rising order"):
        metrics.f1_over_thresholds(np.zeros((1, 1)), np.ones((1, 1), bool), np.array([0.5, 0.1]))


# Calibration


def test_the_example_of_torchmetrics():
    prob = np.array([0.25, 0.25, 0.55, 0.75, 0.75])
    active = np.array([0, 0, 1, 1, 1], dtype=bool)
    assert metrics.expected_calibration_error(prob, active, n_bins=2) == pytest.approx(0.29)
    bins = metrics.reliability(prob, active, n_bins=2)
    assert bins["centre"].tolist() == [0.25, 0.75]
    assert bins["mean_prob"].tolist() == pytest.approx([0.25, 2.05 / 3])
    assert bins["frequency"].tolist() == [0.0, 1.0]
    assert bins["count"].tolist() == [2, 3]


@given(seeds)
def test_calibration_error_agrees_with_the_definition(seed):
    rng = np.random.default_rng(seed)
    prob = rng.random((30, 4)).round(rng.integers(1, 4))
    active = rng.random(prob.shape) < prob**2
    expected = 0.0
    for k in range(8):  # eighths, so that no probability is on the wrong side of an edge
        inside = (prob >= k / 8) & ((prob < (k + 1) / 8) | (k == 7))
        if inside.any():
            expected += inside.mean() * abs(active[inside].mean() - prob[inside].mean())
    assert metrics.expected_calibration_error(prob, active, n_bins=8) == pytest.approx(expected)


def test_claiming_the_truth_is_calibrated_and_claiming_the_opposite_is_not():
    active = np.array([True, False, True])
    for measure in (metrics.expected_calibration_error, metrics.brier):
        assert measure(active.astype(float), active) == 0.0
        assert measure(1.0 - active, active) == 1.0


def test_empty_bins_say_nothing():
    bins = metrics.reliability(np.array([1.0]), np.array([True]), n_bins=3)
    assert bins["count"].tolist() == [0, 0, 1]
    assert np.isnan(bins["frequency"][:2]).all()


@pytest.mark.parametrize("claim", [-0.1, 1.5, np.nan])
def test_a_logit_is_not_a_probability(claim):
    with pytest.raises(ValueError, match="logits"):
        metrics.brier(np.array([claim]), np.array([True]))


# Retrieval


def slow_retrieval(similarity, right):
    """The definition, one query at a time: every wrong answer that is as good goes first."""
    ranks, precisions = [], []
    for sims, is_right in zip(similarity, right, strict=True):
        if not is_right.any():
            continue
        order = np.lexsort((is_right, -sims))
        places = 1 + np.flatnonzero(is_right[order])
        ranks.append(places[0])
        hits = [(i + 1) / place for i, place in enumerate(places) if place <= 10]
        precisions.append(sum(hits) / min(10, is_right.sum()))
    ranks = np.array(ranks)
    return {
        **{f"r{k}": np.mean(ranks <= k) for k in (1, 5, 10)},
        "map10": np.mean(precisions),
        "median_rank": np.median(ranks),
        "n": len(ranks),
    }


@given(seeds)
def test_retrieval_agrees_with_the_definition(seed):
    rng = np.random.default_rng(seed)
    clips, captions = rng.integers(1, 16), rng.integers(1, 30)
    # Small whole numbers: similarities are exact, and many are equal.
    clip_emb, caption_emb = rng.integers(-1, 2, (clips, 3)) / 4, rng.integers(-1, 2, (captions, 3))
    relevant = rng.random((captions, clips)) < 0.3
    relevant[0, 0] = True
    caption_emb = caption_emb.astype(np.float32)
    ours = metrics.retrieval(clip_emb.astype(np.float32), caption_emb, relevant=relevant)
    similarity = caption_emb @ clip_emb.T
    expected = {f"t2a_{k}": v for k, v in slow_retrieval(similarity, relevant).items()}
    expected |= {f"a2t_{k}": v for k, v in slow_retrieval(similarity.T, relevant.T).items()}
    assert ours == pytest.approx(expected)


def test_five_captions_a_clip_count_by_the_best_of_them():
    """Clip 0's captions rank 2 and 3 in its own search, behind one of clip 1's."""
    clip_emb = np.array([[1.0, 0.0], [0.0, 1.0]])
    caption_emb = np.array([[0.8, 0.0], [0.7, 0.0], [0.9, 1.0], [0.0, 0.5]])
    result = metrics.retrieval(clip_emb, caption_emb, np.array([0, 0, 1, 1]))
    assert [result[f"t2a_{k}"] for k in ("r1", "map10", "median_rank")] == [1.0, 1.0, 1.0]
    assert [result[f"a2t_{k}"] for k in ("r1", "r5", "median_rank")] == [0.5, 1.0, 1.5]
    assert result["a2t_map10"] == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1.0) / 2)


def test_a_caption_true_of_several_clips_is_served_by_any():
    clip_emb, caption_emb = np.eye(3), np.array([[0.1, 0.9, 0.5]])
    relevant = np.array([[True, True, False]])
    result = metrics.retrieval(clip_emb, caption_emb, relevant=relevant)
    assert result["t2a_r1"] == 1.0
    assert result["t2a_map10"] == pytest.approx((1 + 2 / 3) / 2)
    assert result["a2t_n"] == 2  # nothing is right for the third clip


def test_a_model_that_cannot_tell_clips_apart_finds_nothing():
    rng = np.random.default_rng(0)
    one_for_all = np.tile(rng.normal(size=(1, 64)), (50, 1)).astype(np.float32)
    caption_emb = rng.normal(size=(50, 64)).astype(np.float32)
    result = metrics.retrieval(one_for_all, caption_emb, np.arange(50))
    assert (result["t2a_r10"], result["t2a_median_rank"]) == (0.0, 50.0)


def test_searching_in_blocks_changes_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    given = rng.normal(size=(20, 8)), rng.normal(size=(60, 8)), np.arange(60) // 3
    whole = metrics.retrieval(*given)
    monkeypatch.setattr(metrics, "SIMILARITIES", 100)
    assert metrics.retrieval(*given) == pytest.approx(whole)


def test_what_retrieval_cannot_mean_is_refused():
    emb = np.eye(2)
    with pytest.raises(ValueError, match="either"):
        metrics.retrieval(emb, emb)
    with pytest.raises(ValueError, match="beyond the 2 clips"):
        metrics.retrieval(emb, emb, np.array([0, 2]))
    with pytest.raises(ValueError, match="caption_emb is not finite in row 1"):
        metrics.retrieval(emb, np.array([[1.0, 0.0], [np.nan, 0.0]]), np.array([0, 1]))


# Intervals


@pytest.mark.parametrize("pooled", [False, True])
@given(seeds, levels)
def test_a_draw_of_clips_is_the_auroc_of_those_clips(pooled, seed, n_levels):
    scores, active, known = frames(seed, n_levels)
    clip_of_frame = np.arange(60) // 10
    statistic = metrics.clip_auroc(scores, active, clip_of_frame, known, pooled=pooled)
    times_drawn = np.random.default_rng(seed).multinomial(6, np.full(6, 1 / 6))
    repeated = np.repeat(np.arange(60), times_drawn[clip_of_frame])
    drawn = metrics.frame_auroc(scores[repeated], active[repeated], known[repeated])
    expected = drawn["pooled" if pooled else "macro"]
    assert statistic(times_drawn) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_the_interval_of_a_mean_is_about_two_standard_errors():
    values = np.random.default_rng(0).normal(size=400)
    interval = metrics.bootstrap(metrics.clip_mean(values), 400, n_resamples=2000, seed=1)
    error = values.std() / 20
    assert interval == pytest.approx(values.mean() + 1.96 * error * np.array([-1, 1]), abs=0.01)


def test_the_same_seed_draws_the_same_clips():
    statistic = metrics.clip_mean(np.random.default_rng(0).normal(size=9))
    once, again, other = (
        metrics.bootstrap(statistic, 9, n_resamples=50, seed=seed) for seed in (1, 1, 2)
    )
    assert once == again != other


def test_a_constant_advantage_is_certain_however_hard_the_clips():
    values = np.random.default_rng(0).normal(size=30)
    better, worse = metrics.clip_mean(values + 0.1), metrics.clip_mean(values)
    interval = metrics.paired_bootstrap(better, worse, 30, n_resamples=100, seed=0)
    assert interval == pytest.approx((0.1, 0.1))


def test_draws_with_nothing_to_judge_are_left_out():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nowhere = metrics.bootstrap(lambda times: np.nan, 3, n_resamples=5, seed=0)
        seldom = metrics.bootstrap(
            lambda times: 1.0 if times[0] else np.nan, 3, n_resamples=50, seed=0
        )
    assert np.isnan(nowhere).all()
    assert seldom == (1.0, 1.0)


def test_psds_is_here_too():
    assert metrics.psds.__module__ == "flamlib.psds"
