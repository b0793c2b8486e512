import pytest
from heldouts import EVALUATE, read_split, write_artifacts

from flamlib.evaluation import benchmarks, evaluate, single_model, split_metrics
from flamlib.experiment.params.trials import EvaluationConfig

CONFIG = EvaluationConfig(**EVALUATE | {"n_clips": 12, "batch_size": 5, "n_resamples": 2})
ZERO_SHOT = {"window_s": 10.0, "templates": ["sound_of", "name"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_artifacts(tmp_path_factory.mktemp("scoring"))


@pytest.fixture(scope="module")
def models(folder):
    made = folder / "artifacts"
    names = ("flam", "flam_global", "mga_clap")
    folders = {name: made / "checkpoints" / name for name in names}
    return evaluate.load_models(**folders, weights=made / "weights")


@pytest.fixture(scope="module")
def splits(folder):
    return {name: read_split(folder, name)[0] for name in ("valid", *evaluate.TEST_SPLITS)}


def evaluate_model(model, folder, splits):
    _, bank, lexicon = read_split(folder)
    return single_model.evaluate_model(model, splits, bank, lexicon, config=CONFIG, **ZERO_SHOT)


@pytest.mark.parametrize("name", ["flam", "label_matching"])
def test_its_numbers_are_those_of_the_whole_evaluation(name, folder, models, splits):
    found = evaluate_model(models[name], folder, splits)
    made = folder / "artifacts"
    whole = evaluate.evaluate(
        bank=made / "bank",
        mixtures=made / "mixtures",
        captions=folder / "data/captions.tsv",
        weights=made / "weights",
        **{kind: made / "checkpoints" / kind for kind in ("flam", "flam_global", "mga_clap")},
        scores=folder / "scores",
        seed=0,
        config=CONFIG,
        progress=False,
    ).metrics[name]
    for split in (*evaluate.TEST_SPLITS, "retrieval"):
        for key, value in found.metrics[split].items():
            whole_value = float("nan") if whole[split][key] is None else whole[split][key]
            assert value == pytest.approx(whole_value, abs=1e-6, nan_ok=True), (split, key)
    assert not any(key.endswith("_low") for of in found.metrics.values() for key in of)

    _, bank, lexicon = read_split(folder)
    settings = benchmarks.BenchmarkSettings(
        10.0, ZERO_SHOT["templates"], "name", split_metrics.criteria(CONFIG), 19, 10
    )
    outcome, _ = benchmarks.classify_held_out(
        models[name], bank, lexicon, "unseen_captions", settings
    )
    assert found.metrics["heldout_unseen"]["top1"] == outcome.metrics["top1"]


def test_the_best_of_a_curve_is_the_number(folder, models, splits):
    found = evaluate_model(models["flam"], folder, splits)
    for name in evaluate.TEST_SPLITS:
        curve = found.curves[name]
        assert curve["f1_macro"].max() == found.metrics[name]["f1_best"]
        assert len(curve["threshold"]) == len(curve["f1_macro"])
        logits = evaluate.predict(
            models["flam"], splits, read_split(folder)[1], batch_size=5, progress=False
        )
        again = split_metrics.f1_curve(logits[name], CONFIG)
        assert (curve["threshold"] == again["threshold"]).all()


def test_no_threshold_is_chosen_on_what_is_judged(folder, models, splits):
    without = {name: split for name, split in splits.items() if name != "valid"}
    with pytest.raises(ValueError, match="'valid'"):
        evaluate_model(models["flam"], folder, without)


def test_only_a_model_with_priors_is_scored_in_three_ways(folder, models, splits):
    """Within a caption they have one order; what one threshold gives for all differs."""
    found = evaluate_model(models["flam"], folder, splits)
    ways = {
        f"{way}{split}" for way in ("", "biased_", "approximate_") for split in evaluate.TEST_SPLITS
    }
    assert set(found.curves) == ways <= set(found.metrics)
    for split in evaluate.TEST_SPLITS:
        of = [found.metrics[f"{way}{split}"] for way in ("", "biased_", "approximate_")]
        for name in ("auroc_macro", "map", "ece"):
            assert of[1][name] == pytest.approx(of[0][name], abs=1e-6)
            assert of[2][name] == pytest.approx(of[0][name], abs=1e-6)
    assert set(evaluate_model(models["mga_clap"], folder, splits).curves) == set(
        evaluate.TEST_SPLITS
    )
