import pytest
import yaml

from flamlib.experiment.overrides import overlaid, override, read_overrides, read_yaml
from flamlib.experiment.parameters import ParameterError


def test_yaml_is_read_as_dvc_reads_it(tmp_path):
    """PyYAML, by version 1.1, reads 5e-5 as text and `no` as false; DVC writes them so."""
    path = tmp_path / "params.yaml"
    path.write_text("train: {lr: 5e-5, precision: no, name: on}\n")
    assert read_yaml(path) == {"train": {"lr": 5e-5, "precision": "no", "name": "on"}}
    assert yaml.safe_load(path.read_text())["train"]["precision"] is False


@pytest.mark.parametrize(
    ("text", "why"),
    [("- 1\n", "holds no sections"), ("a: [1\n", "not YAML"), ("a: 1\na: 2\n", "not YAML")],
)
def test_a_file_that_holds_no_sections_is_named(tmp_path, text, why):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=rf"params\.yaml.*{why}"):
        read_yaml(path)


def test_an_overlay_replaces_keys_and_leaves_the_others():
    base = {"seed": 0, "train": {"lr": 0.1, "n": {"a": 1}}, "mix": {"n": 3}}
    found = overlaid(base, {"seed": 1, "train": {"n": {"b": 2}}}, name="b.yaml")
    assert found == {"seed": 1, "train": {"lr": 0.1, "n": {"b": 2}}, "mix": {"n": 3}}
    assert base["train"]["n"] == {"a": 1}


@pytest.mark.parametrize(
    ("overlay", "why"),
    [
        ({"trian": {}}, "b.yaml: no parameter trian; did you mean train?"),
        ({"train": {"lrr": 1}}, "b.yaml: no parameter train.lrr; did you mean train.lr?"),
    ],
)
def test_an_overlay_that_fits_nowhere_is_refused(overlay, why):
    with pytest.raises(ParameterError) as error:
        overlaid({"train": {"lr": 0.1}}, overlay, name="b.yaml")
    assert str(error.value) == why


def test_a_change_changes_what_it_names_and_nothing_else():
    given = {"seed": 0, "train": {"n_steps": 5, "rates": {"heads": 0.1}}}
    found = override(given, {"train.rates.heads": 0.2, "seed": 1})
    assert found == {"seed": 1, "train": {"n_steps": 5, "rates": {"heads": 0.2}}}
    assert given["train"]["rates"] == {"heads": 0.1}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("train.n_step", "no parameter train.n_step; did you mean train.n_steps?"),
        ("tarin.n_steps", "did you mean train.n_steps"),
        ("seed.x", "no parameter seed.x"),
    ],
)
def test_a_misspelt_change_is_refused(name, why):
    with pytest.raises(ParameterError) as error:
        override({"seed": 0, "train": {"n_steps": 5}}, {name: 1})
    assert why in str(error.value)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("", {}),
        ("train.lr=1e-4 train.name=no", {"train.lr": 1e-4, "train.name": "no"}),
        ("detect.captions=[a dog barks, rain] seed=3", {
            "detect.captions": ["a dog barks", "rain"], "seed": 3,
        }),
        ("mixture.snr_db={normal: [18, 5], within: [6, 30]}", {
            "mixture.snr_db": {"normal": [18, 5], "within": [6, 30]},
        }),
        ("detect.recording=my street.wav", {"detect.recording": "my street.wav"}),
    ],
)  # fmt: skip
def test_overrides_can_be_written_as_text(text, changes):
    assert read_overrides(text) == changes


@pytest.mark.parametrize("text", ["fast", "a=[1", "=3"])
def test_text_that_names_no_value_is_refused(text):
    with pytest.raises(ParameterError):
        read_overrides(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("train.n_steps 40 train.lr_heads=1e-3", "expected name=value, got 'train.n_steps 40'"),
        ("seed=1 seed=2", "seed is given twice"),
        ("detect.recording=/sounds/take #2.flac", "holds a comment"),
    ],
)
def test_no_part_of_the_overrides_is_lost(text, why):
    with pytest.raises(ParameterError, match=why):
        read_overrides(text)
    assert read_overrides("detect.recording='/sounds/take #2.flac'") == {
        "detect.recording": "/sounds/take #2.flac"
    }
