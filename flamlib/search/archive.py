"""An index: a folder with the embeddings of an archive, to be asked with any caption.

    index/index.json         the model, by name and SHA-256, and the duration of a frame
    index/recordings.jsonl   a line for each file: where it is, and the SHA-256 of its content
    index/parts/             the frames, by content: see `archive_part`

Frames belong to a content and not to a file. So a file that is moved or copied is not embedded
again, and one that is gone loses its line, which costs nothing; a part most of whose recordings are
gone is written anew without them.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flamlib.experiment.parameters import ParameterError, parameter, parse, plain
from flamlib.models import checkpoint
from flamlib.search import archive_part
from flamlib.search.archive_part import Part
from flamlib.search.codes import Coded
from flamlib.storage import files

FORMAT = 1
ABOUT, RECORDINGS, PARTS = "index.json", "recordings.jsonl", "parts"
LEAST_USED = 0.5  # share of a part's frames below which it is written anew
_OTHER_FILES = 512  # that a process may open later, beside those of an index


@dataclass(frozen=True, kw_only=True)
class About:
    """What an index is of."""

    format: int = parameter("of the folder; newer ones are refused", low=1, high=FORMAT)
    model: str = parameter("SHA-256 of the settings and weights of the model")
    model_name: str = parameter("the model as it was named")
    frame_s: float = parameter("duration of a frame", unit="s", low=1e-6)
    dim: int = parameter("coordinates of a frame", low=1)


class File(NamedTuple):
    """A file that is indexed.

    Attributes:
        sha256: Of its content.
        n_bytes: Its size.
        changed_ns: When it was changed last. As long as both are the same, so is the content.
    """

    sha256: str
    n_bytes: int
    changed_ns: int


class Index(NamedTuple):
    """An index that is open to be read.

    Attributes:
        folder: Where it is.
        about: What it is of.
        parts: Its frames; those of files that are gone may be among them.
        paths: The files of each content that is to be found, by SHA-256.
    """

    folder: Path
    about: About
    parts: list[Part]
    paths: dict[str, list[Path]]


def check_model(folder: Path, about: About, model: str | Path) -> None:
    """Raise ValueError if an index is of another model than the one saved in the folder `model`."""
    if about.model != checkpoint.digest(model):
        raise ValueError(
            f"{folder}: an index of another model, {about.model_name} as it was then, so {model} "
            "cannot be compared with it; pass that one with --model, or make another index"
        )


def read(folder: str | Path) -> Index:
    """Open an index.

    Raises:
        FileNotFoundError: There is none.
        ValueError: A file of it is damaged; names it and says what helps.
    """
    folder = Path(folder)
    about, found = read_about(folder), read_files(folder)
    if about is None:
        raise FileNotFoundError(f"{folder}: no index; `flam index FOLDER --out {folder}` makes one")
    paths: dict[str, list[Path]] = {}
    for path, file in found.items():
        paths.setdefault(file.sha256, []).append(Path(path))
    parts, lacking = _parts_with(folder, paths)
    if lacking:  # another call may have written parts anew while they were opened
        parts, lacking = _parts_with(folder, paths)
    if lacking:
        [first, *_] = paths[min(lacking)]
        raise ValueError(
            f"{folder}: the frames of {len(lacking)} recordings are missing, of {first} first; "
            "call `flam index` again, which embeds them"
        )
    for part in parts:
        if len(part.coded.mean) != about.dim:
            raise ValueError(
                f"{part.path}: frames of {len(part.coded.mean)} numbers in an index of {about.dim}:"
                " of another index? Delete it and call `flam index` again"
            )
    return Index(folder, about, parts, paths)


def read_about(folder: Path) -> About | None:
    """Read what an index is of; None if there is none. Raises ValueError for a damaged file."""
    path = folder / ABOUT
    try:
        return parse(About, json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ParameterError, AttributeError, TypeError, ValueError, RecursionError) as error:
        why = "; ".join(str(error).splitlines())
        raise ValueError(f"{path}: not what describes an index ({why})") from error


def write_about(folder: Path, about: About) -> None:
    """Write what an index is of."""
    files.atomic_write(folder / ABOUT, json.dumps(plain(about), indent=2) + "\n")


def read_files(folder: Path) -> dict[str, File]:
    """Read which files are indexed, by path; none if nothing says so.

    Raises ValueError naming the line that is damaged.
    """
    path, found = folder / RECORDINGS, {}
    try:
        lines = path.read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            file = File(*(entry[name] for name in File._fields))
            if [*map(type, (entry["path"], *file))] != [str, str, int, int]:
                raise TypeError
            found[entry["path"]] = file
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ValueError(
                f"{path}: line {number} is damaged; delete the file and call `flam index` with all "
                "folders again, which embeds nothing anew"
            ) from None
    return found


def write_files(folder: Path, found: Mapping[str, File]) -> None:
    """Write which files are indexed."""
    lines = [
        json.dumps({"path": path, **file._asdict()}) + "\n" for path, file in sorted(found.items())
    ]
    files.atomic_write(folder / RECORDINGS, "".join(lines))


def read_parts(folder: Path) -> Iterator[Part]:
    """Open the files with the frames of an index, see `archive_part.read`."""
    paths = sorted((folder / PARTS).glob(f"*{archive_part.SUFFIX}"))
    _allow_open(2 * len(paths))  # with what `coarse` has of each
    for path in paths:
        try:
            part = archive_part.read(path)
        except FileNotFoundError:  # written anew under another name since they were listed
            continue
        yield part


def _parts_with(folder: Path, contents: Collection[str]) -> tuple[list[Part], set[str]]:
    """The parts that have frames of these contents, and those that no part has."""
    parts = [p for p in read_parts(folder) if any(r.sha256 in contents for r in p.recordings)]
    return parts, set(contents) - {r.sha256 for part in parts for r in part.recordings}


def _allow_open(n_files: int) -> None:
    """Let this process have so many more files open, as far as the system does: 1024 are usual."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        n_open = len(os.listdir("/dev/fd"))
    except OSError:  # none is left to look with, or the system does not tell
        n_open = 0 if soft == resource.RLIM_INFINITY else soft
    wanted = n_open + n_files + _OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def drop_unused(folder: Path, used: Iterable[str]) -> int:
    """Remove frames that no file has, by the SHA-256 of those that files have.

    A part of which little is used is written anew without the rest.

    Returns:
        Number of bytes that became free.
    """
    used, freed = set(used), 0
    for part in read_parts(folder):
        keep = np.repeat(
            [r.sha256 in used for r in part.recordings], [r.n_frames for r in part.recordings]
        )
        used -= {r.sha256 for r in part.recordings}  # what stands twice is kept once
        if keep.mean() >= LEAST_USED:
            continue
        before = part.path.stat().st_size
        if keep.any():
            ends = np.cumsum([r.n_frames for r in part.recordings])
            kept = [r for r, end in zip(part.recordings, ends, strict=True) if keep[end - 1]]
            coded = part.coded
            left = Coded(coded.codes[keep], coded.scale[keep], np.array(coded.mean))
            freed -= archive_part.write(folder / PARTS, kept, left).stat().st_size
        part.path.unlink()
        freed += before
    return freed
