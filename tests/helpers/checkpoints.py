"""A TensorFlow checkpoint written by hand, as the format's description says."""

import struct

import numpy as np

FLOAT32, INT32, STRING = 1, 3, 7
MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def block(entries, *, restart_every=16):
    """A block of LevelDB: sorted keys share their beginnings, and now and then one is whole."""
    body, restarts, last = b"", [], b""
    for i, (key, value) in enumerate(sorted(entries)):
        shared = 0
        if i % restart_every == 0:
            restarts.append(len(body))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        body += varint(shared) + varint(len(key) - shared) + varint(len(value))
        body += key[shared:] + value
        last = key
    restarts = restarts or [0]
    return body + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def entry(dtype, shape, offset, size):
    """What the index says of a tensor; fields of value zero are left out."""
    sizes = b"".join(
        b"\x12" + varint(len(dim)) + dim for dim in (b"\x08" + varint(n) for n in shape)
    )
    message = b"\x08" + varint(dtype) + b"\x12" + varint(len(sizes)) + sizes
    if offset:
        message += b"\x20" + varint(offset)
    return message + b"\x28" + varint(size) + b"\x35" + struct.pack("<I", 0xC0FFEE)


def write(tensors, *, compression=0, per_block=3):
    """(index, data) of a checkpoint that holds these arrays, and a string beside them."""
    data, entries = b"a graph", [(b"", b"\x08\x01"), (b"_GRAPH", entry(STRING, [], 0, 7))]
    for name, array in tensors.items():
        dtype = FLOAT32 if array.dtype == np.float32 else INT32
        stored = array.astype(array.dtype.newbyteorder("<")).tobytes()
        entries.append((name.encode(), entry(dtype, array.shape, len(data), len(stored))))
        data += stored
    entries.sort()

    index, handles = b"", []
    for first in range(0, len(entries), per_block):
        part = block(entries[first : first + per_block])
        handles.append((entries[first : first + per_block][-1][0], at(index, part)))
        index += part + bytes([compression]) + b"crc."
    meta, top = block([]), block(handles, restart_every=1)
    footer = at(index, meta)
    index += meta + b"\0crc."
    footer += at(index, top)
    index += top + b"\0crc."
    return index + footer.ljust(40, b"\0") + MAGIC, data


def at(written, part):
    """The handle of a block that comes next."""
    return varint(len(written)) + varint(len(part))
