import pytest
import towers
from huggingface_hub.errors import LocalEntryNotFoundError

from flamlib.models import released
from flamlib.models.flam import FLAM
from flamlib.models.importers import clap, openflam, others


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/models"


@pytest.fixture
def imported(tmp_path, monkeypatch):
    """The importers take whatever they are given for a tiny model; what they were given."""
    model = FLAM(towers.write_bert(tmp_path / "bert"), **towers.SETTINGS)
    given = []
    monkeypatch.setattr(clap, "read", lambda *source: given.append(source) or model)
    monkeypatch.setattr(openflam, "read", lambda *source: given.append(source) or model)
    monkeypatch.setattr(others, "hf_hub_download", lambda *asked: "/".join(asked))
    return given


def test_a_clap_is_imported_once_and_known_by_its_name(cache, imported):
    folder = others.get("clap-htsat-unfused")
    assert folder == cache / "clap-htsat-unfused"
    assert others.get("clap-htsat-unfused") == folder
    assert imported == [("laion/clap-htsat-unfused",)]
    assert isinstance(FLAM.from_pretrained("clap-htsat-unfused"), FLAM)
    assert released.find("clap-htsat-unfused") == folder


def test_the_authors_file_is_imported_with_its_tokenizer(cache, imported):
    others.get("openflam")
    assert imported == [("kechenadobe/OpenFLAM/open_flam_oct17.pth", "roberta-base")]


def test_what_cannot_be_had_is_named(cache, monkeypatch):
    with pytest.raises(ValueError, match="no model 'nobody' to be had; known: clap-htsat-unfused"):
        others.get("nobody")
    with pytest.raises(FileNotFoundError, match="laion/clap-htsat-unfused is missing"):
        others.get("clap-htsat-unfused")

    def offline(*_):
        raise LocalEntryNotFoundError("outgoing traffic has been disabled")

    monkeypatch.setattr(others, "hf_hub_download", offline)
    with pytest.raises(FileNotFoundError, match=r"OpenFLAM: cannot be downloaded \(outgoing"):
        others.get("openflam")
    assert not cache.exists()
