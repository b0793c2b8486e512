"""Every kind of collection, and how to read it from an entry of `source.collections`.

    {kind: fsd50k, folder: /sets/FSD50K}
    {kind: ucs, folder: /library, name: metals, categories: ucs.csv}
    {kind: clotho, folder: /sets/clotho, split: held_out}      nothing of it is trained on

`KINDS` has a row for each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from flamlib.data.collections import (
    caption_collections,
    class_collections,
    freesound_sets,
    libraries,
    timed_collections,
)
from flamlib.data.collections.items import AUTO, TRAIN, Contents
from flamlib.experiment import parameters
from flamlib.experiment.params.sounds import PublishedCollection


class Kind(NamedTuple):
    """A kind of collection.

    Attributes:
        title: for readers.
        read: reads it from its folder.
        home: where it comes from.
        options: further keys of an entry that `read` takes.
    """

    title: str
    read: Callable[..., Contents]
    home: str
    options: Sequence[str] = ()


KINDS: dict[str, Kind] = {
    "fsd50k": Kind(
        "FSD50K", freesound_sets.fsd50k, "Zenodo, record 4060432, 'FSD50K'", ("titles",)
    ),
    "wavcaps": Kind(
        "WavCaps", caption_collections.wavcaps, "huggingface.co/datasets/cvssp/WavCaps"
    ),
    "clotho": Kind(
        "Clotho, development", caption_collections.clotho, "Zenodo, 'Clotho dataset', version 2"
    ),
    "audiocaps": Kind(
        "AudioCaps, train", caption_collections.audiocaps, "github.com/cdjkim/audiocaps"
    ),
    "esc50": Kind(
        "ESC-50", class_collections.esc50, "github.com/karolpiczak/ESC-50", ("test_fold",)
    ),
    "urbansound8k": Kind(
        "UrbanSound8K",
        class_collections.urbansound8k,
        "urbansounddataset.weebly.com",
        ("test_fold",),
    ),
    "freesound": Kind("downloads of Freesound", freesound_sets.freesound, "freesound.org"),
    "ucs": Kind(
        "a library named by UCS", libraries.ucs, "universalcategorysystem.com", ("categories",)
    ),
    "folder": Kind("folders named after what sounds", libraries.folder, "your disk"),
    "crowsetta": Kind(
        "recordings with label files",
        timed_collections.label_files,
        "crowsetta.readthedocs.io",
        ("labels",),
    ),
    "audformat": Kind(
        "a database of audb",
        timed_collections.audformat,
        "audeering.github.io/datasets",
        ("column", "tables"),
    ),
}


def read(entry: PublishedCollection, *, base: str | Path = "") -> Contents:
    """Read a collection from an entry of `source.collections` of params.yaml.

    Paths are absolute, or relative to the folder `base`.

    Raises FileNotFoundError, which says where the collection comes from, for a folder or table that
    is not there; ValueError for an entry of another form, a table that cannot be used, and a
    collection without a recording that can be.
    """
    parameters.check(PublishedCollection, entry, name="source.collections")
    kind = KINDS[entry["kind"]]
    options = _options(entry, kind, base)
    root = Path(base, Path(entry["folder"]).expanduser())
    if not root.is_dir():
        raise FileNotFoundError(
            f"{entry['kind']}: {root} is no folder; official files: {kind.home}"
        )
    try:
        contents = kind.read(root, **options)
    except FileNotFoundError as error:
        missing = f"{error.filename} is missing" if error.filename else str(error)
        raise FileNotFoundError(
            f"{entry['kind']}: {missing}; {root} must hold the official files ({kind.home})"
        ) from error
    if not contents.items:
        reasons = "".join(f"; {name}: {why}" for name, why in contents.skipped[:3])
        raise ValueError(f"{entry['kind']}: {root} has no recording that can be used{reasons}")
    if (split := entry.get("split")) in (AUTO, TRAIN):
        contents.items = [replace(item, split=split) for item in contents.items]
        contents.held_out, contents.left_out = {}, {}
        contents.notes.append(f"{entry['kind']}: its own splits are not used (split: {split})")
    return contents


def _options(entry: Mapping[str, Any], kind: Kind, base: str | Path) -> dict[str, Any]:
    own = {key: entry[key] for key in entry.keys() - {"kind", "folder", "name", "split"}}
    if unknown := sorted(own.keys() - set(kind.options)):
        raise ValueError(
            f"source.collections: {unknown[0]} is nothing that {entry['kind']} has; "
            + (f"it has {', '.join(kind.options)}" if kind.options else "it has no further keys")
        )
    for name in own.keys() & {"categories", "labels"}:
        own[name] = Path(base, Path(own[name]).expanduser())
    return own
