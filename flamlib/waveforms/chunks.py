"""Find where a recording ends in its file, by the sizes that its container's chunks claim.

Decoders stop at the end of the first recording of a file, or take what follows for samples.
"""

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple


class _Layout(NamedTuple):
    """How chunks follow each other.

    Attributes:
        magic: The first bytes of the file.
        magic_at: Where they are.
        first: Where the first chunk begins.
        head: How a chunk begins: its identifier (`s`) and its size, for `struct`.
        inclusive: Whether the size counts the head.
        multiple: The sizes are filled up to a multiple of it.
        sound: How the identifier of the chunk with the samples begins.
    """

    magic: bytes
    magic_at: int
    first: int
    head: str
    inclusive: bool
    multiple: int
    sound: bytes


_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_LAYOUTS = [
    _Layout(b"RIFF", 0, 12, "<4sI", False, 2, b"data"),
    _Layout(b"RF64", 0, 12, "<4sI", False, 2, b"data"),
    _Layout(b"FORM", 0, 12, ">4sI", False, 2, b"SSND"),
    _Layout(b"caff", 0, 8, ">4sq", False, 1, b"data"),
    _Layout(b"riff", 0, 40, "<16sq", True, 8, b"data"),
    _Layout(_ASF, 0, 0, "<16sq", True, 1, _ASF_DATA),
    _Layout(b"ftyp", 4, 0, ">I4s", True, 1, b"mdat"),
]
MAX_CHUNKS = 200_000  # a long film in pieces has tens of thousands
_LONGEST = 0x7F000000  # bytes: what writes to a pipe claims that much or more, in 32 bits


def end(path: Path) -> int | None:
    """Return the byte behind a recording by what its container says; None: it does not say.

    It is behind the end of the file if that is cut off. Of files joined it is the end of the first.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(24)
        if start.startswith(b".snd") and len(start) == 24:
            return _au(start)
        if start.startswith(b"TTA1") and len(start) >= 22:
            return _tta(file, start, size)
        for layout in _LAYOUTS:
            if start[layout.magic_at :].startswith(layout.magic):
                return _chunks(file, layout, size)
    return None


def joined(path: Path, at: int) -> bool:
    """Return whether another recording of the same container begins at a byte of a file."""
    with open(path, "rb") as file:
        first = file.read(20)
        file.seek(at)
        second = file.read(20)
    magics = [(layout.magic, layout.magic_at) for layout in _LAYOUTS]
    for magic, where in [*magics, (b".snd", 0), (b"TTA1", 0)]:
        if first[where:].startswith(magic):
            return second[where:].startswith(magic)
    return False


def _au(start):
    offset, n_bytes = struct.unpack(">4xII", start[:12])
    return offset + n_bytes if 0 < n_bytes < _LONGEST else None


def _tta(file, start, size):
    rate, n_samples = struct.unpack("<10xII", start[:18])
    if not rate:
        return None
    n_frames = -(-n_samples // (256 * rate // 245 or 1))
    if 22 + 4 * (n_frames + 1) > size:
        return None
    file.seek(22)
    sizes = struct.unpack(f"<{n_frames}I", file.read(4 * n_frames))
    return 22 + 4 * (n_frames + 1) + sum(sizes)


def _chunks(file: BinaryIO, layout: _Layout, size: int) -> int | None:
    n_head, at, sound = struct.calcsize(layout.head), layout.first, False
    long_sound = None
    for _ in range(MAX_CHUNKS):
        if at + n_head > size:
            return min(at, size) if sound else None
        file.seek(at)
        one, other = struct.unpack(layout.head, file.read(n_head))
        name, claimed = (one, other) if isinstance(one, bytes) else (other, one)
        if at > layout.first and not _goes_on(name, layout):
            return at if sound else None
        if layout.magic == b"RF64" and name == b"ds64":
            long_sound = int.from_bytes(file.read(16)[8:], "little")
        is_sound = name.startswith(layout.sound)
        if is_sound and claimed == 0xFFFFFFFF and long_sound:
            claimed = long_sound
        elif is_sound and layout.head.endswith("4sI") and claimed >= _LONGEST:
            return None
        n_first = n_head if layout.inclusive else 0
        if layout.magic == b"ftyp" and claimed == 1:
            claimed = int.from_bytes(file.read(8), "big")
        if claimed < n_first or (is_sound and claimed == n_first):
            return at if sound else None
        after = at + n_head - n_first + claimed
        if after > size:
            if is_sound:
                return after
            return at if sound else None
        sound = sound or is_sound
        at = after + -after % layout.multiple
    return None


def _goes_on(name, layout):
    """Return whether a chunk of that name may follow in the same recording."""
    if name == layout.magic:
        return False
    if len(name) == 16:
        return not name.startswith(layout.magic)
    return all(32 <= letter < 127 or letter == 0xA9 for letter in name)
