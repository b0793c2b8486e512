"""Recordings of one class each, as they are distributed: ESC-50, UrbanSound8K, VGGSound, tables of
one's own."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from flamlib import tables
from flamlib.data.datasets.annotations import AnnotatedSet, AudioFolder, Clip, heard, known_label, listed_once, readable, stem
from flamlib.data.datasets.sed_sets import URBAN_CLASSES
from flamlib.tables import Row

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
    """ESC-50. A file's name repeats fold and class: one that does not fit its row is refused, as
    there are copies in which files were renamed."""
    root = root / "ESC-50-master" if (root / "ESC-50-master").is_dir() else root
    rows = tables.read(
        root / "meta/esc50.csv", ("filename", "fold", "target", "category"), delimiter=","
    )
    listed_once(rows, "filename")
    folder = AudioFolder(root, "audio")
    clips = []
    for row in rows:
        parts = ESC_NAME.fullmatch(row["filename"])
        if not parts or (parts[1], parts[4]) != (row["fold"], row["target"]):
            raise ValueError(
                f"{row.where}: {row['filename']!r} is not <fold>-<clip>-<take>-<target>.wav of "
                f"fold {row['fold']} and target {row['target']}"
            )
        label = known_label(row, row["category"], ESC_CLASSES)
        if row["target"] != str(ESC_CLASSES.index(label)):
            raise ValueError(f"{row.where}: target {row['target']} is not that of {label!r}")
        clips.append((row["filename"], folder.find(stem(row["filename"])), label, row["fold"]))
    return _settled("esc50", clips)


def urbansound8k(root: Path, split: str = "all") -> AnnotatedSet:
    """UrbanSound8K. `start` and `end` of its table are times in another recording."""
    root = root / "UrbanSound8K" if (root / "UrbanSound8K").is_dir() else root
    columns = ("slice_file_name", "fold", "classID", "class")
    rows = tables.read(root / "metadata/UrbanSound8K.csv", columns, delimiter=",")
    listed_once(rows, "slice_file_name")
    clips = []
    for row in rows:
        label = known_label(row, row["class"], URBAN_CLASSES)
        if row["classID"] != str(URBAN_CLASSES.index(label)):
            raise ValueError(f"{row.where}: classID {row['classID']} is not that of {label!r}")
        path = root / f"audio/fold{row['fold']}" / row["slice_file_name"]
        clips.append((row["slice_file_name"], path if path.is_file() else None, label, row["fold"]))
    return _settled("urbansound8k", clips)


def vggsound(root: Path, split: str = "test") -> AnnotatedSet:
    """VGGSound: no header, labels with commas in quotes, the split in the last column.

    Classes are those of the whole list, also of its other split. A recording is
    `<id>_<start, six digits>`, or `<id>_<start>`.
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
        clips.append((name, folder.find(name, f"{video}_{start}"), row["label"], 1))
    return _settled("vggsound", clips, {row["label"] for row in rows})


def own_labels(name: str, rows: Sequence[Row], audio: Path) -> AnnotatedSet:
    """The rows `filename label` of a table of one's own, perhaps with a column `fold`."""
    rows = [replace(row, fields=row.fields | {"filename": row["filename"].strip()}) for row in rows]
    listed_once(rows, "filename")
    folder = AudioFolder(audio)
    clips = []
    for row in rows:
        if not row["label"].strip():
            raise ValueError(f"{row.where}: no label")
        fold = int(row.number("fold")) if "fold" in row.fields else 1
        clips.append((row["filename"], folder.named(row["filename"]), row["label"], fold))
    return _settled(name, clips)


def _settled(
    name: str,
    clips: Iterable[tuple[str, Path | None, str, str | int]],
    labels: Iterable[str] = (),
) -> AnnotatedSet:
    settled = []
    for clip, audio, label, fold in clips:
        path, duration_s = heard(audio)
        settled.append(Clip(clip, path, duration_s, label=readable(label), fold=int(fold)))
    names = {readable(label) for label in labels} | {clip.label for clip in settled}
    return AnnotatedSet(name, "classification", settled, sorted(names))
