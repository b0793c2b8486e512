import json
from dataclasses import replace

import numpy as np
import pytest
import score_folders

from flamlib.evaluation import score_tables, systems
from flamlib.metrics import f1, sed
from flamlib.metrics.sed import Criteria
from flamlib.sound_events.smoothing import Smoothing

CRITERIA = Criteria(
    segment_s=1.0, max_fpr=0.1, collar_s=0.2, collar_rate=0.2, smoothing=Smoothing(1)
)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A system, and the same under noise."""
    folder = tmp_path_factory.mktemp("two")
    score_folders.write(folder, n_clips=12)
    reference = score_tables.read_reference(folder / "truth.tsv", folder / "durations.tsv")
    read = score_tables.read_system(folder / "scores", reference)
    good = score_tables.align({"good": read}, reference)["good"]
    noise = np.random.default_rng(0)
    worse = [(s + noise.normal(0, 3, s.shape)).astype(np.float32) for s in good.scores]
    return {"good": good, "bad": replace(good, scores=worse)}


def test_the_numbers_are_those_of_the_metrics_and_the_better_one_is_told(two):
    result = systems.evaluate(two, CRITERIA, threshold=0.8, n_resamples=99)
    good = result["systems"]["good"]
    expected = sed.compute(two["good"], CRITERIA, threshold=0.8)
    for name in set(expected) - {"psds1_raw", "psds2_raw"}:
        assert good["metrics"][name] == pytest.approx(expected[name]), name
        if f"{name}_low" in good["metrics"]:
            assert good["metrics"][f"{name}_low"] <= good["metrics"][f"{name}_high"]
    found = f1.event_f1(
        two["good"].detections(0.8), two["good"].known_events(), two["good"].captions,
        **CRITERIA.collars,
    )  # fmt: skip
    of_captions = [of["event_f1"] for of in good["captions"].values()]
    assert of_captions == pytest.approx(found["per_caption"].tolist())
    assert result["differences"]["good - bad"]["map_low"] > 0
    text = systems.format_table(result)
    assert f"{expected['psds2']:.3f} [" in text
    assert "good - bad" in text
    assert "too optimistic" not in text


def test_macro_metrics_are_means_of_those_of_captions(two):
    result = systems.evaluate(two, CRITERIA, threshold=None, n_resamples=0)
    for of in result["systems"].values():
        for name in ("psds1_mean", "psds2_mean", "auroc_macro", "map", "segment_f1", "event_f1"):
            each = [caption[name] for caption in of["captions"].values()]
            assert np.mean(each) == pytest.approx(of["metrics"][name]), name
        assert of["threshold_chosen"] == systems.BEST
        assert (
            sum(caption["n_events"] for caption in of["captions"].values())
            == (of["metrics"]["n_events"])
        )
    assert "too optimistic" in systems.format_table(result)


def test_one_caption_and_captions_that_never_sound_are_json_and_a_table(two):
    few = two["good"]
    truth = [[e for e in events if e.caption == "caption 1"] for events in few.ground_truth]
    result = systems.evaluate(
        {"one": replace(few, ground_truth=truth)}, CRITERIA, threshold=None, n_resamples=5
    )
    assert result["systems"]["one"]["captions"]["caption 0"]["event_f1"] is None
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    lines = systems.format_captions(result["systems"]["one"]).splitlines()
    assert lines[0].split()[:3] == ["caption", "events", "PSDS1"]
    assert lines[1].split()[2:4] == ["0", "–"]
    assert "–" not in lines[2]


@pytest.mark.filterwarnings("error")
def test_a_caption_that_sounds_and_was_not_asked_is_ranked_by_chance(two):
    """Its scores are -inf, which scikit-learn refuses, and quantiles of them are no number."""
    good = two["good"]
    unasked = [np.where(np.arange(3) == 1, -np.inf, s).astype(np.float32) for s in good.scores]
    of = replace(good, scores=unasked)
    result = systems.evaluate({"one": of}, CRITERIA, threshold=None, n_resamples=9)
    metrics = list(result["systems"]["one"]["captions"].values())[1]
    frames = good.by_frame
    share = frames.active[:, 1].mean()
    assert metrics["n_events"]
    assert metrics["auroc_macro"] == 0.5
    assert metrics["map"] == pytest.approx(share)
    assert metrics["segment_f1"] == metrics["psds1_mean"] == 0
