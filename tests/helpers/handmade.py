"""Packages and catalogues made by hand, from synthetic tones."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import soundfile

from flamlib.data.corpus.catalogue import CAPTION_COLUMNS, CLIP_COLUMNS
from flamlib.data.corpus.packages import COLUMNS as PACKAGE_COLUMNS


def tone(hz=440.0, seconds=0.5, rate=16000, amplitude=0.5):
    time = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def wav(waveform=None, rate=16000, **options):
    file = io.BytesIO()
    waveform = tone(rate=rate) if waveform is None else waveform
    soundfile.write(file, waveform, rate, format="WAV", **options)
    return file.getvalue()


def tar(members, links=()):
    """A tar of {name: content}, and symbolic links as (name, target)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return file.getvalue()


PACKERS = {"": bytes, ".xz": lzma.compress, ".gz": gzip.compress, ".bz2": bz2.compress}


def deb(members, packing=".xz", links=()):
    data = PACKERS[packing](tar({f"./{k}": v for k, v in members.items()}, links))
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar{packing}": data}
    return ar(parts)


def ar(parts):
    made = b"!<arch>\n"
    for name, content in parts.items():
        made += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        made += content + b"\n" * (len(content) % 2)
    return made


def tgz(members):
    return gzip.compress(tar(members))


def zipped(members, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def cat(sounds, new_format=True):
    """OpenTTD's: a table of (offset, size), then title and content of each sound."""
    table, body = b"", b""
    for i, content in enumerate(sounds):
        offset = 8 * len(sounds) + len(body)
        table += struct.pack("<II", offset | (new_format << 31), len(content))
        title = f'"Sound {i}". By nobody. License: none.'.encode()
        body += bytes([len(title)]) + title + content + b"\0\5x.wav\0"
    return table + body


def rcc(tree, version=3, packed=False):
    """Qt's: {"folder": {"name": content}}, its nodes level by level as rcc itself writes them."""
    nodes, names, contents = [("", tree)], b"", b""
    queue, entries = [0], []
    while queue:
        index = queue.pop(0)
        name, value = nodes[index]
        name_at = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
        if isinstance(value, dict):
            first = len(nodes)
            nodes += value.items()
            queue += range(first, len(nodes))
            entries.append((index, struct.pack(">IHII", name_at, 2, len(value), first)))
        else:
            kept = struct.pack(">I", len(value)) + zlib.compress(value) if packed else value
            entries.append((index, struct.pack(">IHHHI", name_at, packed, 0, 0, len(contents))))
            contents += struct.pack(">I", len(kept)) + kept
    time = bytes(8) if version >= 2 else b""
    header_bytes = 24 if version >= 3 else 20
    at_contents = header_bytes
    at_names = at_contents + len(contents)
    at_tree = at_names + len(names)
    header = b"qres" + struct.pack(">IIII", version, at_tree, at_contents, at_names)
    header += bytes(header_bytes - len(header))
    return header + contents + names + b"".join(node + time for _, node in sorted(entries))


def write_tsv(path, columns, rows):
    lines = ["\t".join(columns), *("\t".join(str(row.get(c, "")) for c in columns) for row in rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_catalogue(folder, clips, captions=None, heard=(), packages=()):
    """A folder of the four tables. Without `captions`, each foreground's own is listed."""
    if captions is None:
        pairs = {(c["caption"], c["family"]): c for c in clips if c["role"] == "foreground"}
        captions = [{"caption": c, "family": family} for c, family in pairs if c and family]
    write_tsv(folder / "clips.tsv", CLIP_COLUMNS, clips)
    write_tsv(folder / "captions.tsv", CAPTION_COLUMNS, captions)
    write_tsv(folder / "background_families.tsv", ("package", "member", "families"), heard)
    write_tsv(folder / "packages.tsv", PACKAGE_COLUMNS, packages)


def clip(member="bark.wav", **fields):
    """A row of clips.tsv that is right: a training foreground, unless said otherwise."""
    return {
        "profile": "core",
        "package": "sounds",
        "version": "1.0",
        "channel": "apt",
        "member": member,
        "role": "foreground",
        "family": "dog bark",
        "caption": "a dog barks",
        "licence": "CC0",
        "group": member,
        "split": "train",
        **fields,
    }


def background(member="rain.wav", **fields):
    return clip(member, **{"role": "background", "family": "ambience", "caption": "rain", **fields})
