"""A model, and recordings with labels, for the commands that fit one to them."""

import numpy as np
import pytest
import soundfile
from heldouts import write_model
from sounds import RATE, noise, tone

from flamlib.models import released


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "flam"
    write_model(folder)
    return folder


@pytest.fixture
def labelled_folder(tmp_path, small_model, monkeypatch):
    """Two recordings with tones between noise, and a table of when they sound."""
    monkeypatch.setattr(released, "places", list)
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        samples = np.concatenate([noise(1.0), tone(800, 1.0), noise(1.0)])
        soundfile.write(f"{name}.wav", samples, RATE)
    rows = "".join(f"{name}.wav\t1.0\t2.0\ta tone\n" for name in "ab")
    (tmp_path / "events.tsv").write_text(f"filename\tonset\toffset\tevent_label\n{rows}")
    return tmp_path
