from pathlib import Path

import pytest

from flamlib.experiment.config import load_config
from flamlib.experiment.parameters import ParameterError

PARAMS = Path(__file__).parents[3] / "params.yaml"


@pytest.mark.parametrize("section", ["evaluate", "detect"])
@pytest.mark.parametrize("n_frames", [0, 2, 10**9 + 1])
def test_a_median_filter_is_odd_and_bounded(section, n_frames):
    with pytest.raises(ParameterError, match="median_frames"):
        load_config(PARAMS).override({f"{section}.median_frames": n_frames})
