from pathlib import Path

import pytest

from flamlib.models import released


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A checkout of flamlib, and a cache."""
    monkeypatch.setattr(released, "_PACKAGE", tmp_path / "checkout/flamlib")
    monkeypatch.setenv("FLAM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout/pyproject.toml").touch()
    return tmp_path


def model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_checkout_has_models_and_an_installed_package_released_ones(package):
    assert released.find("flam-small") is None
    ours = model(package / "checkout/models/flam-small")
    assert released.find("flam-small") == ours
    (package / "checkout/pyproject.toml").unlink()
    assert released.find("flam-small") is None, "what is beside an installed package is not ours"
    installed = model(package / "checkout/flamlib/released/flam-small")
    assert released.find("flam-small") == installed


def test_models_in_the_cache_are_known_and_released_ones_go_first(package):
    imported = model(package / "cache/models/clap")
    model(package / "cache/models/flam-small")
    ours = model(package / "checkout/models/flam-small")
    (package / "cache/models/no-model").mkdir()
    assert released.known() == {"flam-small": ours, "clap": imported}


@pytest.mark.parametrize("name", ["..", "", "/", "clap/", "../models/clap", "."])
def test_a_path_is_no_name(package, name):
    model(package / "cache/models/clap")
    assert released.find(name) is None
