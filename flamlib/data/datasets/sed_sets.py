"""Sets of timed events, as they are distributed: AudioSet-Strong, DESED, MAESTRO Real, URBAN-SED,
TACOS, and tables of one's own.

Each reader takes the folder that holds a set's own files and folders, and a split. What is
peculiar to a set is said with its reader.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from flamlib import tables
from flamlib.data.datasets.annotations import AnnotatedSet, AudioFolder, Timed, known_label, readable, settle, timed
from flamlib.data.datasets.annotations import stem as stem_of
from flamlib.tables import Row

DESED_CLASSES = (
    "Alarm_bell_ringing", "Blender", "Cat", "Dishes", "Dog", "Electric_shaver_toothbrush",
    "Frying", "Running_water", "Speech", "Vacuum_cleaner",
)  # fmt: skip
URBAN_CLASSES = (
    "air_conditioner", "car_horn", "children_playing", "dog_bark", "drilling", "engine_idling",
    "gun_shot", "jackhammer", "siren", "street_music",
)  # fmt: skip
MAESTRO_CLASSES = (
    "cutlery and dishes", "furniture dragging", "people talking", "children voices",
    "coffee machine", "footsteps", "large_vehicle", "car", "brakes_squeaking",
    "cash register beeping", "announcement", "shopping cart", "metro leaving", "metro approaching",
    "door opens/closes", "wind_blowing", "birds_singing",
)  # fmt: skip
MAESTRO_SCORED = (
    "birds_singing", "car", "people talking", "footsteps", "children voices", "wind_blowing",
    "brakes_squeaking", "large_vehicle", "cutlery and dishes", "metro approaching", "metro leaving",
)  # fmt: skip
MAESTRO_VALIDATION = {
    "cafe_restaurant": (4, 10, 13),
    "city_center": (5, 9, 10),
    "grocery_store": (1, 4, 12),
    "metro_station": (1, 4, 11),
    "residential_area": (3, 5, 6, 12),
}
SEGMENT = re.compile(r"[\w-]{11}_\d+")  # an id may itself hold "_"
SCAPER = {"scaper", "sound_event"}  # the namespaces of its versions 2 and 1
AUDIOSET_COLUMNS = ("segment_id", "start_time_seconds", "end_time_seconds", "label")
EVENT_COLUMNS = ("filename", "onset", "offset", "event_label")


def audioset_strong(root: Path, split: str = "eval") -> AnnotatedSet:
    """AudioSet with times. Labels are machine ids; their names stand in `mid_to_display_name.tsv`.

    If the list for training is there too, `eval` is asked only for the classes of both, 407.
    A recording of `<id>_<start in ms>` may be called that, `Y<id>_<start>`, `Y<id>` or `<id>`.
    """
    names = {
        row["mid"]: row["name"]
        for row in tables.read(
            root / "mid_to_display_name.tsv", ("mid", "name"), delimiter="\t", header=False
        )
    }
    rows = tables.read(root / f"audioset_{split}_strong.tsv", AUDIOSET_COLUMNS, delimiter="\t")
    asked = {known_label(row, row["label"], names) for row in rows}
    notes = []
    other = root / "audioset_train_strong.tsv"
    if split == "eval" and other.is_file():
        both = asked & {
            row["label"] for row in tables.read(other, AUDIOSET_COLUMNS, delimiter="\t")
        }
        notes.append(
            f"{len(asked) - len(both)} of {len(asked)} classes left out: training has none of them"
        )
        asked = both
    elif split == "eval":
        notes.append(f"all {len(asked)} classes of this split, as {other.name} is not there")

    folder = AudioFolder(root, f"audio/{split}", split, "audio")
    events: dict[str, list[Timed]] = {}
    for row in rows:
        if not SEGMENT.fullmatch(row["segment_id"]):
            raise ValueError(
                f"{row.where}: {row['segment_id']!r} is not <YouTube id>_<start in ms>"
            )
        of_clip = events.setdefault(row["segment_id"], [])
        if row["label"] in asked:
            caption = readable(names[row["label"]])
            of_clip.append(timed(row, "start_time_seconds", "end_time_seconds", caption))
    audio = {}
    for segment in events:
        video, start_ms = segment.rsplit("_", 1)
        start_s = int(start_ms) // 1000
        audio[segment] = folder.find(
            segment, f"Y{segment}", f"{video}_{start_s}", f"Y{video}", video
        )
    captions = sorted({readable(names[mid]) for mid in asked})
    return settle("audioset_strong", "sed", events, audio, captions, notes)


def desed(root: Path, split: str = "validation") -> AnnotatedSet:
    """DESED's real recordings: `validation`, `public` (the public evaluation) or `strong` (train).

    A row with a file name alone is a recording that was listened to and has none of the classes: it
    stays, so that what is claimed of it counts as false.
    """
    table, *folders = {
        "validation": (
            "validation/validation.tsv",
            "audio/validation/validation",
            "audio/validation",
        ),
        "public": ("eval/public.tsv", "audio/eval/public", "audio/eval"),
        "strong": ("train/audioset_strong.tsv", "audio/train/strong_label_real", "audio/train"),
    }[split]
    rows = tables.read(root / "metadata" / table, EVENT_COLUMNS, delimiter="\t", short_rows=True)
    events, folder = _by_file(rows, DESED_CLASSES), AudioFolder(root, *folders)
    audio = {name: folder.find(stem_of(name)) for name in events}
    captions = [readable(name) for name in DESED_CLASSES]
    return settle(f"desed_{split}", "sed", events, audio, captions)


def maestro(root: Path, split: str = "validation") -> AnnotatedSet:
    """MAESTRO Real: how sure five listeners were of each class, second by second.

    As in DCASE 2024: a class sounds where that is more than one half (not one half itself), seconds
    that touch are one event, and 11 of the 17 classes are scored. The 16 files of `validation` are
    the baseline's; `train` has the others. A value may be a little above one, not a percentage. A
    file in which none of the 11 sounds stays, where the baseline leaves it out.
    """
    folder = AudioFolder(root, "development_audio", "audio")
    events, audio = {}, {}
    for path in sorted((root / "development_annotation").glob("soft_labels_*/*.txt")):
        scene, number = path.stem.rsplit("_", 1)
        is_validation = int(number) in MAESTRO_VALIDATION.get(scene, ())
        if is_validation != (split == "validation"):
            continue
        rows = tables.read(path, ("start", "end", "label", "value"), delimiter="\t", header=False)
        events[path.stem] = [
            timed(row, "start", "end", readable(label))
            for row in rows
            if (label := known_label(row, row["label"].strip(), MAESTRO_CLASSES)) in MAESTRO_SCORED
            and _soft(row) > 0.5
        ]
        audio[path.stem] = folder.find(path.stem)
    if not events:
        raise FileNotFoundError(f"{root}: no development_annotation/soft_labels_*/*.txt of {split}")
    captions = [readable(name) for name in MAESTRO_SCORED]
    quiet = sum(not of_clip for of_clip in events.values())
    notes = [f"{quiet} files without a class that is scored; DCASE's baseline leaves them out"]
    return settle("maestro", "sed", events, audio, captions, notes if quiet else [])


def urban_sed(root: Path, split: str = "test") -> AnnotatedSet:
    """URBAN-SED: `train`, `validate` or `test`. From the JAMS files where they are, foreground
    alone; else from the text files, which list nothing else."""
    root = root / "URBAN-SED_v2.0.0" if (root / "URBAN-SED_v2.0.0").is_dir() else root
    annotations = root / "annotations" / split
    folder = AudioFolder(root, f"audio/{split}", "audio")
    events, audio = {}, {}
    for path in sorted(annotations.glob("*.jams")) or sorted(annotations.glob("*.txt")):
        events[path.stem] = list(_jams(path) if path.suffix == ".jams" else _urban_text(path))
        audio[path.stem] = folder.find(path.stem)
    if not events:
        raise FileNotFoundError(f"{annotations} holds neither .jams nor .txt")
    captions = [readable(name) for name in URBAN_CLASSES]
    return settle("urbansed", "sed", events, audio, captions)


def tacos(root: Path, split: str = "test") -> AnnotatedSet:
    """TACOS: captions with times. The captions are free text, so each is its own."""
    columns = ("filename", "text", "onset", "offset")
    rows = tables.read(root / "annotations_strong.csv", columns, delimiter=",")
    chosen = tables.read(root / f"{split}_split.csv", ("filename",), delimiter=",")
    folder = AudioFolder(root, "audio")
    events: dict[str, list[Timed]] = {row["filename"]: [] for row in chosen}
    for row in rows:
        if row["filename"] in events:
            events[row["filename"]].append(timed(row, "onset", "offset", row["text"].strip()))
    audio = {name: folder.find(stem_of(name)) for name in events}
    captions = sorted({event.caption for of_clip in events.values() for event in of_clip})
    return replace(settle(f"tacos_{split}", "sed", events, audio, captions), closed=False)


def own_events(name: str, rows: list[Row], audio: Path) -> AnnotatedSet:
    """The rows `filename onset offset event_label` of a table of one's own, and its audio."""
    events, folder = _by_file(rows, None), AudioFolder(audio)
    found = {name: folder.named(name) for name in events}
    captions = sorted({event.caption for of_clip in events.values() for event in of_clip})
    return settle(name, "sed", events, found, captions)


def _by_file(rows: Iterable[Row], classes: tuple[str, ...] | None) -> dict[str, list[Timed]]:
    """The events of each file; with classes, labels become captions, else they are."""
    events: dict[str, list[Timed]] = {}
    for row in rows:
        of_clip = events.setdefault(row["filename"].strip(), [])
        label = row["event_label"].strip()
        if not (label or row["onset"].strip() or row["offset"].strip()):
            continue
        if not label:
            raise ValueError(f"{row.where}: an event without a label")
        caption = label if classes is None else readable(known_label(row, label, classes))
        of_clip.append(timed(row, "onset", "offset", caption))
    return events


def _soft(row: Row) -> float:
    value = row.number("value")
    if not 0 <= value < 1.5:
        raise ValueError(f"{row.where}: a soft label of {value}, expected 0 to 1")
    return value


def _urban_text(path: Path) -> Iterable[Timed]:
    for row in tables.read(path, ("start", "end", "label"), delimiter="\t", header=False):
        label = known_label(row, row["label"].strip(), URBAN_CLASSES)
        yield timed(row, "start", "end", readable(label))


def _jams(path: Path) -> Iterable[Timed]:
    """The foreground events of a JAMS file. The duration is the observation's: that of its value
    is from before the sound was stretched."""
    try:
        annotations = json.loads(path.read_text(encoding="utf-8-sig"))["annotations"]
        of_scaper = [a["data"] for a in annotations if a["namespace"] in SCAPER]
        observations = [(o, o["value"]) for data in of_scaper for o in data]
        fields = [
            {"time": str(o["time"]), "duration": str(o["duration"]), "label": value["label"]}
            for o, value in observations
            if value["role"] == "foreground"
        ]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no JAMS file of scaper's ({error!r})") from error
    if not of_scaper:
        raise ValueError(f"{path}: no annotation in the namespaces {sorted(SCAPER)}")
    for number, of_event in enumerate(fields):
        row = Row(f"{path}, event {number}", of_event)
        caption = readable(known_label(row, row["label"], URBAN_CLASSES))
        onset = row.number("time")
        yield Timed(row.where, onset, onset + row.number("duration"), caption)
