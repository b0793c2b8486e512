from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from flamlib import files as project
from flamlib.models import checkpoint, state_dict
from flamlib.parameters import parameter


@dataclass(frozen=True, kw_only=True)
class Settings:
    dim: int = parameter("dimensions", low=1)
    bias: float = parameter("bias", default=0.0)


@pytest.fixture
def tensors():
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}


def test_a_model_with_others_weights_says_whose_they_are(tensors, tmp_path):
    path, model = tmp_path / "theirs.safetensors", torch.nn.Linear(3, 2)
    save_file(tensors, path)
    ours = {"weight": tensors["a.weight"], "bias": torch.zeros(2)}
    checkpoint.load_tensors(model, ours, path, "Theirs", heads="new")
    assert_close(model.weight.detach(), tensors["a.weight"])
    assert not model.training
    assert model.provenance["imported from"] == "Theirs"
    assert model.provenance["heads"] == "new"
    assert model.provenance["sha256"] == project.sha256(path)
    with pytest.raises(ValueError, match=r"theirs.safetensors: 1 missing tensors"):
        checkpoint.load_tensors(model, {"weight": ours["weight"]}, path, "Theirs")


def test_a_folder_is_written_whole_or_not_at_all(tensors, tmp_path):
    def write(save_captions):
        checkpoint.write(
            tmp_path / "model",
            kind=None,
            config={"dim": 3},
            tensors=tensors,
            save_captions=save_captions,
            provenance={"seed": 1},
            card="# card\n",
        )

    write(lambda folder: folder.mkdir())
    with pytest.raises(ZeroDivisionError):
        write(lambda folder: 1 / 0)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "config.json", "model.safetensors", "caption_tower", "training.json", "README.md",
    }  # fmt: skip
    path = tmp_path / "model/config.json"
    assert checkpoint.read_config(path, Settings, kind=None) == {"dim": 3}
    assert checkpoint.read_provenance(tmp_path / "model") == {"seed": 1}
    assert state_dict.read(tmp_path / "model/model.safetensors").keys() == tensors.keys()
    write(lambda folder: folder.mkdir())  # an older model gives way
    (tmp_path / "model/precious.bin").write_bytes(b"!")
    with pytest.raises(FileExistsError, match="more than a saved model"):
        write(lambda folder: folder.mkdir())
    (tmp_path / "model/precious.bin").unlink()
    path.write_text('{"model_type": "clap"}')  # somebody else's
    with pytest.raises(FileExistsError, match="more than a saved model"):
        write(lambda folder: folder.mkdir())


def hub_cache(folder, repository, files):
    """What the hub's client leaves in its cache."""
    base = folder / f"models--{repository.replace('/', '--')}"
    snapshot = base / "snapshots" / ("0" * 40)
    for name, content in files.items():
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).write_bytes(content)
    (base / "refs").mkdir()
    (base / "refs/main").write_text("0" * 40)
    return snapshot


def test_a_hub_id_is_its_snapshot(tmp_path):
    files = {"config.json": b"{}", "model.safetensors": b"", "caption_tower/config.json": b"{}"}
    snapshot = hub_cache(tmp_path, "someone/flam", files)
    assert checkpoint.resolve_source("someone/flam", cache_dir=tmp_path) == snapshot


def test_a_folder_is_never_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "snapshot_download", lambda *a, **k: 1 / 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some/model").mkdir(parents=True)
    for folder in ("some/model", "/some/where", "a/b/c", "model", "../some/model", "some/.."):
        assert str(checkpoint.resolve_source(folder)) == folder


def test_a_repository_that_cannot_be_had_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="someone/flam is missing: no such folder"):
        checkpoint.resolve_source("someone/flam", cache_dir=tmp_path)
