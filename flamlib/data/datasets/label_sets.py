"""Readers of recordings of one class each: ESC-50, UrbanSound8K, VGGSound, a user's own table."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from flamlib import texts
from flamlib.data.datasets.annotations import (
    AnnotatedSet,
    AudioFolder,
    Clip,
    check_label,
    label_to_caption,
    probe_audio,
    stem,
)
from flamlib.data.datasets.sed_sets import URBAN_CLASSES
from flamlib.storage import tables
from flamlib.storage.tables import Row

ESC_CLASSES = (
    "dog", "rooster", "pig", "cow", "frog", "cat", "hen", "insects", "sheep", "crow",
    "rain", "sea_waves", "crackling_fire", "crickets", "chirping_birds", "water_drops", "wind",
    "pouring_water", "toilet_flush", "thunderstorm",
    "crying_baby", "sneezing", "clapping", "breathing", "coughing", "footsteps", "laughing",
    "brushing_teeth", "snoring", "drinking_sipping",
    "door_wood_knock", "mouse_click", "keyboard_typing", "door_wood_creaks", "can_opening",
    "washing_machine", "vacuum_cleaner", "clock_alarm", "clock_tick", "glass_breaking",
    "helicopter", "chainsaw", "siren", "car_horn", "engine", "train", "church_bells", "airplane",
    "fireworks", "hand_saw",
)  # fmt: skip
ESC_NAME = re.compile(r"(\d)-(\d+)-([A-Z])-(\d+)\.wav")
VGG_COLUMNS = ("youtube_id", "start", "label", "split")
YOUTUBE_ID = re.compile(r"[\w-]{11}")


def esc50(root: Path, split: str = "all") -> AnnotatedSet:
    """Read ESC-50; it has one split, "all".

    A file's name repeats its fold and class. Raises ValueError where the name does not fit its row,
    as there are copies in which files were renamed.
    """
    root = root / "ESC-50-master" if (root / "ESC-50-master").is_dir() else root
    columns = ("filename", "fold", "target", "category")
    rows = tables.read(root / "meta/esc50.csv", columns, unique="filename")
    folder = AudioFolder(root, "audio")
    clips = []
    for row in rows:
        parts = ESC_NAME.fullmatch(row["filename"])
        if not parts or (parts[1], parts[4]) != (row["fold"], row["target"]):
            raise ValueError(
                f"{row.where}: {row['filename']!r} is not <fold>-<clip>-<take>-<target>.wav of "
                f"fold {row['fold']} and target {row['target']}"
            )
        label = check_label(row, row["category"], ESC_CLASSES)
        if row["target"] != str(ESC_CLASSES.index(label)):
            raise ValueError(f"{row.where}: target {row['target']} is not that of {label!r}")
        name = row["filename"]
        clips.append((name, folder.find(stem(name)), label, row["fold"], row.where))
    return _make_set("esc50", clips)


def urbansound8k(root: Path, split: str = "all") -> AnnotatedSet:
    """Read UrbanSound8K; it has one split, "all".

    `start` and `end` of its table are times in another recording, from which a file was cut. A file
    is found by its stem in the folder of its fold, whatever its suffix.
    """
    root = root / "UrbanSound8K" if (root / "UrbanSound8K").is_dir() else root
    columns = ("slice_file_name", "fold", "classID", "class")
    rows = tables.read(root / "metadata/UrbanSound8K.csv", columns, unique="slice_file_name")
    folds = {fold: AudioFolder(root, f"audio/fold{fold}") for fold in {row["fold"] for row in rows}}
    clips = []
    for row in rows:
        label = check_label(row, row["class"], URBAN_CLASSES)
        if row["classID"] != str(URBAN_CLASSES.index(label)):
            raise ValueError(f"{row.where}: classID {row['classID']} is not that of {label!r}")
        name = row["slice_file_name"]
        clips.append((name, folds[row["fold"]].find(stem(name)), label, row["fold"], row.where))
    return _make_set("urbansound8k", clips)


def vggsound(root: Path, split: str = "test") -> AnnotatedSet:
    """Read VGGSound, split "train" or "test".

    Its table has no header, and the split in the last column. Classes are those of both splits. A
    recording is called `<id>_<start, six digits>` or `<id>_<start>`.
    """
    rows = tables.read(root / "vggsound.csv", VGG_COLUMNS, delimiter=",", header=False)
    folder = AudioFolder(root, f"audio/{split}", split, "audio")
    clips, seen = [], {}
    for row in rows:
        start, video = int(row.number("start")), row["youtube_id"]
        if not YOUTUBE_ID.fullmatch(video):
            raise ValueError(f"{row.where}: {video!r} is no YouTube id of 11 letters")
        if row["split"] != split:
            continue
        name = f"{video}_{start:06d}"
        if name in seen:
            raise ValueError(f"{row.where}: {name!r} is listed again, first {seen[name]}")
        seen[name] = row.where
        clips.append((name, folder.find(name, f"{video}_{start}"), row["label"], 1, row.where))
    return _make_set("vggsound", clips, {row["label"] for row in rows})


def read_own_labels(name: str, rows: Sequence[Row], audio: Path) -> AnnotatedSet:
    """Make a dataset of the rows `filename label`, or `filename label fold`, of a user's table."""
    rows = [replace(row, fields=row.fields | {"filename": row["filename"].strip()}) for row in rows]
    folder = AudioFolder(audio)
    found = folder.match(row["filename"] for row in rows)
    tables.check_unique(rows, "filename", key=lambda name: found[name][0])
    clips = []
    for row in rows:
        if not row["label"].strip():
            raise ValueError(f"{row.where}: no label")
        fold = int(row.number("fold")) if "fold" in row.fields else 1
        path = found[row["filename"]][1]
        clips.append((row["filename"], path, row["label"], fold, row.where))
    return _make_set(name, clips)


def _make_set(
    name: str,
    clips: Iterable[tuple[str, Path | None, str, str | int, str]],
    labels: Iterable[str] = (),
) -> AnnotatedSet:
    clips, labelled = list(clips), []
    labels = [*(label for _, _, label, _, _ in clips), *labels]
    spelled = texts.spellings(label_to_caption(label) for label in labels)
    for clip, audio, label, fold, where in clips:
        caption = spelled[label_to_caption(label)]
        heard = probe_audio(audio)._asdict()
        labelled.append(Clip(clip, label=caption, fold=int(fold), **heard, where=where))
    notes = texts.spelling_notes(spelled)
    return AnnotatedSet(
        name, "classification", labelled, sorted(set(spelled.values())), notes=notes
    )
