"""The estimate at the start of `make repro`: which stages, what they take, and no harm done."""

from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from flamlib import estimate, paths
from flamlib.estimate import Units
from flamlib.experiment.config import load_config

ROOT = Path(__file__).parents[1]
UNITS = Units(start=4.0, sound=0.01, trunk=0.004, top=0.001, learn=0.001, stored=True)
STAGES = ("corpus", "mix", "features", "train@flam", "train@flam_global", "evaluate", "benchmarks")


@pytest.fixture
def config():
    return load_config(ROOT / "params.yaml")


def minutes(config, stage, units=UNITS, n_recordings=759):
    return estimate.seconds(stage, config, units, n_recordings) / 60


def test_what_is_out_of_date_and_all_after_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages = {
        "mix": {"cmd": "cp given mix.txt", "deps": ["given"], "outs": ["mix.txt"]},
        "train": {"cmd": "cp mix.txt train.txt", "deps": ["mix.txt"], "outs": ["train.txt"]},
        "apart": {"cmd": "echo 1 > apart.txt", "outs": ["apart.txt"]},
        "detect": {"cmd": "cp train.txt detect.txt", "deps": ["train.txt"], "outs": ["detect.txt"]},
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    (tmp_path / "given").write_text("1")
    with Repo.init(no_scm=True) as repo:
        repo.reproduce()
    assert estimate.stale(tmp_path) == []
    assert estimate.describe(tmp_path) == "", "nothing is measured, and nothing said"
    (tmp_path / "mix.txt").write_text("2")
    assert estimate.stale(tmp_path) == ["mix", "train", "detect"]


def test_the_amounts_come_from_the_parameters(config):
    """At the speeds of two cores: a few minutes each, training the longest."""
    took = {stage: minutes(config, stage) for stage in STAGES}
    assert all(0.1 < of < 15 for of in took.values())
    assert took["train@flam_global"] < took["train@flam"], "it has no mixtures"
    anew = UNITS._replace(stored=False, learn=0.004)
    assert minutes(config, "train@flam", anew) > 1.5 * took["train@flam"]
    assert minutes(config, "features", anew) < took["features"] / 2, "nothing is stored"
    longer = config.override({"train.n_steps": 2 * config.train.n_steps})
    assert minutes(longer, "train@flam") == pytest.approx(2 * took["train@flam"], rel=0.2)
    fewer = config.override({"evaluate.n_clips": 50})
    assert minutes(fewer, "evaluate") < took["evaluate"] / 2
    assert minutes(config, "mix", n_recordings=5000) > 2 * took["mix"]
    slower = UNITS._replace(learn=10 * UNITS.learn)
    assert minutes(config, "train@flam", slower) > 5 * took["train@flam"]
    assert minutes(config, "code") == minutes(config, "data.dvc") == 0


def test_a_line_of_what_is_measured_here(config, monkeypatch):
    quick = config.override({"mixture.clip_s": 2.0, "mixture.max_event_s": 1.0})
    monkeypatch.setattr(estimate, "TIMED_S", 0)
    units, how = estimate.measure(quick)
    assert min(units.trunk, units.top, units.learn, units.sound) > 0
    assert max(units.trunk, units.top, units.learn, units.sound) < 5
    assert how.split(", ")[1] in ("float32", "bf16", "fp16")
    monkeypatch.setattr(estimate, "stale", lambda root: ["mix", "train@flam", "train@mga_clap"])
    monkeypatch.setattr(estimate, "measure", lambda config: (UNITS, "2 threads, float32"))
    line = estimate.describe(ROOT)
    assert line.startswith("On this machine (2 threads, float32) about ")
    assert [share.split()[0] for share in line.split(": ")[1].split(", ")] == ["mix", "train"]


def test_it_never_stops_what_comes_after_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: [no, mapping]")
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    assert estimate.main([]) == 0
    assert capsys.readouterr().out.startswith("No estimate of how long it will take (")


def test_other_parameters_are_estimated_for_all_stages(monkeypatch, capsys):
    """In hours where it takes hours."""
    monkeypatch.chdir(ROOT)
    measured = []
    slow = UNITS._replace(trunk=0.4)
    monkeypatch.setattr(
        estimate, "measure", lambda config: measured.append(config) or (slow, "2 threads, float32")
    )
    assert estimate.main(["--with", "configs/from_clap.yaml"]) == 0
    said = capsys.readouterr().out
    assert measured[0].network.audio.frozen_stages == 3
    assert " hours: corpus" in said
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert [share.split()[0] for share in said.split(": ")[1].split(", ")] == [
        name for name in stages if name != "code"
    ]
    assert estimate.main(["--with", "absent.yaml"]) == 0
    assert "No estimate" in capsys.readouterr().out
