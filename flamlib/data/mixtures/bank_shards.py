"""The shards of a bank: the sources of some of its recordings, decoded by any process or machine.

    clips.arrow   while a bank is made: the recordings of every shard, a batch each
    00000.bin     of each source its samples (int16), its levels (float32) and its peaks (uint16),
                  each from a multiple of four bytes on; at the end their rows, an Arrow stream

A shard depends on its recordings and on `work` alone, so any process writes the same bytes. What
has been written is kept, see `manifest.fill`; a bank of other recordings or parameters is begun
anew.
"""

import io
import json
import mmap
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow
from jaxtyping import Float, Int16, UInt16

from flamlib.data.mixtures import source_table
from flamlib.data.mixtures.sources import Source
from flamlib.storage import manifest

Work = Callable[[Mapping[str, Any]], list[Source] | str]

PLAN = "clips.arrow"
FEWEST = 32  # recordings of a shard, so that a small bank keeps several processes busy
MOST_SHARDS = 256  # each is an open file of every process that draws from all of them
ALIGNED = 4  # bytes


class Arrays(NamedTuple):
    """A shard as it is mapped: the whole file, as numbers of each kind."""

    samples: Int16[np.ndarray, "two_bytes"]
    levels_db: Float[np.ndarray, "four_bytes"]
    peaks: UInt16[np.ndarray, "two_bytes"]


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"{number:05d}.bin"


def open_shard(path: Path) -> Arrays:
    """Map a shard; its pages are read when they are used."""
    mapped = _mapped(path)
    n = len(mapped) // ALIGNED * ALIGNED
    return Arrays(*(np.frombuffer(mapped, f"<{c}", n // int(c[1])) for c in ("i2", "f4", "u2")))


def fill(
    folder: Path,
    clips: Sequence[Mapping[str, Any]],
    work: Work,
    *,
    parameters: Mapping[str, Any],
    n_jobs: int,
    scheduler: str | None,
    progress: bool,
) -> tuple[list[pyarrow.Table], list[dict[str, str]]]:
    """Write the shards of a bank, unless they are there.

    Args:
        folder: where to; seen by all workers under the same path.
        clips: a dict for each recording, with clip_id and path.
        work: makes the sources of a recording, or says why there are none; pickled.
        parameters: what decides the sources besides.
        n_jobs: processes.
        scheduler: of a dask cluster, see `parallel.each`.
        progress: show a progress bar.

    Returns:
        The rows of every shard, and of recordings that cannot be used clip_id, path and why.
    """
    size = max(FEWEST, -(-len(clips) // MOST_SHARDS))
    parameters = {**parameters, "n_recordings": len(clips)}
    _plan(folder, clips, size, parameters)
    jobs = [
        {"name": shard_name(k), "number": k} for k in range(len(manifest.split(len(clips), size)))
    ]
    write = partial(_write_shard, folder.resolve() / PLAN, work)
    how = {"n_jobs": n_jobs, "scheduler": scheduler, "progress": progress, "what": "decode shards"}
    notes = manifest.fill(folder, parameters, jobs, write, **how)["shards"]
    tables = [_rows(folder / note["name"], note["rows_at"]) for note in notes if note["n_sources"]]
    return tables, [skipped for note in notes for skipped in note["skipped"]]


def finish(folder: Path) -> None:
    """Remove what only the making of a bank needs, when all else is written."""
    (folder / PLAN).unlink()


def _plan(folder, clips, size, parameters):
    """Write what is to be done, for the workers to read their part of; clear what is of another."""
    table = pyarrow.Table.from_pylist([dict(clip) for clip in clips])
    about = json.dumps(parameters, default=dict, sort_keys=True)
    schema, plan = table.schema.with_metadata({"parameters": about}), io.BytesIO()
    with pyarrow.ipc.new_file(plan, schema) as file:
        file.write_table(table.cast(schema), max_chunksize=size)
    path = folder / PLAN
    if not path.is_file() or path.read_bytes() != plan.getbuffer():
        shutil.rmtree(folder)
        folder.mkdir()
        path.write_bytes(plan.getbuffer())


def _write_shard(plan: Path, work: Work, path: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """Write one shard; return where its rows begin, and what was skipped."""
    rows, skipped = [], []
    batch = pyarrow.ipc.open_file(pyarrow.memory_map(str(plan))).get_batch(job["number"])
    with open(path, "wb") as file:
        for clip in batch.to_pylist():
            result = work(clip)
            if isinstance(result, str):
                skipped.append({"clip_id": clip["clip_id"], "path": clip["path"], "why": result})
                continue
            for row, integers, levels_db, peaks in result:
                start = _put(file, integers.astype("<i2")) // 2
                level_start = _put(file, levels_db.astype("<f4")) // 4
                _put(file, peaks.astype("<u2"))
                position = {"shard": job["number"], "start": start, "level_start": level_start}
                rows.append(row | position)
        rows_at = file.tell()
        if rows:
            table = pyarrow.Table.from_pylist(rows, schema=source_table.SCHEMA)
            with pyarrow.ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
    return {"rows_at": rows_at, "n_sources": len(rows), "skipped": skipped}


def _put(file: BinaryIO, array: np.ndarray) -> int:
    """Append an array, and zeros up to the next multiple of four bytes; return where it begins."""
    at = file.tell()
    file.write(array.tobytes())
    file.write(bytes(-file.tell() % ALIGNED))
    return at


def _rows(path: Path, rows_at: int) -> pyarrow.Table:
    return pyarrow.ipc.open_stream(memoryview(_mapped(path))[rows_at:]).read_all()


def _mapped(path: Path) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
