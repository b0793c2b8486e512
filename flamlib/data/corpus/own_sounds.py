"""Sounds of one's own, through the same door as the catalogue's.

A folder holds recordings, in whatever libsndfile reads, and one table:

    path                 caption                role        ...
    recordings/gate.wav  a garden gate creaks
    street at noon.flac  traffic in a street    background

Required are `path` (in the folder) and `caption`. Optional, a column or a single value of it:

    role      foreground, or background; without, foreground, or background if it lasts as long as
              `background_from_s` says, where that is given (FLAM's rule: 10 s)
    split     train, or any other of `catalogue.SPLITS`
    licence   unknown
    onset     seconds; with `offset`, the part in which it sounds. Without, found by its level
    wordings  other texts for the same, separated by "|"
    family    of captions that are not negatives of each other; without, the caption alone.
              Of a background: all families that can be heard in it, separated by "|"
    group     of recordings too alike to be in two splits; without, identical files are one group
"""

import unicodedata
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import soundfile

from flamlib import files
from flamlib.data.corpus.catalogue import CAPTION_COLUMNS, CLIP_COLUMNS, OWN, Catalogue, Wrong, complain, read_table, split_list, wrong_families, wrong_in_clips

COLUMNS = ("path", "caption")
OPTIONAL = ("role", "licence", "split", "onset", "offset", "family", "wordings", "group")
DEFAULTS = {"role": "foreground", "split": "train", "licence": "unknown"}


def add(
    catalogue: Catalogue, folder: str | Path, *, background_from_s: float | int | None = None
) -> Catalogue:
    """The catalogue, and the sounds that `sounds.tsv` or `sounds.csv` in the folder lists.

    They have the package and channel "own", and as member their path. A caption that the catalogue
    has, be it as a wording of another, joins that one with its family and its wordings.

    Raises ValueError naming the row for what `catalogue.read` refuses, for an unknown column, and
    for a path that leads out of the folder. Whether there is such a file shows when it is read.
    """
    folder = Path(folder)
    table = read_table(_table_of(folder), COLUMNS, OPTIONAL)
    for column in ("caption", "family", "wordings"):  # not the path: that is as on this disk
        table[column] = table[column].map(lambda text: unicodedata.normalize("NFC", text))
    complain(table, _wrong_paths(table["path"]))
    if background_from_s is not None:
        roles = zip(table["role"], table["path"], strict=True)
        table["role"] = [
            role or _role_by_length(folder / path, background_from_s) for role, path in roles
        ]

    clips = pd.DataFrame("", index=table.index, columns=[*CLIP_COLUMNS, "where"])
    clips[["package", "channel"]] = OWN
    clips["member"] = [PurePosixPath(path).as_posix() for path in table["path"]]
    clips[["onset", "offset", "where"]] = table[["onset", "offset", "where"]]
    for column, default in DEFAULTS.items():
        clips[column] = table[column].where(table[column] != "", default)
    clips["sha256"] = [_checksum(folder / member) for member in clips["member"]]
    clips["group"] = _groups(clips, table["group"], catalogue.clips)

    foreground = clips["role"] != "background"
    known = _caption_of_text(catalogue.captions)
    family_of = dict(zip(catalogue.captions["caption"], catalogue.captions["family"], strict=True))
    joined = [known.get(text.casefold(), text) for text in table["caption"]]
    clips["caption"] = table["caption"].where(~foreground, joined)
    families = [
        given or family_of.get(caption, caption if is_foreground else "")
        for given, caption, is_foreground in zip(table["family"], joined, foreground, strict=True)
    ]
    clips["family"] = np.where(foreground, families, "ambience")

    captions = _with_captions(
        catalogue.captions, clips[foreground], table.loc[foreground, "wordings"]
    )
    complain(clips, wrong_in_clips(clips, captions))
    audible = pd.Series(families).where(~foreground, "")
    complain(table, wrong_families(audible, captions))
    heard = zip(clips["member"], audible, strict=True)
    return Catalogue(
        pd.concat([catalogue.clips, clips], ignore_index=True),
        captions,
        catalogue.audible | {(OWN, member): split_list(names) for member, names in heard},
    )


def _wrong_paths(paths: pd.Series) -> Wrong:
    for row, path in enumerate(paths):
        pure = PurePosixPath(path)
        if not path:
            yield row, "no path"
        elif pure.is_absolute() or ".." in pure.parts:
            yield row, f"{path} is not in the folder of the table"


def _table_of(folder: Path) -> Path:
    found = [folder / name for name in ("sounds.tsv", "sounds.csv") if (folder / name).is_file()]
    if len(found) != 1:
        what = "both sounds.tsv and sounds.csv" if found else "neither sounds.tsv nor sounds.csv"
        raise ValueError(f"{folder}: {what}; one table with the columns path and caption is needed")
    return found[0]


def _role_by_length(path: Path, background_from_s: float | int) -> str:
    try:
        about = soundfile.info(path)
    except (soundfile.SoundFileError, OSError):
        return ""  # what is wrong with it shows when it is read
    long = about.frames >= background_from_s * about.samplerate
    return "background" if long else "foreground"


def _checksum(path: Path) -> str:
    return files.sha256(path) if path.is_file() else ""


def _groups(clips: pd.DataFrame, given: pd.Series, others: pd.DataFrame) -> list[str]:
    """The group given, else that of the catalogue's copy of the file, else that of its content."""
    group_of = dict(zip(others["sha256"], others["group"], strict=True)) | {"": ""}
    return [
        (group and f"{OWN}:{group}") or group_of.get(checksum) or f"{OWN}:{checksum[:16] or member}"
        for group, checksum, member in zip(given, clips["sha256"], clips["member"], strict=True)
    ]


def _caption_of_text(captions: pd.DataFrame) -> dict[str, str]:
    """The caption that a text stands for, by the text in lower case."""
    found = {}
    for row in captions.itertuples(index=False):
        for text in split_list(row.wordings):
            found.setdefault(text.casefold(), row.caption)
    return found | {caption.casefold(): caption for caption in captions["caption"]}


def _with_captions(
    captions: pd.DataFrame, clips: pd.DataFrame, wordings: pd.Series
) -> pd.DataFrame:
    """The table with the clips' captions and wordings added where it lacks them."""
    rows = {row["caption"]: row for row in captions.to_dict("records")}
    for clip, texts in zip(clips.itertuples(index=False), wordings, strict=True):
        new = dict.fromkeys([*CAPTION_COLUMNS, "where"], "") | {
            "caption": clip.caption,
            "family": clip.family,
            "where": clip.where,
        }
        row = rows.setdefault(clip.caption, new)
        known = [row["caption"], *split_list(row["wordings"])]
        row["wordings"] = "|".join(dict.fromkeys([*known, *split_list(texts)]))
    return pd.DataFrame(rows.values(), columns=[*CAPTION_COLUMNS, "where"])
