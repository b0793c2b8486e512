"""Readers of captioned recordings for retrieval: Clotho v2, AudioCaps, a user's own table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from flamlib import texts
from flamlib.data.datasets.annotations import AnnotatedSet, AudioFolder, Clip, probe_audio, stem
from flamlib.storage import tables
from flamlib.storage.tables import Row

CLOTHO_CAPTIONS = tuple(f"caption_{i}" for i in range(1, 6))


def clotho(root: Path, split: str = "evaluation") -> AnnotatedSet:
    """Read Clotho v2: five captions per file, `clotho_captions_<split>.csv`.

    `split` is "development", "validation" or "evaluation".
    """
    table = root / f"clotho_captions_{split}.csv"
    rows = tables.read(table, ("file_name", *CLOTHO_CAPTIONS), unique="file_name")
    folder = AudioFolder(root, split, f"clotho_audio_{split}/{split}")
    captions = {row["file_name"]: [row[column] for column in CLOTHO_CAPTIONS] for row in rows}
    audio = {name: folder.find(stem(name)) for name in captions}
    return _make_set("clotho", captions, audio, {row["file_name"]: row.where for row in rows})


def audiocaps(root: Path, split: str = "test") -> AnnotatedSet:
    """Read AudioCaps 1 or 2: one row per caption; all rows of a video make one clip.

    `split` is "train", "val" or "test". A recording may be called `Y<id>`, `<id>`, `<id>_<start>`
    or `Y<id>_<start>`, or by the `audiocap_id` of any of its rows.
    """
    names = (f"dataset/{split}.csv", f"dataset2.0/{split}.csv", f"{split}.csv")
    table = next((root / name for name in names if (root / name).is_file()), root / names[0])
    columns = ("audiocap_id", "youtube_id", "start_time", "caption")
    rows = tables.read(table, columns, unique="audiocap_id")
    folder = AudioFolder(root, f"audio/{split}", "audio", split)
    captions: dict[str, list[str]] = {}
    stems: dict[str, list[str]] = {}
    for row in rows:
        video, start = row["youtube_id"], f"{row.number('start_time'):g}"
        captions.setdefault(video, []).append(row["caption"])
        names_of_video = stems.setdefault(
            video, [f"Y{video}", video, f"{video}_{start}", f"Y{video}_{start}"]
        )
        names_of_video.append(row["audiocap_id"])
    audio = {video: folder.find(*stems[video]) for video in captions}
    return _make_set("audiocaps", captions, audio, {row["youtube_id"]: row.where for row in rows})


def read_own_captions(name: str, rows: Sequence[Row], audio: Path) -> AnnotatedSet:
    """Make a dataset of the rows `filename caption` of a user's table; a file may have several."""
    folder = AudioFolder(audio)
    captions: dict[str, list[str]] = {}
    found = folder.match(row["filename"].strip() for row in rows)
    where = {}
    for row in rows:
        clip, _ = found[row["filename"].strip()]
        captions.setdefault(clip, []).append(row["caption"])
        where[clip] = row.where
    return _make_set(name, captions, dict(found.values()), where)


def _make_set(
    name: str,
    captions: Mapping[str, Sequence[str]],
    audio: Mapping[str, Path | None],
    where: Mapping[str, str],
) -> AnnotatedSet:
    clips = []
    for clip, of_clip in captions.items():
        of_clip = [texts.normal(text) for text in of_clip]
        if not all(of_clip):
            raise ValueError(f"{where[clip]}: an empty caption of {clip!r}")
        heard = probe_audio(audio[clip])._asdict()
        clips.append(Clip(clip, captions=of_clip, **heard, where=where[clip]))
    return AnnotatedSet(name, "retrieval", clips)
