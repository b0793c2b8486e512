"""Read the tensors of a TensorFlow checkpoint without TensorFlow.

A checkpoint ("tensor bundle") has two files. `variables.index` is an uncompressed sorted string
table in LevelDB's format whose values are protocol buffers: the dtype, shape, offset and size of
each tensor. `variables.data-00000-of-00001` contains the raw little-endian numbers. Only what a
SavedModel of float weights needs is supported; anything else is an error.
"""

import struct
from collections.abc import Iterator

import numpy as np

_TABLE_MAGIC = 0xDB4775248B80FB57
_FLOAT32 = 1
_BLOCK_TRAILER = 5  # one byte of compression type, four of checksum


def read_bundle(index: bytes, data: bytes) -> dict[str, np.ndarray]:
    """Return the float32 tensors of a checkpoint by name.

    `index` and `data` are the contents of the two files. Entries of other types (the object graph
    is a string) are skipped. Raises ValueError if `index` is not an uncompressed table or damaged,
    or if a tensor reaches past the end of `data`, as in a truncated download.
    """
    try:
        return dict(_tensors(index, data))
    except (IndexError, TypeError, OverflowError, struct.error) as error:
        raise ValueError(f"the checkpoint index is damaged ({error})") from error


def _tensors(index: bytes, data: bytes) -> Iterator[tuple[str, np.ndarray]]:
    if len(index) < 48 or struct.unpack("<Q", index[-8:])[0] != _TABLE_MAGIC:
        raise ValueError("not a TensorFlow checkpoint index (wrong magic number at its end)")
    footer = index[-48:]
    _, at = _varint(footer, 0)
    _, at = _varint(footer, at)
    offset, at = _varint(footer, at)
    size, _ = _varint(footer, at)

    for _, handle in _entries(_block(index, offset, size)):
        block_offset, at = _varint(handle, 0)
        block_size, _ = _varint(handle, at)
        for key, value in _entries(_block(index, block_offset, block_size)):
            entry = _fields(value)
            if not key or entry.get(1) != _FLOAT32:
                continue
            start, n_bytes = entry.get(4, 0), entry.get(5, 0)
            if start + n_bytes > len(data):
                raise ValueError(
                    f"tensor {key.decode()!r} lies past the end of the data: truncated?"
                )
            array = np.frombuffer(data, "<f4", count=n_bytes // 4, offset=start)
            yield key.decode(), array.reshape(_shape(entry.get(2, b"")))


def _varint(buffer: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _block(index: bytes, offset: int, size: int) -> bytes:
    if offset + size + _BLOCK_TRAILER > len(index):
        raise ValueError("a block lies past the end of the checkpoint index: truncated?")
    if index[offset + size] != 0:
        raise ValueError("the checkpoint index is compressed, which this reader does not do")
    return index[offset : offset + size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key-value pairs of one block; each key stores only what differs from the one before."""
    n_restarts = struct.unpack("<I", block[-4:])[0]
    end = len(block) - 4 - 4 * n_restarts
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        n_value, at = _varint(block, at)
        key = key[:shared] + block[at : at + unshared]
        at += unshared
        yield key, block[at : at + n_value]
        at += n_value


def _fields(message: bytes) -> dict[int, int | bytes]:
    """Last value of each field of a protocol buffer; nested messages stay bytes."""
    at, fields = 0, {}
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            fields[number], at = _varint(message, at)
        elif wire == 2:
            size, at = _varint(message, at)
            fields[number] = message[at : at + size]
            at += size
        elif wire == 5:
            fields[number] = struct.unpack("<I", message[at : at + 4])[0]
            at += 4
        else:
            raise ValueError(f"unexpected wire type {wire} in a checkpoint entry")
    return fields


def _shape(message: bytes) -> list[int]:
    """Sizes of a TensorShapeProto: a repeated field 2, each holding its size in field 1."""
    at, sizes = 0, []
    while at < len(message):
        tag, at = _varint(message, at)
        if tag >> 3 != 2:
            raise ValueError("a tensor of unknown shape in the checkpoint")
        size, at = _varint(message, at)
        sizes.append(_fields(message[at : at + size]).get(1, 0))
        at += size
    return sizes
