import os
import resource
import signal
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from flamlib.experiment.parameters import parameter
from flamlib.models import checkpoint, state_dict
from flamlib.storage import files as project


@dataclass(frozen=True, kw_only=True)
class Settings:
    dim: int = parameter("dimensions", low=1)
    bias: float = parameter("bias", default=0.0)


PLAIN = {"kind": None, "config": {"dim": 3}, "provenance": {"seed": 1}, "card": "# card\n"}


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


def test_a_digest_is_of_settings_and_weights_and_of_nothing_else(tmp_path):
    for name in ("config.json", "model.safetensors", "README.md"):
        (tmp_path / name).write_text(name)
    before = checkpoint.digest(tmp_path)
    (tmp_path / "README.md").write_text("another card")
    assert checkpoint.digest(tmp_path) == before
    found = {before}
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("other")
        found.add(checkpoint.digest(tmp_path))
    assert len(found) == 3


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


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_others_may_read_every_file_as_the_umask_says(tensors, tmp_path, umask):
    old = os.umask(umask)
    try:
        checkpoint.write(tmp_path / "model", tensors=tensors, save_captions=Path.mkdir, **PLAIN)
    finally:
        os.umask(old)
    for path in [tmp_path / "model", *(tmp_path / "model").rglob("*")]:
        full = 0o777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.stat().st_mode) == full & ~umask, path


@contextmanager
def room_for(n_bytes):
    """The system refuses to write files beyond a size, as a full disk would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_an_error_of_the_system_and_the_older_model_stays(tensors, tmp_path):
    write = partial(checkpoint.write, tmp_path / "model", save_captions=Path.mkdir, **PLAIN)
    write(tensors=tensors)
    before = (tmp_path / "model/model.safetensors").read_bytes()
    with room_for(5000), pytest.raises(OSError, match=r"File too large; make room there.*model"):
        write(tensors={"a": torch.zeros(5000)})
    assert (tmp_path / "model/model.safetensors").read_bytes() == before
    assert os.listdir(tmp_path) == ["model"]


def test_thresholds_and_the_like_are_whole_or_the_older_ones(tmp_path):
    path = tmp_path / "thresholds.json"
    checkpoint.write_json(path, {"rain": 0.5})
    with room_for(1000), pytest.raises(OSError, match=r"File too large; make room there.*thresh"):
        checkpoint.write_json(path, {"rain": "0" * 2000})
    assert checkpoint.read_json(path) == {"rain": 0.5}
    assert os.listdir(tmp_path) == ["thresholds.json"]


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
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: 1 / 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some/model").mkdir(parents=True)
    for folder in ("some/model", "/some/where", "a/b/c", "model", "../some/model", "some/.."):
        assert str(checkpoint.resolve_source(folder)) == folder


def test_a_repository_that_cannot_be_had_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="someone/flam is missing: no such folder"):
        checkpoint.resolve_source("someone/flam", cache_dir=tmp_path)
