"""Of what both forms have in common; see test_dual_encoder.py and test_light.py."""

import subprocess
import sys

import own_thresholds
import pytest
import towers

from flamlib.models import caption_thresholds, released, saved
from flamlib.models.flam import FLAM


@pytest.fixture
def folder(tmp_path):
    FLAM(towers.write_bert(tmp_path / "bert"), **towers.SETTINGS).save_pretrained(tmp_path / "net")
    return tmp_path / "net"


def test_a_model_is_found_by_its_name(folder, monkeypatch):
    monkeypatch.setattr(released, "places", lambda: [folder.parent])
    assert isinstance(saved.load(FLAM, "net"), FLAM)
    with pytest.raises(FileNotFoundError, match="nowhere is missing: pass a folder"):
        saved.load(FLAM, "nowhere")


@pytest.mark.parametrize("lost", ["config.json", "model.safetensors"])
def test_what_is_missing_is_named(folder, lost):
    (folder / lost).unlink()
    with pytest.raises(FileNotFoundError, match=rf"net/{lost} is missing"):
        saved.load(FLAM, folder)


def test_it_brings_its_thresholds(folder):
    assert saved.load(FLAM, folder).thresholds is None
    thresholds = own_thresholds.made_for(folder)
    caption_thresholds.write(folder, thresholds)
    assert saved.load(FLAM, folder).thresholds == thresholds


def test_loading_waits_for_no_compiler_and_no_models_of_others(folder):
    """Each takes longer to import than all that `flam detect` does with ten seconds of audio."""
    look = "import sys; from flamlib.models import baselines\n"
    look += f"baselines.load({str(folder)!r})\n"
    look += "slow = {'torch._dynamo', 'sympy', 'transformers.modeling_utils', 'scipy.optimize'}\n"
    look += "print(slow & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
