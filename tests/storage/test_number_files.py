import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamlib.storage import number_files


def test_metrics_are_the_same_bytes_for_the_same_reported_digits(tmp_path):
    third = {"b": 1 / 3, "a": {"n": 3, "none": None, "flags": [True]}}
    nearly = {"a": {"flags": [True], "none": None, "n": np.int64(3)}, "b": np.float32(1 / 3)}
    number_files.write_metrics(tmp_path / "third.json", third)
    number_files.write_metrics(tmp_path / "nearly.json", nearly)
    assert (tmp_path / "third.json").read_bytes() == (tmp_path / "nearly.json").read_bytes()
    written = json.loads((tmp_path / "third.json").read_text())
    assert written == {"a": {"n": 3, "none": None, "flags": [True]}, "b": 0.333333}


def test_a_table_is_rounded_and_written_whole(tmp_path):
    table = pd.DataFrame({"name": ["ä", "b"], "share": [1 / 3, 2e-7 / 3]})
    number_files.write_table(tmp_path / "new/table.tsv", table)
    assert (tmp_path / "new/table.tsv").read_text(encoding="utf-8") == (
        "name\tshare\nä\t0.3333\nb\t6.667e-08\n"
    )
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["table.tsv"]


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_a_metric_keeps_six_digits_however_small(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("metrics") / "m.json"
    number_files.write_metrics(path, {"x": value})
    assert math.isclose(json.loads(path.read_text())["x"], value, rel_tol=5e-6, abs_tol=1e-320)


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan")])
def test_a_metric_that_is_no_number_is_named(tmp_path, value):
    with pytest.raises(ValueError, match=r"flam\.auroc\[1\] is (nan|inf)"):
        number_files.write_metrics(tmp_path / "m.json", {"flam": {"auroc": [0.5, value]}})
    assert not (tmp_path / "m.json").exists()
