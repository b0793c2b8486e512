"""Find the recordings in a folder and its subfolders, also those that turn out to be unusable.

A suffix says what is meant to be a recording. Nothing is opened here, so whatever is wrong with a
file (a link to nothing, a pipe, a format that is not read) is met when that one is read.
"""

import os
from pathlib import Path

from flamlib import audio

SUFFIXES = audio.SUFFIXES | audio.OTHER_SUFFIXES


def is_named_as_audio(name: str | Path) -> bool:
    """Return whether the suffix of a name, in any case, is one of audio, read or not."""
    return Path(name).suffix.lower() in SUFFIXES


def find(folder: str | Path) -> tuple[list[Path], dict[Path, str]]:
    """Find what is named as audio in a folder and its subfolders, links to folders included.

    A folder that is met twice, through a link, is looked into once.

    Returns:
        The paths, sorted by their parts, and the subfolders that cannot be listed, each with the
        reason.
    """
    folder = Path(folder)
    found, closed, seen = [], {}, set()
    _is_new(folder, seen)

    def refuse(error: OSError) -> None:
        closed[Path(error.filename)] = f"this folder cannot be listed: {error.strerror}"

    for at, subfolders, names in os.walk(folder, followlinks=True, onerror=refuse):
        found += [Path(at, name) for name in names + subfolders if is_named_as_audio(name)]
        subfolders[:] = [name for name in sorted(subfolders) if _is_new(Path(at, name), seen)]
    return sorted(found), closed


def _is_new(folder: Path, seen: set[tuple[int, int]]) -> bool:
    try:
        status = folder.stat()
    except OSError:
        return True  # listing it will say what is wrong
    identity = (status.st_dev, status.st_ino)
    is_new = identity not in seen
    seen.add(identity)
    return is_new


def has_usable_name(path: Path) -> bool:
    """Return whether a path can be written to a table, which holds UTF-8."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True
