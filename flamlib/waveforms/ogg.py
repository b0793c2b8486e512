"""Read the pages of an Ogg file: which streams follow each other, and what is missing.

Decoders of Vorbis and Opus go on behind a page that is missing as if nothing were, and stop at the
end of the first stream.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Page(NamedTuple):
    """A page whose checksum is right.

    Attributes:
        start: Its first byte in the file.
        stop: The byte behind its last one.
        granule: The number of samples up to its end, -1 if no packet ends in it.
        serial: Which of several streams it is of.
        number: Its number in the stream.
        begins: Whether it is the first of its stream.
        ends: Whether it is the last of its stream.
    """

    start: int
    stop: int
    granule: int
    serial: int
    number: int
    begins: bool
    ends: bool


def pages(path: Path) -> Iterator[Page]:
    """Yield the pages whose checksums are right."""
    size = path.stat().st_size
    with path.open("rb") as file:
        at = 0
        while at + 27 <= size:
            file.seek(at)
            head = file.read(27)
            if head[:4] != b"OggS":
                block = head + file.read(1 << 16)
                found = block.find(b"OggS")
                at += found if found >= 0 else len(block) - 3
                continue
            flags, granule, serial, number, crc, n_parts = struct.unpack("<xBqIIIB", head[4:])
            lengths = file.read(n_parts)
            body = file.read(sum(lengths))
            stop = at + 27 + n_parts + sum(lengths)
            zeroed = head[:22] + bytes(4) + head[26:]
            if stop > size or checksum(zeroed + lengths + body) != crc:
                at += 4
                continue
            yield Page(at, stop, granule, serial, number, bool(flags & 2), bool(flags & 4))
            at = stop


def checksum(data: bytes) -> int:
    """Return the CRC-32 of Ogg: that of zlib with all bits the other way round, from 0."""
    mirrored = zlib.crc32(data.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


class Stream(NamedTuple):
    """A recording in a file.

    Attributes:
        head: The bytes of the pages without sound that it begins with, start and stop.
        ranges: The bytes of its pages, start and stop; where pages are missing a new range begins.
        granules: The number of samples up to the end of each range, as the pages say.
        complete: Whether its last page is marked as the last.
    """

    head: tuple[int, int]
    ranges: list[tuple[int, int]]
    granules: list[int]
    complete: bool


def streams(path: Path) -> list[Stream]:
    """Return the streams that follow each other in a file.

    Streams side by side, such as sound and picture, count as one.
    """
    found: list[Stream] = []
    latest: dict[int, Page] = {}  # of each serial number
    at, heads_alone = 0, False
    for page in pages(path):
        if not found or (page.begins and not heads_alone):
            found.append(Stream((page.start, page.start), [(page.start, page.start)], [0], False))
            latest = {}
        heads_alone = page.begins
        head, ranges, granules, complete = found[-1]
        before = latest.get(page.serial)
        follows = before is not None and page.number == before.number + 1 and page.start == at
        if not (page.begins or follows):
            ranges.append((page.start, page.start))
            granules.append(granules[-1])
        if page.granule <= 0 and len(ranges) == 1 and granules == [0]:
            head = head[0], page.stop
        ranges[-1] = ranges[-1][0], page.stop
        granules[-1] = max(granules[-1], page.granule)
        found[-1] = Stream(head, ranges, granules, complete or page.ends)
        latest[page.serial], at = page, page.stop
    return found
