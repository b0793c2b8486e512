"""Add a user's own sounds to the catalogue.

A folder holds recordings, in any format that libsndfile reads, and a table sounds.tsv or .csv:

    path                 caption                role        ...
    recordings/gate.wav  a garden gate creaks
    street at noon.flac  traffic in a street    background

`path` (in the folder) and `caption` are required. The other columns, and any value in them, may be
left out:

    role      foreground or background. Default: foreground, or background if the recording is at
              least `background_from_s` long, where that is given (10 s in FLAM)
    split     one of `catalogue.SPLITS`. Default: train
    licence   Default: unknown
    onset     in seconds; with `offset` the part in which it sounds. Default: found by its level
    wordings  other texts for the caption, separated by "|"
    family    name of a set of captions that are not negatives of each other; of a background, the
              families that can be heard in it, separated by "|". Default: the caption alone
    group     name of a set of recordings too similar to be in two splits. Default: identical files
"""

import unicodedata
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import soundfile

from flamlib import files
from flamlib.data.corpus.catalogue import (
    CAPTION_COLUMNS,
    CLIP_COLUMNS,
    OWN,
    Catalogue,
    Problems,
    clip_problems,
    family_problems,
    raise_problems,
    read_table,
    split_list,
)

COLUMNS = ("path", "caption")
OPTIONAL = ("role", "licence", "split", "onset", "offset", "family", "wordings", "group")
DEFAULTS = {"role": "foreground", "split": "train", "licence": "unknown"}


def add(
    catalogue: Catalogue, folder: str | Path, *, background_from_s: float | int | None = None
) -> Catalogue:
    """Return the catalogue with the sounds of a folder added.

    Their package and channel are "own", their member is their path. A caption that the catalogue
    has, or has as a wording of another, becomes that one, with its family and wordings.

    Raises ValueError, naming the line, for what `catalogue.read` refuses, for an unknown column,
    and for a path that leads out of the folder. Files are not looked at before they are read.
    """
    folder = Path(folder)
    table = read_table(_table_of(folder), COLUMNS, OPTIONAL)
    for column in ("caption", "family", "wordings"):  # not the path: that is as on this disk
        table[column] = table[column].map(lambda text: unicodedata.normalize("NFC", text))
    raise_problems(table, _path_problems(table["path"]))
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
    caption_of = _caption_of_text(catalogue.captions)
    family_of = dict(zip(catalogue.captions["caption"], catalogue.captions["family"], strict=True))
    joined = [caption_of.get(text.casefold(), text) for text in table["caption"]]
    clips["caption"] = table["caption"].where(~foreground, joined)
    families = [
        family or family_of.get(caption, caption if is_foreground else "")
        for family, caption, is_foreground in zip(table["family"], joined, foreground, strict=True)
    ]
    clips["family"] = np.where(foreground, families, "ambience")

    captions = _with_captions(
        catalogue.captions, clips[foreground], table.loc[foreground, "wordings"]
    )
    raise_problems(clips, clip_problems(clips, captions))
    audible = pd.Series(families).where(~foreground, "")
    raise_problems(table, family_problems(audible, captions))
    families_of_member = zip(clips["member"], audible, strict=True)
    return Catalogue(
        pd.concat([catalogue.clips, clips], ignore_index=True),
        captions,
        catalogue.audible
        | {(OWN, member): split_list(names) for member, names in families_of_member},
    )


def _path_problems(paths: pd.Series) -> Problems:
    for row, path in enumerate(paths):
        pure = PurePosixPath(path)
        if not path:
            yield row, "no path"
        elif pure.is_absolute() or ".." in pure.parts:
            yield row, f"{path} is not in the folder of the table"


def _table_of(folder: Path) -> Path:
    tables = [folder / name for name in ("sounds.tsv", "sounds.csv") if (folder / name).is_file()]
    if len(tables) != 1:
        what = "both sounds.tsv and sounds.csv" if tables else "neither sounds.tsv nor sounds.csv"
        raise ValueError(f"{folder}: {what}; one table with the columns path and caption is needed")
    return tables[0]


def _role_by_length(path: Path, background_from_s: float | int) -> str:
    try:
        info = soundfile.info(path)
    except (soundfile.SoundFileError, OSError):
        return ""  # what is wrong with it shows when it is read
    is_long = info.frames >= background_from_s * info.samplerate
    return "background" if is_long else "foreground"


def _checksum(path: Path) -> str:
    return files.sha256(path) if path.is_file() else ""


def _groups(clips: pd.DataFrame, groups: pd.Series, others: pd.DataFrame) -> list[str]:
    """The group in the table, else of the catalogue's copy of the file, else of its content."""
    group_of = dict(zip(others["sha256"], others["group"], strict=True)) | {"": ""}
    return [
        (group and f"{OWN}:{group}") or group_of.get(checksum) or f"{OWN}:{checksum[:16] or member}"
        for group, checksum, member in zip(groups, clips["sha256"], clips["member"], strict=True)
    ]


def _caption_of_text(captions: pd.DataFrame) -> dict[str, str]:
    """The caption that a text stands for, by the text in lower case."""
    by_wording = {}
    for row in captions.itertuples(index=False):
        for text in split_list(row.wordings):
            by_wording.setdefault(text.casefold(), row.caption)
    return by_wording | {caption.casefold(): caption for caption in captions["caption"]}


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
        old = [row["caption"], *split_list(row["wordings"])]
        row["wordings"] = "|".join(dict.fromkeys([*old, *split_list(texts)]))
    return pd.DataFrame(rows.values(), columns=[*CAPTION_COLUMNS, "where"])
