"""Mixtures as files: audio and all that is known of it, a thousand to a file, for any loader.

    out/manifest.json          what they are made of, and each shard's range and checksum
    out/train-00000.parquet    `recipes.SCHEMA` and a column `audio`: FLAC, as `datasets` has it
    out/train-00000.tar        or WebDataset: 00000000.flac, 00000000.json (the recipe) and so on

Shards depend on the bank, the rules, the seed, the split and their own range alone: whoever renders
one writes the same bytes. Each gets its name when it is complete, and is noted in `out/done/` until
all are; so a run that was stopped, or whose disk was full, goes on where it was.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import datasets
import filelock
import pyarrow
import pyarrow.parquet
import soundfile

from flamlib import cluster, mixing, project, recipes
from flamlib.bank import Bank
from flamlib.recipes import Recipe
from flamlib.rules import Rules

FORMS = {"parquet": "parquet", "webdataset": "tar"}  # and how their names end
ROWS = 100  # of a group in Parquet
COMPRESSION = 0.0  # libsndfile's fastest FLAC


def write(
    bank: str | Path,
    rules: Rules,
    out: str | Path,
    *,
    seed: int,
    split: str,
    n: int,
    shard_size: int,
    form: str,
    n_jobs: int,
    scheduler: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Render the mixtures 0 to n - 1 of a split into the folder `out`; return its manifest.

    `form` is one of `FORMS`. Workers are those of `cluster.each`. What an earlier call with the
    same parameters has finished is kept, and so is a complete folder.

    Raises ValueError if `out` holds shards of other parameters, if the bank or the rules do not
    allow the split (`mixing.check`), and if another run is writing there; OSError, saying how far
    it came, if the disk is full.
    """
    if form not in FORMS:
        raise ValueError(f"form: expected one of {sorted(FORMS)}, got {form!r}")
    if n < 1 or shard_size < 1:
        raise ValueError(f"n and shard_size: expected 1 or more, got {n} and {shard_size}")
    bank, out = Path(bank).resolve(), Path(out).resolve()
    opened = Bank.open(bank)
    mixing.check(opened, rules, split=split)
    parameters = {
        "seed": seed,
        "split": split,
        "n": n,
        "shard_size": shard_size,
        "form": form,
        "sample_rate": opened.sample_rate,
        "rules": json.loads(json.dumps(asdict(rules), default=dict)),
        "bank": _digest(bank),
    }
    out.mkdir(parents=True, exist_ok=True)
    # The lock is the system's: it is gone with the process that held it, however that ended.
    lock = filelock.FileLock(out / ".lock", timeout=0)
    try:
        with lock:
            return _write(bank, rules, out, parameters, n_jobs, scheduler, progress)
    except filelock.Timeout:
        raise ValueError(f"{out}: another run is writing here; wait for it or stop it") from None


def _write(bank, rules, out, parameters, n_jobs, scheduler, progress):
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
    elif _shards_in(out):
        raise ValueError(f"{out}: holds shards, but nothing says of what; choose another folder")
    else:
        _put(done / "parameters.json", parameters)
    for left in out.glob(".*.partial"):  # of a worker that was killed
        left.unlink()

    n, size, split = (parameters[key] for key in ("n", "shard_size", "split"))
    suffix = FORMS[parameters["form"]]
    jobs = [
        {"name": f"{split}-{k:05d}.{suffix}", "first": first, "stop": min(first + size, n)}
        for k, first in enumerate(range(0, n, size))
    ]
    work = partial(_render_shard, bank, rules, out, parameters["seed"], split)
    todo = [job for job in jobs if _noted(out, job) is None]
    finished = len(jobs) - len(todo)
    try:
        for _ in cluster.each(
            work, todo, n_jobs=n_jobs, scheduler=scheduler, progress=progress, what="shards"
        ):
            finished += 1
    except OSError as error:
        raise OSError(
            error.errno,
            f"{out}: {error.strerror or error}; {finished} of {len(jobs)} shards are complete, the "
            "same call goes on from there",
        ) from error
    about = {"parameters": parameters, "shards": [_noted(out, job) for job in jobs]}
    _put(manifest, about)
    for note in done.iterdir():
        note.unlink()
    done.rmdir()
    return about


def verify(out: str | Path) -> dict[str, Any]:
    """The manifest of a folder, after every byte of its shards was compared with it.

    Raises FileNotFoundError for a folder without one, ValueError naming a shard that differs.
    """
    out = Path(out)
    if not (out / "manifest.json").is_file():
        raise FileNotFoundError(f"{out}: no manifest.json, so no run was completed here")
    manifest = json.loads((out / "manifest.json").read_text())
    for shard in manifest["shards"]:
        path = out / shard["name"]
        if not path.is_file() or _sha256(path) != shard["sha256"]:
            raise ValueError(f"{path}: missing, or not what was written; delete it and write again")
    return manifest


def _render_shard(bank, rules, out, seed, split, job):
    """Write one shard and its note, unless both are there. The same bytes from any process."""
    if noted := _noted(out, job):
        return noted  # by a worker that died before it could say so
    opened = _open(bank)
    drawn = [
        mixing.draw(opened, rules, seed=seed, split=split, index=i)
        for i in range(job["first"], job["stop"])
    ]
    path = out / job["name"]
    with project.atomic_file(path) as partial_path:
        _WRITERS[path.suffix](partial_path, opened, drawn)
        about = job | {"n_bytes": partial_path.stat().st_size, "sha256": _sha256(partial_path)}
    _put(out / "done" / f"{job['name']}.json", about)
    return about


def _write_parquet(path, opened, drawn):
    # So that `datasets` decodes the column, as it does its own audio folders.
    features = datasets.Features.from_arrow_schema(recipes.SCHEMA)
    features["audio"] = datasets.Audio(sampling_rate=opened.sample_rate)
    audio = pyarrow.field("audio", pyarrow.struct({"bytes": "binary", "path": "string"}))
    schema = recipes.SCHEMA.append(audio).with_metadata(features.arrow_schema.metadata)
    # In row groups of a hundred: no more of the audio is in memory at once, here or in a reader.
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, len(drawn), ROWS):
            some = drawn[first : first + ROWS]
            files = [
                {"bytes": flac(opened, recipe), "path": f"{recipe.index:08d}.flac"}
                for recipe in some
            ]
            table = recipes.table(some).append_column(audio, pyarrow.array(files, type=audio.type))
            writer.write_table(table.cast(schema))


def _write_tar(path, opened, drawn):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for recipe in drawn:
            row = json.dumps(recipe.as_row(), ensure_ascii=False).encode()
            for suffix, content in (("flac", flac(opened, recipe)), ("json", row)):
                entry = tarfile.TarInfo(f"{recipe.index:08d}.{suffix}")  # no time and no owner
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


_WRITERS = {".parquet": _write_parquet, ".tar": _write_tar}


def flac(bank: Bank, recipe: Recipe) -> bytes:
    """The audio of a recipe as a FLAC file, mono, 16 bit."""
    file = io.BytesIO()
    samples = recipes.integers(recipes.render(bank, recipe))
    soundfile.write(
        file, samples, recipe.sample_rate, "PCM_16", format="FLAC", compression_level=COMPRESSION
    )
    return file.getvalue()


@lru_cache(maxsize=1)
def _open(bank: Path) -> Bank:
    return Bank.open(bank)


def _noted(out: Path, job: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was noted of a shard, if it is there and as large as it should be."""
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


def _shards_in(out: Path) -> list[Path]:
    return [path for path in out.iterdir() if path.suffix[1:] in FORMS.values()]


def _digest(bank: Path) -> str:
    """Of what a bank was built with and of every source in it: not of its samples."""
    content = (bank / "bank.json").read_bytes() + (bank / "sources.parquet").read_bytes()
    return hashlib.sha256(content).hexdigest()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _put(path: Path, content: Any) -> None:
    project.atomic_write(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
