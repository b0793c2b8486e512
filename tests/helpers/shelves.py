"""Packages of towers, as files of a registry: small, and made of random numbers."""

import csv
import hashlib
import warnings
import zipfile

import checkpoints
import numpy as np
import torch
import towers
from transformers import AutoConfig, AutoModel

from flamlib.data.corpus import packages
from flamlib.models import light, weights, yamnet
from flamlib.models.flam import FLAM
from flamlib.models.text_tower import UnknownWords
from flamlib.storage import files as project

VARIABLE = "layer-1/layer/_func/_yamnet/layer_with_weights-{}/{}/.ATTRIBUTES/VARIABLE_VALUE"


def yamnet_variables(*, lively=False):
    """A checkpoint of the published layout with random numbers; lively: it can be listened with."""
    rng = np.random.default_rng(0)

    def random(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    found, n_in, convolutions = {}, 1, [(3, 32, False)]
    for _, n_out in yamnet.BLOCKS:
        convolutions += [(3, None, True), (1, n_out, False)]
    for i, (size, n_out, depthwise) in enumerate(convolutions):
        n_out = n_in if depthwise else n_out
        kernel = random(size, size, n_in, 1 if depthwise else n_out)
        n_inputs = size * size * (1 if depthwise else n_in)
        name = "depthwise_kernel" if depthwise else "kernel"
        beta, mean, variance = random(n_out), random(n_out), random(n_out) ** 2
        if lively:
            kernel, variance = kernel * np.float32((2 / n_inputs) ** 0.5), np.ones_like(variance)
            beta, mean = 0 * beta, 0 * mean
        found[VARIABLE.format(2 * i, name)] = kernel
        found[VARIABLE.format(2 * i + 1, "beta")] = beta
        found[VARIABLE.format(2 * i + 1, "moving_mean")] = mean
        found[VARIABLE.format(2 * i + 1, "moving_variance")] = variance
        n_in = n_out
    found[VARIABLE.format(54, "kernel")] = random(1024, 521) / (32 if lively else 1)
    found[VARIABLE.format(54, "bias")] = random(521)
    return found


def yamnet_members(variables):
    """What becomes of the members of YAMNet's package."""
    index, data = checkpoints.write(variables)
    names = ['"Thunder, « fort »"', *(f"class {i}" for i in range(1, 521))]
    rows = "".join(f"{i},/m/{i},{name}\n" for i, name in enumerate(names))
    class_map = "index,mid,display_name\n" + rows
    return {"variables.index": index, "variables.data": data, "class_map.csv": class_map.encode()}


class Shelf:
    """Packages in `downloads` and the catalogue that lists them; `towers[name][file]` is bytes."""

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


def write_table(path, columns, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t").writerows([columns, *rows])


def tower_shelf(folder):
    """The packages of a YAMNet that hears and of a BERT of two layers, built in `out`, too."""
    folder.mkdir(parents=True, exist_ok=True)
    reader = towers.write_bert(folder / "reader")
    torch.manual_seed(0)
    encoder = AutoModel.from_config(AutoConfig.from_pretrained(reader), add_pooling_layer=False)
    encoder.save_pretrained(reader)
    members = {path.name: path.read_bytes() for path in sorted(reader.iterdir())}
    hearing = yamnet_members(yamnet_variables(lively=True))
    shelf = Shelf(folder, {"yamnet": hearing, "bert": members})
    shelf.build()
    return shelf


def parts(shelf):
    """The towers of a shelf, and their folders, by the part that they play in a model."""
    found, names = weights.read_towers(shelf.catalogue), {"audio": "yamnet", "caption": "bert"}
    return (
        {part: found[name] for part, name in names.items()},
        {part: shelf.out / name for part, name in names.items()},
    )


def trained_model(shelf, *, seed=1):
    """A FLAM that began with the towers of a shelf and has learned something."""
    _, folders = parts(shelf)
    settings = towers.SETTINGS | {"audio": towers.YAMNET | {"tags": True}}
    torch.manual_seed(seed)
    model = FLAM(folders["caption"], **settings).eval()
    light.load_towers(model, folders)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownWords)
        model.set_class_names(yamnet.read_class_names(folders["audio"]))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.ndim:
                parameter += 0.02 * torch.randn_like(parameter)
        model.caption.load_weights(folders["caption"] / "model.safetensors")  # it stays frozen
    model.provenance = {"commit": "abc123", "parameters": {"seed": seed}}
    return model


def write_light(folder, shelf, *, seed=1):
    """Such a model in its light form; return the model."""
    model = trained_model(shelf, seed=seed)
    made_from, folders = parts(shelf)
    light.save(
        model,
        folder,
        towers=made_from,
        weights=folders,
        provenance=model.provenance,
        card="# a model\n",
    )
    return model
