import json

import pytest
import tiny
import yaml
from heldouts import CLIP_S, EVALUATE, write_artifacts

from flamlib.evaluation import ablation, evaluate, study
from flamlib.experiment import provenance
from flamlib.experiment.parameters import plain
from flamlib.experiment.params.trials import AblationConfig
from flamlib.paths import Places

ARMS = {"flam": {}, "fewer": {"train.n_steps": 3}, "other": {"model": "flam_global"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_artifacts(tmp_path_factory.mktemp("ablation"))


def test_an_arm_is_the_budget_and_what_it_is_about():
    ablate = AblationConfig(budget={"train.n_steps": 2, "train.n_warmup": 1}, arms=ARMS)
    assert ablation.changes("flam", ablate) == ablate.budget
    fewer = ablation.changes("fewer", ablate)
    assert fewer == {"train.n_steps": 3, "train.n_warmup": 1}, "its own change goes before budget"
    with pytest.raises(ValueError, match="no arm 'fever'; known: flam, fewer, other"):
        ablation.changes("fever", ablate)


def test_an_arm_changes_what_it_names_and_nothing_else():
    config = tiny.config()
    model, changed = ablation.configured(config, {"train.n_steps": 3, "network.bias": "shared"})
    assert (model, changed.train.n_steps, changed.network.bias) == ("flam", 3, "shared")
    assert changed.override({"train.n_steps": 6, "network.bias": "per_caption"}) == config
    assert ablation.configured(config, {"model": "flam_global"}) == ("flam_global", config)
    with pytest.raises(ValueError, match=r"no parameter train\.n_step; did you mean"):
        ablation.configured(config, {"train.n_step": 3})


def test_a_run_records_what_it_is_computed_from(tmp_path):
    tiny.write_inputs(tmp_path)
    config = tiny.config().override({"ablate.arms": ARMS, "ablate.budget": {"train.n_steps": 3}})

    def record(changes=None, arm="fewer"):
        return ablation.record(Places(tmp_path), config.override(changes or {}), arm)

    def differ(other):
        return {name for name in one if one[name] != other[name]}

    one = record()
    assert set(one) == {"commit", "code", "parameters", "data", "arm"}
    notebook = tmp_path / "notebooks/06_ablate.ipynb"
    assert one["code"] == provenance.code_digest(notebook, root=tmp_path)
    for same in ({"seed": 1}, {"train.n_workers": 2}, {"detect.threshold": 0.5}):
        assert record(same) == one
    (tmp_path / "artifacts/weights/other").mkdir()  # of a tower that is not used
    (tmp_path / "artifacts/mixtures/00000.flac").write_bytes(b"for listeners")
    assert record() == one
    for other in ({"train.n_steps": 7}, {"ablate.budget": {}}, {"evaluate.n_clips": 3}):
        assert differ(record(other)) == {"parameters"}
    assert differ(record({"ablate.arms": ARMS | {"fewer": {"train.n_steps": 4}}})) == {"arm"}
    assert differ(record(arm="flam")) == {"arm"}
    before = record({"ablate.arms": ARMS | {"fewer": {"train.init_from": "start"}}})
    (tmp_path / "start").mkdir()
    (tmp_path / "start/model.safetensors").write_bytes(b"weights")
    after = record({"ablate.arms": ARMS | {"fewer": {"train.init_from": "start"}}})
    assert len({one["arm"], before["arm"], after["arm"]}) == 3
    (tmp_path / "artifacts/bank/00000.bin").write_bytes(b"other sounds")
    assert differ(of_bank := record()) == {"data"}
    (tmp_path / "artifacts/mixtures/train.parquet").write_bytes(b"other mixtures")
    assert record()["data"] not in (one["data"], of_bank["data"])


def test_a_run_with_other_values_than_the_studys_is_none_of_it(tmp_path):
    """A toy budget must not replace a published run."""
    config = tiny.config()
    text = yaml.safe_dump(json.loads(json.dumps(plain(config))))
    (tmp_path / "params.yaml").write_text(text)
    whole, apart = tmp_path / "reports/06_ablate", tmp_path / "reports/small/06_ablate"
    of_seed = config.override({"seed": 3})
    assert ablation.place(Places(tmp_path), of_seed, "3_flam") == whole / "3_flam.json"
    toy = config.override({"ablate.budget": {"train.n_steps": 1}})
    assert ablation.place(Places(tmp_path), toy, "0_flam") == apart / "0_flam.json"
    small = Places(tmp_path, small=True)
    assert ablation.place(small, config, "0_flam") == apart / "0_flam.json"


@pytest.mark.parametrize("name", ["flam", "mga_clap"])
def test_any_model_is_judged_and_flam_in_three_ways(folder, tmp_path, name):
    config = tiny.config().override(
        {"mixture.clip_s": CLIP_S} | {f"evaluate.{k}": v for k, v in EVALUATE.items()}
    )
    result = ablation.evaluate_run(Places(folder), folder / "artifacts/checkpoints" / name, config)
    # The evaluation's numbers can be written as they are, and the study reads them again.
    (tmp_path / "0_flam.json").write_text(json.dumps(result.numbers, allow_nan=False))
    result.curves.to_csv(tmp_path / "0_flam.tsv", sep="\t", index=False)
    runs, curves, _ = study.gather(tmp_path, ["flam"])
    ways = ["flam", "biased", "approximate"] if name == "flam" else ["flam"]
    assert list(runs) == ways
    for arm in ways:
        assert set(evaluate.TEST_SPLITS) <= runs[arm]["0"].keys()
        assert len(curves[curves["arm"] == arm]) == 2 * EVALUATE["n_thresholds"]
    # Within a caption the three scores have one order.
    macro = {runs[arm]["0"]["seen_captions"]["auroc_macro"] for arm in ways}
    assert max(macro) - min(macro) < 1e-6
