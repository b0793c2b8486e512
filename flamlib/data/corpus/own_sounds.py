"""Add a user's own sounds to the catalogue.

A folder holds recordings, in any format that libsndfile reads, and a table sounds.tsv or .csv:

    path                 caption                role        ...
    recordings/gate.wav  a garden gate creaks
    street at noon.flac  traffic in a street    background

`path` (in the folder) and `caption` are required. A row without a caption takes its captions and
times from a label file, see `labelled`; in a folder without a table every recording does that has
one beside it. The other columns, and any value in them, may be left out:

    role      foreground, background, or masker: speech or music that lies over a background.
              Default: foreground, or background if the recording is at least `background_from_s`
              long, where that is given (10 s in FLAM)
    split     one of `catalogue.SPLITS`, or auto: by its group, see `auto_splits`. Default: train
    licence   Default: unknown
    onset     in seconds; with `offset` the part in which it sounds. Default: found by its level
    wordings  other texts for the caption, separated by "|"
    family    name of a set of captions that are not negatives of each other; of a background or a
              masker, the families that can be heard in it, separated by "|". Default: the caption
              alone
    group     name of a set of recordings too similar to be in two splits. Default: identical files
    labels    label file in the folder, of a recording without a caption. Default: the one beside it
"""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pandas as pd

from flamlib import texts
from flamlib.data.corpus import auto_splits, labelled
from flamlib.data.corpus.catalogue import (
    BEHIND,
    CAPTION_COLUMNS,
    CLIP_COLUMNS,
    OWN,
    Catalogue,
    Problems,
    caption_of_key,
    clip_problems,
    family_problems,
    raise_problems,
    read_table,
    split_list,
    text_problems,
)
from flamlib.storage import files, tables
from flamlib.waveforms import audio

COLUMNS = ("path", "caption")
OPTIONAL = ("role", "licence", "split", "onset", "offset", "family", "wordings", "group", "labels")
LONGEST_NAME = 255  # bytes, on the file systems in use
DEFAULTS = {"role": "foreground", "split": "train", "licence": "unknown"}


def add(
    catalogue: Catalogue, folder: str | Path, *, background_from_s: float | int | None = None
) -> Catalogue:
    """Return the catalogue with the sounds of a folder added.

    Their package and channel are "own", their member is their path. Texts that read the same (see
    `texts.key`) are one caption, in the first spelling, and so are a caption and the one it is a
    wording of; what the catalogue has goes first, with its family and wordings.

    A file is found as `tables.FileFinder` has it; a link may lead anywhere.

    Raises ValueError, naming the line, for what `catalogue.read` refuses, for an unknown column,
    and for a path that leads out of the folder. Files are not looked at before they are read.
    """
    folder = Path(folder)
    table = _read_table(folder)
    finder = tables.FileFinder(folder)
    found = [finder.find(path) for path in table["path"]]
    raise_problems(table, _path_problems(table["path"], found))
    table, found, left_out = labelled.expand(table, found, folder)
    if background_from_s is not None:
        table["role"] = [
            role or _role_by_length(path, background_from_s)
            for role, path in zip(table["role"], found, strict=True)
        ]

    return join(catalogue, table, found, folder, left_out=left_out)


def join(
    catalogue: Catalogue,
    table: pd.DataFrame,
    found: Sequence[Path | None],
    folder: Path,
    *,
    package: str = OWN,
    left_out: labelled.LeftOut = (),
) -> Catalogue:
    """Return the catalogue with the recordings of a folder added.

    Args:
        catalogue: what there is.
        table: the columns of own sounds, `part` of `labelled.expand`, `where`, and `parents` if
            captions have any.
        found: the file of each row, None if it is not there.
        folder: in which they are.
        package: what they are called. Those of others than `OWN` are not read for a checksum: their
            groups say which belong together.
        left_out: what cannot be used of the folder.

    Raises:
        TableError: what `catalogue.read` refuses; names the line.
    """
    clips = pd.DataFrame("", index=table.index, columns=[*CLIP_COLUMNS, "where"])
    clips[["package", "channel"]] = package, OWN
    clips["member"] = [
        (path.relative_to(folder) if path else PurePosixPath(name)).as_posix() + part
        for name, path, part in zip(table["path"], found, table["part"], strict=True)
    ]
    clips[["onset", "offset", "where"]] = table[["onset", "offset", "where"]]
    for column, default in DEFAULTS.items():
        clips[column] = table[column].where(table[column] != "", default)
    if package == OWN:
        checksums = {path: _checksum(path) for path in set(found)}
        clips["sha256"] = [checksums[path] for path in found]
        clips["group"] = _groups(clips, table["group"], catalogue.clips)
    else:
        clips["group"] = table["group"]

    foreground = ~clips["role"].isin(BEHIND)
    caption_of = _caption_of_key(catalogue.captions, table[foreground])
    joined = [caption_of.get(texts.key(text), text) for text in table["caption"]]
    clips["caption"] = table["caption"].where(~foreground, joined)
    families = _families(table, joined, foreground, catalogue.captions)
    clips["family"] = np.where(foreground, families, "ambience")

    captions = _with_captions(catalogue.captions, clips[foreground], table[foreground])
    # Without a checksum a recording counts as missing; those of collections were found.
    counted = clips if package == OWN else clips.assign(sha256=clips["member"])
    clips["split"] = auto_splits.share_out(counted, catalogue.clips, captions)
    raise_problems(clips, clip_problems(clips, captions))
    raise_problems(captions, text_problems(captions))
    audible = pd.Series(families).where(~foreground, "")
    raise_problems(table, family_problems(audible, captions))
    families_of_member = zip(clips["member"], audible, strict=True)
    return Catalogue(
        pd.concat([catalogue.clips, clips], ignore_index=True),
        captions,
        catalogue.audible
        | {(package, member): split_list(names) for member, names in families_of_member},
        [*catalogue.left_out, *left_out],
        {**catalogue.folders, package: folder},
    )


def _path_problems(paths: pd.Series, found: Sequence[Path | None]) -> Problems:
    for row, (path, recording) in enumerate(zip(paths, found, strict=True)):
        pure = PurePosixPath(path)
        windows = PureWindowsPath(path)
        if not path:
            yield row, "no path"
        elif pure.is_absolute() or ".." in pure.parts:
            yield row, f"{path} is not in the folder of the table"
        elif recording is None and (windows.is_absolute() or ".." in windows.parts):
            yield row, f"{path} is not in the folder of the table; folders are separated by /"
        elif any(len(os.fsencode(part)) > LONGEST_NAME for part in windows.parts):
            yield row, f"{path[:40]}… is longer than the name of a file can be"


def _read_table(folder: Path) -> pd.DataFrame:
    """The table in the folder, or one of its recordings with label files if it has none."""
    table = _table_of(folder)
    if table is not None:
        return read_table(table, COLUMNS, OPTIONAL)
    if len(rows := labelled.rows(folder, [*COLUMNS, *OPTIONAL])):
        return rows
    raise ValueError(
        f"{folder}: neither sounds.tsv nor sounds.csv, and no recording with a label file beside "
        "it; one table with the columns path and caption is needed"
    )


def _table_of(folder: Path) -> Path | None:
    names = ("sounds.tsv", "sounds.csv")
    present = [path for path in folder.glob("*") if path.name.lower() in names and path.is_file()]
    if len(present) > 1:
        found = sorted((path.name for path in present), reverse=True)
        raise ValueError(
            f"{folder}: both {' and '.join(found)}; one table with the columns path and caption is "
            "needed"
        )
    return present[0] if present else None


def _role_by_length(path: Path | None, background_from_s: float | int) -> str:
    if path is None:
        return ""
    try:
        with audio.Recording(path) as recording:
            is_long = recording.duration_s >= background_from_s
    except audio.Unreadable:
        return ""  # what is wrong with it shows when it is stored
    return "background" if is_long else "foreground"


def _checksum(path: Path | None) -> str:
    """The SHA-256 of a file; none for one that cannot be opened, which shows when it is stored."""
    try:
        return files.sha256(path) if path else ""
    except OSError:
        return ""


def _groups(clips: pd.DataFrame, groups: pd.Series, others: pd.DataFrame) -> list[str]:
    """The group in the table, else of the catalogue's copy of the file, else of its content."""
    group_of = dict(zip(others["sha256"], others["group"], strict=True)) | {"": ""}
    spelled = texts.spellings(groups)
    return [
        (group and f"{OWN}:{spelled[group]}")
        or group_of.get(checksum)
        or f"{OWN}:{checksum[:16] or member}"
        for group, checksum, member in zip(groups, clips["sha256"], clips["member"], strict=True)
    ]


def _caption_of_key(known: pd.DataFrame, own: pd.DataFrame) -> dict[str, str]:
    """The caption that a text stands for, by the text's key.

    A text of the catalogue stands for its caption; one of the table for the caption that it is a
    wording of, else for itself, in the spelling that comes first.
    """
    caption_of = caption_of_key(known)
    above: dict[str, str] = {}  # from a caption to the one that it is a wording of

    def top(key: str) -> str:
        while key in above:
            key = above[key]
        return key

    spelled = texts.spellings(own["caption"]).values()
    first = {key: text for text in spelled if (key := texts.key(text)) not in caption_of}
    for caption, cell in zip(own["caption"], own["wordings"], strict=True):
        for key in map(texts.key, split_list(cell)):
            if key in first and key not in above and top(texts.key(caption)) != key:
                above[key] = texts.key(caption)
    return caption_of | {key: caption_of.get(top(key)) or first[top(key)] for key in first}


def _families(
    table: pd.DataFrame, captions: Sequence[str], foreground: pd.Series, known: pd.DataFrame
) -> list[str]:
    """The family of every row's caption; of a background those that can be heard in it.

    Without one in the table it is that of the caption elsewhere, of a foreground else the caption.
    """
    rows = list(zip(captions, table["family"], foreground, strict=True))
    named = [family or caption for caption, family, is_foreground in rows if is_foreground]
    heard = [
        name for _, names, is_foreground in rows if not is_foreground for name in split_list(names)
    ]
    spelled = texts.spellings([*known["family"], *named, *heard])
    family_of = dict(zip(known["caption"], known["family"], strict=True))
    for given in (True, False):
        for caption, family, is_foreground in rows:
            if is_foreground and bool(family) == given:
                family_of.setdefault(caption, spelled[family or caption])
    return [
        (
            spelled[family]
            if is_foreground
            else "|".join(spelled[name] for name in split_list(family))
        )
        if family
        else family_of.get(caption, "")
        for caption, family, is_foreground in rows
    ]


def _with_captions(captions: pd.DataFrame, clips: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """The table with the clips' captions, wordings and parents added where it lacks them."""
    rows = {row["caption"]: row for row in captions.to_dict("records")}
    of_own = own.get("parents", pd.Series("", own.index))
    rows_of_own = zip(clips.itertuples(index=False), own["wordings"], of_own, strict=True)
    for clip, cell, parents in rows_of_own:
        new = dict.fromkeys([*CAPTION_COLUMNS, "where"], "") | {
            "caption": clip.caption,
            "family": clip.family,
            "where": clip.where,
        }
        row = rows.setdefault(clip.caption, new)
        spelled = texts.spellings([row["caption"], *split_list(row["wordings"]), *split_list(cell)])
        row["wordings"] = "|".join(dict.fromkeys(spelled.values()))
        # Whichever says so: a caption may be in several collections, of which one knows them.
        above = texts.spellings([*split_list(row["parents"]), *split_list(parents)])
        row["parents"] = "|".join(dict.fromkeys(above.values()))
    return pd.DataFrame(rows.values(), columns=[*CAPTION_COLUMNS, "where"])
