"""Databases of perch-hoplite, which BirdNET-Analyzer's and OpenSoundscape's users have, by text.

perch-hoplite keeps a vector for each window of a recording, in SQLite and usearch, and ranks them
by their inner product with a query; here the query is a sentence:

    db = hoplite.write(model, recordings, "database")
    found = db.search(hoplite.query(model, "a dog barks"), 20, approximate=False)

The vector of a window is the mean of its frames' embeddings, a frame that lies in it with a part of
its duration counted for that part, and is not scaled to unit length: so its inner product with a
caption's embedding is the mean cosine of the window's frames with the caption. That ranks windows
for one caption as FLAM's mean logit does, scale * cosine + prior, as a caption has one scale and
one prior for all windows. It is no score: captions are not to be compared with each other by it,
and 0 is only where evidence begins. A sound much shorter than the window is thinned out.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from ml_collections import config_dict
from perch_hoplite.agile.embed import ModelConfig
from perch_hoplite.agile.source_info import AudioSourceConfig, AudioSources
from perch_hoplite.db import sqlite_usearch_impl
from perch_hoplite.db.sqlite_usearch_impl import SQLiteUSearchDB
from perch_hoplite.zoo import zoo_interface
from perch_hoplite.zoo.zoo_interface import EmbeddingModel, InferenceOutputs

from flamlib.inference import detector
from flamlib.models import baselines
from flamlib.models.interface import AudioTextModel
from flamlib.search import indexing
from flamlib.sound_events.events import frame_edges
from flamlib.waveforms import audio, collection

KEY = "flam"  # of the model, in the database's metadata
AT_ONCE = 100  # recordings, after which a stopped call loses nothing


class HopliteModel(EmbeddingModel):
    """A model of ours as an `EmbeddingModel` of perch-hoplite, for its own tools to embed with."""

    def __init__(self, model: AudioTextModel, window_s: float = 1.0) -> None:
        """Wrap a model.

        Args:
            model: Any that `baselines.load` returns.
            window_s: Duration of a window, one after the other.
        """
        super().__init__(sample_rate=model.sample_rate)
        self.model = model
        self.window_size_s = self.hop_size_s = window_s

    @classmethod
    def from_config(cls, model_config: config_dict.ConfigDict) -> "HopliteModel":
        """Load a saved model: `model` is its folder, `window_size_s` the duration of a window."""
        return cls(baselines.load(model_config.model), model_config.window_size_s)

    def embed(self, audio_array: Float[np.ndarray, "sample"]) -> InferenceOutputs:
        """Embed the windows of a waveform at `sample_rate`: `embeddings` is [window, 1, dim]."""
        waveform = torch.from_numpy(np.ascontiguousarray(audio_array, np.float32)[None])
        frames = self.model.embed_audio(waveform, self.sample_rate).frame_emb[0]
        duration_s = len(audio_array) / self.sample_rate
        pooled, _ = pool(frames.numpy(force=True), duration_s, self.model.frame_s, self.hop_size_s)
        return InferenceOutputs(embeddings=pooled[:, None])

    def batch_embed(self, audio_batch: Float[np.ndarray, "clip sample"]) -> InferenceOutputs:
        """Embed several waveforms: `embeddings` is [clip, window, 1, dim]."""
        return zoo_interface.batch_embed_from_embed_fn(self.embed, audio_batch)


def query(model: AudioTextModel, caption: str) -> Float[np.ndarray, "dim"]:
    """Return the vector that a caption searches with. Raises ValueError for an empty caption."""
    return detector.ask(model, [caption]).embeddings.caption_emb[0].numpy(force=True)


def pool(
    frames: Float[np.ndarray, "frame dim"], duration_s: float, frame_s: float, window_s: float
) -> tuple[Float[np.ndarray, "window dim"], Float[np.ndarray, "window 2"]]:
    """Return the mean embedding of each window, and its onset and offset in seconds.

    Windows follow each other; the last ends with the recording.

    Args:
        frames: Embeddings of its frames.
        duration_s: Of the recording.
        frame_s: Of a frame.
        window_s: Of a window.
    """
    edges = frame_edges(duration_s, frame_s)
    frames = frames[: len(edges) - 1].astype(np.float64)
    n_windows = max(1, int(np.ceil(duration_s / window_s - 1e-6)))
    at = np.minimum(window_s * np.arange(n_windows + 1), edges[-1])
    at[-1] = edges[-1]
    until = np.concatenate([np.zeros((1, frames.shape[1])), frames * np.diff(edges)[:, None]])
    until = np.cumsum(until, axis=0)  # integral of the embedding up to each edge
    frame = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, len(frames) - 1)
    integral = until[frame] + frames[frame] * (at - edges[frame])[:, None]
    pooled = np.diff(integral, axis=0) / np.diff(at)[:, None]
    return pooled.astype(np.float32), np.stack([at[:-1], at[1:]], axis=1)


def write(
    model: AudioTextModel,
    recordings: str | Path | Iterable[Path],
    out: str | Path,
    *,
    model_name: str = "flam-small",
    window_s: float = 1.0,
    skipped: dict[str, str] | None = None,
) -> SQLiteUSearchDB:
    """Write recordings to a database of perch-hoplite, and return it, open.

    A recording that is there by its name is not embedded again. One that cannot be used does not
    end the call.

    Args:
        model: Any that `baselines.load` returns.
        recordings: A folder, with what is below it, or files; names are paths from that folder, or
            from here.
        out: The folder of the database; made if it is not there.
        model_name: Folder of the model, or its name, to be kept in the database.
        window_s: Duration of a window: 1 s finds short sounds, 5 s is a fifth of the size.
        skipped: Why a recording could not be used is put here, by its name.

    Raises:
        ValueError: The database is of another model, or of other windows.
    """
    base = Path(recordings) if isinstance(recordings, str | Path) else Path()
    config = ModelConfig(
        model_key=KEY,
        embedding_dim=len(query(model, "a sound")),
        model_config=config_dict.create(model=model_name, window_size_s=float(window_s)),
    )
    db = _open(Path(out), config, base)
    place = _deployment(db, base.resolve().name)
    known = {recording.filename for recording in db.get_all_recordings()}
    for n, (name, path) in enumerate(_named(recordings, base)):
        if name in known:
            continue
        try:
            frames, duration_s, _ = indexing.embed(model, path)
        except (audio.Unreadable, OSError, ValueError) as error:
            if skipped is not None:
                skipped[name] = audio.reason(error)
            continue
        pooled, offsets = pool(frames, duration_s, model.frame_s, window_s)
        recording = db.insert_recording(filename=name, deployment_id=place)
        windows = [{"recording_id": recording, "offsets": each} for each in offsets.tolist()]
        db.insert_windows_batch(windows, pooled, handle_duplicates="allow")
        if n % AT_ONCE == AT_ONCE - 1:
            db.commit()
    db.commit()
    return db


def _open(out: Path, config: ModelConfig, base: Path) -> SQLiteUSearchDB:
    """Open the database, or make it. Raises ValueError for one of another model."""
    shape = sqlite_usearch_impl.get_default_usearch_config(config.embedding_dim)
    is_new = not (out / sqlite_usearch_impl.HOPLITE_FILENAME).exists()
    db = SQLiteUSearchDB.create(str(out), shape if is_new else None)
    metadata = db.get_metadata(None)
    if is_new:
        source = AudioSourceConfig(base.resolve().name, str(base.resolve()), "**/*")
        db.insert_metadata("model_config", config.to_config_dict())
        db.insert_metadata("audio_sources", AudioSources((source,)).to_config_dict())
        db.commit()
    elif metadata.get("model_config") != config.to_config_dict():
        raise ValueError(f"{out}: a database of another model or of other windows; name another")
    return db


def _deployment(db: SQLiteUSearchDB, name: str) -> int:
    """The place of the recordings: perch-hoplite's word for where a recorder stood."""
    for deployment in db.get_all_deployments():
        if deployment.name == name:
            return deployment.id
    return db.insert_deployment(name=name, project=name)


def _named(recordings: Any, base: Path) -> Iterator[tuple[str, Path]]:
    if not isinstance(recordings, str | Path):
        yield from ((path.as_posix(), path) for path in map(Path, recordings))
        return
    found, _ = collection.find(base)
    if not found:
        raise FileNotFoundError(f"{base}: no WAV, FLAC, MP3 or other audio in this folder")
    yield from ((path.relative_to(base).as_posix(), path) for path in found)
