"""Captioned recordings, as they are distributed: Clotho v2, AudioCaps, tables of one's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from flamlib import tables
from flamlib.data.datasets.annotations import AnnotatedSet, AudioFolder, Clip, heard, listed_once, stem
from flamlib.tables import Row

CLOTHO_CAPTIONS = tuple(f"caption_{i}" for i in range(1, 6))


def clotho(root: Path, split: str = "evaluation") -> AnnotatedSet:
    """Clotho v2: five columns of captions a file, whose name is its key, letter by letter."""
    table = root / f"clotho_captions_{split}.csv"
    rows = tables.read(table, ("file_name", *CLOTHO_CAPTIONS), delimiter=",")
    listed_once(rows, "file_name")
    folder = AudioFolder(root, split, f"clotho_audio_{split}/{split}")
    captions = {row["file_name"]: [row[column] for column in CLOTHO_CAPTIONS] for row in rows}
    audio = {name: folder.find(stem(name)) for name in captions}
    return _settled("clotho", captions, audio, {row["file_name"]: row.where for row in rows})


def audiocaps(root: Path, split: str = "test") -> AnnotatedSet:
    """AudioCaps 1 or 2: a row a caption; the rows of one video are one clip.

    A recording may be called `Y<id>`, `<id>`, `<id>_<start>` or `Y<id>_<start>`, or by the
    `audiocap_id` of any of its rows.
    """
    names = (f"dataset/{split}.csv", f"dataset2.0/{split}.csv", f"{split}.csv")
    table = next((root / name for name in names if (root / name).is_file()), root / names[0])
    columns = ("audiocap_id", "youtube_id", "start_time", "caption")
    rows = tables.read(table, columns, delimiter=",")
    listed_once(rows, "audiocap_id")
    folder = AudioFolder(root, f"audio/{split}", "audio", split)
    captions: dict[str, list[str]] = {}
    stems: dict[str, list[str]] = {}
    for row in rows:
        video, start = row["youtube_id"], f"{row.number('start_time'):g}"
        captions.setdefault(video, []).append(row["caption"])
        known = stems.setdefault(
            video, [f"Y{video}", video, f"{video}_{start}", f"Y{video}_{start}"]
        )
        known.append(row["audiocap_id"])
    audio = {video: folder.find(*stems[video]) for video in captions}
    return _settled("audiocaps", captions, audio, {row["youtube_id"]: row.where for row in rows})


def own_captions(name: str, rows: Sequence[Row], audio: Path) -> AnnotatedSet:
    """The rows `filename caption` of a table of one's own; a file may have several."""
    folder = AudioFolder(audio)
    captions: dict[str, list[str]] = {}
    for row in rows:
        captions.setdefault(row["filename"].strip(), []).append(row["caption"])
    found = {clip: folder.named(clip) for clip in captions}
    return _settled(name, captions, found, {row["filename"].strip(): row.where for row in rows})


def _settled(
    name: str,
    captions: Mapping[str, Sequence[str]],
    audio: Mapping[str, Path | None],
    where: Mapping[str, str],
) -> AnnotatedSet:
    clips = []
    for clip, texts in captions.items():
        texts = [" ".join(text.split()) for text in texts]
        if not all(texts):
            raise ValueError(f"{where[clip]}: an empty caption of {clip!r}")
        path, duration_s = heard(audio[clip])
        clips.append(Clip(clip, path, duration_s, captions=texts))
    return AnnotatedSet(name, "retrieval", clips)
