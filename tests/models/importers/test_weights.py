import csv
import hashlib
import json
import zipfile

import checkpoints
import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from flamlib import files as project
from flamlib.data.corpus import packages
from flamlib.data.corpus.archives import BrokenArchive
from flamlib.models import yamnet
from flamlib.models.importers import weights

VARIABLE = "layer-1/layer/_func/_yamnet/layer_with_weights-{}/{}/.ATTRIBUTES/VARIABLE_VALUE"
READER = {"config.json": b'{"model_type": "bert"}', "model.safetensors": save({"w": torch.ones(2)})}


@pytest.fixture(scope="module")
def variables():
    """A checkpoint of the published layout with random numbers."""
    rng = np.random.default_rng(0)

    def random(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    found, n_in, convolutions = {}, 1, [(3, 32, False)]
    for _, n_out in yamnet.BLOCKS:
        convolutions += [(3, None, True), (1, n_out, False)]
    for i, (size, n_out, depthwise) in enumerate(convolutions):
        n_out = n_in if depthwise else n_out
        kernel = random(size, size, n_in, 1 if depthwise else n_out)
        name = "depthwise_kernel" if depthwise else "kernel"
        found[VARIABLE.format(2 * i, name)] = kernel
        found[VARIABLE.format(2 * i + 1, "beta")] = random(n_out)
        found[VARIABLE.format(2 * i + 1, "moving_mean")] = random(n_out)
        found[VARIABLE.format(2 * i + 1, "moving_variance")] = random(n_out) ** 2
        n_in = n_out
    found[VARIABLE.format(54, "kernel")] = random(1024, 521)
    found[VARIABLE.format(54, "bias")] = random(521)
    return found


@pytest.fixture(scope="module")
def hearing(variables):
    """What becomes of the members of YAMNet's package."""
    index, data = checkpoints.write(variables)
    names = ['"Thunder, « fort »"', *(f"class {i}" for i in range(1, 521))]
    rows = "".join(f"{i},/m/{i},{name}\n" for i, name in enumerate(names))
    class_map = "index,mid,display_name\n" + rows
    return {"variables.index": index, "variables.data": data, "class_map.csv": class_map.encode()}


@pytest.fixture
def shelf(tmp_path, hearing):
    """A catalogue of two small packages, which are there already."""
    return Shelf(tmp_path, {"yamnet": hearing, "reader": READER})


class Shelf:
    def __init__(self, folder, towers):
        self.downloads, self.catalogue = folder / "downloads", folder / "catalogue"
        self.out = folder / "weights"
        self.downloads.mkdir()
        self.catalogue.mkdir()
        self.towers = {tower: dict(files) for tower, files in towers.items()}
        self.pin()

    def wheel(self, tower):
        return self.downloads / f"{tower}_package-1.0-py3-none-any.whl"

    def pin(self):
        """Write the packages as they should be, and the tables that say so."""
        members, rows = [], []
        for tower, files in self.towers.items():
            self.pack(tower, files)
            for name, content in files.items():
                sha256 = hashlib.sha256(content).hexdigest()
                members.append([tower, name, f"{tower}-package", f"in/{name}", sha256])
            wheel = self.wheel(tower)
            about = [project.sha256(wheel), wheel.stat().st_size, "CC0", ""]
            rows.append([f"{tower}-package", "1.0", "pip", "weights", wheel.name, *about])
        write_table(self.catalogue / "weights.tsv", weights.COLUMNS, members)
        write_table(self.catalogue / "packages.tsv", packages.COLUMNS, rows)

    def pack(self, tower, files):
        with zipfile.ZipFile(self.wheel(tower), "w") as wheel:
            for name, content in files.items():
                wheel.writestr(f"in/{name}", content)

    def build(self):
        weights.build(self.downloads, self.catalogue, self.out, progress=False)

    def times(self):
        return {path: path.stat().st_mtime_ns for path in self.out.rglob("*")}


@pytest.fixture
def unreachable(monkeypatch):
    """No client finds anything."""

    def nothing(*args):
        raise packages.Unavailable("no index here")

    monkeypatch.setitem(packages._CLIENTS, "pip", nothing)


def write_table(path, columns, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t").writerows([columns, *rows])


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
    with pytest.raises(packages.Unavailable, match=r"reader-package: .* another checksum"):
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
