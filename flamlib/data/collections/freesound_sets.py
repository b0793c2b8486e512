"""Collections of Freesound: FSD50K, and recordings that were downloaded with their metadata.

FSD50K's labels are propagated: a recording has its classes and all above them. A class is above
another if every recording of the other has it too. The classes of a recording that are above no
other of it are what it is named after, and the rest are its parents. If a class above others is
all there is, nobody can tell whether one of these sounds, so the recording is skipped.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flamlib import texts
from flamlib.data.collections.items import (
    AUTO,
    TEST,
    TRAIN,
    VALID,
    Contents,
    Item,
    read_object,
    strings,
)
from flamlib.data.datasets.annotations import AudioFolder, label_to_caption, stem
from flamlib.storage import tables
from flamlib.storage.tables import Row
from flamlib.waveforms.audio import SUFFIXES

FSD_SPLITS = {"train": TRAIN, "val": VALID}
DOWNLOAD = re.compile(r"(\d+)__([^_].*?)__(.+)")  # as Freesound names what is downloaded


def fsd50k(root: Path, *, titles: bool = False) -> Contents:
    """Read FSD50K: its development set to train on and for validation, its evaluation set to test.

    With `titles` a caption is written from title and tags of each recording to train on, below its
    classes; else it is the classes' names.
    """
    contents, rows = Contents(), []
    for part in ("dev", "eval"):
        columns = ("fname", "labels", "mids", "split")[: 4 if part == "dev" else 3]
        table = root / f"FSD50K.ground_truth/{part}.csv"
        found = tables.read(table, columns, filled=("fname", "labels"), unique="fname")
        audio = AudioFolder(root, f"FSD50K.{part}_audio")
        info_path = root / f"FSD50K.metadata/{part}_clips_info_FSD50K.json"
        infos = read_object(info_path) if info_path.is_file() else {}
        if odd := [name for name, info in infos.items() if not isinstance(info, dict)]:
            raise ValueError(f"{info_path}: what it says of {odd[0]!r} is no object")
        if not infos:
            contents.notes.append(f"{info_path} is not there: titles and licences are not known")
        paths = {row["fname"]: audio.find(row["fname"]) for row in found}
        listed = [path for path in paths.values() if path]
        contents.skip_without_row(audio, listed, f"{part}.csv")
        rows += [(row, paths[row["fname"]], infos.get(row["fname"], {})) for row in found]

    labels = [[label.strip() for label in row["labels"].split(",")] for row, _, _ in rows]
    above = _above(labels)
    broader = set().union(*above.values())
    for (row, path, info), of_row in zip(rows, labels, strict=True):
        split = _fsd_split(row)
        source = f"freesound:{row['fname']}"
        if split != TRAIN:
            contents.held_out[source] = (split, row.where)
        if path is None:
            contents.skipped.append((f"{row['fname']}.wav", f"{row.where}: no such recording"))
            continue
        named = _most_specific(of_row, above)
        if set(named) <= broader:
            why = f"{row.where}: only {', '.join(named)}, of which there are narrower classes"
            contents.skipped.append((path.name, why))
            continue
        caption, *others = _captions_of(named)
        use_title = titles and split == TRAIN and info
        families = [label_to_name(label) for label in named]
        parents = [label_to_name(label) for label in of_row]
        contents.items.append(
            Item(
                path,
                row.where,
                caption="" if use_title else caption,
                wordings=() if use_title else others,
                family=families[0],
                parents=tuple(dict.fromkeys(([caption] if use_title else []) + parents)),
                facts=_facts(info) if use_title else {},
                split=split,
                licence=_licence(info),
                source=source,
            )
        )
    return contents


def freesound(root: Path) -> Contents:
    """Read recordings that were downloaded from Freesound with a JSON file beside each.

    The JSON file is named after the recording, with or without its suffix, or after its number; it
    holds `id`, `name`, `tags`, `description` and `license`, as Freesound's API gives them. Without
    one a recording is named after its title, if Freesound's own name of the file has it.
    """
    contents, first, sidecars = Contents(), {}, set()
    audio = AudioFolder(root)
    for path in sorted(path for paths in audio.paths.values() for path in paths):
        member = path.relative_to(root).as_posix()
        if path.suffix.lower() not in SUFFIXES:
            contents.skipped.append((member, "of a format that is not read"))
            continue
        name = DOWNLOAD.fullmatch(path.stem)
        number = name[1] if name else path.stem if path.stem.isdigit() else ""
        sidecar = next((p for p in _sidecars(path, number) if p.is_file()), None)
        sidecars.add(sidecar)
        try:
            info = read_object(sidecar) if sidecar else {}
        except ValueError as error:
            contents.skipped.append((member, str(error)))
            continue
        given = "".join(strings(info.get("id")))
        number = given if given.isdigit() else number
        facts = _facts(info) or ({"title": name[3]} if name else {})
        if not facts:
            why = "no JSON file of its own, nor a title in its name"
            if sidecar:
                why = f"{sidecar}: neither name, tags nor description of a recording"
            contents.skipped.append((member, why))
            continue
        if number and number in first:
            contents.skipped.append((member, f"Freesound {number} again, first {first[number]}"))
            continue
        first[number] = member
        contents.items.append(
            Item(
                path,
                str(sidecar or path),
                facts=facts,
                split=AUTO,
                licence=_licence(info),
                source=f"freesound:{number}" if number else "",
            )
        )
    for path in sorted(set(root.rglob("*.json")) - sidecars):
        member = path.relative_to(root).as_posix()
        contents.skipped.append((member, "no recording of its name beside it"))
    return contents


def label_to_name(label: str) -> str:
    """Return a class of FSD50K in the words of AudioSet, in lower case.

    >>> label_to_name("Walk_and_footsteps")
    'walk, footsteps'
    """
    return label_to_caption(label.replace("_and_", ", "))


def _fsd_split(row: Row) -> str:
    if "split" not in row.fields:
        return TEST
    if row["split"] not in FSD_SPLITS:
        raise ValueError(f"{row.where}: split {row['split']!r} is none of {list(FSD_SPLITS)}")
    return FSD_SPLITS[row["split"]]


def _above(labels: Sequence[Sequence[str]]) -> dict[str, set[str]]:
    """For each class those above it: which every recording of it has, and others have too."""
    count = Counter(label for of_row in labels for label in set(of_row))
    shared: dict[str, set[str]] = {}
    for of_row in labels:
        for label in of_row:
            known = shared.setdefault(label, set(of_row))
            known.intersection_update(of_row)
    first = {label: of_row.index(label) for of_row in labels for label in of_row}
    # Of two that are always together the first is the narrower one, as FSD50K lists them.
    return {
        label: {
            other
            for other in others - {label}
            if count[other] > count[label] or first[other] > first[label]
        }
        for label, others in shared.items()
    }


def _most_specific(labels: Sequence[str], above: Mapping[str, set[str]]) -> list[str]:
    implied = set().union(*(above[label] for label in labels))
    return [label for label in dict.fromkeys(labels) if label not in implied]


def _captions_of(named: Sequence[str]) -> list[str]:
    """The caption of a recording of these classes, and other texts for it."""
    names = [label_to_name(label) for label in named]
    caption = " and ".join(names)
    synonyms = names[0].split(", ") if len(names) == 1 else []
    return [caption, *(word for word in synonyms if word != caption and "(" not in caption)]


def _facts(info: Mapping[str, Any]) -> dict[str, str]:
    """Title, tags and description of a recording, as a caption writer takes them."""
    title = info.get("title", info.get("name", ""))
    facts = {
        "title": " ".join(strings(title)),
        "tags": "; ".join(strings(info.get("tags", []))),
        "description": " ".join(strings(info.get("description", ""))),
    }
    return {key: text for key, text in facts.items() if texts.normal(text)}


def _licence(info: Mapping[str, Any]) -> str:
    return " ".join(strings(info.get("license"))) or "unknown"


def _sidecars(path: Path, number: str) -> Iterator[Path]:
    yield path.with_name(f"{stem(path.name)}.json")
    yield path.with_name(f"{path.name}.json")
    if number:
        yield path.with_name(f"{number}.json")
