import dataclasses
import pickle
from pathlib import Path

import pytest
import yaml

from flamlib.data.mixtures.rules import Rules

PARAMS = yaml.safe_load((Path(__file__).parents[3] / "params.yaml").read_text())


def rules(**changes):
    return Rules(clip_s=10.0, **PARAMS["rules"] | changes)


def test_the_experiments_rules_can_be_meant():
    made = rules()
    assert (made.n_events.lowest, made.n_events.highest) == (1, 10)
    assert pickle.loads(pickle.dumps(made)) == made
    assert rules(fragment_prob=0.9, repeat_prob=0.1).fragment_prob == 0.9
    assert dataclasses.replace(made, clip_s=5.0).snr_db == made.snr_db


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"snr_db": [30, 6]}, "snr_db: the lowest comes first"),
        ({"snr_db": {"poisson": 3}}, "snr_db: no distribution"),
        ({"n_events": [0, 3]}, "n_events: expected whole numbers from 1"),
        ({"n_events": [1, 2.5]}, "n_events: expected whole numbers"),
        ({"pause_s": [-0.1, 0.1]}, "pause_s"),
        ({"fragment_prob": 0.7, "repeat_prob": 0.7}, "add up to at most 1"),
        ({"max_polyphony": 0}, "max_polyphony"),
        ({"fade_s": -1.0}, "fade_s"),
        ({"event_position": [0.0, 1.5]}, "event_position: from 0"),
        ({"background_prob": 2}, "background_prob: expected 0 to 1"),
        ({"package_weights": {}}, "package_weights: expected a weight"),
        ({"package_weights": {"own": -1}}, "package_weights: expected a weight"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        rules(**change)
