"""Readers of timed events: AudioSet-Strong, DESED, MAESTRO Real, URBAN-SED, TACOS, a user's table.

Each takes the folder that holds the dataset's official files and folders, and a split.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flamlib import texts
from flamlib.data.datasets.annotations import (
    AnnotatedSet,
    AudioFolder,
    check_label,
    label_to_caption,
    make_event_set,
    read_event,
)
from flamlib.data.datasets.annotations import stem as stem_of
from flamlib.sound_events import labels
from flamlib.sound_events.raw_events import RawEvent
from flamlib.storage import tables
from flamlib.storage.tables import Row

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
AUDIOSET_COLUMNS = ("segment_id", "start_time_seconds", "end_time_seconds", "label")
EVENT_COLUMNS = ("filename", "onset", "offset", "event_label")


def audioset_strong(root: Path, split: str = "eval") -> AnnotatedSet:
    """Read AudioSet-Strong, split "train" or "eval".

    Labels are machine ids, whose names stand in `mid_to_display_name.tsv`. Where the list of the
    training split is there too, `eval` has only the 407 classes of both splits. A recording of the
    segment `<id>_<start in ms>` may be called that, `Y<id>_<start>`, `Y<id>` or `<id>`.
    """
    names = {
        row["mid"]: row["name"]
        for row in tables.read(
            root / "mid_to_display_name.tsv", ("mid", "name"), delimiter="\t", header=False
        )
    }
    rows = tables.read(root / f"audioset_{split}_strong.tsv", AUDIOSET_COLUMNS, delimiter="\t")
    classes = {check_label(row, row["label"], names) for row in rows}
    notes = []
    other = root / "audioset_train_strong.tsv"
    if split == "eval" and other.is_file():
        both = classes & {
            row["label"] for row in tables.read(other, AUDIOSET_COLUMNS, delimiter="\t")
        }
        notes.append(
            f"{len(classes) - len(both)} of {len(classes)} classes left out: training has none of "
            "them"
        )
        classes = both
    elif split == "eval":
        notes.append(f"all {len(classes)} classes of this split, as {other.name} is not there")

    folder = AudioFolder(root, f"audio/{split}", split, "audio")
    events: dict[str, list[RawEvent]] = {}
    for row in rows:
        if not SEGMENT.fullmatch(row["segment_id"]):
            raise ValueError(
                f"{row.where}: {row['segment_id']!r} is not <YouTube id>_<start in ms>"
            )
        of_clip = events.setdefault(row["segment_id"], [])
        if row["label"] in classes:
            caption = label_to_caption(names[row["label"]])
            of_clip.append(read_event(row, "start_time_seconds", "end_time_seconds", caption))
    audio = {}
    for segment in events:
        video, start_ms = segment.rsplit("_", 1)
        start_s = int(start_ms) // 1000
        audio[segment] = folder.find(
            segment, f"Y{segment}", f"{video}_{start_s}", f"Y{video}", video
        )
    captions = sorted({label_to_caption(names[mid]) for mid in classes})
    return make_event_set("audioset_strong", events, audio, captions, notes)


def desed(root: Path, split: str = "validation") -> AnnotatedSet:
    """Read DESED's real recordings: "validation", "public" (public evaluation) or "strong" (train).

    A row of a file name alone is a recording without any of the classes: it stays, so that
    detections in it count as false alarms.
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
    captions = [label_to_caption(name) for name in DESED_CLASSES]
    return make_event_set(f"desed_{split}", events, audio, captions)


def maestro(root: Path, split: str = "validation") -> AnnotatedSet:
    """Read MAESTRO Real, split "train" or "validation": soft labels of five annotators per second.

    As in DCASE 2024 a class is active where its soft label is above 0.5, touching seconds are one
    event, and 11 of the 17 classes are scored. The 16 files of `validation` are those of DCASE's
    baseline; `train` has the others. Soft labels may be a little above 1. A file in which none of
    the 11 classes is active stays; the baseline leaves it out.
    """
    folder = AudioFolder(root, "development_audio", "audio")
    events, audio = {}, {}
    for path in sorted((root / "development_annotation").glob("soft_labels_*/*.txt")):
        scene, _, number = path.stem.rpartition("_")
        if not number.isdecimal():
            raise ValueError(f"{path}: not <scene>_<number>.txt")
        is_validation = int(number) in MAESTRO_VALIDATION.get(scene, ())
        if is_validation != (split == "validation"):
            continue
        rows = tables.read(path, ("start", "end", "label", "value"), delimiter="\t", header=False)
        events[path.stem] = _join_seconds(
            read_event(row, "start", "end", label_to_caption(label))
            for row in rows
            if (label := check_label(row, row["label"].strip(), MAESTRO_CLASSES)) in MAESTRO_SCORED
            and _soft(row) > 0.5
        )
        audio[path.stem] = folder.find(path.stem)
    if not events:
        raise FileNotFoundError(f"{root}: no development_annotation/soft_labels_*/*.txt of {split}")
    captions = [label_to_caption(name) for name in MAESTRO_SCORED]
    quiet = sum(not of_clip for of_clip in events.values())
    notes = [f"{quiet} files without a class that is scored; DCASE's baseline leaves them out"]
    return make_event_set("maestro", events, audio, captions, notes if quiet else [])


def urban_sed(root: Path, split: str = "test") -> AnnotatedSet:
    """Read URBAN-SED, split "train", "validate" or "test".

    From the foreground events of its JAMS files if they are there, else from its text files, which
    list nothing else.
    """
    root = root / "URBAN-SED_v2.0.0" if (root / "URBAN-SED_v2.0.0").is_dir() else root
    annotations = root / "annotations" / split
    folder = AudioFolder(root, f"audio/{split}", "audio")
    events, audio = {}, {}
    for path in sorted(annotations.glob("*.jams")) or sorted(annotations.glob("*.txt")):
        events[path.stem] = [
            event._replace(caption=label_to_caption(_check_urban(event)))
            for event in labels.read(path).of(path.stem)
        ]
        audio[path.stem] = folder.find(path.stem)
    if not events:
        raise FileNotFoundError(f"{annotations} holds neither .jams nor .txt")
    captions = [label_to_caption(name) for name in URBAN_CLASSES]
    return make_event_set("urbansed", events, audio, captions)


def tacos(root: Path, split: str = "test") -> AnnotatedSet:
    """Read TACOS: free-text captions with times, so that every caption is a class of its own.

    `split` is "test" or "development".
    """
    columns = ("filename", "text", "onset", "offset")
    rows = tables.read(root / "annotations_strong.csv", columns, delimiter=",")
    listed = tables.read(root / f"{split}_split.csv", ("filename",), delimiter=",")
    folder = AudioFolder(root, "audio")
    events: dict[str, list[RawEvent]] = {row["filename"]: [] for row in listed}
    spelled = texts.spellings(row["text"] for row in rows if row["filename"] in events)
    for row in rows:
        if row["filename"] in events:
            caption = spelled[row["text"]]
            events[row["filename"]].append(read_event(row, "onset", "offset", caption))
    audio = {name: folder.find(stem_of(name)) for name in events}
    captions = sorted({event.caption for of_clip in events.values() for event in of_clip})
    notes = texts.spelling_notes(spelled)
    made = make_event_set(f"tacos_{split}", events, audio, captions, notes)
    return replace(made, closed=False)


def read_own_events(name: str, table: Path, audio: Path) -> AnnotatedSet:
    """Make a dataset of a label file, see `labels`, or of a folder of them, and a folder of audio.

    A file that names no recordings is of the one that it is named after.
    """
    folder = AudioFolder(audio)
    events, notes = _in_folder(table, folder) if table.is_dir() else (_in_file(table), [])
    found = folder.match(events)
    spelled = texts.spellings(event.caption for of in events.values() for event in of)
    by_clip: dict[str, list[RawEvent]] = {}
    for recording, of in events.items():
        clip, _ = found[recording]
        named = [event._replace(caption=spelled[event.caption]) for event in of]
        by_clip.setdefault(clip, []).extend(named)
    notes += texts.spelling_notes(spelled)
    return make_event_set(name, by_clip, dict(found.values()), sorted(set(spelled.values())), notes)


def _in_file(table: Path) -> Mapping[str, Sequence[RawEvent]]:
    events = labels.read(table).events
    return {recording or labels.stem(table): of for recording, of in events.items()}


def _in_folder(
    folder: Path, audio: AudioFolder
) -> tuple[Mapping[str, Sequence[RawEvent]], list[str]]:
    """The events of each recording that a file in the folder names or is named after, and notes."""
    files = labels.files_of(folder, below=True)
    clips = audio.match(files)
    by_clip: dict[str, list[Path]] = {}
    for named_after, paths in files.items():
        by_clip.setdefault(clips[named_after][0], []).extend(paths)
    read: list[tuple[str, Path, Sequence[RawEvent]]] = []
    others: list[str] = []
    for clip, paths in by_clip.items():
        file = labels.pick(paths, scored=True)
        if file is None:
            others += [path.name for path in paths]
            continue
        for recording, of in file.events.items():
            read.append((recording or clip, file.path, of))
    clips = audio.match(recording for recording, _, _ in read)
    file_of: dict[str, Path] = {}
    for recording, path, _ in read:
        if (other := file_of.setdefault(clips[recording][0], path)) != path:
            raise ValueError(f"{other} and {path}: which of them has the labels of {recording}?")
    labelled = {path for _, path in clips.values()} - {None}
    n_without = sum(map(len, audio.paths.values())) - len(labelled)
    notes = [f"{n_without} recordings without a label file left out"] if n_without else []
    if others:
        notes.append(f"{len(others)} files that hold no labels left out: {', '.join(others[:3])}")
    return {recording: of for recording, _, of in read}, notes


def _by_file(rows: Iterable[Row], classes: tuple[str, ...] | None) -> dict[str, list[RawEvent]]:
    """The events of each file. With `classes`, labels are checked and turned into captions."""
    events: dict[str, list[RawEvent]] = {}
    for row in rows:
        of_clip = events.setdefault(row["filename"].strip(), [])
        label = row["event_label"].strip()
        if not (label or row["onset"].strip() or row["offset"].strip()):
            continue
        if not label:
            raise ValueError(f"{row.where}: an event without a label")
        caption = label if classes is None else label_to_caption(check_label(row, label, classes))
        of_clip.append(read_event(row, "onset", "offset", caption))
    return events


def _join_seconds(seconds: Iterable[RawEvent]) -> list[RawEvent]:
    """Events of the active seconds of a file, which is how they are defined and no repair."""
    joined: list[RawEvent] = []
    last: dict[str, int] = {}  # caption -> index of its latest event
    for second in sorted(seconds, key=lambda second: second.onset):
        i = last.get(second.caption)
        if i is not None and joined[i].offset == second.onset:
            joined[i] = joined[i]._replace(offset=second.offset)
        else:
            last[second.caption] = len(joined)
            joined.append(second)
    return joined


def _soft(row: Row) -> float:
    value = row.number("value")
    if not 0 <= value < 1.5:
        raise ValueError(f"{row.where}: a soft label of {value}, expected 0 to 1")
    return value


def _check_urban(event: RawEvent) -> str:
    return check_label(Row(event.where, {}), event.caption, URBAN_CLASSES)
