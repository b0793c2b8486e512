import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from flamlib.evaluation import study
from flamlib.evaluation.study import PaperClaim

PARTS = ("seen_captions", "unseen_captions")


def write_run(folder, seed, arm, auroc, *, ways=()):
    parts = [f"{way}{part}" for way in ("", *(f"{w}_" for w in ways)) for part in PARTS]
    numbers = {part: {"auroc_macro": auroc, "map": None} for part in parts}
    numbers["retrieval"] = {"t2a_r10": 0.5}
    (folder / f"{seed}_{arm}.json").write_text(json.dumps(numbers))
    rows = [(part, threshold, 0.1) for part in parts for threshold in (0.25, 0.5)]
    table = pd.DataFrame(rows, columns=["part", "threshold", "f1"])
    table.to_csv(folder / f"{seed}_{arm}.tsv", sep="\t", index=False)


@pytest.fixture
def folder(tmp_path):
    for seed, (flam, no_bias) in enumerate([(0.8, 0.7), (0.9, 0.85), (0.7, 0.55)]):
        write_run(tmp_path, seed, "flam", flam, ways=study.SCORED)
        write_run(tmp_path, seed, "no_bias", no_bias)
    write_run(tmp_path, 0, "siglip", 0.6)
    write_run(tmp_path, 0, "of_old", 0.1)
    return tmp_path


def test_runs_are_gathered_in_the_order_of_the_arms(folder):
    runs, curves, _ = study.gather(folder, ["siglip", "flam", "no_bias", "not_yet"])
    assert list(runs) == ["siglip", "flam", "no_bias", "biased", "approximate"]
    assert list(runs["flam"]) == list(runs["biased"]) == ["0", "1", "2"]
    assert list(runs["siglip"]) == ["0"]
    assert runs["biased"]["1"]["seen_captions"]["auroc_macro"] == 0.9
    assert set(runs["flam"]["0"]) == {*PARTS, "retrieval"} == set(runs["biased"]["0"])
    assert set(curves["part"]) == set(PARTS)
    assert (curves.groupby(["arm", "seed"]).size() == 4).all()


def test_a_study_without_flam_has_nothing_to_compare_with(folder):
    with pytest.raises(FileNotFoundError, match="no run of flam"):
        study.gather(folder, ["no_bias"])


def record(folder, name, **digests):
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"provenance": digests, **json.loads(path.read_text())}))


def test_runs_of_other_code_parameters_or_data_are_refused(folder):
    alike = {"code": "c1", "parameters": "p1", "data": "d1"}
    names = [path.stem for path in folder.glob("*.json")]
    for name in names:
        record(folder, name, commit=name, **alike)
    arms = ["flam", "no_bias", "siglip"]
    runs, _, versions = study.gather(folder, arms)
    assert study.counted(versions) == {
        "code": {"c1": 7},
        "parameters": {"p1": 7},
        "data": {"d1": 7},
    }
    assert "provenance" not in runs["flam"]["0"]
    write_run(folder, 0, "siglip", 0.6)
    record(folder, "0_siglip", **alike | {"code": "c2"})
    with pytest.raises(
        ValueError, match=r"(?s)code c2: 0_siglip\.json\n.*mixed = \['code'\]"
    ) as error:
        study.gather(folder, arms)
    assert "code c1: 0_flam.json, 0_no_bias.json, 1_flam.json and 3 more" in str(error.value)
    assert "parameters" not in str(error.value)
    _, _, versions = study.gather(folder, arms, mixed=["code"])
    assert versions["code"]["c2"] == ["0_siglip.json"]
    study.gather(folder, ["flam", "no_bias"])  # without the one that differs
    runs, _, _ = study.gather(folder, arms, only=["0_flam", "0_no_bias", "1_flam"])
    assert {arm: list(of) for arm, of in runs.items()} == {
        "flam": ["0", "1"], "no_bias": ["0"], "biased": ["0", "1"], "approximate": ["0", "1"],
    }  # fmt: skip
    write_run(folder, 1, "siglip", 0.6)  # says nothing of what it was computed from
    with pytest.raises(ValueError, match=r"data not recorded: 1_siglip\.json"):
        study.gather(folder, arms, mixed=["code", "parameters"])
    with pytest.raises(ValueError, match="only code, parameters, data can be mixed"):
        study.gather(folder, arms, mixed=["seeds"])


def test_differences_are_taken_seed_by_seed(folder):
    runs, _, _ = study.gather(folder, ["flam", "no_bias", "siglip"])
    found = study.differences(study.values(runs)).loc[("no_bias", "AUROC, seen")]
    by_seed = np.array([-0.1, -0.05, -0.15])
    assert found["difference"] == pytest.approx(-0.1)
    # A t interval of three numbers, by another route.
    low, high = scipy.stats.t.interval(0.95, 2, by_seed.mean(), scipy.stats.sem(by_seed))
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert found["n"] == 3


def test_one_seed_has_no_interval_and_what_is_not_defined_no_difference(folder):
    runs, _, _ = study.gather(folder, ["flam", "siglip"])
    found = study.differences(study.values(runs))
    alone = found.loc[("siglip", "AUROC, seen")]
    assert alone["difference"] == pytest.approx(-0.2)
    assert np.isnan(alone["low"])
    assert ("siglip", "mAP, seen") not in found.index
    nested = study.nested(found)
    assert nested["siglip"]["AUROC, seen"]["low"] is None
    json.dumps(nested, allow_nan=False)


def test_the_table_says_mean_and_spread(folder):
    runs, _, _ = study.gather(folder, ["flam", "no_bias", "siglip"])
    table = study.summary(study.values(runs))
    assert list(table.index) == ["flam", "no_bias", "siglip", "biased", "approximate"]
    assert table.loc["flam", "AUROC, seen"] == "0.800 ± 0.100"
    assert table.loc["siglip", "AUROC, seen"] == "0.600"
    assert table.loc["flam", "mAP, seen"] == ""
    assert table.loc["flam", "n"] == 3


@given(low=st.floats(-1, 1), width=st.floats(0, 1), sign=st.sampled_from([-1, 1]))
def test_a_claim_is_settled_where_the_interval_leaves_out_zero(low, width, sign):
    high = low + width
    row = {"difference": (low + high) / 2, "low": low, "high": high, "n": 3}
    index = pd.MultiIndex.from_tuples([("no_bias", "AUROC, seen")], names=["arm", "metric"])
    claims = [PaperClaim("it says", "no_bias", ["AUROC, seen", "mAP, seen"], sign)]
    [here] = study.findings(pd.DataFrame([row], index=index), claims)["here"]
    if low <= 0 <= high:
        assert here == "not settled"
    else:
        assert here == ("agrees" if sign * low > 0 else "disagrees")


def test_the_table_of_claims_is_shown_whole():
    """Seeds are counted, and pandas cuts off texts that are longer than its columns."""
    number = {"difference": 0.1, "low": np.nan, "high": np.nan, "n": 1.0}
    index = [(claim.arm, name) for claim in study.PAPER_CLAIMS for name in claim.metrics]
    index = pd.MultiIndex.from_tuples(dict.fromkeys(index), names=["arm", "metric"])
    shown = study.findings(pd.DataFrame([number] * len(index), index=index))
    assert pd.api.types.is_integer_dtype(shown["n"])
    assert "..." not in shown.to_html()


def test_every_claim_is_of_metrics_that_there_are():
    assert {name for claim in study.PAPER_CLAIMS for name in claim.metrics} <= set(study.METRICS)


def test_the_figures_show_every_arm_and_part(folder):
    runs, curves, _ = study.gather(folder, ["flam", "no_bias"])
    drawn = dict(list(curves.groupby("arm", sort=False)))
    figure = study.f1_curves(drawn)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "seen captions",
        "unseen captions",
    ]
    assert all(len(axes.lines) == len(drawn) for axes in figure.axes)
    of = study.differences(study.values(runs))
    figure = study.difference_map(of, ["AUROC, seen", "mAP, seen"])
    assert len(figure.axes) == 2
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert labels == ["no bias", "biased", "approximate"]
