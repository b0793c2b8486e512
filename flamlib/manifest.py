"""A folder of files that many processes write, once each, and that says what it holds.

    out/manifest.json    the parameters, and of each file its name, size, checksum and what was told
    out/done/            the same, file by file, until all are there

Each file gets its name when it is complete and is noted then; so a run that was stopped, or whose
disk was full, goes on where it was, and a complete folder is left as it is.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import filelock

from flamlib import files, parallel

Job = Mapping[str, Any]  # `name` is that of the file; the rest says what belongs into it
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
    """Have the file of every job written into the folder `out`; return its manifest.

        {"parameters": parameters, "shards": [job | {"n_bytes": ..., "sha256": ...} | told]}

    `write(path, job)` writes one, under a name that is not yet its own, and tells what the manifest
    shall say of it; it is pickled, and worked on by the processes of `parallel.each`. `parameters`
    are all that decides what is written. What an earlier call has finished is kept.

    Raises ValueError if `out` holds files of other parameters or another run is writing there, and
    OSError, saying how far it came, if the disk is full.
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
        if all(_is_whole(out, shard) for shard in old["shards"]):
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

    todo = [job for job in jobs if _noted(out, job) is None]
    finished = len(jobs) - len(todo)
    work = partial(_write_one, out, write)
    try:
        for _ in parallel.each(
            work, todo, n_jobs=n_jobs, scheduler=scheduler, progress=progress, what="shards"
        ):
            finished += 1
    except OSError as error:
        raise OSError(
            error.errno,
            f"{out}: {error.strerror or error}; {finished} of {len(jobs)} shards are complete, the "
            "same call goes on from there",
        ) from error
    _clear(out)  # a scheduler gives the job of a killed worker to another, and the run goes on
    about = {"parameters": parameters, "shards": [_noted(out, job) for job in jobs]}
    _put(manifest, about)
    for note in done.iterdir():
        note.unlink()
    done.rmdir()
    return about


def _clear(out: Path) -> None:
    """Remove what workers that were killed had begun."""
    for left in out.glob(".*.partial"):
        left.unlink(missing_ok=True)


def verify(out: str | Path) -> dict[str, Any]:
    """The manifest of a folder, after every byte of its files was compared with it.

    Raises FileNotFoundError for a folder without one, ValueError naming a file that differs.
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
    if noted := _noted(out, job):
        return noted  # by a worker that died before it could say so
    with files.atomic_file(out / job["name"]) as path:
        told = write(path, job)
        size = {"n_bytes": path.stat().st_size, "sha256": files.sha256(path)}
        about = dict(job) | size | dict(told)
    _put(out / "done" / f"{job['name']}.json", about)
    return about


def _noted(out: Path, job: Job) -> dict[str, Any] | None:
    """What was noted of a file, if it is there and as large as it should be."""
    note = out / "done" / f"{job['name']}.json"
    if not note.is_file():
        return None
    about = json.loads(note.read_text())
    return about if _is_whole(out, about) else None


def _is_whole(out: Path, shard: Mapping[str, Any]) -> bool:
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
