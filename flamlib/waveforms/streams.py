"""Audio from a pipe: raw PCM, or a WAV whose length nobody knows yet."""

import io
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from jaxtyping import Float

from flamlib.waveforms.chain import MAX_CHANNELS, MAX_RATE, MIN_RATE

# FFmpeg's names of encodings, as numpy has them, what full scale is, and bytes of a sample; numpy
# has no numbers of three bytes, which are the upper ones of four.
ENCODINGS = {
    "u8": ("u1", 128.0, 1),
    "s16le": ("<i2", 2.0**15, 2),
    "s24le": ("<i4", 2.0**31, 3),
    "s32le": ("<i4", 2.0**31, 4),
    "f32le": ("<f4", 1.0, 4),
}
_OF_WAV = {(1, 8): "u8", (1, 16): "s16le", (1, 24): "s24le", (1, 32): "s32le", (3, 32): "f32le"}
_MOST = 1 << 20  # bytes before the sound of a WAV
# Lengths from here on are what programs write into a pipe when they know none: 2**31 or 2**32, less
# a header.
_NO_LENGTH = 0x7FFF0000


class StreamError(ValueError):
    """A stream that is not what it is said to be."""


class Pcm(NamedTuple):
    """How samples follow each other in a stream.

    Attributes:
        encoding: One of `ENCODINGS`.
        sample_rate: In hertz.
        n_channels: Samples of one time.
        n_bytes: Of the samples, where something else follows them; None: all that comes is samples.
    """

    encoding: str
    sample_rate: int
    n_channels: int
    n_bytes: int | None = None


def parse_pcm(text: str) -> Pcm:
    """Read encoding, sample rate and channels; one channel if it is not said.

    Raises StreamError for any other text.

    >>> parse_pcm("s16le:16000")
    Pcm(encoding='s16le', sample_rate=16000, n_channels=1, n_bytes=None)
    """
    encoding, *numbers = text.split(":")
    if encoding in ENCODINGS and 1 <= len(numbers) <= 2 and all(map(str.isdecimal, numbers)):
        rate, n_channels = (*map(int, numbers), 1)[:2]
        if _can_be(rate, n_channels):
            return Pcm(encoding, rate, n_channels)
    raise StreamError(
        f"{text!r} is no PCM: expected ENCODING:RATE[:CHANNELS], such as s16le:16000:1, with one "
        f"of {', '.join(ENCODINGS)}"
    )


def read_wav_header(file: io.BufferedIOBase) -> Pcm:
    """Read a WAV up to its first sample.

    What it says about its length is not believed, as a stream has none and a recording may still
    grow, unless it also says that chunks follow the samples, such as notes of a recorder.

    Raises StreamError for anything else, and for a WAV that is not PCM.
    """
    head = _exactly(file, 12)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        raise StreamError("no WAV; raw samples need --pcm, such as --pcm s16le:16000:1")
    pcm, n_left = None, struct.unpack("<I", head[4:8])[0] - 4  # WAVE is counted
    is_finished = n_left < _NO_LENGTH
    while True:
        name, n_bytes = struct.unpack("<4sI", _exactly(file, 8))
        if name == b"data":
            break
        if n_bytes > _MOST:
            raise StreamError(f"a WAV whose chunk {name!r} claims {n_bytes} bytes: damaged")
        content = _exactly(file, n_bytes + n_bytes % 2)
        n_left -= 8 + len(content)
        if name == b"fmt " and n_bytes >= 16:
            kind, n_channels, rate, _, _, n_bits = struct.unpack("<HHIIHH", content[:16])
            if kind == 0xFFFE and n_bytes >= 26:  # extensible: the kind is in its GUID
                [kind] = struct.unpack("<H", content[24:26])
            if (kind, n_bits) not in _OF_WAV:
                raise StreamError(
                    f"a WAV of kind {kind} with {n_bits} bits; PCM of 8, 16, 24 or 32"
                )
            if not _can_be(rate, n_channels):
                raise StreamError(f"a WAV that claims {rate} Hz and {n_channels} channels: damaged")
            pcm = Pcm(_OF_WAV[kind, n_bits], rate, n_channels)
    if pcm is None:
        raise StreamError("a WAV without a description of its samples: damaged")
    n_behind = n_left - 8 - (n_bytes + n_bytes % 2)
    if is_finished and n_bytes and n_behind >= 8:  # the smallest chunk
        return pcm._replace(n_bytes=n_bytes)
    return pcm


def blocks(
    file: io.BufferedIOBase, pcm: Pcm, n_samples: int
) -> Iterator[Float[np.ndarray, "sample channel"]]:
    """Yield the samples of a stream as floats, full scale 1, `n_samples` at a time.

    Each block is given as soon as it is there; the last one is what is left. A sample that is cut
    off at the end is dropped. Raises StreamError for NaN or infinity.
    """
    dtype, full_scale, n_bytes = ENCODINGS[pcm.encoding]
    width = n_bytes * pcm.n_channels
    n_left = math.inf if pcm.n_bytes is None else pcm.n_bytes
    while content := file.read(min(n_samples * width, n_left)):
        n_left -= len(content)
        content = content[: len(content) // width * width]
        packed = np.frombuffer(content, np.uint8).reshape(-1, n_bytes)
        whole = np.zeros((len(packed), np.dtype(dtype).itemsize), np.uint8)
        whole[:, -n_bytes:] = packed
        values = whole.reshape(-1).view(dtype).astype(np.float32) / np.float32(full_scale)
        if dtype == "u1":
            values -= 1
        if not np.isfinite(values).all():
            raise StreamError("the stream holds NaN or infinity")
        if len(values):
            yield values.reshape(-1, pcm.n_channels)


def save(file: io.BufferedIOBase, pcm: Pcm, path: Path) -> None:
    """Write the samples of a stream to a W64 file, which may be of any length."""
    with soundfile.SoundFile(
        path, "w", pcm.sample_rate, pcm.n_channels, format="W64", subtype="FLOAT"
    ) as out:
        for block in blocks(file, pcm, pcm.sample_rate):
            out.write(block)


def _can_be(rate: int, n_channels: int) -> bool:
    return MIN_RATE <= rate <= MAX_RATE and 1 <= n_channels <= MAX_CHANNELS


def _exactly(file: io.BufferedIOBase, n_bytes: int) -> bytes:
    content = file.read(n_bytes)
    if len(content) < n_bytes:
        raise StreamError("ends before its first sample")
    return content
