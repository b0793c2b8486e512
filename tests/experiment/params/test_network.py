from pathlib import Path

import pytest

from flamlib.experiment.config import load_config
from flamlib.experiment.parameters import ParameterError

PARAMS = Path(__file__).parents[3] / "params.yaml"


def test_a_tower_brings_its_own_settings():
    config = load_config(PARAMS, overlays=[PARAMS.parent / "configs/paper.yaml"])
    assert config.network.audio.depths == [2, 2, 12, 2]
    with pytest.raises(ParameterError, match=r"no parameter network\.audio\.depths"):
        load_config(PARAMS).override({"network.audio": {"tower": "yamnet", "depths": [1]}})
