from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamlib.compute.distributions import Distribution
from flamlib.experiment.config import load_config
from flamlib.experiment.parameters import (
    ParameterError,
    parameter,
    parse,
    plain,
)


@dataclass(frozen=True, kw_only=True)
class Rate:
    kind: Literal["constant"] = parameter("which")
    lr: float = parameter("learning rate", above=0)


@dataclass(frozen=True, kw_only=True)
class Decay:
    kind: Literal["decay"] = parameter("which")
    factor: float = parameter("each step", low=0, high=1, default=0.5)


@dataclass(frozen=True, kw_only=True)
class Section:
    n_steps: int = parameter("steps", low=1)
    share: float = parameter("share", low=0, high=1)
    rate: Rate | Decay = parameter("schedule")
    precision: Literal["auto", "no"] = parameter("numbers")
    folder: str | None = parameter("where")
    spans: Distribution = parameter("how often", whole=True)
    sizes: tuple[float, float] = parameter("[lowest, highest]", above=0)
    names: list[str] = parameter("which")
    weights: dict[str, float] | None = parameter("of each")
    fast: bool = parameter("or slow")

    def __post_init__(self):
        if self.n_steps == 13:
            raise ValueError("n_steps and fate do not go together")


VALUES = {
    "n_steps": 3,
    "share": 0.5,
    "rate": {"kind": "constant", "lr": 0.1},
    "precision": "no",
    "folder": None,
    "spans": [1, 3],
    "sizes": [1, 2.5],
    "names": ["a"],
    "weights": {"a": 1},
    "fast": True,
}


def test_a_section_of_plain_values_comes_back_as_it_was():
    made = parse(Section, VALUES)
    assert (made.n_steps, made.rate.lr, made.spans.highest) == (3, 0.1, 3)
    assert plain(made) == VALUES
    assert parse(Section, plain(made)) == made


def test_what_has_a_default_may_be_left_out():
    made = parse(Section, VALUES | {"rate": {"kind": "decay"}})
    assert made.rate == Decay(kind="decay", factor=0.5)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"n_step": 3}, "no parameter train.n_step; did you mean train.n_steps?"),
        ({"zzz": 3}, "no parameter train.zzz; known: n_steps, share"),
        ({"n_steps": 3.0}, "train.n_steps = 3.0: expected a whole number"),
        ({"n_steps": True}, "train.n_steps = True: expected a whole number"),
        ({"n_steps": 0}, "train.n_steps = 0: expected 1 or more"),
        ({"n_steps": None}, "train.n_steps = None: expected a whole number"),
        ({"share": 1.5}, "train.share = 1.5: expected 0 to 1"),
        ({"share": "half"}, "train.share = 'half': expected a number"),
        ({"share": float("nan")}, "train.share = nan: expected a number"),
        ({"rate": {"kind": "constant", "lr": 0}}, "train.rate.lr = 0.0: expected more than 0"),
        ({"rate": {"kind": "cosine"}}, "train.rate.kind = 'cosine': expected one of constant, dec"),
        ({"rate": {"kind": "decay", "lr": 1}}, "no parameter train.rate.lr; known: kind, factor"),
        ({"rate": 3}, "train.rate.kind = None: expected one of constant, decay"),
        ({"precision": "atuo"}, "expected one of auto, no; did you mean auto?"),
        ({"precision": False}, "train.precision = False: expected one of auto, no"),
        ({"folder": 3}, "train.folder = 3: expected text"),
        ({"spans": [0, 3]}, "train.spans = [0, 3]: expected 1 or more"),
        ({"spans": {"poisson": 3}}, "train.spans: "),
        ({"sizes": [1]}, "train.sizes = [1]: expected 2 values"),
        ({"sizes": [0, 1]}, "train.sizes[0] = 0.0: expected more than 0"),
        ({"names": "a"}, "train.names = 'a': expected a list"),
        ({"names": [1]}, "train.names[0] = 1: expected text"),
        ({"weights": {"a": "b"}}, "train.weights.a = 'b': expected a number"),
        ({"weights": [1]}, "train.weights = [1]: expected names and values"),
        ({"fast": "yes"}, "train.fast = 'yes': expected true or false"),
        ({"n_steps": 13}, "train: n_steps and fate do not go together"),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(changes, why):
    with pytest.raises(ParameterError) as error:
        parse(Section, VALUES | changes, name="train")
    assert why in str(error.value)


def test_every_misfit_is_told_at_once():
    with pytest.raises(ParameterError) as error:
        parse(Section, {"n_steps": 0, "sharee": 1}, name="train")
    lines = str(error.value).splitlines()
    assert lines[0] == "no parameter train.sharee; did you mean train.share?"
    assert "train.n_steps = 0: expected 1 or more" in lines
    assert "train.share is missing" in lines
    assert len(lines) == 1 + len(VALUES)


def test_a_number_that_yaml_1_1_left_as_text_is_one():
    """papermill reads what it is given so."""
    assert parse(Section, VALUES | {"share": "5e-1"}).share == 0.5


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8,
))  # fmt: skip
def test_whatever_is_given_is_taken_or_refused_in_words(value):
    """No value makes anything but a section or a ParameterError."""
    for name in VALUES:
        try:
            parse(Section, VALUES | {name: value})
        except ParameterError:
            continue
    with pytest.raises(ParameterError):
        parse(Section, {"x": value})


@pytest.mark.parametrize(
    "name", ["train.micro_batch", "source.own_sounds", "testsets.folders.esc50"]
)
@pytest.mark.parametrize("word", ["None", "none"])
def test_pythons_word_for_nothing_is_no_folder_and_no_number(name, word):
    config = load_config(Path(__file__).parents[2] / "params.yaml")
    with pytest.raises(ParameterError, match=rf"{name} = '{word}': in YAML nothing is null"):
        config.override({name: word})


@pytest.mark.parametrize("value", ["1e3", "16", 16.0, True, [1], {"a": 1}, -1])
def test_a_number_that_may_be_null_may_be_nothing_else(value):
    config = load_config(Path(__file__).parents[2] / "params.yaml")
    with pytest.raises(ParameterError, match=r"train\.micro_batch"):
        config.override({"train.micro_batch": value})
