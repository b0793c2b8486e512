import json
import math
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamlib import files


@pytest.fixture
def notebook(tmp_path):
    """Write a notebook whose parameters cell is the given text."""

    def write(*cells, tags=("parameters",)):
        path = tmp_path / "03_train.ipynb"
        cells = [{"metadata": {"tags": list(tags)}, "source": [text]} for text in cells]
        path.write_text(json.dumps({"cells": [{"metadata": {}, "source": ["# Train"]}, *cells]}))
        return path

    return write


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


def test_parameters_of_the_same_shape_pass(notebook):
    train = {"n_steps": 100_000, "lr_peak": 1, "snr_db": [0, 5.0, 7.5], "init": "flam_global"}
    files.check_parameters(notebook(TRAIN), seed=1, train=train)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_stps": 5}, r"train\.n_stps is unknown; did you mean train\.n_steps\?"),
        ({"zzz": 5}, r"train\.zzz is unknown; known: \['init', 'lr_peak', 'n_steps', 'snr_db'\]"),
        ({"lr_peak": "1e-4"}, r"train\.lr_peak = '1e-4' is str, expected float \(in YAML write"),
        ({"lr_peak": "high"}, r"train\.lr_peak = 'high' is str, expected float$"),
        ({"n_steps": 20.0}, r"train\.n_steps = 20\.0 is float, expected int"),
        ({"n_steps": True}, r"train\.n_steps = True is bool, expected int"),
        ({"snr_db": "6"}, r"train\.snr_db = '6' is str, expected list"),
        ({"snr_db": [6.0, "x"]}, r"train\.snr_db\[1\] = 'x' is str, expected float"),
    ],
)
def test_a_misfit_is_named_with_its_likely_cause(notebook, change, message):
    train = {"n_steps": 20, "lr_peak": 1.0e-4, "snr_db": [6.0, 30.0], "init": None} | change
    if "n_stps" in change:
        del train["n_steps"]
    with pytest.raises(ValueError, match=message):
        files.check_parameters(notebook(TRAIN), seed=0, train=train)


def test_a_missing_key_or_section_is_named(notebook):
    train = {"n_steps": 20, "lr_peak": 1.0e-4, "init": None}
    with pytest.raises(ValueError, match=r"seed is missing(.|\n)*train\.snr_db is missing"):
        files.check_parameters(notebook(TRAIN), train=train)


def test_parameters_are_literals(notebook):
    path = notebook("# Small values.\nn_steps = 4\nn_clips = n_steps * 2")
    with pytest.raises(ValueError, match=r"`n_clips = n_steps \* 2` is not of the form"):
        files.declared_parameters(path)


def test_there_is_exactly_one_parameters_cell(notebook):
    with pytest.raises(ValueError, match="2 cells are tagged"):
        files.declared_parameters(notebook("a = 1", "b = 1"))
    with pytest.raises(ValueError, match="0 cells are tagged"):
        files.declared_parameters(notebook("a = 1", tags=()))


@pytest.mark.parametrize("form", [[1.0, 2.0], 6.0, {"normal": [18.0, 5.0], "within": [6.0, 30.0]}])
def test_a_range_may_be_another_distribution(notebook, form):
    train = {"n_steps": 20, "lr_peak": 1.0e-4, "snr_db": form, "init": None}
    files.check_parameters(notebook(TRAIN), seed=0, train=train)
