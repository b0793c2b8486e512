"""The table of a bank's sources, in files that are mapped: its memory does not grow with it.

    sources.arrow          a row per source (`SCHEMA`), in Arrow's IPC format, not compressed
    index/order.npy        the rows in order of role, split, caption, clip_id and variant
    index/recordings.npy   where in that order each recording begins, and the end
    index/captions.npy     the first of these recordings of every caption, and the end
    index/hashes.npy       the hashes of all clip_ids, in order
    index/hashed.npy       the row of each hash

The columns `REPEATED` have each text once.
"""

import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute
from jaxtyping import Integer

TABLE = "sources.arrow"
INDEX = "index"
REPEATED = ("role", "caption", "family", "split", "package")  # texts that many sources share
SCHEMA = pyarrow.schema(
    [
        ("clip_id", pyarrow.string()),
        ("variant", pyarrow.int32()),
        ("role", pyarrow.string()),
        ("caption", pyarrow.string()),
        ("family", pyarrow.string()),
        ("split", pyarrow.string()),
        ("group", pyarrow.string()),
        ("package", pyarrow.string()),
        ("audible", pyarrow.list_(pyarrow.string())),
        ("shard", pyarrow.int32()),
        ("start", pyarrow.int64()),
        ("n_samples", pyarrow.int64()),
        ("scale", pyarrow.float64()),
        ("level_start", pyarrow.int64()),
        ("n_levels", pyarrow.int64()),
        ("onset", pyarrow.float64()),
        ("offset", pyarrow.float64()),
        ("level_db", pyarrow.float64()),
        ("peak", pyarrow.float64()),
    ]
)
_ORDER = ("role", "split", "caption", "clip_id", "variant")


class Groups(Sequence):
    """Nested groups of rows, `groups[caption][recording][variant]`, without a list for each."""

    __slots__ = ("_inside", "_rows", "_starts")

    def __init__(self, starts: Sequence[memoryview], rows: memoryview, inside: range) -> None:
        self._starts, self._rows, self._inside = starts, rows, inside

    def __len__(self) -> int:
        return len(self._inside)

    def __getitem__(self, i: int) -> Any:
        at = self._inside[i]
        if not self._starts:
            return self._rows[at]
        starts = self._starts[0]
        return Groups(self._starts[1:], self._rows, range(starts[at], starts[at + 1]))

    def flat(self) -> "Groups":
        """Return the groups of all groups."""
        starts, inside = self._starts[0], self._inside
        within = range(starts[inside.start], starts[inside.stop])
        return Groups(self._starts[1:], self._rows, within)

    def rows(self) -> Integer[np.ndarray, "row"]:
        """Return the rows of all groups: a view."""
        groups = self
        while groups._starts:
            groups = groups.flat()
        return np.asarray(self._rows)[groups._inside.start : groups._inside.stop]

    def first_rows(self) -> Integer[np.ndarray, "group"]:
        """Return the first row of each group."""
        places = np.arange(self._inside.start, self._inside.stop)
        for starts in self._starts:
            places = np.asarray(starts)[places]
        return np.asarray(self._rows)[places]


class Captions(Mapping[str, Groups]):
    """The recordings of each caption of a role and split, in order of the captions."""

    def __init__(self, groups: Groups, texts: Any) -> None:
        self.groups, self._texts = groups, texts

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[str]:
        return map(self._caption, range(len(self)))

    def __getitem__(self, caption: str) -> Groups:
        i = bisect_left(range(len(self)), caption, key=self._caption)
        if i == len(self) or self._caption(i) != caption:
            raise KeyError(caption)
        return self.groups[i]

    def _caption(self, i: int) -> str:
        return self._texts[self.groups[i][0][0]]


class _Texts:
    """A column of texts of which many are the same: each once, and its number in every row."""

    def __init__(self, column: pyarrow.DictionaryArray):
        self.texts, self.codes = column.dictionary, column.indices.to_numpy()
        self._code = memoryview(self.codes)

    def __getitem__(self, i: int) -> str:
        return self.texts[self._code[i]].as_py()

    def is_text(self, rows: Integer[np.ndarray, "row"], text: str) -> np.ndarray:
        """Whether each of these rows has a text."""
        return self.codes[rows] == self.texts.index(text).as_py()  # -1: none has


class _Values:
    """A column of other texts, or of lists of them."""

    def __init__(self, column: pyarrow.Array):
        self._values = column

    def __getitem__(self, i: int) -> Any:
        return self._values[int(i)].as_py()


def _column(column: pyarrow.Array) -> Sequence[Any] | _Texts | _Values:
    """A column of which single values are looked up: a thousandth of what a table takes for it."""
    if pyarrow.types.is_dictionary(column.type):
        return _Texts(column)
    if pyarrow.types.is_integer(column.type) or pyarrow.types.is_floating(column.type):
        return memoryview(column.to_numpy())  # which has Python numbers
    return _Values(column)


@dataclass(frozen=True, eq=False)
class SourceTable:
    """The rows of a bank.

    Attributes:
        batch: of the file.
        columns: of each the values, by row.
        index: the arrays of the index, by name.
    """

    batch: pyarrow.RecordBatch
    columns: Mapping[str, Any]
    index: Mapping[str, memoryview]

    @classmethod
    def open(cls, folder: Path) -> "SourceTable":
        """Map the files of a folder that `write` wrote."""
        batch = pyarrow.ipc.open_file(pyarrow.memory_map(str(folder / TABLE))).get_batch(0)
        columns = {name: _column(batch[name]) for name in batch.schema.names}
        index = {
            path.stem: memoryview(np.asarray(np.load(path, mmap_mode="r")))
            for path in (folder / INDEX).glob("*.npy")
        }
        return cls(batch, columns, index)

    def __len__(self) -> int:
        return self.batch.num_rows

    def to_pandas(self) -> pd.DataFrame:
        """Return the table for pandas: a kB of memory a source."""
        return self.batch.to_pandas().astype(dict.fromkeys(REPEATED, object))

    def row(self, clip_id: str, variant: int) -> int | None:
        """Return the row of a source; None if there is none."""
        hashes, rows, wanted = self.index["hashes"], self.index["hashed"], _hash(clip_id)
        at, clip_ids, variants = bisect_left(hashes, wanted), *self._names
        while at < len(hashes) and hashes[at] == wanted:
            row = rows[at]
            if variants[row] == variant and clip_ids[row] == clip_id:
                return row
            at += 1
        return None

    def recordings(self, role: str, split: str, package: str | None = None) -> Captions:
        """Return the rows of a role and split, of one package or of all."""
        key = role, split, package
        if key not in self._found:
            groups = self._of_split(role, split)
            if package is not None:
                groups = self._of_package(groups, package)
            self._found[key] = Captions(groups, self.columns["caption"])
        return self._found[key]

    @cached_property
    def _names(self):
        return self.columns["clip_id"], self.columns["variant"]

    @cached_property
    def _found(self):
        return {}

    def _of_split(self, role: str, split: str) -> Groups:
        captions, recordings, rows = self._levels
        roles, splits = self.columns["role"], self.columns["split"]

        def key(i: int) -> tuple[str, str]:
            row = rows[recordings[captions[i]]]
            return roles[row], splits[row]

        every = range(len(captions) - 1)
        first, stop = (find(every, (role, split), key=key) for find in (bisect_left, bisect_right))
        return Groups((captions, recordings), rows, range(first, stop))

    def _of_package(self, groups: Groups, package: str) -> Groups:
        """Those of one package: the only lists that are made, of four bytes a row."""
        captions, recordings, order = map(np.asarray, self._levels)
        places = groups.flat().flat()._inside
        rows = order[places.start : places.stop]
        kept = np.flatnonzero(self.columns["package"].is_text(rows, package))
        of_recording = np.searchsorted(recordings, places.start + kept, side="right") - 1
        starts = _starts(of_recording)
        of_caption = np.searchsorted(captions, of_recording[starts[:-1]], side="right") - 1
        levels = _starts(of_caption), starts
        first = range(len(levels[0]) - 1)
        return Groups([memoryview(level) for level in levels], memoryview(rows[kept]), first)

    @cached_property
    def _levels(self):
        return self.index["captions"], self.index["recordings"], self.index["order"]


def write(folder: Path, table: pyarrow.Table) -> None:
    """Write the files of a table; it has the columns of `SCHEMA`, and at least one row."""
    table = table.select(SCHEMA.names).cast(SCHEMA).combine_chunks()
    by = [(name, "ascending") for name in _ORDER]
    order = pyarrow.compute.sort_indices(table.select(_ORDER), by).to_numpy().astype(np.uint32)
    names = pyarrow.compute.take(table.select(_ORDER), pyarrow.array(order)).combine_chunks()
    captions = np.logical_or.reduce([_changes(names[name]) for name in _ORDER[:3]])
    recordings = np.flatnonzero(captions | _changes(names["clip_id"]))
    hashes = np.fromiter(map(_hash, table["clip_id"].to_pylist()), np.uint32, len(table))
    hashed = np.argsort(hashes, kind="stable")
    arrays = {
        "order": order,
        "recordings": np.append(recordings, len(order)),
        "captions": np.append(np.flatnonzero(captions[recordings]), len(recordings)),
        "hashed": hashed,
    }
    (folder / INDEX).mkdir()
    for name, array in arrays.items():
        np.save(folder / INDEX / f"{name}.npy", array.astype(np.uint32))
    np.save(folder / INDEX / "hashes.npy", hashes[hashed])

    for name in REPEATED:
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, table[name].dictionary_encode())
    [batch] = table.combine_chunks().to_batches()
    with pyarrow.ipc.new_file(str(folder / TABLE), batch.schema) as file:
        file.write_batch(batch)


def _changes(column: pyarrow.ChunkedArray) -> np.ndarray:
    """Whether each value is another than the one before; the first is."""
    differ = pyarrow.compute.not_equal(column.slice(1), column.slice(0, len(column) - 1))
    return np.append(True, differ.to_numpy())


def _starts(numbers: Integer[np.ndarray, "item"]) -> Integer[np.ndarray, "group_or_end"]:
    """Where each group of the same number begins, and the end."""
    first = np.flatnonzero(np.diff(numbers, prepend=-1))
    return np.append(first, len(numbers)).astype(np.uint32)


def _hash(clip_id: str) -> int:
    return zlib.crc32(clip_id.encode("utf-8", "surrogatepass"))
