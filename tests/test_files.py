import json
import math
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamlib import files


@given(content=st.binary() | st.text())
def test_what_is_written_is_what_is_read(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("write") / "new" / "file"
    files.atomic_write(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert os.listdir(path.parent) == ["file"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.atomic_write(path, "old")

    def fail(*paths):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        files.atomic_write(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_written_file_is_as_readable_as_any_other(tmp_path):
    files.atomic_write(tmp_path / "ours", "")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "mixtures"
    with files.atomic_folder(path) as folder:
        (folder / "a").touch()
        assert not path.exists()
    assert os.listdir(path) == ["a"]
    assert os.listdir(path.parent) == ["mixtures"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for name in ("first", "second"):
        with files.atomic_folder(tmp_path / "mixtures") as folder:
            (folder / name).touch()
    assert os.listdir(tmp_path / "mixtures") == ["second"]
    assert os.listdir(tmp_path) == ["mixtures"]


def test_a_folder_that_fails_leaves_the_old_one(tmp_path):
    with files.atomic_folder(tmp_path / "mixtures") as folder:
        (folder / "first").touch()
    with (
        pytest.raises(FileNotFoundError),
        files.atomic_folder(tmp_path / "mixtures") as folder,
    ):
        (folder / "absent" / "second").touch()
    assert os.listdir(tmp_path / "mixtures") == ["first"]
    assert os.listdir(tmp_path) == ["mixtures"]


def test_metrics_are_the_same_bytes_for_the_same_reported_digits(tmp_path):
    third = {"b": 1 / 3, "a": {"n": 3, "none": None, "flags": [True]}}
    nearly = {"a": {"flags": [True], "none": None, "n": np.int64(3)}, "b": np.float32(1 / 3)}
    files.write_metrics(tmp_path / "third.json", third)
    files.write_metrics(tmp_path / "nearly.json", nearly)
    assert (tmp_path / "third.json").read_bytes() == (tmp_path / "nearly.json").read_bytes()
    written = json.loads((tmp_path / "third.json").read_text())
    assert written == {"a": {"n": 3, "none": None, "flags": [True]}, "b": 0.333333}


def test_a_table_is_rounded_and_written_whole(tmp_path):
    table = pd.DataFrame({"name": ["ä", "b"], "share": [1 / 3, 2e-7 / 3]})
    files.write_table(tmp_path / "new/table.tsv", table)
    assert (tmp_path / "new/table.tsv").read_text(encoding="utf-8") == (
        "name\tshare\nä\t0.3333\nb\t6.667e-08\n"
    )
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["table.tsv"]


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_a_metric_keeps_six_digits_however_small(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("metrics") / "m.json"
    files.write_metrics(path, {"x": value})
    assert math.isclose(json.loads(path.read_text())["x"], value, rel_tol=5e-6, abs_tol=1e-320)


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan")])
def test_a_metric_that_is_no_number_is_named(tmp_path, value):
    with pytest.raises(ValueError, match=r"flam\.auroc\[1\] is (nan|inf)"):
        files.write_metrics(tmp_path / "m.json", {"flam": {"auroc": [0.5, value]}})
    assert not (tmp_path / "m.json").exists()


TRAIN = 'seed = 0\ntrain = {"n_steps": 20, "lr_peak": 1.0e-4, "snr_db": [6.0, 30.0], "init": None}'
