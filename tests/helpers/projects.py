"""Fixtures of the command line: a project with a trained model, and a released model."""

import numpy as np
import pytest
import soundfile
from heldouts import write_model
from sounds import RATE, noise, tone

from flamlib import files
from flamlib.cli import arguments
from flamlib.models import caption_thresholds, released
from flamlib.models.caption_thresholds import CaptionThresholds, OwnThreshold


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a trained model, and a recording in it."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "dvc.yaml").touch()
    (folder / "notebooks").mkdir()
    write_model(folder / arguments.CHECKPOINT)
    samples = np.concatenate([noise(1.0), tone(800, 1.3), noise(2.0)])
    soundfile.write(folder / "sound.wav", samples, RATE)
    return folder


@pytest.fixture
def here(project, monkeypatch):
    """In the project's folder, where no model is released."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(released, "places", list)
    return project


@pytest.fixture
def small(project, monkeypatch):
    """A released model, with thresholds of its own."""
    folder = project / "released/flam-small"
    if not folder.exists():
        write_model(folder, seed=1)
        own = OwnThreshold(threshold=0.0, n_events=12, f1=0.5)
        thresholds = CaptionThresholds(
            format=1,
            model=files.sha256(folder / "model.safetensors"),
            method="unbiased",
            median_frames=3,
            criterion="best F1",
            min_events=10,
            fallback=1.0,
            novel=1.0,
            captions={"a dog barks": own},
        )
        caption_thresholds.write(folder, thresholds)
    monkeypatch.setattr(released, "places", lambda: [folder.parent])
    return folder
