import math

import numpy as np
import pytest
from heldouts import read_part, write_artifacts
from scipy.special import expit
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from flamlib import judging
from flamlib.heldout import Hearing

JUDGE = {"threshold": 0.5, "median_frames": 1, "n_thresholds": 19, "n_bins": 10}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_artifacts(tmp_path_factory.mktemp("judging"))


@pytest.fixture(scope="module")
def part(folder):
    return read_part(folder)[0]


def hearing(logits, bias=-3.0):
    return Hearing(logits.astype(np.float32), np.full(logits.shape[1], bias, np.float32))


def noise_hearing(part, seed=0, skill=2.0):
    noise = np.random.default_rng(seed).normal(0, 1, part.active.shape)
    return hearing(skill * part.active + noise - 3)


def test_a_model_that_knows_the_truth(part):
    judged = judging.judge(part, hearing(20.0 * part.active - 10), **JUDGE)
    for name in ("auroc_macro", "auroc_pooled", "map", "f1", "f1_best"):
        assert judged[name] == 1
    assert judged["brier"] < 1e-6
    assert judged["ece"] < 1e-4
    assert judged["psds2"] > 0.9
    assert judged["psds2_mean"] >= judged["psds2"]
    assert judged["n_clips"] == len(part.mixtures)
    assert judged["n_unknown"] == (~part.known).sum() > 0


def test_a_model_that_says_nothing(part):
    """It ranks nothing, and its precision and its Brier score are those of the share it claims."""
    share = part.active_by_frame[part.known_by_frame].mean()
    bias = math.log(share / (1 - share))
    judged = judging.judge(part, hearing(np.full(part.active.shape, bias), bias), **JUDGE)
    assert judged["auroc_macro"] == judged["auroc_pooled"] == 0.5
    assert judged["map"] == pytest.approx(np.nanmean(part.active_share))
    assert judged["ece"] == pytest.approx(0, abs=1e-6)
    assert judged["brier"] == pytest.approx(share * (1 - share), abs=1e-6)


def test_the_numbers_are_those_of_scikit_learn(part):
    heard = noise_hearing(part)
    judged = judging.judge(part, heard, **JUDGE)
    aurocs, precisions, f1s = [], [], []
    for j in range(len(part.captions)):
        known = part.known[:, j]
        truth, score = part.active[known, j].ravel(), heard.logits[known, j].ravel()
        aurocs.append(roc_auc_score(truth, score))
        precisions.append(average_precision_score(truth, score))
        f1s.append(f1_score(truth, heard.score[known, j].ravel() >= JUDGE["threshold"]))
    assert judged["auroc_macro"] == pytest.approx(np.mean(aurocs))
    assert judged["map"] == pytest.approx(np.mean(precisions))
    assert judged["f1"] == pytest.approx(np.mean(f1s))
    known = np.broadcast_to(part.known[:, :, None], part.active.shape)
    prob = expit(heard.logits.astype(np.float64))
    assert judged["brier"] == pytest.approx(np.mean((prob - part.active)[known] ** 2))


def test_the_curves_belong_to_the_numbers(part):
    heard = noise_hearing(part)
    judged = judging.judge(part, heard, **JUDGE)
    curve = judging.f1(part, heard, n_thresholds=JUDGE["n_thresholds"])
    best = curve["threshold"].tolist().index(judged["f1_best_threshold"])
    assert curve["f1_macro"][best] == judged["f1_best"] == curve["f1_macro"].max()
    assert judged["f1"] <= judged["f1_best"]
    bins = judging.reliability(part, heard, n_bins=JUDGE["n_bins"])
    gap = np.abs(bins["mean_prob"] - bins["frequency"])
    assert bins["count"].sum() == part.known_by_frame.sum()
    assert judged["ece"] == pytest.approx(np.nansum(gap * bins["count"]) / bins["count"].sum())


def test_what_is_said_of_an_unknown_pair_changes_nothing(part):
    heard = noise_hearing(part)
    poisoned = heard._replace(logits=np.where(part.known[:, :, None], heard.logits, 30))
    expected = judging.judge(part, heard, **JUDGE)
    assert judging.judge(part, poisoned, **JUDGE) == expected


def test_the_intervals_hold_what_they_are_of(part):
    models = {
        "flam": noise_hearing(part),
        "flam_global": noise_hearing(part, seed=1, skill=0.2),
    }
    bounds = judging.bounded(part, models, n_resamples=200, seed=0)
    values = {name: judging.judge(part, heard, **JUDGE) for name, heard in models.items()}
    for key in ("auroc_macro", "auroc_pooled"):
        for name in models:
            value = values[name][key]
            assert bounds[name][f"{key}_low"] < value < bounds[name][f"{key}_high"]
        difference = bounds["difference"]
        expected = values["flam"][key] - values["flam_global"][key]
        assert difference[key] == pytest.approx(expected)
        assert 0 < difference[f"{key}_low"] < difference[key] < difference[f"{key}_high"]


def test_a_model_does_not_differ_from_itself(part):
    models = dict.fromkeys(["flam", "flam_global"], noise_hearing(part))
    bounds = judging.bounded(part, models, n_resamples=10, seed=0)
    assert set(bounds["difference"].values()) == {0.0}
