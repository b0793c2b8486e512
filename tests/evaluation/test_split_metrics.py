import math

import numpy as np
import pytest
from heldouts import read_part, write_artifacts
from scipy.special import expit
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from flamlib.evaluation import split_metrics
from flamlib.evaluation.splits import Hearing
from flamlib.metrics import calibration
from flamlib.metrics.sed import Criteria

CRITERIA = Criteria(1.0, 0.1, 0.2, 0.2, 1)
JUDGE = {"threshold": 0.5, "criteria": CRITERIA, "n_thresholds": 19, "n_bins": 10}
BOUND = {"criteria": CRITERIA, "n_thresholds": 19, "n_bins": 10, "n_resamples": 200, "seed": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_artifacts(tmp_path_factory.mktemp("judging"))


@pytest.fixture(scope="module")
def part(folder):
    return read_part(folder)[0]


def hearing(logits, bias=-3.0):
    return Hearing(logits.astype(np.float32), np.full(logits.shape[1], bias, np.float32))


def all_heard(part, models):
    return {name: split_metrics.Heard(part, of, JUDGE["threshold"]) for name, of in models.items()}


def noise_hearing(part, seed=0, skill=2.0):
    noise = np.random.default_rng(seed).normal(0, 1, part.active.shape)
    return hearing(skill * part.active + noise - 3)


def test_a_model_that_knows_the_truth(part):
    judged = split_metrics.judge(part, hearing(20.0 * part.active - 10), **JUDGE)
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
    judged = split_metrics.judge(part, hearing(np.full(part.active.shape, bias), bias), **JUDGE)
    assert judged["auroc_macro"] == judged["auroc_pooled"] == 0.5
    assert judged["map"] == pytest.approx(np.nanmean(part.active_share))
    assert judged["ece"] == pytest.approx(0, abs=1e-6)
    assert judged["brier"] == pytest.approx(share * (1 - share), abs=1e-6)


def test_the_numbers_are_those_of_scikit_learn(part):
    heard = noise_hearing(part)
    judged = split_metrics.judge(part, heard, **JUDGE)
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
    judged = split_metrics.judge(part, heard, **JUDGE)
    curve = split_metrics.f1(part, heard, n_thresholds=JUDGE["n_thresholds"])
    best = curve["threshold"].tolist().index(judged["f1_best_threshold"])
    assert curve["f1_macro"][best] == judged["f1_best"] == curve["f1_macro"].max()
    assert judged["f1"] <= judged["f1_best"]
    bins = split_metrics.reliability(part, heard, n_bins=JUDGE["n_bins"])
    gap = np.abs(bins["mean_prob"] - bins["frequency"])
    assert bins["count"].sum() == part.known_by_frame.sum()
    assert judged["ece"] == pytest.approx(np.nansum(gap * bins["count"]) / bins["count"].sum())


def test_what_is_said_of_an_unknown_pair_changes_nothing(part):
    heard = noise_hearing(part)
    poisoned = heard._replace(logits=np.where(part.known[:, :, None], heard.logits, 30))
    expected = split_metrics.judge(part, heard, **JUDGE)
    assert split_metrics.judge(part, poisoned, **JUDGE) == expected


def test_the_intervals_hold_what_they_are_of(part):
    models = {
        "flam": noise_hearing(part),
        "flam_global": noise_hearing(part, seed=1, skill=0.2),
    }
    bounds = split_metrics.bounded(all_heard(part, models), **BOUND)
    values = {name: split_metrics.judge(part, heard, **JUDGE) for name, heard in models.items()}
    bounded = {key.removesuffix("_low") for key in bounds["flam"] if key.endswith("_low")}
    assert {
        "auroc_macro",
        "map",
        "psds2_mean",
        "psds1_raw",
        "mpauc_mcclish",
        "f1_best",
        "ece",
    } <= bounded
    for key in bounded:
        for name in models:
            value = values[name][key]
            low, high = (bounds[name][f"{key}_{end}"] for end in ("low", "high"))
            # A calibration error and a deviation over captions are higher in any draw than in all.
            slack = 0.05 if key.startswith(("ece", "psds", "auroc_clip", "f1_best")) else 1e-9
            assert low - slack <= value <= high + slack, key
        difference = bounds["difference"]["flam_global"]
        expected = values["flam"][key] - values["flam_global"][key]
        assert difference[key] == pytest.approx(expected, abs=1e-9)
    for key in ("auroc_macro", "auroc_pooled", "map"):
        assert 0 < difference[f"{key}_low"] < difference[key] < difference[f"{key}_high"]
        assert difference[f"{key}_p"] == pytest.approx(2 / 201)


def test_a_model_does_not_differ_from_itself(part):
    models = dict.fromkeys(["flam", "flam_global"], noise_hearing(part))
    bounds = split_metrics.bounded(all_heard(part, models), **BOUND | {"n_resamples": 9})
    differences = bounds["difference"]["flam_global"]
    assert {v for key, v in differences.items() if not key.endswith("_p")} == {0.0}
    assert {v for key, v in differences.items() if key.endswith("_p")} == {1.0}


def test_every_clip_once_is_the_number_of_all(part):
    heard = noise_hearing(part)
    judged = split_metrics.judge(part, heard, **JUDGE)
    once = np.ones(len(part.mixtures), dtype=int)
    assert split_metrics._drawn_best_f1(part, heard, 19)(once) == pytest.approx(judged["f1_best"])
    for name, of in (("ece", calibration.ece_of), ("brier", calibration.brier_of)):
        assert split_metrics._drawn(part, heard, 10, of)(once) == pytest.approx(judged[name])


def test_models_of_other_frames_are_compared_on_the_same_clips(folder, part):
    """Who hears finer frames is judged in those, and drawn clip by clip with the other."""
    fine = read_part(folder, frame_s=0.08)[0]
    heard = {
        "flam": split_metrics.Heard(part, noise_hearing(part), 0.5),
        "fine": split_metrics.Heard(fine, noise_hearing(fine, skill=0.1), 0.5),
    }
    bounds = split_metrics.bounded(heard, **BOUND | {"n_resamples": 19})
    expected = [split_metrics.judge(of.part, of.hearing, **JUDGE)["map"] for of in heard.values()]
    assert bounds["difference"]["fine"]["map"] == pytest.approx(expected[0] - expected[1])
    fewer = read_part(folder, frame_s=0.08, n=3)[0]
    heard["fine"] = split_metrics.Heard(fewer, noise_hearing(fewer), 0.5)
    with pytest.raises(ValueError, match="fine heard other clips than flam"):
        split_metrics.bounded(heard, **BOUND)
