"""Recordings as embeddings, in files: heard once, asked as often as one likes.

    out/manifest.json    the model, the recordings, those that could not be read and why
    out/00000.parquet    a row per recording, in the order of their paths:
        path         in the folder of recordings
        duration_s   seconds
        clip_emb     [dim], float32: a unit vector for the whole of it
        frame_emb    [frame][dim], float16: one for each `frame_s` (in the manifest) seconds

`datasets` reads them, and a caption is found in all of a collection by one product:

    heard = datasets.load_dataset("parquet", data_files="out/*.parquet", split="train")
    asked = model.embed_captions(["a dog barks"])
    likeness = np.array(heard["clip_emb"]) @ asked.caption_emb[0].numpy()
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
    """Embed all audio in the folder `recordings`, and those in it, into `out`; return its manifest.

    `model` is a folder that `baselines.load` reads. A recording may be of any length and rate; one
    that cannot be read is listed as `skipped` in the manifest, with the reason. Recordings are the
    same by name, size and time of the last change. What an earlier
    call has finished is kept, see `manifest.fill`.

    Raises FileNotFoundError if there is no such folder or no audio in it, and what
    `baselines.load` and `manifest.fill` raise.
    """
    if shard_size < 1:
        raise ValueError(f"shard_size: expected 1 or more, got {shard_size}")
    model, folder = Path(model).resolve(), Path(recordings).resolve()
    frame_s = _open(model).frame_s  # here already, because a wrong model is said at once
    found = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.suffix.lower() in AUDIO)
    if not found:
        raise FileNotFoundError(f"{recordings}: no recordings there ({', '.join(sorted(AUDIO))})")
    paths = [path.as_posix() for path in found]
    # Not by content, which would be to read all of it twice.
    about = [(folder / path).stat() for path in paths]
    written = [(path, of.st_size, of.st_mtime_ns) for path, of in zip(paths, about, strict=True)]
    parameters = {
        "model": _digest(model),
        "recordings": hashlib.sha256(repr(written).encode()).hexdigest(),
        "n_recordings": len(paths),
        "shard_size": shard_size,
        "frame_s": frame_s,
    }
    jobs = [
        {"name": f"{k:05d}.parquet", "paths": paths[first : first + shard_size]}
        for k, first in enumerate(range(0, len(paths), shard_size))
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


def list_skipped(made: dict[str, Any]) -> list[dict[str, str]]:
    """The recordings of a manifest that could not be read, each a `path` and `why`."""
    return [entry for shard in made["shards"] for entry in shard["skipped"]]


def _embed_shard(model, folder, path, job):
    """Write one shard, and tell what it leaves out."""
    listener, unread = _open(model), []
    dim = listener.embed_captions(["sound"]).caption_emb.shape[1]
    schema = _schema(dim)
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for name in job["paths"]:
            try:
                row = _row(listener, folder, name)
            except audio.Unreadable as error:
                unread.append({"path": name, "why": error.why})
                continue
            # A row group each: no more than one recording is in memory at a time.
            writer.write_table(pyarrow.Table.from_pydict(row, schema=schema))
    return {"skipped": unread}


def _row(listener: AudioTextModel, folder: Path, name: str) -> dict[str, list]:
    waveform, rate = audio.read(folder / name)
    heard = listener.embed_audio(waveform[None], rate)
    # Frames that the recording reaches: a tower may give more.
    n_frames = count_frames(len(waveform) / rate, listener.frame_s)
    frames = heard.frame_emb[0, :n_frames].numpy(force=True).astype(np.float16)
    return {
        "path": [name],
        "duration_s": [len(waveform) / rate],
        "clip_emb": [heard.clip_emb[0].numpy(force=True)],
        "frame_emb": [list(frames)],
    }


def _schema(dim: int) -> pyarrow.Schema:
    """As `datasets` writes it, so that it gives vectors and not lists of unknown length."""
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
    """Of all that decides what a saved model hears."""
    return hashlib.sha256(
        "".join(files.sha256(model / f) for f in (CONFIG, WEIGHTS)).encode()
    ).hexdigest()
