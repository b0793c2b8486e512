from pathlib import Path

import pytest

from flamlib.experiment.config import load_config
from flamlib.experiment.parameters import ParameterError

PARAMS = Path(__file__).parents[3] / "params.yaml"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"select": "best", "valid_every": 0}, "best needs valid_every"),
        ({"trust_known": None, "trust_novel": [1.0, 1.0, 0.0]}, "both or, with null, neither"),
        ({"trust_known": [0.0, 1.0, 0.0], "trust_novel": [1.0, 1.0, 0.0]}, "trust_known: expected"),
        ({"n_steps": 0}, "n_steps"),
        ({"batch_size": 32, "n_processes": 5}, "32 cannot be shared evenly by 5 processes"),
        ({"ema_decay": 1.0}, "ema_decay: expected less than 1"),
    ],
)
def test_trainings_that_cannot_be_meant_are_refused(changes, why):
    with pytest.raises(ParameterError, match=why):
        load_config(PARAMS).override({f"train.{name}": of for name, of in changes.items()})
