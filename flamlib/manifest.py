"""Fill a folder with files from many processes, resumably, and list them in a manifest.

    out/manifest.json    {"parameters": {...},
                          "shards": [{"name": ..., "n_bytes": ..., "sha256": ..., ...}, ...]}
    out/done/            while the folder is being filled: the parameters and one note per file

A file gets its name, and its note, when it is complete. So a run that was stopped, or whose disk
was full, goes on with the files that are missing, and a complete folder is left as it is.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import filelock

from flamlib import files, parallel

Job = Mapping[str, Any]  # "name" is that of the file; the rest says what belongs into it
Write = Callable[[Path, Job], Mapping[str, Any]]


def fill(
    out: str | Path,
    parameters: Mapping[str, Any],
    jobs: Sequence[Job],
    write: Write,
    *,
    n_jobs: int,
    scheduler: str | None,
    progress: bool,
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

    Returns:
        The manifest: `{"parameters": parameters, "shards": [...]}` with, for each file, its job,
        `n_bytes`, `sha256` and what `write` returned.

    Raises:
        ValueError: `out` holds files of other parameters, or another run is writing there.
        OSError: a file cannot be written, as when the disk is full; says how many are complete.
    """
    out = Path(out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    # The lock is the system's: it is gone with the process that held it, however that ended.
    try:
        with filelock.FileLock(out / ".lock", timeout=0):
            return _fill(out, _plain(parameters), jobs, write, n_jobs, scheduler, progress)
    except filelock.Timeout:
        raise ValueError(f"{out}: another run is writing here; wait for it or stop it") from None


def _fill(out, parameters, jobs, write, n_jobs, scheduler, progress):
    manifest, done = out / "manifest.json", out / "done"
    if manifest.is_file():
        old = json.loads(manifest.read_text())
        _check_same(out, parameters, old["parameters"])
        if all(_is_complete(out, shard) for shard in old["shards"]):
            return old
        _put(done / "parameters.json", parameters)  # some were deleted: those are made again
        for shard in old["shards"]:
            _put(done / f"{shard['name']}.json", shard)
        manifest.unlink()
    elif (done / "parameters.json").is_file():
        _check_same(out, parameters, json.loads((done / "parameters.json").read_text()))
    elif _files_like(out, jobs):
        raise ValueError(f"{out}: holds shards, but nothing says of what; choose another folder")
    else:
        _put(done / "parameters.json", parameters)
    _clear(out)

    missing = [job for job in jobs if _read_note(out, job) is None]
    n_complete = len(jobs) - len(missing)
    work = partial(_write_one, out, write)
    try:
        for _ in parallel.each(
            work, missing, n_jobs=n_jobs, scheduler=scheduler, progress=progress, what="shards"
        ):
            n_complete += 1
    except OSError as error:
        raise OSError(
            error.errno,
            f"{out}: {error.strerror or error}; {n_complete} of {len(jobs)} shards are complete, "
            "the same call goes on from there",
        ) from error
    _clear(out)  # a scheduler gives the job of a killed worker to another, and the run goes on
    content = {"parameters": parameters, "shards": [_read_note(out, job) for job in jobs]}
    _put(manifest, content)
    for note in done.iterdir():
        note.unlink()
    done.rmdir()
    return content


def _clear(out: Path) -> None:
    """Remove the unfinished files of workers that were killed."""
    for partial_file in out.glob(".*.partial"):
        partial_file.unlink(missing_ok=True)


def verify(out: str | Path) -> dict[str, Any]:
    """Compare the SHA-256 of every file of a folder with its manifest; return the manifest.

    Raises FileNotFoundError for a folder without a manifest, and ValueError naming the first file
    that is missing or differs.
    """
    out = Path(out)
    if not (out / "manifest.json").is_file():
        raise FileNotFoundError(f"{out}: no manifest.json, so no run was completed here")
    manifest = json.loads((out / "manifest.json").read_text())
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


def _read_note(out: Path, job: Job) -> dict[str, Any] | None:
    """The note of a file, if the file is there and as large as noted."""
    path = out / "done" / f"{job['name']}.json"
    if not path.is_file():
        return None
    note = json.loads(path.read_text())
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


def _files_like(out: Path, jobs: Sequence[Job]) -> list[Path]:
    suffixes = {Path(job["name"]).suffix for job in jobs}
    return [path for path in out.iterdir() if path.suffix in suffixes]


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives them back, so that they can be compared with those of a manifest."""
    return json.loads(json.dumps(parameters, default=dict))


def _put(path: Path, content: Any) -> None:
    files.atomic_write(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
