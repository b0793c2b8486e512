import pytest
from heldouts import read_part, write_artifacts

from flamlib.evaluation import benchmarks, evaluate, single_model, split_metrics
from flamlib.metrics.sed import Criteria

CRITERIA = Criteria(1.0, 0.1, 0.2, 0.2, 1)
BASIS = {"n_thresholds": 19, "n_bins": 10, "batch_size": 5}
ZERO_SHOT = {"window_s": 10.0, "templates": ["sound_of", "name"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_artifacts(tmp_path_factory.mktemp("scoring"))


@pytest.fixture(scope="module")
def models(folder):
    made = folder / "artifacts"
    names = ("flam", "flam_global", "mga_clap")
    folders = {name: made / "checkpoints" / name for name in names}
    return evaluate.listeners(**folders, weights=made / "weights")


@pytest.fixture(scope="module")
def parts(folder):
    return {name: read_part(folder, name)[0] for name in ("valid", *evaluate.PARTS)}


def score(model, folder, parts):
    _, bank, lexicon = read_part(folder)
    return single_model.score(model, parts, bank, lexicon, criteria=CRITERIA, **BASIS, **ZERO_SHOT)


@pytest.mark.parametrize("name", ["flam", "label_matching"])
def test_its_numbers_are_those_of_the_whole_evaluation(name, folder, models, parts):
    found = score(models[name], folder, parts)
    made, n_clips = folder / "artifacts", len(parts["valid"].clips)
    whole = evaluate.evaluate(
        bank=made / "bank",
        mixtures=made / "mixtures",
        captions=folder / "data/captions.tsv",
        weights=made / "weights",
        **{kind: made / "checkpoints" / kind for kind in ("flam", "flam_global", "mga_clap")},
        scores=folder / "scores",
        seed=0,
        n_clips=n_clips,
        median_frames=CRITERIA.median_frames,
        segment_s=CRITERIA.segment_s,
        max_fpr=CRITERIA.max_fpr,
        collar_s=CRITERIA.collar_s,
        collar_rate=CRITERIA.collar_rate,
        n_resamples=2,
        progress=False,
        **BASIS,
    ).metrics[name]
    for part in (*evaluate.PARTS, "retrieval"):
        for key, value in found.numbers[part].items():
            whole_value = float("nan") if whole[part][key] is None else whole[part][key]
            assert value == pytest.approx(whole_value, abs=1e-6, nan_ok=True), (part, key)
    assert not any(key.endswith("_low") for of in found.numbers.values() for key in of)

    _, bank, lexicon = read_part(folder)
    asked = benchmarks.Settings(10.0, ZERO_SHOT["templates"], "name", CRITERIA, 19, 10)
    outcome, _ = benchmarks.held_out_classes(models[name], bank, lexicon, "unseen_captions", asked)
    assert found.numbers["heldout_unseen"]["top1"] == outcome.numbers["top1"]


def test_the_best_of_a_curve_is_the_number(folder, models, parts):
    found = score(models["flam"], folder, parts)
    for name in evaluate.PARTS:
        curve = found.curves[name]
        assert curve["f1_macro"].max() == found.numbers[name]["f1_best"]
        assert len(curve["threshold"]) == len(curve["f1_macro"])
        heard = evaluate.hear(
            models["flam"], parts, read_part(folder)[1], batch_size=5, progress=False
        )
        again = split_metrics.f1(parts[name], heard[name], n_thresholds=19)
        assert (curve["threshold"] == again["threshold"]).all()


def test_no_threshold_is_chosen_on_what_is_judged(folder, models, parts):
    without = {name: part for name, part in parts.items() if name != "valid"}
    with pytest.raises(ValueError, match="'valid'"):
        score(models["flam"], folder, without)


def test_only_a_model_with_priors_is_scored_in_three_ways(folder, models, parts):
    """Within a caption they have one order; what one threshold gives for all differs."""
    found = score(models["flam"], folder, parts)
    ways = {f"{way}{part}" for way in ("", "biased_", "approximate_") for part in evaluate.PARTS}
    assert set(found.curves) == ways <= set(found.numbers)
    for part in evaluate.PARTS:
        of = [found.numbers[f"{way}{part}"] for way in ("", "biased_", "approximate_")]
        for name in ("auroc_macro", "map", "ece"):
            assert of[1][name] == pytest.approx(of[0][name], abs=1e-6)
            assert of[2][name] == pytest.approx(of[0][name], abs=1e-6)
    assert set(score(models["mga_clap"], folder, parts).curves) == set(evaluate.PARTS)
