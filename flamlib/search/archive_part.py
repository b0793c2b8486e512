"""A file of an index: the frames of some recordings, to be read where they lie.

It is a safetensors file: `codes` [frame, dim] int8, `scale` [frame] and `mean` [dim] float32 (see
`codes`), and in its header the recordings in order, each with the SHA-256 of its content, its
duration and its number of frames. Its name says what is in it, so the same recordings are never
written twice. Nothing is read but what is asked for: the system maps the file into memory.
"""

import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file

from flamlib.search.codes import Coded
from flamlib.storage import files

SUFFIX = ".safetensors"
_KINDS = {"codes": ("I8", np.int8), "scale": ("F32", np.float32), "mean": ("F32", np.float32)}
_MOST_HEADER = 100_000_000  # bytes; as safetensors itself has it


class Stored(NamedTuple):
    """A recording whose frames are stored.

    Attributes:
        sha256: Of its file.
        duration_s: In seconds.
        n_frames: Number of frames.
    """

    sha256: str
    duration_s: float
    n_frames: int


class Part(NamedTuple):
    """A file of an index.

    Attributes:
        path: The file.
        recordings: In the order of their frames.
        coded: The frames of all of them, on the disk until they are read.
    """

    path: Path
    recordings: list[Stored]
    coded: Coded


def write(folder: Path, recordings: Sequence[Stored], coded: Coded) -> Path:
    """Write a file of a folder, as a whole or not at all; return its path."""
    contents = "".join(recording.sha256 for recording in recordings)
    path = folder / f"{hashlib.sha256(contents.encode()).hexdigest()[:24]}{SUFFIX}"
    header = {"recordings": json.dumps([list(recording) for recording in recordings])}
    with files.atomic_file(path) as partial:
        save_file(coded._asdict(), partial, header)
    return path


def read(path: Path) -> Part:
    """Open a file that `write` wrote; of its frames nothing is read yet.

    Raises ValueError naming a file that is none, is cut off, or holds other kinds of numbers.
    """
    try:
        with path.open("rb") as file:
            [n_header] = struct.unpack("<Q", file.read(8))
            if n_header > _MOST_HEADER:
                raise ValueError("no header")
            header = json.loads(file.read(n_header))
        rows = json.loads(header["__metadata__"]["recordings"])
        recordings = [Stored(str(a), float(b), int(c)) for a, b, c in rows]
        mapped = np.memmap(path, np.uint8, "r")  # once: as long as it is mapped, a file is open
        arrays = {name: _array(mapped, 8 + n_header, name, header[name]) for name in _KINDS}
    except (struct.error, ValueError, KeyError, TypeError, RecursionError) as error:
        why = error if isinstance(error, _Unlike) else "it is damaged or no file of an index"
        raise ValueError(f"{path}: {why}; {_MEND}") from error
    coded = Coded(**arrays)
    n = sum(recording.n_frames for recording in recordings)
    shapes = coded.codes.shape == (n, *coded.mean.shape) and coded.scale.shape == (n,)
    if not shapes or min((r.n_frames for r in recordings), default=0) < 1:
        raise ValueError(f"{path}: its frames are not those of its recordings; {_MEND}")
    return Part(path, recordings, coded)


_MEND = "delete this file and call `flam index` again, which embeds what was in it"


class _Unlike(ValueError):
    """What is wrong with a file, to be told as it is."""


def _array(mapped: np.ndarray, start: int, name: str, entry: dict[str, Any]) -> np.ndarray:
    kind, dtype = _KINDS[name]
    if entry["dtype"] != kind:
        raise _Unlike(f"its {name} are {entry['dtype']}, expected {kind}, as if of another version")
    shape = tuple(map(int, entry["shape"]))
    first, end = entry["data_offsets"]
    if start + end > mapped.size:
        raise _Unlike(f"it is cut off, {mapped.size:,} bytes of {start + end:,} or more are there")
    if end - first != np.dtype(dtype).itemsize * int(np.prod(shape)):
        raise _Unlike(f"its {name} are not as long as its header says")
    return mapped[start + first : start + end].view(dtype).reshape(shape)
