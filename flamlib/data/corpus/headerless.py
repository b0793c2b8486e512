"""Recordings of telephone exchanges: speech without a header, which the name alone tells.

G.722 has 16,000 samples a second at 64 kbit/s, GSM 06.10 has 8,000 at 13 kbit/s; both are mono.
"""

from io import BytesIO
from pathlib import PurePosixPath

import av
import numpy as np

from flamlib.waveforms import audio

FORMATS = {".g722": "g722", ".gsm": "gsm"}  # suffix, and FFmpeg's name of the format


def with_header(member: str, content: bytes) -> bytes:
    """Return a recording as it is, or as FLAC where it has no header of its own.

    Args:
        member: its name, which ends with the suffix.
        content: of the file.

    Raises:
        ValueError: it cannot be decoded.
    """
    form = FORMATS.get(PurePosixPath(member).suffix.lower())
    if form is None:
        return content
    try:
        with av.open(BytesIO(content), format=form) as file:
            [stream] = file.streams.audio
            pieces = [frame.to_ndarray().reshape(-1) for frame in file.decode(stream)]
            samples, rate = np.concatenate(pieces), stream.rate
    except (av.error.FFmpegError, ValueError) as error:
        raise ValueError(f"cannot be decoded as {form}: {error}") from error
    return audio.flac(samples.astype(np.int16), rate)
