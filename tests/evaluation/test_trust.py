"""The weights that are fitted are those by which the truth was drawn."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import f1_score

from flamlib.evaluation.trust import Evidence, best_threshold, fit, fit_shift
from flamlib.sound_events.smoothing import Smoothing


def drawn(weights, shift, *, seed, n_captions=6):
    rng = np.random.default_rng(seed)
    halves = rng.normal(0, 3, (2, 60, n_captions, 32))
    bias = rng.normal(-3, 1, n_captions)
    logits = np.tensordot(weights, halves, 1) + bias[:, None] + shift
    active = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    known = rng.random((60, n_captions)) < 0.8
    active[~known] = True  # must not count
    return Evidence(halves, bias, active, known)


@pytest.mark.parametrize("weights", [(0.7, 0.4), (0.1, 1.3), (1.0, 0.0)])
def test_the_weights_are_found(weights):
    folds = [drawn(weights, 0.5, seed=seed) for seed in range(3)]
    assert fit(folds) == pytest.approx([*weights, 0.5], abs=0.06)


def test_the_shift_is_found_where_the_weights_are_given():
    one = drawn((0.7, 0.4), -1.3, seed=5, n_captions=12)
    assert fit_shift(one, (0.7, 0.4)) == pytest.approx(-1.3, abs=0.06)


def test_a_fold_counts_once_however_many_captions_it_has():
    few, many = drawn((1.0, 0.0), 0.0, seed=0), drawn((0.0, 1.0), 0.0, seed=1, n_captions=60)
    learned, classes, _ = fit([few, many])
    again = fit([many, few, few, many])
    assert again == pytest.approx([learned, classes, fit([few, many])[2]], abs=1e-2)
    assert learned > 0.2
    assert classes > 0.2


@pytest.mark.parametrize("share", [0.02, 0.3])
@pytest.mark.parametrize("smoothing", [Smoothing(), Smoothing(1, 0.5)])
def test_the_threshold_is_the_best_of_the_mean_over_folds(smoothing, share):
    """By the F1 of scikit-learn, caption by caption; folds of many captions count as others do."""
    trust = (0.8, 0.5, -0.7)
    folds = [drawn(trust[:2], trust[2], seed=seed, n_captions=2 + 3 * seed) for seed in range(2)]

    def f1(active, detected):
        rarer = active.sum() / (~active).sum() * (1 - share) / share
        return f1_score(active, detected, sample_weight=np.where(active, 1, rarer))

    def mean_f1(threshold):
        of_folds = []
        for of in folds:
            scores = smoothing(expit(np.tensordot(trust[:2], of.halves, 1) + trust[2]))
            asked = [
                f1(of.active[known, j].ravel(), scores[known, j].ravel() >= threshold)
                for j, known in enumerate(of.known.T)
            ]
            of_folds.append(np.mean(asked))
        return np.mean(of_folds)

    found = best_threshold(folds, trust, smoothing, share=share, n_thresholds=9)
    assert mean_f1(found) == pytest.approx(max(map(mean_f1, (found, *np.linspace(0.1, 0.9, 9)))))


def test_a_rarer_caption_has_a_higher_threshold():
    folds = [drawn((0.8, 0.5), 0.0, seed=seed) for seed in range(2)]
    how = {"smoothing": Smoothing(), "n_thresholds": 99}
    found = [best_threshold(folds, (0.8, 0.5, 0.0), share=s, **how) for s in (0.001, 0.02, 0.5)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1] + 0.1
