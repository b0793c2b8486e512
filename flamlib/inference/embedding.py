"""Embeddings of a collection of recordings in Parquet files, to be searched with any caption.

    out/manifest.json    the model, the recordings, and those that could not be read and why
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
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet

from flamlib import audio, files, manifest
from flamlib.data.datasets.annotations import AUDIO
from flamlib.events import count_frames
from flamlib.models import baselines
from flamlib.models.checkpoint import CONFIG, WEIGHTS
from flamlib.models.interface import AudioTextModel


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
    have changed is decided by name, size and modification time.

    Args:
        model: Folder of a saved model that `baselines.load` reads.
        recordings: Folder of recordings of any length and rate. Those that cannot be read are
            listed as `skipped` in the manifest, with the reason.
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
    frame_s = _open(model).frame_s  # loaded here first, so that a wrong model fails at once
    found = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.suffix.lower() in AUDIO)
    if not found:
        raise FileNotFoundError(f"{recordings}: no {', '.join(sorted(AUDIO))} in this folder")
    paths = [path.as_posix() for path in found]
    # Not by content, which would mean to read everything twice.
    stats = [(folder / path).stat() for path in paths]
    listing = [(path, s.st_size, s.st_mtime_ns) for path, s in zip(paths, stats, strict=True)]
    parameters = {
        "model": _digest(model),
        "recordings": hashlib.sha256(repr(listing).encode()).hexdigest(),
        "n_recordings": len(paths),
        "shard_size": shard_size,
        "frame_s": frame_s,
    }
    jobs = [
        {"name": f"{k:05d}.parquet", "paths": paths[of.start : of.stop]}
        for k, of in enumerate(manifest.split(len(paths), shard_size))
    ]
    return manifest.fill(
        out,
        parameters,
        jobs,
        partial(_embed_shard, model, folder),
        n_jobs=n_jobs,
        scheduler=scheduler,
        progress=progress,
    )


def list_skipped(manifest: dict[str, Any]) -> list[dict[str, str]]:
    """Return the recordings of a manifest that could not be read, each with `path` and `why`."""
    return [entry for shard in manifest["shards"] for entry in shard["skipped"]]


def _embed_shard(model, folder, path, job):
    """Write one shard; return what it skipped."""
    opened, unread = _open(model), []
    dim = opened.embed_captions(["sound"]).caption_emb.shape[1]
    schema = _schema(dim)
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for name in job["paths"]:
            try:
                row = _row(opened, folder, name)
            except audio.Unreadable as error:
                unread.append({"path": name, "why": error.why})
                continue
            # One row group per recording, so that only one is in memory at a time.
            writer.write_table(pyarrow.Table.from_pydict(row, schema=schema))
    return {"skipped": unread}


def _row(model: AudioTextModel, folder: Path, name: str) -> dict[str, list]:
    waveform, rate = audio.read(folder / name)
    embeddings = model.embed_audio(waveform[None], rate)
    # Frames that the recording reaches: resampling may add one.
    n_frames = count_frames(len(waveform) / rate, model.frame_s)
    frames = embeddings.frame_emb[0, :n_frames].numpy(force=True).astype(np.float16)
    return {
        "path": [name],
        "duration_s": [len(waveform) / rate],
        "clip_emb": [embeddings.clip_emb[0].numpy(force=True)],
        "frame_emb": [list(frames)],
    }


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
def _open(model: Path) -> AudioTextModel:
    return baselines.load(model)


def _digest(model: Path) -> str:
    """Return the checksum of a saved model's settings and weights."""
    return hashlib.sha256(
        "".join(files.sha256(model / f) for f in (CONFIG, WEIGHTS)).encode()
    ).hexdigest()
