"""Fill a folder with files from many processes, resumably, and list them in a manifest.

    out/manifest.json    {"parameters": {...},
                          "shards": [{"name": ..., "n_bytes": ..., "sha256": ..., ...}, ...]}
    out/done/            while the folder is being filled: the parameters and one note per file

A file gets its name, and its note, when it is complete. So a run that was stopped, or whose disk
was full, goes on with the files that are missing, and a complete folder is left as it is. A note
that cannot be read counts as none. What a manifest lists are files of its folder: a name that leads
anywhere else is refused.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from flamlib.compute import parallel
from flamlib.storage import files, one_writer

Job = Mapping[str, Any]  # "name" is that of the file; the rest says what belongs into it
Write = Callable[[Path, Job], Mapping[str, Any]]

NAME = "manifest.json"
MOST_FILES = 100_000  # their names have five digits

_ANEW = "delete the folder and write it again"


def split(n: int, size: int) -> list[range]:
    """Return the ranges of `n` items, numbered from 0, in files of `size`; the last may be smaller.

    Raises ValueError if either is below 1, or if that makes more than `MOST_FILES` files.
    """
    if n < 1 or size < 1:
        raise ValueError(f"n and shard_size: expected 1 or more, got {n} and {size}")
    if (n_files := -(-n // size)) > MOST_FILES:
        raise ValueError(
            f"{n:,} items, {size:,} in a file, are {n_files:,} files, and {MOST_FILES:,} are the "
            f"most: take {-(-n // MOST_FILES):,} or more per file (--shard-size)"
        )
    return [range(first, min(first + size, n)) for first in range(0, n, size)]


def fill(
    out: str | Path,
    parameters: Mapping[str, Any],
    jobs: Sequence[Job],
    write: Write,
    *,
    n_jobs: int,
    scheduler: str | None,
    progress: bool,
    what: str = "shards",
    tick: Callable[[Job], object] | None = None,
) -> dict[str, Any]:
    """Write the file of every job into the folder `out`, unless it is there already.

    Args:
        out: the folder; made if it does not exist.
        parameters: everything that decides what is written, in JSON's types.
        jobs: one for each file: `name`, and whatever `write` needs.
        write: `write(path, job)` writes the file of a job to a temporary path and returns what
            else the manifest is to say of it. It is pickled, see `parallel.each`.
        n_jobs: processes.
        scheduler: of a dask cluster, see `parallel.each`.
        progress: show a progress bar.
        what: its title.
        tick: called with each job whose file is there, those of an earlier call among them.

    Returns:
        The manifest: `{"parameters": parameters, "shards": [...]}` with, for each file, its job,
        `n_bytes`, `sha256` and what `write` returned.

    Raises:
        ValueError: `out` holds files of other parameters or a manifest that is none, or another run
            is writing there.
        OSError: a file cannot be written, as when the disk is full; says how many are complete.
    """
    out, parameters = Path(out).resolve(), _plain(parameters)
    tick = tick or (lambda job: None)
    with one_writer.lock(out, "run"):
        if (complete := _begin(out, parameters, jobs)) is not None:
            for job in jobs:
                tick(job)
            return complete
        files.sweep(out)
        how = {"n_jobs": n_jobs, "scheduler": scheduler, "progress": progress, "what": what}
        _write_missing(out, jobs, write, how, tick)
        files.sweep(out)  # a scheduler gives the job of a killed worker to another, and goes on
        content = {"parameters": parameters, "shards": [_read_note(out, job) for job in jobs]}
        _put(out / NAME, content)
        shutil.rmtree(out / "done", ignore_errors=True)
        return content


def _begin(out: Path, parameters: Mapping[str, Any], jobs: Sequence[Job]) -> dict[str, Any] | None:
    """Return the manifest of a folder that is complete; else get its notes ready: None."""
    manifest, done = out / NAME, out / "done"
    of_notes = _read_json(done / "parameters.json")
    if manifest.is_file():
        old = read(out)
        _check_same(out, parameters, old["parameters"])
        if [shard["name"] for shard in old["shards"]] != [job["name"] for job in jobs]:
            raise ValueError(f"{manifest}: lists other files than its parameters say; {_ANEW}")
        if all(_is_complete(out, shard) for shard in old["shards"]):
            # Of a run that ended between writing the manifest and this.
            shutil.rmtree(done, ignore_errors=True)
            return old
        _put(done / "parameters.json", parameters)  # some were deleted: those are made again
        for shard in old["shards"]:
            _put(done / f"{shard['name']}.json", shard)
        manifest.unlink()
    elif isinstance(of_notes, dict):
        _check_same(out, parameters, of_notes)
    elif {path.suffix for path in out.iterdir()} & {Path(job["name"]).suffix for job in jobs}:
        raise ValueError(
            f"{out}: holds shards, but nothing says of what ({done / 'parameters.json'} is missing "
            "or damaged); choose another folder, or delete this one"
        )
    else:
        _put(done / "parameters.json", parameters)
    return None


def _write_missing(
    out: Path,
    jobs: Sequence[Job],
    write: Write,
    how: Mapping[str, Any],
    tick: Callable[[Job], object],
) -> None:
    """Write the files that are not there, `how` as `parallel.each` does it."""
    missing, n_complete = [], 0
    for job in jobs:
        if _read_note(out, job) is None:
            missing.append(job)
        else:
            n_complete += 1
            tick(job)
    try:
        for job, _ in parallel.each(partial(_write_one, out, write), missing, **how):
            n_complete += 1
            tick(job)
    except OSError as error:
        text = (
            f"{out}: {error.strerror or error}; {n_complete} of {len(jobs)} shards are complete, "
            "the same call goes on from there"
        )
        raise OSError(*([error.errno] if error.errno else []), text) from error


def verify(out: str | Path) -> dict[str, Any]:
    """Compare the SHA-256 of every file of a folder with its manifest; return the manifest.

    Raises FileNotFoundError for a folder without a manifest, and ValueError for a manifest that is
    none, or naming the first file that is missing or differs.
    """
    out = Path(out)
    if not (out / NAME).is_file():
        raise FileNotFoundError(f"{out}: no {NAME}, so no run was completed here")
    manifest = read(out)
    for shard in manifest["shards"]:
        path = out / shard["name"]
        if not path.is_file() or files.sha256(path) != shard["sha256"]:
            raise ValueError(f"{path}: missing, or not what was written; delete it and write again")
    return manifest


def _write_one(out: Path, write: Write, job: Job) -> dict[str, Any]:
    """Write one file and its note, unless both are there."""
    if note := _read_note(out, job):
        return note  # a worker wrote it and died before it could report it
    with files.atomic_file(out / job["name"]) as path:
        more = write(path, job)
        size = {"n_bytes": path.stat().st_size, "sha256": files.sha256(path)}
        note = dict(job) | size | dict(more)
    _put(out / "done" / f"{job['name']}.json", note)
    return note


def read(out: str | Path) -> dict[str, Any]:
    """Read the manifest of a folder. Raises ValueError for what is none."""
    manifest = Path(out) / NAME
    content = _read_json(manifest)
    shards = content.get("shards") if isinstance(content, dict) else None
    if not isinstance(shards, list) or not isinstance(content.get("parameters"), dict):
        raise ValueError(f"{manifest}: not the manifest of a folder that flam filled; {_ANEW}")
    for k, shard in enumerate(shards):
        if not _is_note(shard):
            raise ValueError(
                f"{manifest}: entry {k} of shards needs name (of a file in this folder), n_bytes "
                f"and sha256, and is {str(shard)[:80]}; {_ANEW}"
            )
    return content


def _is_note(content: Any) -> bool:
    """Whether this is what is noted of a file, and the file one of the folder itself."""
    if not isinstance(content, dict):
        return False
    name, n_bytes, sha256 = (content.get(key) for key in ("name", "n_bytes", "sha256"))
    is_plain = isinstance(name, str) and name not in ("", ".", "..")
    is_plain = is_plain and not any(mark in name for mark in "/\\\0")
    return is_plain and isinstance(n_bytes, int) and isinstance(sha256, str)


def _read_json(path: Path) -> Any:
    """The content of a JSON file; None if it is not there or cannot be parsed."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return None


def _read_note(out: Path, job: Job) -> dict[str, Any] | None:
    """The note of a job's file, if there is one and the file is as large as noted."""
    note = _read_json(out / "done" / f"{job['name']}.json")
    if not _is_note(note) or any(note.get(key) != value for key, value in job.items()):
        return None
    return note if _is_complete(out, note) else None


def _is_complete(out: Path, shard: Mapping[str, Any]) -> bool:
    path = out / shard["name"]
    return path.is_file() and path.stat().st_size == shard["n_bytes"]


def _check_same(out: Path, new: Mapping[str, Any], old: Mapping[str, Any]) -> None:
    differing = sorted(key for key in {*new, *old} if new.get(key) != old.get(key))
    if differing:
        raise ValueError(
            f"{out}: holds shards of other parameters ({', '.join(differing)}); choose another "
            "folder, or delete this one"
        )


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives them back, so that they can be compared with those of a manifest."""
    return json.loads(json.dumps(parameters, default=dict))


def _put(path: Path, content: Any) -> None:
    files.atomic_write(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
