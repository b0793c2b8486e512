"""Fixtures of the command line: a project with a trained model, and a released model."""

import numpy as np
import own_thresholds
import pytest
import soundfile
from heldouts import write_model
from sounds import RATE, noise, tone

from flamlib.cli import arguments
from flamlib.models import caption_thresholds, released


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
        thresholds = own_thresholds.made_for(
            folder, {"a dog barks": (0.0, 12)}, fallback=1.0, novel=1.0
        )
        caption_thresholds.write(folder, thresholds)
    monkeypatch.setattr(released, "places", lambda: [folder.parent])
    return folder
