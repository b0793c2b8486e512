"""Sound libraries without tables: folders named after what sounds, and file names of UCS.

The Universal Category System (UCS) names a file `CatID_FXName_CreatorID_SourceID_UserData.wav`; the
last part may be absent, and `-UserCategory` may stand behind the CatID. The list of categories is
published as a table with the columns Category, SubCategory and CatID; Excel separates them by
semicolons where numbers have commas.
"""

import difflib
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from flamlib import texts
from flamlib.data.collections.items import AUTO, TEST, TRAIN, VALID, Contents, Item
from flamlib.data.datasets.annotations import AudioFolder, label_to_caption
from flamlib.storage import tables
from flamlib.waveforms.audio import SUFFIXES

SPLITS = {"train": TRAIN, "valid": VALID, "validation": VALID, "val": VALID, "test": TEST}
UCS = re.compile(
    r"(?P<category>[A-Z]{2,}[A-Za-z0-9]*)(?:-[^_]*)?_(?P<name>[^_]+)_(?P<creator>[^_]+)"
    r"_(?P<source>[^_]+)(?:_(?P<data>.*))?"
)
TAKE = re.compile(r"(?<=\D)[\s-]*\d+$")  # the number of a take behind a name
MOST_BYTES = 1 << 20  # of a chunk with a description
_IXML = re.compile(r"<(BWF_DESCRIPTION|DESCRIPTION)>([^<]*)</\1>", re.IGNORECASE)


def folder(root: Path) -> Contents:
    """Read a tree of folders: a recording is named after its folder, and those above are broader.

    A folder train, valid or test at the top says the split; without it recordings are shared out.
    """
    contents = Contents()
    for path, member in _recordings(root, contents):
        *above, _ = path.relative_to(root).parts
        split = SPLITS.get(above[0].lower(), AUTO) if above else AUTO
        names = [label_to_caption(name) for name in (above if split == AUTO else above[1:])]
        if not names or not any(map(str.isalpha, names[-1])):
            contents.skipped.append((member, "in no folder that says with words what it is"))
            continue
        contents.items.append(
            Item(path, str(path), caption=names[-1], parents=tuple(names[:-1]), split=split)
        )
    return contents


def ucs(root: Path, *, categories: Path | None = None) -> Contents:
    """Read a library named by UCS; `categories` is the published list, as .csv or .tsv.

    The FX name is the caption, the description in the file (BWF or iXML) another text for it, and
    the subcategory the family. Files of one name, creator and source are one group: takes.
    """
    contents = Contents()
    known = None if categories is None else _read_categories(categories)
    for path, member in _recordings(root, contents):
        parts = UCS.fullmatch(path.stem)
        if not parts:
            contents.skipped.append(
                (member, "its name is not CatID_FXName_CreatorID_SourceID[_UserData]")
            )
            continue
        name = label_to_caption(TAKE.sub("", parts["name"]).replace("-", " "))
        if not any(map(str.isalpha, name)):
            contents.skipped.append((member, f"its FX name {parts['name']!r} has no word"))
            continue
        family, parents = parts["category"].lower(), ()
        if known is not None:
            if parts["category"] not in known:
                near = difflib.get_close_matches(parts["category"], known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                why = f"CatID {parts['category']!r} is not in {categories}{hint}"
                contents.skipped.append((member, why))
                continue
            category, subcategory = known[parts["category"]]
            family, parents = f"{category}: {subcategory}", (category,)
        contents.items.append(
            Item(
                path,
                str(path),
                caption=name,
                wordings=tuple(filter(None, [description(path)])),
                family=family,
                parents=parents,
                split=AUTO,
                group=f"{parts['category']}_{name}_{parts['creator']}_{parts['source']}",
            )
        )
    return contents


def description(path: Path) -> str:
    """Return the description in a WAV file, of its chunk bext (BWF) or else iXML; "" without one.

    >>> description(Path("of nothing.flac"))
    ''
    """
    if path.suffix.lower() not in (".wav", ".wave", ".bwf"):
        return ""
    chunks = dict(_chunks(path, (b"bext", b"iXML")))
    text = chunks.get(b"bext", b"")[:256].split(b"\0")[0].decode("utf-8", "replace")
    if not texts.normal(text) and (
        found := _IXML.search(chunks.get(b"iXML", b"").decode("utf-8", "replace"))
    ):
        text = found[2]
    return texts.normal(text)


def _recordings(root: Path, contents: Contents) -> Iterator[tuple[Path, str]]:
    paths = AudioFolder(root).paths
    for path in sorted(path for of_stem in paths.values() for path in of_stem):
        member = path.relative_to(root).as_posix()
        if path.suffix.lower() in SUFFIXES:
            yield path, member
        else:
            contents.skipped.append((member, "of a format that is not read"))


def _read_categories(path: Path) -> Mapping[str, tuple[str, str]]:
    """Category and subcategory of each CatID, in lower case."""
    first = tables.first_line(path)
    semicolons = ";" if first.count(";") > first.count(",") + first.count("\t") else None
    columns = ("Category", "SubCategory", "CatID")
    rows = tables.read(path, columns, filled=("CatID",), unique="CatID", delimiter=semicolons)
    return {
        row["CatID"].strip(): (
            label_to_caption(row["Category"]),
            label_to_caption(row["SubCategory"]),
        )
        for row in rows
    }


def _chunks(path: Path, wanted: tuple[bytes, ...]) -> Iterator[tuple[bytes, bytes]]:
    """The content of some chunks of a WAV file, as far as it can be read."""
    try:
        with path.open("rb") as file:
            if file.read(4) not in (b"RIFF", b"RF64", b"BW64"):
                return
            file.seek(12)
            while len(header := file.read(8)) == 8:
                name, size = struct.unpack("<4sI", header)
                if name in wanted:
                    yield name, file.read(min(size, MOST_BYTES))
                    size -= min(size, MOST_BYTES)
                file.seek(size + (size & 1), 1)
    except OSError:
        return
