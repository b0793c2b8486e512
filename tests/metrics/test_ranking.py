import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_frames import frames, levels, pooled_auroc, seeds
from sklearn.metrics import average_precision_score, roc_auc_score

from flamlib.metrics import ranking


def test_auroc_counts_pairs():
    """Active 3 and 1 against silent 2 and 0: three of four pairs are in order."""
    scores = np.array([[3.0], [2.0], [1.0], [0.0]])
    active = np.array([[True], [False], [True], [False]])
    assert ranking.caption_auroc(scores, active) == [0.75]
    assert ranking.caption_auroc(-scores, active) == [0.25]
    assert ranking.caption_auroc(0 * scores, active) == [0.5]


@settings(max_examples=40)  # scikit-learn takes a millisecond for each caption
@given(seeds, levels)
def test_auroc_and_average_precision_are_scikit_learns(seed, n_levels):
    scores, active, known = frames(seed, n_levels)
    auroc = ranking.caption_auroc(scores, active, known)
    precision = ranking.average_precision(scores, active, known)
    for i in range(scores.shape[1]):
        asked = known[:, i]
        if len(set(active[asked, i])) == 2:
            expected = roc_auc_score(active[asked, i], scores[asked, i])
            assert auroc[i] == pytest.approx(expected, abs=1e-12)
            expected = average_precision_score(active[asked, i], scores[asked, i])
            assert precision[i] == expected
        else:
            assert np.isnan(auroc[i])
            assert np.isnan(precision[i])
    if len(set(active[known])) == 2:
        expected = roc_auc_score(active[known], scores[known])
        assert pooled_auroc(scores, active, known) == pytest.approx(expected, abs=1e-12)


@given(seeds, levels)
def test_unknown_frames_might_as_well_be_absent_or_poisoned(seed, n_levels):
    scores, active, known = frames(seed, n_levels, n_captions=1)
    absent = ranking.caption_auroc(scores[known][:, None], active[known][:, None])
    poisoned = ranking.caption_auroc(np.where(known, scores, np.nan), active, known)
    assert poisoned == pytest.approx(absent, nan_ok=True)


def test_captions_with_one_class_are_left_out():
    scores = np.array([[0.9, 0.5, 0.1], [0.1, 0.5, 0.9]])
    active = np.array([[True, True, False], [False, True, False]])
    for metric in (ranking.caption_auroc, ranking.average_precision):
        assert metric(scores, active) == pytest.approx([1.0, np.nan, np.nan], nan_ok=True)
        assert ranking.mean_of_known(metric(scores, active)) == 1.0
    nothing = ranking.caption_auroc(scores, np.zeros_like(active))
    assert np.isnan([*nothing, ranking.mean_of_known(nothing)]).all()
    assert np.isnan(pooled_auroc(scores, np.zeros_like(active)))


def test_pooled_auroc_minds_a_caption_that_is_louder_and_macro_does_not():
    scores = np.array([[0.2, 0.9], [0.1, 0.8]])
    active = np.array([[True, True], [False, False]])
    assert ranking.caption_auroc(scores, active).tolist() == [1.0, 1.0]
    assert pooled_auroc(scores, active) == 0.75


@pytest.mark.parametrize("measure", [ranking.caption_auroc, ranking.average_precision])
def test_a_score_that_is_not_a_number_is_found(measure):
    scores = np.zeros((3, 2))
    scores[2, 1] = np.nan
    with pytest.raises(ValueError, match="row 2, column 1 is NaN"):
        measure(scores, scores > 0)


# Within a clip


@given(seeds, levels)
def test_auroc_by_clip_is_that_of_each_clip_alone(seed, n_levels):
    scores, active, known = frames(seed, n_levels)
    clip_of_frame = np.random.default_rng(seed).integers(0, 4, len(scores))
    found = ranking.auroc_by_clip(scores, active, clip_of_frame, known)
    for clip, value in enumerate(found):
        rows = clip_of_frame == clip
        alone = pooled_auroc(scores[rows], active[rows], known[rows])
        assert value == pytest.approx(alone, abs=1e-12, nan_ok=True)


def test_a_clip_in_which_nothing_sounds_has_no_auroc():
    scores, active = np.array([[0.9], [0.1], [0.3]]), np.array([[True], [False], [False]])
    found = ranking.auroc_by_clip(scores, active, np.array([0, 0, 2]))
    assert found == pytest.approx([1.0, np.nan, np.nan], nan_ok=True)


# A part of the curve


def test_partial_auroc_by_hand():
    """Active 4 and 2 against silent 3, 1, 0, 0: the curve climbs to one half at once, stays there
    up to a FPR of 1/4 and is 1 after. Up to 1/2: 1/4 * 1/2 + 1/4 * 1 = 3/8."""
    scores = np.array([4.0, 3.0, 2.0, 1.0, 0.0, 0.0])[:, None]
    active = np.array([1, 0, 1, 0, 0, 0], dtype=bool)[:, None]
    found = ranking.partial_auroc(scores, active, max_fpr=0.5)
    assert found == pytest.approx([3 / 8])
    expected = 0.5 * (1 + (3 / 8 - 1 / 8) / (1 / 2 - 1 / 8))
    assert ranking.mcclish(found, 0.5) == pytest.approx([expected])


@settings(max_examples=40)
@given(seeds, levels, st.sampled_from([0.05, 0.1, 0.5, 1.0]))
def test_mcclishs_correction_is_scikit_learns(seed, n_levels, max_fpr):
    scores, active, known = frames(seed, n_levels)
    found = ranking.partial_auroc(scores, active, known, max_fpr=max_fpr)
    expected = [
        roc_auc_score(active[k, i], scores[k, i], max_fpr=max_fpr)
        for i, k in enumerate(known.T)
        if len(set(active[k, i])) == 2
    ]
    ours = ranking.mcclish(found, max_fpr)
    assert ours[~np.isnan(ours)] == pytest.approx(expected, abs=1e-9)


@given(seeds, levels)
def test_the_whole_of_the_curve_is_auroc(seed, n_levels):
    scores, active, known = frames(seed, n_levels)
    whole = ranking.caption_auroc(scores, active, known)
    found = ranking.partial_auroc(scores, active, known, max_fpr=1.0)
    for ours in (found, ranking.mcclish(found, 1.0)):
        assert ours == pytest.approx(whole, abs=1e-9, nan_ok=True)


def test_scores_that_say_nothing_are_at_chance_in_both_normalisations():
    active = np.arange(40)[:, None] % 4 == 0
    found = ranking.partial_auroc(np.zeros((40, 1)), active, max_fpr=0.1)
    assert (found[0] / 0.1, ranking.mcclish(found, 0.1)[0]) == pytest.approx((0.05, 0.5))
    with pytest.raises(ValueError, match="max_fpr"):
        ranking.partial_auroc(np.zeros((40, 1)), active, max_fpr=10.0)


def test_a_caption_without_events_is_skipped():
    scores, active = np.random.default_rng(0).random((6, 2)), np.zeros((6, 2), dtype=bool)
    active[:3, 0] = True
    for metric in (
        ranking.caption_auroc(scores, active),
        ranking.partial_auroc(scores, active, max_fpr=0.1),
        ranking.average_precision(scores, active),
    ):
        assert np.isnan(metric).tolist() == [False, True]
