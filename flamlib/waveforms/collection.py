"""Find the recordings in a folder and its subfolders, also those that turn out to be unusable.

A suffix says what is meant to be a recording. Nothing is opened here, so whatever is wrong with a
file (a link to nothing, a pipe, a format that is not read) is met when that one is read.
"""

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from flamlib.waveforms import audio

SUFFIXES = audio.SUFFIXES | audio.OTHER_SUFFIXES


def is_named_as_audio(name: str | Path) -> bool:
    """Return whether the suffix of a name, in any case, is one of audio, read or not."""
    return Path(name).suffix.lower() in SUFFIXES


def find(folder: str | Path) -> tuple[list[Path], dict[Path, str]]:
    """Find what is named as audio in a folder and its subfolders, links to folders included.

    A folder that is met twice, through a link, is looked into once. What is hidden in it is left
    out, by a name that begins with a dot: beside `a.wav` macOS leaves a `._a.wav` that is no sound,
    and a file server may have former states of all files in `.snapshot`.

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
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        names = [name for name in names if not name.startswith(".")]
        found += [Path(at, name) for name in names + subfolders if is_named_as_audio(name)]
        subfolders[:] = [name for name in sorted(subfolders) if _is_new(Path(at, name), seen)]
    return sorted(found), closed


def gather(given: Iterable[str]) -> tuple[dict[str, Path], dict[str, str]]:
    """Gather recordings from files, folders and patterns such as `night/**/*.flac`.

    A file is there under its name, also if it is missing; one of a folder under its path from that
    folder. Two of the same name are there under their full paths. A file that is met twice is there
    once.

    Returns:
        The files by name, and the folders that cannot be listed, each with the reason.

    Raises:
        FileNotFoundError: A folder without audio, or a pattern that matches none.
    """
    paths: dict[Path, str] = {}
    closed: dict[str, str] = {}
    for text in given:
        path = Path(text)
        if path.is_dir():
            found, refused = find(path)
            if not found and not refused:
                raise FileNotFoundError(f"{text}: no WAV, FLAC, MP3 or other audio in this folder")
            named = {each: each.relative_to(path).as_posix() for each in found}
            closed |= {str(each): why for each, why in refused.items()}
        elif not path.exists() and glob.has_magic(text):
            matches = sorted(map(Path, glob.glob(text, recursive=True)))
            named = {m: m.name for m in matches if is_named_as_audio(m) and not m.is_dir()}
            if not named:
                raise FileNotFoundError(f"{text}: no such file, and no audio matches it")
        else:
            named = {path: path.name}
        for each, name in named.items():
            paths.setdefault(_absolute(each), printable(name))
    names = list(paths.values())
    several = (
        {name for name in names if names.count(name) > 1} if len({*names}) < len(names) else ()
    )
    return {
        whole_name(path) if name in several else name: path for path, name in paths.items()
    }, closed


def whole_name(path: Path) -> str:
    """Return what a recording is called where another has its name: by its whole path."""
    return printable("/".join(path.absolute().parts[1:]))


def _absolute(path: Path) -> Path:
    """The whole path; without `..`, which would lead a name out of the folder of its results."""
    return Path(os.path.realpath(path)) if ".." in path.parts else path.absolute()


def printable(name: str) -> str:
    """Return a name as UTF-8, and so a table, has it: bytes of another encoding written out."""
    return name.encode("utf-8", "backslashreplace").decode()


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
