"""Where to look: 64 coarse numbers of every two frames, for a search that looks at few of them.

    index/coarse/basis.safetensors   principal components of the frames that were indexed first
    index/coarse/PART-BASIS.npy      the numbers of a part: those of the mean of two frames, a byte
                                     each

They are made of what is stored, so nothing is heard for them, and they can be deleted at any time:
the next `flam index` makes them anew. The components stay what they are while the archive grows.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numkong
import numpy as np
from jaxtyping import Float, Int, Int8
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from flamlib.compute import parallel
from flamlib.search import kernel
from flamlib.search.archive_part import Part
from flamlib.search.codes import LARGEST, Coded, decode
from flamlib.storage import files

FOLDER, BASIS = "coarse", "basis.safetensors"
N_NUMBERS, N_FRAMES = 64, 2  # numbers for so many frames
SHARE = 0.01  # of the frames are looked at
LEAST = 16  # pairs of frames for each hit that is wanted
_SAMPLE = 2**13  # frames that the components are of
_ROWS = 2**15  # that are worked on at a time
_EVERY, _MANY = 16, 2**20  # which numbers say how high a share of them is, and of how many


class Coarse(NamedTuple):
    """The coarse numbers of an index.

    Attributes:
        basis: What a vector is multiplied by.
        numbers: Of each part.
    """

    basis: Float[np.ndarray, "number dim"]
    numbers: list[Int8[np.ndarray, "pair number"]]


def update(folder: Path, parts: Sequence[Part]) -> None:
    """Make the numbers of parts that have none yet, and remove those of parts that are gone.

    Args:
        folder: Of the index.
        parts: All that it has.
    """
    wanted = set()
    if parts:
        files.make_folder(folder / FOLDER)
        basis = _read_basis(folder, parts) or _make_basis(folder, parts)
        for part in parts:
            path = _place(folder, part, basis)
            wanted.add(path)
            if not path.exists():
                with files.atomic_file(path) as partial, open(partial, "wb") as file:
                    np.save(file, _encode(part.coded, basis), allow_pickle=False)
    for path in (folder / FOLDER).glob("*.npy"):
        if path not in wanted:
            path.unlink()


def read(folder: Path, parts: Sequence[Part]) -> Coarse:
    """Open the numbers of parts of an index; they are read where they lie.

    Raises ValueError if some are missing or damaged.
    """
    basis, numbers = _read_basis(folder, parts), []
    for part in parts:
        try:
            if basis is None:
                raise ValueError("no components")
            found = np.load(_place(folder, part, basis), mmap_mode="r", allow_pickle=False)
            shape = (-(-len(part.coded.codes) // N_FRAMES), len(basis.rows))
            if found.shape != shape or found.dtype != np.int8:
                raise ValueError("other numbers")
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(
                f"{folder}: what an approximate search needs is not all there, as in an index of "
                f"an earlier version; call `flam index` on its folders again, which hears nothing "
                f"anew, or delete {folder / FOLDER} before that if this is said once more"
            ) from error
        numbers.append(found)
    scaled = np.zeros((0, 0), np.float32) if basis is None else basis.rows * basis.step[:, None]
    return Coarse(scaled, numbers)


def pick(
    coarse: Coarse, vector: Float[np.ndarray, "dim"], n_pairs: int
) -> list[Int[np.ndarray, "pair"]]:
    """Return which pairs of frames of each part may be the most like a vector, about `n_pairs`.

    Args:
        coarse: Of an index.
        vector: Of any length.
        n_pairs: Of all parts together.
    """
    asked = coarse.basis @ vector.astype(np.float32)
    codes = np.rint(asked * (LARGEST / max(float(np.abs(asked).max(initial=0)), 1e-30)))
    packed = numkong.dots_pack(codes.astype(np.int8)[None], dtype="int8")

    def work(numbers: Int8[np.ndarray, "pair number"]) -> Int[np.ndarray, "pair"]:
        blocks = (numbers[first : first + _ROWS] for first in range(0, len(numbers), _ROWS))
        return np.concatenate([np.asarray(numkong.dots_packed(b, packed))[:, 0] for b in blocks])

    found = list(parallel.in_order(work, coarse.numbers, n_jobs=kernel.n_cores(), threads=True))
    n_all = sum(map(len, found))
    if n_pairs >= n_all:
        return [np.arange(len(sums)) for sums in found]
    some = np.concatenate([sums[::_EVERY] if n_all > _MANY else sums for sums in found])
    n_some = max(1, round(len(some) * n_pairs / n_all))
    least = np.partition(some, len(some) - n_some)[len(some) - n_some]
    return [np.flatnonzero(sums >= least) for sums in found]


class _Basis(NamedTuple):
    """Principal components, and what the numbers along them are of.

    Attributes:
        rows: Unit vectors.
        step: Of a byte along each.
        mean: What is subtracted from a frame.
        id: Of the file.
    """

    rows: Float[np.ndarray, "number dim"]
    step: Float[np.ndarray, "number"]
    mean: Float[np.ndarray, "dim"]
    id: str


def _place(folder: Path, part: Part, basis: _Basis) -> Path:
    return folder / FOLDER / f"{part.path.stem}-{basis.id}.npy"


def _read_basis(folder: Path, parts: Sequence[Part]) -> _Basis | None:
    """The components; None if there are none, or they are not of such frames."""
    path = folder / FOLDER / BASIS
    try:
        found = load_file(path)
        made = _Basis(found["rows"], found["step"], found["mean"], files.sha256(path)[:8])
    except (OSError, SafetensorError, KeyError):
        return None
    shapes = {made.rows.shape[1:], made.mean.shape, *(part.coded.mean.shape for part in parts)}
    return made if len(shapes) == 1 and made.step.shape == made.rows.shape[:1] else None


def _make_basis(folder: Path, parts: Sequence[Part]) -> _Basis:
    """The components of frames of the first parts, evenly taken."""
    some, left = [], _SAMPLE
    for part in parts:
        coded, n = part.coded, len(part.coded.codes)
        rows = np.unique(np.linspace(0, n - 1, min(n, left)).astype(int))
        some.append(decode(Coded(coded.codes[rows], coded.scale[rows], coded.mean)))
        left -= len(rows)
        if left <= 0:
            break
    frames = np.concatenate(some)
    mean = frames.mean(axis=0)
    _, vectors = np.linalg.eigh((frames - mean).T @ (frames - mean))
    rows = np.ascontiguousarray(vectors[:, ::-1][:, :N_NUMBERS].T.astype(np.float32))
    step = np.abs((frames - mean) @ rows.T).max(axis=0) / LARGEST
    made = {"rows": rows, "step": np.maximum(step, 1e-9).astype(np.float32), "mean": mean}
    with files.atomic_file(folder / FOLDER / BASIS) as partial:
        save_file(made, partial)
    return _read_basis(folder, parts)


def _encode(coded: Coded, basis: _Basis) -> Int8[np.ndarray, "pair number"]:
    n = len(coded.codes)
    out = np.empty((-(-n // N_FRAMES), len(basis.rows)), np.int8)
    for first in range(0, n, _ROWS):
        rows = slice(first, first + _ROWS)
        frames = decode(Coded(coded.codes[rows], coded.scale[rows], coded.mean))
        along = (frames - basis.mean) @ basis.rows.T / basis.step
        if len(along) % N_FRAMES:  # the last frame of a part, alone
            along = np.concatenate([along, along[-1:]])
        pairs = along.reshape(-1, N_FRAMES, along.shape[1]).mean(axis=1)
        at = first // N_FRAMES
        out[at : at + len(pairs)] = np.rint(pairs).clip(-LARGEST, LARGEST)
    return out
