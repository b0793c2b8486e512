import json

import pytest
from heldouts import CLIP_S, EVALUATE, write_artifacts

from flamlib.evaluation import ablation, evaluate, study

PARAMETERS = {"model": "flam", "seed": 0, "train": {"n_steps": 5, "rates": {"heads": 0.1}}}
ARMS = {"flam": {}, "fewer": {"train.n_steps": 3}, "other": {"model": "flam_global"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_artifacts(tmp_path_factory.mktemp("ablation"))


def test_a_change_changes_what_it_names_and_nothing_else():
    found = ablation.changed(PARAMETERS, {"train.rates.heads": 0.2, "model": "flam_global"})
    assert found == {
        "model": "flam_global",
        "seed": 0,
        "train": {"n_steps": 5, "rates": {"heads": 0.2}},
    }
    assert PARAMETERS["train"]["rates"] == {"heads": 0.1}
    assert ablation.changed(PARAMETERS, {}) == PARAMETERS


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("train.n_step", r"no parameter train\.n_step .*; did you mean train\.n_steps\?"),
        ("tarin.n_steps", r"did you mean train\.n_steps"),
        ("seed.x", r"no parameter seed\.x"),
    ],
)
def test_a_misspelt_change_is_refused(name, why):
    with pytest.raises(ValueError, match=why):
        ablation.changed(PARAMETERS, {name: 1})


def test_an_arm_is_the_budget_and_what_it_is_about():
    budget = {"train.n_steps": 2, "seed": 1}
    assert ablation.changes("flam", budget=budget, arms=ARMS) == budget
    fewer = ablation.changes("fewer", budget=budget, arms=ARMS)
    assert fewer == {"train.n_steps": 3, "seed": 1}, "what an arm is about goes before the budget"
    assert ablation.changes("other", budget=None, arms=ARMS) == ARMS["other"]
    with pytest.raises(ValueError, match="no arm 'fever'; there are flam, fewer, other"):
        ablation.changes("fever", budget=None, arms=ARMS)


def test_without_arms_they_are_those_of_the_project(tmp_path):
    (tmp_path / "params.yaml").write_text("ablate: {arms: {no_x: {seed: 1}}}")
    assert ablation.arms(None, root=tmp_path) == {"no_x": {"seed": 1}}
    assert ablation.arms(ARMS, root=tmp_path) == ARMS


def test_an_experiment_is_what_its_runs_share(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/captions.tsv").write_text("caption\n")
    for name in ("bank", "mixtures", "strong", "weights/tiny_audio", "weights/tiny_text"):
        (tmp_path / "artifacts" / name).mkdir(parents=True)
    network = {"audio": {"tower": "tiny_audio"}, "caption": {"tower": "tiny_text"}}
    given = {"model": "flam", "seed": 0, "network": network, "train": {"n_steps": 5}}
    one = ablation.experiment(tmp_path, given, {"train.n_steps": 3})
    assert ablation.experiment(tmp_path, given | {"seed": 1}, {"train.n_steps": 3}) == one
    slower = given | {"train": {"n_steps": 5, "n_workers": 2}}
    assert ablation.experiment(tmp_path, slower, {"train.n_steps": 3}) == one
    (tmp_path / "artifacts/weights/other").mkdir()  # of a tower that is not used
    (tmp_path / "artifacts/mixtures/00000.flac").write_bytes(b"for listeners")
    assert ablation.experiment(tmp_path, given, {"train.n_steps": 3}) == one
    others = [
        ablation.experiment(tmp_path, given | {"train": {"n_steps": 6}}, {"train.n_steps": 3}),
        ablation.experiment(tmp_path, given, None),
    ]
    (tmp_path / "artifacts/bank/samples.i16").write_bytes(b"other sounds")
    others.append(ablation.experiment(tmp_path, given, {"train.n_steps": 3}))
    (tmp_path / "artifacts/mixtures/train.parquet").write_bytes(b"other mixtures")
    others.append(ablation.experiment(tmp_path, given, {"train.n_steps": 3}))
    assert len({one, *others}) == 5


@pytest.mark.parametrize("name", ["flam", "mga_clap"])
def test_any_model_is_judged_and_flam_in_three_ways(folder, tmp_path, name):
    judged = ablation.judge(
        folder, folder / "artifacts/checkpoints" / name, clip_s=CLIP_S, evaluate=EVALUATE
    )
    # The evaluation's numbers can be written as they are, and the study reads them again.
    (tmp_path / "0_flam.json").write_text(json.dumps(judged.numbers, allow_nan=False))
    judged.curves.to_csv(tmp_path / "0_flam.tsv", sep="\t", index=False)
    runs, curves, _ = study.gather(tmp_path, ["flam"])
    ways = ["flam", "biased", "approximate"] if name == "flam" else ["flam"]
    assert list(runs) == ways
    for arm in ways:
        assert set(evaluate.PARTS) <= runs[arm]["0"].keys()
        assert len(curves[curves["arm"] == arm]) == 2 * EVALUATE["n_thresholds"]
    # Within a caption the three scores have one order.
    macro = {runs[arm]["0"]["seen_captions"]["auroc_macro"] for arm in ways}
    assert max(macro) - min(macro) < 1e-6
