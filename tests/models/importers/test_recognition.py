import pytest
import torch
from openflam_layout import random_state
from originals_layout import compa_state, laion_state, mga_state
from towers import MGA_CLAP, SETTINGS, write_bert

from flamlib.models.flam import FLAM
from flamlib.models.importers import clap, openflam, originals, recognition
from flamlib.models.mga_clap import MGACLAP

TEXT = {"words": 9, "width": 64, "layers": 1, "inner": 8, "positions": 9}
SIZES = {"embed": 8, "depths": (1, 1, 1, 1), "heads": (1, 2, 2, 4), "dim": 4}
STATES = {
    "OpenFLAM": lambda: random_state(**SIZES, text=TEXT),
    "MGA-CLAP": lambda: mga_state(9),
    "CompA-CLAP": lambda: compa_state(9),
    "LAION-CLAP": lambda: laion_state(9),
}


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("kind", STATES)
def test_a_checkpoint_is_known_by_its_tensors(tmp_path, kind, parallel):
    state, prefix = STATES[kind](), "module." if parallel else ""
    torch.save({"state_dict": {prefix + n: t for n, t in state.items()}}, tmp_path / "a.pt")
    found, tensors = recognition.read(tmp_path / "a.pt", [kind])
    assert found == kind
    assert tensors.keys() == state.keys()


@pytest.mark.parametrize("kind", ["MGA-CLAP", "CompA-CLAP", "LAION-CLAP"])
def test_what_is_not_openflam_is_named_with_its_command(tmp_path, kind):
    torch.save({f"module.{n}": t for n, t in STATES[kind]().items()}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=rf"a.pt is {kind}, .*: flam import-baseline imports it"):
        openflam.read(tmp_path / "a.pt", tmp_path)


def test_openflam_is_named_with_its_command(tmp_path):
    torch.save(STATES["OpenFLAM"](), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a.pth is OpenFLAM, .*: flam import-openflam imports it"):
        originals.read(tmp_path / "a.pth", tmp_path)


def test_a_saved_model_needs_no_import(tmp_path):
    bert = write_bert(tmp_path / "bert")
    for i, model in enumerate((FLAM(bert, **SETTINGS), MGACLAP(bert, **MGA_CLAP))):
        model.save_pretrained(tmp_path / f"{i}")
        with pytest.raises(ValueError, match="it needs no import: pass its folder with --model"):
            originals.read(tmp_path / f"{i}/model.safetensors", bert)


def test_an_encoder_alone_is_a_tower(tmp_path):
    state = {n.removeprefix("audio_branch."): t for n, t in STATES["LAION-CLAP"]().items()}
    only = {n: t for n, t in state.items() if not n.startswith(("text_", "logit_", "audio_"))}
    torch.save(only, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="flam import-htsat imports it"):
        originals.read(tmp_path / "a.ckpt", tmp_path)
    assert clap.read_tower(tmp_path / "a.ckpt").sample_rate == 48_000


def test_folders_and_files_are_told_apart(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder, .* imported by flam import-clap"):
        openflam.read(tmp_path, tmp_path)
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a.pt is a file, .* flam import-baseline"):
        clap.read(tmp_path / "a.pt")
    with pytest.raises(ValueError, match="not a checkpoint of OpenFLAM: it has none"):
        openflam.read(tmp_path / "a.pt", tmp_path)
