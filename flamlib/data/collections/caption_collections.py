"""Collections with captions for training: WavCaps, Clotho's development set, AudioCaps' training.

What is kept for validation and tests (by Clotho's and AudioCaps' other tables, and by the one of
WavCaps' blacklists that names tests alone) is known by its source, with its audio or without, and
is not trained on under another name.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flamlib import texts
from flamlib.data.collections.items import (
    TEST,
    VALID,
    Contents,
    Item,
    read_json,
    read_object,
    strings,
)
from flamlib.data.datasets import caption_sets
from flamlib.data.datasets.annotations import AudioFolder, Clip, stem
from flamlib.storage import tables

WAVCAPS = {  # folder and JSON file of each of its sources, and how these are called elsewhere
    "AudioSet_SL": ("as_final.json", "youtube"),
    "BBC_Sound_Effects": ("bbc_final.json", "bbc"),
    "FreeSound": ("fsd_final.json", "freesound"),
    "SoundBible": ("sb_final.json", "soundbible"),
}
WAVCAPS_CAPTIONS = ("caption", *(f"caption_{i}" for i in range(1, 6)))
BLACKLISTS = {"AudioSet": "youtube", "FreeSound": "freesound"}
# The blacklist of validation and test sets. The others name whole sets, what AudioCaps and Clotho
# have for training and all of ESC-50 and UrbanSound8K: that is left out of WavCaps alone.
OF_TESTS = "blacklist_exclude_test_ac.json"
HELD_OUT = {"val": VALID, "validation": VALID, "evaluation": TEST, "test": TEST}
ACADEMIC = "academic use only"
CLOTHO_TABLE = "clotho_captions_development.csv"
CLOTHO_METADATA = ("file_name", "sound_id", "license")
YOUTUBE = re.compile(r"Y?([\w-]{11})(?:_.*)?")


def wavcaps(root: Path) -> Contents:
    """Read WavCaps: those of its four JSON files that are there, without what its blacklists name.

    Recordings are below `waveforms/<name>_flac`, `Zip_files/<name>`, `<name>_flac` or `<name>`,
    each named by its id.
    """
    contents, n_found = Contents(), 0
    for blacklist in sorted(_json_root(root).glob("blacklist/*.json")):
        listed = read_object(blacklist)
        for name, kind in BLACKLISTS.items():
            for number in strings(listed.get(name, [])):
                contents.left_out[_source(kind, number)] = str(blacklist)
                if blacklist.name == OF_TESTS:
                    contents.held_out[_source(kind, number)] = (TEST, str(blacklist))
    if not contents.left_out:
        contents.notes.append(
            "no blacklist/*.json: what tests on AudioCaps, Clotho, ESC-50, UrbanSound8K and "
            "VGGSound use is trained on, unless these stand here with split: held_out"
        )
    for name, (file, kind) in WAVCAPS.items():
        path = next((p for p in _places(root, name, file) if p.is_file()), None)
        if path is None:
            continue
        n_found += 1
        audio = AudioFolder(
            root,
            f"waveforms/{name}_flac",
            f"Zip_files/{name}",
            f"{name}_flac",
            f"audio/{name}",
            name,
        )
        _read_wavcaps(path, audio, kind, root, contents)
    if not n_found:
        names = ", ".join(file for file, _ in WAVCAPS.values())
        raise FileNotFoundError(f"none of {names} below {root}/json_files")
    return contents


def clotho(root: Path) -> Contents:
    """Read Clotho's development set; its validation and evaluation sets are held out."""
    contents = Contents()
    sources, licences = {}, {}
    for split in ("development", "validation", "evaluation"):
        path = root / f"clotho_metadata_{split}.csv"
        if not path.is_file():
            contents.notes.append(f"{path} is not there: licences and sources are not known")
            continue
        for row in tables.read(path, CLOTHO_METADATA, encoding="latin-1"):
            number = row["sound_id"].strip()
            source = f"freesound:{number}" if number.isdigit() else ""
            if split != "development" and source:
                contents.held_out[source] = (HELD_OUT[split], row.where)
            elif split == "development":
                # Accents are of another encoding in this table, so that names are compared without.
                name = _ascii(row["file_name"])
                if name in sources:
                    contents.notes.append(
                        f"{row.where}: {row['file_name']!r} again; its first row counts"
                    )
                    continue
                sources[name], licences[name] = source, row["license"].strip() or "unknown"

    def make(clip: Clip) -> Item:
        name = _ascii(clip.name)
        return Item(
            clip.path,
            clip.where,
            caption=clip.captions[0],
            wordings=clip.captions[1:],
            licence=licences.get(name, "unknown"),
            source=sources.get(name, ""),
            described=True,
            duration_s=clip.duration_s,
        )

    contents.add_all_of(caption_sets.clotho(root, "development"), make, table=CLOTHO_TABLE)
    return contents


def audiocaps(root: Path) -> Contents:
    """Read the training set of AudioCaps 1 or 2; its validation and test sets are held out."""
    contents = Contents()
    for split in ("val", "test"):
        names = (f"dataset/{split}.csv", f"dataset2.0/{split}.csv", f"{split}.csv")
        for path in (root / name for name in names if (root / name).is_file()):
            for row in tables.read(path, ("youtube_id", "caption")):
                source = _source("youtube", row["youtube_id"])
                contents.held_out[source] = (HELD_OUT[split], row.where)

    def make(clip: Clip) -> Item:
        return Item(
            clip.path,
            clip.where,
            caption=clip.captions[0],
            wordings=clip.captions[1:],
            licence=ACADEMIC,
            source=_source("youtube", clip.name),
            described=True,
            duration_s=clip.duration_s,
        )

    contents.add_all_of(caption_sets.audiocaps(root, "train"), make, table="train.csv")
    return contents


def _read_wavcaps(
    path: Path, audio: AudioFolder, kind: str, root: Path, contents: Contents
) -> None:
    entries = read_json(path)
    if not isinstance(entries, dict) or not isinstance(entries.get("data"), list):
        raise ValueError(f"{path}: no list `data`, as WavCaps' files have one")
    used, first = set(), {}
    _check_keys(path, entries["data"])
    for i, entry in enumerate(entries["data"]):
        where = f"{path}, entry {i}"
        number, captions = _wavcaps_entry(entry)
        if not number:
            contents.skipped.append((path.name, f"{where}: no id"))
            continue
        if number in first:
            contents.skipped.append(
                (number, f"{where}: its id is listed again, first {first[number]}")
            )
            continue
        first[number] = f"as entry {i}"
        recording = audio.find(stem(number))
        if recording is None:
            contents.skipped.append((number, f"{where}: no such recording"))
            continue
        used.add(recording)
        if not captions:
            contents.skipped.append((number, f"{where}: no caption"))
            continue
        contents.items.append(
            Item(
                recording,
                where,
                caption=captions[0],
                wordings=captions[1:],
                licence=ACADEMIC,
                source=_source(kind, number),
                described=True,
            )
        )
    if audio.root != root:  # where it has a folder of its own
        contents.skip_without_row(audio, used, path.name)


def _check_keys(path: Path, entries: Sequence[Any]) -> None:
    """Raise ValueError if no entry at all has an id, or a caption: then it is another file."""
    for what, keys in (("id", ("id",)), ("caption", WAVCAPS_CAPTIONS)):
        if not any(isinstance(entry, dict) and any(map(entry.get, keys)) for entry in entries):
            first = entries[0] if entries else {}
            found = f"; the first has {sorted(first)}" if isinstance(first, dict) else ""
            raise ValueError(f"{path}: no entry has a key {what!r}, as those of WavCaps do{found}")


def _wavcaps_entry(entry: Any) -> tuple[str, list[str]]:
    """Its id, "" if it has none, and its captions."""
    if not isinstance(entry, dict):
        return "", []
    captions = [texts.normal(t) for key in WAVCAPS_CAPTIONS for t in strings(entry.get(key, []))]
    return " ".join(strings(entry.get("id"))), [text for text in captions if text]


def _json_root(root: Path) -> Path:
    return root / "json_files" if (root / "json_files").is_dir() else root


def _places(root: Path, name: str, file: str) -> Iterator[Path]:
    for folder in dict.fromkeys((_json_root(root), root)):
        yield folder / name / file
        yield folder / file


def _source(kind: str, number: str) -> str:
    """Where a recording comes from, by its number or the name of its file."""
    if kind == "youtube" and (found := YOUTUBE.fullmatch(stem(number))):
        return f"youtube:{found[1]}"
    return f"{kind}:{stem(number)}"


def _ascii(name: str) -> str:
    return texts.composed(name).encode("ascii", "ignore").decode().strip()
