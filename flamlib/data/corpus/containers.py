"""Read container formats as streams: generators of (member name, stream of its content).

Formats: .deb, tar (plain, gz, bz2, xz, zst), zip (.whl, .pk3), Qt's .rcc, OpenTTD's .cat. They are
recognised by their first bytes, except for .cat and .tar, which have no signature, by their name.

A generator reads its stream once, forward; the content of a member must be read before the next
name is asked for. So containers nest, and a file in a 3 GB zip in a tar in an xz stream needs a few
buffers of memory. Formats with a table of contents anywhere else than in front (.rcc, .cat) are
held in memory, up to 512 MiB.

ValueError means that the container is refused; `DAMAGE_ERRORS` that it is damaged or truncated.
"""

import bz2
import gzip
import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator

try:
    from compression import zstd  # Python 3.14 and later
except ImportError:
    try:
        import zstandard as zstd
    except ImportError:
        zstd = None

MAX_BYTES = 1 << 29

Stream = io.IOBase
Members = Iterator[tuple[str, Stream]]

DAMAGE_ERRORS = (
    EOFError,
    IndexError,
    NotImplementedError,  # a packing method of zip that Python lacks
    OSError,
    RuntimeError,  # what zipfile raises for encrypted members
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    *([zstd.ZstdError] if zstd else []),
)


def members(name: str, stream: Stream) -> Members:
    """Yield the regular files of the container `name`, in the order of storage."""
    stream = peekable(stream)
    reader = _reader(name, stream)
    if reader is None:
        raise ValueError(f"{name} is not an archive of a known kind")
    return reader(stream)


def is_container(name: str, stream: Stream) -> bool:
    """Return whether `members` can read this; the stream is not advanced."""
    return _reader(name, stream) is not None


def peekable(stream: Stream) -> Stream:
    """Return the stream with a method `peek`."""
    return stream if hasattr(stream, "peek") else io.BufferedReader(stream)


def read_whole(name: str, stream: Stream) -> bytes:
    """Return all of a content. Raises ValueError if it is larger than 512 MiB."""
    pieces, n_bytes = [], 0
    # In pieces, because a reader allocates whatever is asked for at once.
    while piece := stream.read(1 << 20):
        pieces.append(piece)
        n_bytes += len(piece)
        if n_bytes > MAX_BYTES:
            raise ValueError(f"{name} is larger than {MAX_BYTES >> 20} MiB")
    return b"".join(pieces)


def check_name(name: str) -> str:
    """Return the name of a member. Raises ValueError if it is a path out of the archive.

    Nothing is written, so it could do no harm here; but no honest package has one.
    """
    if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\!]", name):
        raise ValueError(f"member {name!r} points outside of the archive")
    return name


def _reader(name: str, stream: Stream) -> Callable[[Stream], Members] | None:
    head = stream.peek(8)[:8]
    for signature, reader in _SIGNATURES.items():
        if head.startswith(signature):
            return reader
    if name.endswith(".cat"):
        return _cat
    return _tar if name.endswith(".tar") else None


def _deb(stream: Stream) -> Members:
    """Debian package: an `ar` archive, whose member data.tar.* holds the files."""
    for name, member in _ar(stream):
        if name.startswith("data.tar"):
            yield from _tar(peekable(member))
            return
    raise ValueError("a .deb without data.tar")


def _ar(stream: Stream) -> Members:
    """`!<arch>`, then for each member 60 bytes of text (name 16, ..., size 10, 2) and the content,
    padded to an even length."""
    stream.read(8)
    while header := stream.read(60):
        if len(header) < 60 or not header.endswith(b"`\n"):
            raise EOFError("the .deb ends in the middle of a header, or is damaged")
        if not (digits := header[48:58].strip()).isdigit():
            raise ValueError(f"the .deb has a member of size {digits!r}")
        size = int(digits)
        part = _Slice(stream, size)
        yield header[:16].decode("ascii").rstrip(" /"), io.BufferedReader(part, 1 << 16)
        part.skip()
        stream.read(size % 2)


def _tar(stream: Stream) -> Members:
    # tarfile would unpack whole blocks of compressed bytes at once, however large they become.
    with tarfile.open(fileobj=_unpacked(stream), mode="r|", bufsize=1 << 16) as tar:
        for entry in tar:
            if entry.isfile():
                yield check_name(entry.name.removeprefix("./")), tar.extractfile(entry)


def _unpacked(stream: Stream) -> Stream:
    head = stream.peek(6)
    if head.startswith(_XZ):
        return lzma.open(stream)
    if head.startswith(_GZIP):
        return gzip.open(stream)
    if head.startswith(_BZ2):
        return bz2.open(stream)
    return _zstd(stream) if head.startswith(_ZST) else stream


def _zstd(stream: Stream) -> Stream:
    """Zstandard, as in Ubuntu's packages."""
    if zstd is None:
        raise ValueError("packed with zstd: `pip install zstandard` to read it")
    return io.BufferedReader(zstd.open(stream, "rb"))


def _zip(stream: Stream) -> Members:
    if not _can_seek(stream):
        yield from _zip_forward(stream)
        return
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            # The upper half of the attributes is the Unix mode; 0o12 there means symbolic link.
            if not info.is_dir() and info.external_attr >> 28 != 0o12:
                with archive.open(info) as member:
                    yield check_name(info.filename), member


def _zip_forward(stream: Stream) -> Members:
    """A zip within a compressed stream, read by the header in front of each member.

    The table at a zip's end, which zipfile needs, may lie gigabytes away. Without it symbolic links
    look like files, whose content is the path that they point to.
    """
    while (signature := stream.read(4)) == b"PK\3\4":
        flags, method, crc, size, n_name, n_extra = struct.unpack(
            "<2xHH4xII4xHH", _exactly(stream, 26)
        )
        name = _exactly(stream, n_name).decode("utf-8" if flags & 0x800 else "cp437")
        _exactly(stream, n_extra)
        if flags & 0b1001 or size == 0xFFFFFFFF or method not in (0, 8):
            raise ValueError(
                f"{name}: encrypted, of unknown size or of an unknown method, in an inner zip"
            )
        part = _Slice(stream, size)
        if not name.endswith("/"):
            yield check_name(name), io.BufferedReader(_Checksummed(part, crc, deflated=method == 8))
        part.skip()
    if signature not in (b"PK\1\2", b"PK\5\6"):
        raise EOFError("the zip ends in the middle")


def _cat(stream: Stream) -> Members:
    """OpenTTD sounds: a table of (offset, size), then entries of a titled RIFF file each.

    All numbers are little-endian 32 bit; bit 31 of an offset marks the newer version of the format
    and is not part of it. The first offset is the table's length. An entry is a length byte, that
    many bytes of title and credits, and a wave file of `size` bytes; a member's name is its index.
    """
    data = read_whole("the cat file", stream)
    n_entries = (_uint("<I", data, 0) & 0x7FFFFFFF) // 8
    for index in range(n_entries):
        offset = _uint("<I", data, 8 * index) & 0x7FFFFFFF
        start = offset + 1 + data[offset]
        size = _uint("<I", data, 8 * index + 4)
        if start + size > len(data):
            raise EOFError(f"entry {index} of the cat file ends beyond it")
        yield str(index), io.BytesIO(data[start : start + size])


def _rcc(stream: Stream) -> Members:
    """Qt resources, versions 1 to 3: a tree of nodes, their names in UTF-16, and the contents.

    All numbers are big-endian. A node is: name offset (32 bit), flags (16), then for a folder the
    count and the index of its first child (32, 32), for a file locale (32) and content offset (32);
    from version 2 on 64 bit of time follow. A content is its length (32 bit) and the bytes.
    """
    data = read_whole("the Qt resource file", stream)
    version, tree, contents, names = struct.unpack_from(">IIII", data, 4)
    node_bytes = 22 if version >= 2 else 14
    seen = set()

    def walk(index: int, path: str) -> Members:
        if index in seen:
            raise ValueError("the tree of the Qt resource file runs in a circle")
        seen.add(index)
        name_at, flags, first, second = struct.unpack_from(">IHII", data, tree + node_bytes * index)
        if index:
            n_chars = _uint(">H", data, names + name_at)
            begin = names + name_at + 6  # after the length and a hash
            path += "/" + data[begin : begin + 2 * n_chars].decode("utf-16-be")
        if flags & 2:
            for child in range(second, second + first):
                yield from walk(child, path)
            return
        begin = contents + second
        size = _uint(">I", data, begin)
        content = data[begin + 4 : begin + 4 + size]
        if len(content) < size:
            raise EOFError(f"{path} ends beyond the Qt resource file")
        check_name(path[1:])
        yield path, _resource(content, flags)

    yield from walk(0, "")


def _resource(content: bytes, flags: int) -> Stream:
    if flags & 1:  # zlib, after the unpacked length
        return io.BufferedReader(
            _Checksummed(io.BytesIO(content[4:]), None, deflated=True, wbits=15)
        )
    return _zstd(io.BytesIO(content)) if flags & 4 else io.BytesIO(content)


class _Slice(io.RawIOBase):
    """The next `size` bytes of a stream. Raises EOFError if the stream ends before."""

    def __init__(self, stream: Stream, size: int):
        self._stream, self._left = stream, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        piece = self._stream.read(min(len(buffer), self._left))
        if not piece and self._left:
            raise EOFError("ends in the middle of a member")
        buffer[: len(piece)] = piece
        self._left -= len(piece)
        return len(piece)

    def skip(self) -> None:
        while self._left:
            self.read(min(self._left, 1 << 20))


class _Checksummed(io.RawIOBase):
    """The content of a stored or deflated member, checked against its CRC-32 at the end."""

    def __init__(self, part: Stream, crc: int | None, *, deflated: bool, wbits: int = -15):
        self._part, self._expected, self._crc = part, crc, 0
        self._inflate = zlib.decompressobj(wbits) if deflated else None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        piece = self._next(len(buffer))
        if not piece and self._expected not in (None, self._crc):
            raise EOFError("wrong checksum within the zip")
        self._crc = zlib.crc32(piece, self._crc)
        buffer[: len(piece)] = piece
        return len(piece)

    def _next(self, size: int) -> bytes:
        if self._inflate is None:
            return self._part.read(size)
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._part.read(1 << 14)
            piece = self._inflate.decompress(packed, size)
            if piece:
                return piece
            if not packed:
                raise EOFError("packed content ends in the middle")
        return b""


def _can_seek(stream: Stream) -> bool:
    """Only for files and bytes: a stream within a tar says that it can seek, and fails."""
    raw = getattr(stream, "raw", stream)
    return isinstance(raw, io.FileIO | io.BytesIO)


def _exactly(stream: Stream, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("ends in the middle of a header")
    return content


def _uint(code: str, data: bytes, offset: int) -> int:
    return struct.unpack_from(code, data, offset)[0]


_XZ, _GZIP, _BZ2, _ZST = b"\xfd7zXZ\0", b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd"
_SIGNATURES = {
    b"!<arch>\n": _deb,
    b"PK\3\4": _zip,
    b"PK\5\6": _zip,  # an empty one
    b"qres": _rcc,
    **dict.fromkeys((_XZ, _GZIP, _BZ2, _ZST), _tar),
}
