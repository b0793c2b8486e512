"""Hear a recording piece by piece, each with the frames of context that a model needs around it.

Of a long file only a few minutes are in memory at once, and cutting it changes nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from flamlib.models.interface import AudioEmbeddings, AudioPiece, AudioTextModel
from flamlib.sound_events.events import frame_blocks
from flamlib.waveforms import audio

# Frames of a file that are read at once, about five minutes; whole windows of 32 or 128 frames.
READ_FRAMES = 8 * 128

SILENT = "silent: its samples are all the same"
Recording = str | Path | audio.Recording | tuple[Float[np.ndarray, "sample"], int]
_Read = Callable[[float, float], Float[np.ndarray, "sample"]]


class Pieces(NamedTuple):
    """A recording in pieces.

    Attributes:
        duration_s: Of the recording, in seconds.
        sample_rate: Of the pieces, in hertz.
        pieces: They are read one by one.
    """

    duration_s: float
    sample_rate: int
    pieces: Iterator[AudioPiece]


@contextmanager
def cut(
    recording: Recording,
    model: AudioTextModel,
    *,
    progress: str | None = None,
    notes: list[str] | None = None,
) -> Iterator[Pieces]:
    """Open a recording and give it in pieces of `READ_FRAMES`.

    Args:
        recording: A file, an opened one, which is closed at the end, or mono samples `[sample]` and
            their sample rate in hertz.
        model: Whose frames and context they are.
        progress: Title of a progress bar; None: no bar.
        notes: What is not as it should be in a file is appended; None: it is warned of.

    Raises:
        audio.Unreadable: A file without usable audio.
        ValueError: Samples that are empty or not mono.
    """
    if isinstance(recording, tuple):
        waveform, sample_rate = recording
        if waveform.ndim != 1 or not len(waveform):
            raise ValueError(f"samples must be mono, [sample], and not empty, got {waveform.shape}")
        duration_s = len(waveform) / sample_rate

        def read(start_s: float, stop_s: float) -> Float[np.ndarray, "part"]:
            return waveform[round(start_s * sample_rate) : round(stop_s * sample_rate)]

        yield Pieces(duration_s, sample_rate, _pieces(read, duration_s, model, progress))
        return
    with (
        recording
        if isinstance(recording, audio.Recording)
        else audio.Recording(recording) as opened
    ):
        duration_s = opened.duration_s
        ends: set[float] = set()  # of the range of the samples

        def read_file(start_s: float, stop_s: float) -> Float[np.ndarray, "part"]:
            waveform = opened.read(start_s, stop_s)
            ends.update((waveform.min(initial=np.inf), waveform.max(initial=-np.inf)))
            return waveform

        yield Pieces(
            duration_s, opened.sample_rate, _pieces(read_file, duration_s, model, progress)
        )
        said = opened.notes + ([SILENT] if len(ends) == 1 else [])
        if notes is None:
            audio.warn(opened.path, said)
        else:
            notes += said


def embed(model: AudioTextModel, opened: Pieces) -> Iterator[AudioEmbeddings]:
    """Embed a recording piece by piece, each as `embed_piece` does."""
    for piece in opened.pieces:
        yield embed_piece(model, piece, opened.sample_rate)


def embed_piece(model: AudioTextModel, piece: AudioPiece, sample_rate: int) -> AudioEmbeddings:
    """Embed a piece of a recording.

    It has the frames of the piece, without those of the context; its `clip_emb` is of both.

    Args:
        model: Any that embeds audio.
        piece: The piece.
        sample_rate: Of its samples, in hertz.
    """
    waveform, n_before, n_frames = piece
    frames, clips = model.embed_audio(waveform, sample_rate)
    return AudioEmbeddings(frames[:, n_before:][:, :n_frames], clips)


def width(model: AudioTextModel) -> int:
    """Return how many numbers a model's embeddings have, by that of a second of silence."""
    second = np.zeros((1, round(model.sample_rate)), np.float32)
    return model.embed_audio(second, model.sample_rate).clip_emb.shape[1]


def embed_whole(model: AudioTextModel, opened: Pieces) -> AudioEmbeddings:
    """Embed a recording piece by piece, and return its frames in one, which are asked faster.

    The `clip_emb` is of the first piece.
    """
    heard = list(embed(model, opened))
    return AudioEmbeddings(torch.cat([each.frame_emb for each in heard], dim=1), heard[0].clip_emb)


def _pieces(
    read: _Read, duration_s: float, model: AudioTextModel, progress: str | None
) -> Iterator[AudioPiece]:
    context, frame_s = model.context_frames, model.frame_s
    blocks = frame_blocks(duration_s, frame_s, READ_FRAMES)
    for block in tqdm(blocks, progress, disable=progress is None):
        begin, end = max(0, block.start - context), block.stop + context
        waveform = read(begin * frame_s, min(end * frame_s, duration_s))
        yield AudioPiece(waveform, block.start - begin, len(block))
