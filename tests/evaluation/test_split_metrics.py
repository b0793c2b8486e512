import math
from dataclasses import replace

import numpy as np
import pytest
from heldouts import EVALUATE, read_split, write_artifacts
from scipy.special import expit
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from flamlib.evaluation import split_metrics
from flamlib.evaluation.splits import SplitLogits
from flamlib.experiment.params.trials import EvaluationConfig
from flamlib.metrics import calibration

CONFIG = EvaluationConfig(**EVALUATE | {"n_resamples": 200})
THRESHOLD = 0.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_artifacts(tmp_path_factory.mktemp("judging"))


@pytest.fixture(scope="module")
def split(folder):
    return read_split(folder)[0]


def of_split(split, logits, bias=-3.0):
    prior = np.full(logits.shape[1], bias, np.float32)
    return SplitLogits(split, logits.astype(np.float32), prior)


def noisy(split, seed=0, skill=2.0):
    noise = np.random.default_rng(seed).normal(0, 1, split.active.shape)
    return of_split(split, skill * split.active + noise - 3)


def compute(logits):
    return split_metrics.compute(logits, logits.split, threshold=THRESHOLD, config=CONFIG)


def intervals(logits, n_resamples=200):
    thresholds, config = dict.fromkeys(logits, THRESHOLD), replace(CONFIG, n_resamples=n_resamples)
    references = {model: of.split for model, of in logits.items()}
    return split_metrics.confidence_intervals(logits, references, thresholds, config=config, seed=0)


def test_a_model_that_knows_the_truth(split):
    judged = compute(of_split(split, 20.0 * split.active - 10))
    for name in ("auroc_macro", "auroc_pooled", "map", "f1", "f1_best"):
        assert judged[name] == 1
    assert judged["brier"] < 1e-6
    assert judged["ece"] < 1e-4
    assert judged["psds2"] > 0.9
    assert judged["psds2_mean"] >= judged["psds2"]
    assert judged["recall_at_1"] == judged["recall_at_10"] == judged["event_recall"] > 0.8
    assert judged["nats"] < 1e-4
    assert judged["n_clips"] == len(split.mixtures)
    assert judged["n_unknown"] == (~split.known).sum() > 0


def test_a_model_that_says_nothing(split):
    """It ranks nothing, and its precision and its Brier score are those of the share it claims."""
    table = split.frame_table(split.active.astype(float))
    share = table.active[table.known].mean()
    bias = math.log(share / (1 - share))
    judged = compute(of_split(split, np.full(split.active.shape, bias), bias))
    assert judged["auroc_macro"] == judged["auroc_pooled"] == 0.5
    assert judged["map"] == pytest.approx(np.nanmean(split.active_share()))
    assert judged["ece"] == pytest.approx(0, abs=1e-6)
    assert judged["brier"] == pytest.approx(share * (1 - share), abs=1e-6)
    assert judged["nats"] == pytest.approx(judged["nats_constant"])
    assert judged["nats"] > judged["nats_oracle"]
    assert judged["nats_gain"] == pytest.approx(0, abs=1e-6)


def test_the_numbers_are_those_of_scikit_learn(split):
    logits = noisy(split)
    judged = compute(logits)
    aurocs, precisions, f1s = [], [], []
    for j in range(len(split.captions)):
        known = split.known[:, j]
        truth, score = split.active[known, j].ravel(), logits.logits[known, j].ravel()
        aurocs.append(roc_auc_score(truth, score))
        precisions.append(average_precision_score(truth, score))
        f1s.append(f1_score(truth, logits.scores()[known, j].ravel() >= THRESHOLD))
    assert judged["auroc_macro"] == pytest.approx(np.mean(aurocs))
    assert judged["map"] == pytest.approx(np.mean(precisions))
    assert judged["f1"] == pytest.approx(np.mean(f1s))
    known = np.broadcast_to(split.known[:, :, None], split.active.shape)
    prob = expit(logits.logits.astype(np.float64))
    assert judged["brier"] == pytest.approx(np.mean((prob - split.active)[known] ** 2))


def test_the_curves_belong_to_the_numbers(split):
    logits = noisy(split)
    judged = compute(logits)
    curve = split_metrics.f1_curve(logits, CONFIG)
    best = curve["threshold"].tolist().index(judged["f1_best_threshold"])
    assert curve["f1_macro"][best] == judged["f1_best"] == curve["f1_macro"].max()
    assert judged["f1"] <= judged["f1_best"]
    bins = split_metrics.reliability(logits, n_bins=CONFIG.n_bins)
    gap = np.abs(bins["mean_prob"] - bins["frequency"])
    assert bins["count"].sum() == logits.score_table().known.sum()
    assert judged["ece"] == pytest.approx(np.nansum(gap * bins["count"]) / bins["count"].sum())


def test_the_threshold_of_unseen_captions_is_that_of_novel_ones(split, monkeypatch):
    """Captions that are not trained on score lower here, and are active at half the score."""
    monkeypatch.setattr(split_metrics, "MIN_CAPTIONS", 1)
    trained_on = split.captions[:1]
    raised = np.where(np.array(split.captions) == trained_on[0], 2.0, -2.0)
    logits = of_split(split, 3.0 * split.active + raised[:, None] - 3)
    chosen = {
        part: split_metrics.choose_threshold(logits, part, trained_on, config=CONFIG)
        for part in ("seen_captions", "unseen_captions", "unseen_under_maskers")
    }
    scores = logits.scores()
    for part, of in (("seen_captions", slice(0, 1)), ("unseen_captions", slice(1, None))):
        own, active = scores[:, of], split.active[:, of]
        assert ((own >= chosen[part]) == active)[split.known[:, of]].all()
    assert chosen["seen_captions"] > chosen["unseen_captions"] == chosen["unseen_under_maskers"]
    monkeypatch.setattr(split_metrics, "MIN_CAPTIONS", 99)
    few = split_metrics.choose_threshold(logits, "unseen_captions", (), config=CONFIG)
    curve = split_metrics.f1_curve(logits, CONFIG)
    assert few == curve["best_macro"]


@pytest.mark.parametrize(
    ("part", "knows_captions", "method", "is_given"),
    [
        ("unseen_captions", True, "unbiased", True),
        ("unseen_under_maskers", True, "unbiased", True),
        ("seen_captions", True, "unbiased", False),
        ("unseen_captions", False, "unbiased", False),
        ("unseen_captions", True, "biased", False),
    ],
)
def test_the_threshold_of_novel_captions_can_be_given(
    split, part, knows_captions, method, is_given
):
    """It is one of unbiased scores, of a model that tells novel captions from others."""
    logits, trained_on = replace(noisy(split), method=method), split.captions[:1]
    chosen, chosen_by_validation = (
        split_metrics.choose_threshold(
            logits, part, trained_on, config=config, knows_captions=knows_captions
        )
        for config in (replace(CONFIG, novel_threshold=0.123), CONFIG)
    )
    assert chosen == (0.123 if is_given else chosen_by_validation)
    assert chosen_by_validation != 0.123


def test_what_is_said_of_an_unknown_pair_changes_nothing(split):
    logits = noisy(split)
    poisoned = np.where(split.known[:, :, None], logits.logits, 30)
    assert compute(replace(logits, logits=poisoned)) == compute(logits)


def test_the_intervals_hold_what_they_are_of(split):
    models = {
        "flam": noisy(split),
        "flam_global": noisy(split, seed=1, skill=0.2),
    }
    bounds = intervals(models)
    values = {name: compute(logits) for name, logits in models.items()}
    bounded = {key.removesuffix("_low") for key in bounds["flam"] if key.endswith("_low")}
    assert {
        "auroc_macro",
        "map",
        "psds2_mean",
        "psds1_raw",
        "mpauc_mcclish",
        "f1_best",
        "ece",
        "nats",
        "nats_gain",
        "recall_at_1",
        "event_recall",
        "false_spans",
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


def test_a_model_does_not_differ_from_itself(split):
    models = dict.fromkeys(["flam", "flam_global"], noisy(split))
    bounds = intervals(models, n_resamples=9)
    differences = bounds["difference"]["flam_global"]
    assert {v for key, v in differences.items() if not key.endswith("_p")} == {0.0}
    assert {v for key, v in differences.items() if key.endswith("_p")} == {1.0}


def test_every_clip_once_is_the_number_of_all(split):
    logits = noisy(split)
    judged = compute(logits)
    once = np.ones(len(split.mixtures), dtype=int)
    best_f1 = split_metrics._best_f1_statistic(logits, CONFIG)
    assert best_f1(once) == pytest.approx(judged["f1_best"])
    for name, metric in (("ece", calibration.ece_of), ("brier", calibration.brier_of)):
        statistic = split_metrics._bin_statistic(logits, 10, metric)
        assert statistic(once) == pytest.approx(judged[name])


def test_models_of_other_frames_are_compared_on_the_same_clips(folder, split):
    """A model of shorter frames is evaluated in those, and drawn clip by clip with the other."""
    fine = read_split(folder, frame_s=0.08)[0]
    logits = {"flam": noisy(split), "fine": noisy(fine, skill=0.1)}
    bounds = intervals(logits, n_resamples=19)
    expected = [compute(of_model)["map"] for of_model in logits.values()]
    assert bounds["difference"]["fine"]["map"] == pytest.approx(expected[0] - expected[1])
    fewer = read_split(folder, frame_s=0.08, n=3)[0]
    logits["fine"] = noisy(fewer)
    with pytest.raises(ValueError, match="fine was evaluated on other clips than flam"):
        intervals(logits)
