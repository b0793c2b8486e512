import numpy as np
import pytest
from hypothesis import given
from scored_frames import frames, levels, pooled_auroc, seeds

from flamlib.metrics import bootstrap, bootstrap_ranking, f1, ranking


@pytest.mark.parametrize("pooled", [False, True])
@given(seeds, levels)
def test_a_draw_of_clips_is_the_auroc_of_those_clips(pooled, seed, n_levels):
    scores, active, known = frames(seed, n_levels)
    clip_of_frame = np.arange(60) // 10
    statistic = bootstrap_ranking.clip_auroc(scores, active, clip_of_frame, known, pooled=pooled)
    times_drawn = np.random.default_rng(seed).multinomial(6, np.full(6, 1 / 6))
    repeated = np.repeat(np.arange(60), times_drawn[clip_of_frame])
    drawn = scores[repeated], active[repeated], known[repeated]
    by_caption = ranking.mean_of_known(ranking.caption_auroc(*drawn))
    expected = pooled_auroc(*drawn) if pooled else by_caption
    assert statistic(times_drawn) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(seeds, levels)
def test_many_draws_at_once_are_those_draws_one_by_one(seed, n_levels):
    scores, active, known = frames(seed, n_levels)
    frames_of = scores, active, np.arange(60) // 10, known
    draws = np.random.default_rng(seed).multinomial(6, np.full(6, 1 / 6), size=5)
    for statistic in (
        bootstrap_ranking.clip_auroc(*frames_of, pooled=False),
        bootstrap_ranking.clip_auroc(*frames_of, pooled=True),
        bootstrap_ranking.clip_average_precision(*frames_of),
        bootstrap_ranking.clip_partial_auroc(*frames_of, max_fpr=0.3),
        bootstrap_ranking.clip_best_f1(*frames_of[:3], np.linspace(0, 1, 7), known),
    ):
        one_by_one = [float(statistic(times)) for times in draws]
        assert statistic(draws) == pytest.approx(one_by_one, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("n_levels", [5, 10_000])
def test_blocks_of_draws_and_frames_change_nothing(monkeypatch, n_levels):
    scores, active, known = frames(3, n_levels)
    statistic = bootstrap_ranking.clip_auroc(
        scores, active, np.arange(60) // 10, known, pooled=True
    )
    draws = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), size=7)
    at_once = statistic(draws)
    monkeypatch.setattr(bootstrap, "SUMS", 2 * active.sum())
    monkeypatch.setattr(bootstrap_ranking, "BLOCK", 7 * scores.shape[1])
    assert (statistic(draws) == at_once).all()


@given(seeds, levels)
def test_a_draw_of_clips_is_the_average_precision_of_those_clips(seed, n_levels):
    scores, active, known = frames(seed, n_levels)
    clip_of_frame = np.arange(60) // 10
    statistic = bootstrap_ranking.clip_average_precision(scores, active, clip_of_frame, known)
    times_drawn = np.random.default_rng(seed).multinomial(6, np.full(6, 1 / 6))
    repeated = np.repeat(np.arange(60), times_drawn[clip_of_frame])
    drawn = ranking.average_precision(scores[repeated], active[repeated], known[repeated])
    expected = ranking.mean_of_known(drawn)
    assert statistic(times_drawn) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(seeds, levels)
def test_a_draw_of_clips_is_the_partial_auroc_of_those_clips(seed, n_levels):
    scores, active, known = frames(seed, n_levels)
    clip_of_frame = np.arange(60) // 10
    statistic = bootstrap_ranking.clip_partial_auroc(
        scores, active, clip_of_frame, known, max_fpr=0.3
    )
    times_drawn = np.random.default_rng(seed).multinomial(6, np.full(6, 1 / 6))
    repeated = np.repeat(np.arange(60), times_drawn[clip_of_frame])
    drawn = ranking.partial_auroc(scores[repeated], active[repeated], known[repeated], max_fpr=0.3)
    expected = ranking.mean_of_known(drawn / 0.3)
    assert statistic(times_drawn) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(seeds, levels)
def test_a_draw_of_clips_has_a_best_threshold_of_its_own(seed, n_levels):
    scores, active, known = frames(seed, n_levels)
    clip_of_frame, thresholds = np.arange(60) // 10, np.linspace(0.05, 1.25, 13)
    statistic = bootstrap_ranking.clip_best_f1(scores, active, clip_of_frame, thresholds, known)
    times_drawn = np.random.default_rng(seed).multinomial(6, np.full(6, 1 / 6))
    repeated = np.repeat(np.arange(60), times_drawn[clip_of_frame])
    drawn = f1.f1_over_thresholds(scores[repeated], active[repeated], thresholds, known[repeated])
    expected = np.max(drawn["f1_macro"])
    assert statistic(times_drawn) == pytest.approx(expected, abs=1e-12, nan_ok=True)
