"""Count the frames of an MP3 (or MP2) by their headers.

Decoders guess the length of a variable-rate MP3 that does not say it, and believe one that does.
"""

import mmap
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

# kbit/s by version (1, or 2 and 2.5), layer and the index in the header; 0: not allowed here.
_RATES = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLES = {(1, 1): 384, (1, 2): 1152, (1, 3): 1152, (2, 1): 384, (2, 2): 1152, (2, 3): 576}
_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN")


class Stretch(NamedTuple):
    """Bytes that are one recording.

    Attributes:
        start: Its first byte, of tags before it, if any, or its first frame.
        stop: The byte behind its last frame, or behind tags there.
        n_samples: How many samples per channel its frames have.
        says_length: Whether its first frame says how many follow (Xing, Info or VBRI).
        complete: Whether its last frame is all there.
        hole_s: Where something is no frame, in seconds; None: nowhere.
    """

    start: int
    stop: int
    n_samples: int
    says_length: bool
    complete: bool
    hole_s: float | None


def stretches(path: Path) -> list[Stretch]:
    """Return the recordings that follow each other in a file.

    A new one begins with each frame that says how many follow. Tags are no holes, nor is what lies
    before the first frame and behind the last one.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found: list[Stretch] = []
        at = begin = _next_frame(data, 0)
        start = 0 if begin == _behind_tags(data, 0) else begin
        n_samples, says_length, hole_s, rate = 0, False, None, None
        while begin is not None:
            rate_before = rate
            length, n_in_frame, rate = _frame(data[begin : begin + 4])
            gap = data[at : min(begin, at + 16)]
            announces = _says_length(data[begin : begin + 64])
            if n_samples and (announces or rate != rate_before):
                found.append(Stretch(start, at, n_samples, says_length, True, hole_s))
                start, n_samples, says_length, hole_s = begin, 0, False, None
            if announces:
                says_length = True
            else:
                if gap and not gap.startswith(_TAGS) and n_samples and hole_s is None:
                    hole_s = n_samples / rate
                n_samples += n_in_frame if begin + length <= len(data) else 0
            at = begin + length
            begin = _next_frame(data, at)
        if n_samples:
            complete = at <= len(data)
            stop = len(data) if data[at : at + 16].startswith(_TAGS) else min(at, len(data))
            found.append(Stretch(start, stop, n_samples, says_length, complete, hole_s))
        return found


def _next_frame(data, at: int) -> int | None:
    """Return where the next frame begins: a header, and another one where it ends."""
    at = _behind_tags(data, at)
    if _frame(data[at : at + 4]) is not None:
        return at
    while (at := data.find(b"\xff", at)) >= 0:
        frame = _frame(data[at : at + 4])
        if frame is not None:
            following = data[at + frame[0] : at + frame[0] + 4]
            other = _frame(following)
            if other is not None and other[2] == frame[2]:
                return at
        at += 1
    return None


def _behind_tags(data, at: int) -> int:
    """Return where tags of ID3 end that begin here, if any do."""
    while data[at : at + 3] == b"ID3" and len(head := data[at : at + 10]) == 10:
        n_bytes = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]  # 7 bits each
        if at + 10 + n_bytes >= len(data):
            break  # a wrong number: look for frames in it
        at += 10 + n_bytes
    return at


@lru_cache(maxsize=4096)
def _frame(header: bytes) -> tuple[int, int, int] | None:
    """Return bytes, samples and sample rate of a frame by its first four bytes, if it is one."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version_bits, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    index, rate_bits, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version_bits == 1 or layer == 4 or index in (0, 15) or rate_bits == 3:
        return None
    version = 1 if version_bits == 3 else 2
    rate = (44100, 48000, 32000)[rate_bits] // {3: 1, 2: 2, 0: 4}[version_bits]
    n_samples = _SAMPLES[version, layer]
    bit_rate = 1000 * _RATES[version, layer][index]
    if layer == 1:
        return 4 * (12 * bit_rate // rate + padding), n_samples, rate
    return n_samples // 8 * bit_rate // rate + padding, n_samples, rate


def _says_length(frame: bytes) -> bool:
    """Return whether a frame has no sound, but says how many follow."""
    for name in (b"Xing", b"Info", b"VBRI"):
        at = frame.find(name)
        if at > 4 and not any(frame[6:at]):
            return True
    return False
