"""Embeddings of a collection of recordings in Parquet files, to be searched with any caption.

    out/manifest.json    the model, the recordings, those that could not be used and why, and what
                         is not as it should be in those that were
    out/00000.parquet    a row per recording, in the order of their paths:
        path         relative to the folder of recordings
        duration_s   seconds
        clip_emb     [dim], float32: a unit vector for the whole recording
        frame_emb    [frame][dim], float16: one for every `frame_s` (in the manifest) seconds

`datasets` reads them, and one product compares a caption with the whole collection:

    rows = datasets.load_dataset("parquet", data_files="out/*.parquet", split="train")
    captions = model.embed_captions(["a dog barks"])
    cosine = np.array(rows["clip_emb"]) @ captions.caption_emb[0].numpy()
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet

from flamlib.inference import bars, pieces
from flamlib.models import baselines, checkpoint
from flamlib.models.baselines import FLAMGlobal
from flamlib.models.dual_encoder import DualEncoder
from flamlib.sound_events.events import count_frames
from flamlib.storage import manifest
from flamlib.waveforms import audio, collection


def write(
    model: str | Path,
    recordings: str | Path,
    out: str | Path,
    *,
    shard_size: int,
    n_jobs: int,
    scheduler: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Embed all recordings in a folder and its subfolders into Parquet files.

    Finished files of an earlier, interrupted call are kept, see `manifest.fill`. Whether recordings
    have changed is decided by name, size and modification time. What is named as audio and cannot
    be used, for whatever reason, is listed as `skipped` in the manifest; what is heard but not as
    it should be (cut off, damaged, misnamed), under `notes`.

    Args:
        model: Folder of a saved model that `baselines.load` reads.
        recordings: Folder of recordings of any length and rate, see `collection.find`.
        out: Where to write.
        shard_size: Recordings per file, 1 or more.
        n_jobs: Processes on this machine.
        scheduler: Address or file of a dask scheduler whose workers do the work instead.
        progress: Whether to show a progress bar.

    Returns:
        The manifest.

    Raises:
        FileNotFoundError: No such folder, or no audio in it.
        ValueError: What `manifest.split`, `baselines.load` and `manifest.fill` raise.
    """
    model, folder = Path(model).resolve(), Path(recordings).resolve()
    if not folder.is_dir():
        what = "a file" if folder.exists() else "no such folder"
        raise FileNotFoundError(f"{recordings}: {what}; a folder of recordings is embedded")
    frame_s = _open(model).frame_s  # loaded here first, so that a wrong model fails at once
    found, closed = collection.find(folder)
    paths = [path.relative_to(folder).as_posix() for path in found]
    if not paths:
        raise FileNotFoundError(f"{recordings}: no WAV, FLAC, MP3 or other audio in this folder")
    # Not by content, which would mean to read everything twice.
    listing = [(path, *_stamp(folder / path)) for path in paths]
    parameters = {
        "model": checkpoint.digest(model),
        "recordings": hashlib.sha256(repr(listing).encode()).hexdigest(),
        "n_recordings": len(paths),
        "shard_size": shard_size,
        "frame_s": frame_s,
    }
    if closed:
        parameters["closed_folders"] = {str(path): why for path, why in closed.items()}
    jobs = [
        {"name": f"{k:05d}.parquet", "paths": paths[of.start : of.stop]}
        for k, of in enumerate(manifest.split(len(paths), shard_size))
    ]
    sizes = {path: of[0] if of else 0 for path, *of in listing}
    with bars.by_bytes("embed", sizes.values(), shown=progress) as bar:

        def tell(done: Iterable[str]) -> None:
            bar.update(sum(sizes.pop(path, 0) for path in done))  # each is told once

        is_here = n_jobs == 1 and scheduler is None  # where each recording can be told
        tick = (lambda path: tell([path])) if is_here else None
        return manifest.fill(
            out,
            parameters,
            jobs,
            partial(_embed_shard, model, folder, tick=tick),
            n_jobs=n_jobs,
            scheduler=scheduler,
            progress=False,
            tick=lambda job: tell(job["paths"]),
        )


def list_skipped(manifest: dict[str, Any]) -> list[dict[str, str]]:
    """Return what a manifest says could not be used, each with `path` and `why`.

    Recordings, and before them subfolders that could not be listed.
    """
    closed = manifest["parameters"].get("closed_folders", {})
    folders = [{"path": path, "why": why} for path, why in closed.items()]
    return folders + [entry for shard in manifest["shards"] for entry in shard["skipped"]]


def list_notes(manifest: dict[str, Any]) -> list[dict[str, str]]:
    """Return what is not as it should be in recordings that were used, by `path` and `note`."""
    return [entry for shard in manifest["shards"] for entry in shard["notes"]]


def _stamp(path: Path) -> tuple[int, int] | tuple[()]:
    """Return size and modification time of a file; nothing if it has none, as a link to nothing."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return ()
    return status.st_size, status.st_mtime_ns


def _embed_shard(model, folder, path, job, *, tick):
    """Write one shard; return what it skipped, and notes on the rest.

    `tick` is called with the path of each recording when it is done.
    """
    opened, unread, notes = _open(model), [], []
    schema = _schema(pieces.width(opened))
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for name in job["paths"]:
            try:
                row, of_recording = _row(opened, folder, name)
            except (audio.Unreadable, OSError, ValueError) as error:
                why = audio.reason(error)
                unread.append({"path": name, "why": why})
                continue
            finally:
                if tick is not None:
                    tick(name)
            notes += [{"path": name, "note": note} for note in of_recording]
            # One row group per recording, so that only one is in memory at a time.
            writer.write_table(pyarrow.Table.from_pydict(row, schema=schema))
    return {"skipped": unread, "notes": notes}


def _row(
    model: DualEncoder | FLAMGlobal, folder: Path, name: str
) -> tuple[dict[str, list], list[str]]:
    """Return the row of a recording, and notes on it."""
    if not collection.has_usable_name(Path(name)):
        raise audio.Unreadable(name, "its name is not in UTF-8, which tables hold: rename it")
    notes: list[str] = []
    with pieces.cut(folder / name, model, notes=notes) as opened:
        embeddings = model.embed_pieces(opened.pieces, opened.sample_rate)
    # Frames that the recording reaches: resampling may add one.
    n_frames = count_frames(opened.duration_s, model.frame_s)
    frames = embeddings.frame_emb[0, :n_frames].numpy(force=True).astype(np.float16)
    row = {
        "path": [name],
        "duration_s": [opened.duration_s],
        "clip_emb": [embeddings.clip_emb[0].numpy(force=True)],
        "frame_emb": [list(frames)],
    }
    return row, notes


def _schema(dim: int) -> pyarrow.Schema:
    """Return the schema that `datasets` uses for vectors of fixed length."""
    return datasets.Features(
        {
            "path": datasets.Value("string"),
            "duration_s": datasets.Value("float64"),
            "clip_emb": datasets.List(datasets.Value("float32"), length=dim),
            "frame_emb": datasets.List(datasets.List(datasets.Value("float16"), length=dim)),
        }
    ).arrow_schema


@lru_cache(maxsize=1)
def _open(model: Path) -> DualEncoder | FLAMGlobal:
    return baselines.load(model)
