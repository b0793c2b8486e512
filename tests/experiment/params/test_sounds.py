from pathlib import Path

import pytest

from flamlib.experiment.config import load_config
from flamlib.experiment.parameters import ParameterError

PARAMS = Path(__file__).parents[3] / "params.yaml"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"snr_db": [30, 6]}, "snr_db"),
        ({"n_events": [1, 2.5]}, "n_events: expected whole numbers"),
        ({"pause_s": [-0.1, 0.1]}, "pause_s"),
        ({"fragment_prob": 0.7, "repeat_prob": 0.7}, "add up to at most 1"),
        ({"event_position": [0.0, 1.5]}, "event_position"),
        ({"package_weights": {}}, "package_weights: expected a weight"),
        ({"package_weights": {"own": -1}}, "package_weights: expected a weight"),
    ],
)
def test_mixtures_that_cannot_be_meant_are_refused(changes, why):
    with pytest.raises(ParameterError, match=why):
        load_config(PARAMS).override({f"mixture.{name}": value for name, value in changes.items()})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"speed": [1.2, 0.8]}, "speed: expected .lowest, highest."),
        ({"stretch": [0, 1]}, r"stretch\[0\]"),
        ({"pitch_semitones": [2, -2]}, "pitch_semitones"),
        ({"room_prob": 0.5}, "rooms names no folder"),
    ],
)
def test_variants_that_cannot_be_meant_are_refused(changes, why):
    with pytest.raises(ParameterError, match=why):
        load_config(PARAMS).override({f"variants.{name}": value for name, value in changes.items()})


def test_probabilities_that_add_up_to_one_do_so_in_floats():
    changes = {"mixture.fragment_prob": 0.9, "mixture.repeat_prob": 0.1}
    assert load_config(PARAMS).override(changes).mixture.fragment_prob == 0.9


def test_packages_without_a_weight_are_left_out():
    weights = {"own": 3, "scratch": 0, "onsen": 1}
    mixture = load_config(PARAMS).override({"mixture.package_weights": weights}).mixture
    assert mixture.packages == ("own", "onsen")
    assert mixture.cumulative_weights == (3.0, 4.0)
