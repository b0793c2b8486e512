"""Recipes of mixtures: which piece of which source sounds when and how loud, and the labels.

A recipe is a row of a Parquet file of `SCHEMA`. It refers to sources by clip_id and variant, so it
is still valid after the bank was built again. `render` makes the same samples of it anywhere.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
from jaxtyping import Float

from flamlib import paths
from flamlib.data.mixtures import levels
from flamlib.data.mixtures.bank import Bank
from flamlib.sound_events.events import Event
from flamlib.storage import files


class Segment(NamedTuple):
    """A piece of a source in a mixture, in samples.

    Attributes:
        onset: where it begins in the mixture.
        source_start: where it begins in the source.
        n_samples: its length.
    """

    onset: int
    source_start: int
    n_samples: int


class PlacedEvent(NamedTuple):
    """One event of a recipe. When it is active is not here but in `Recipe.labels`.

    Attributes:
        clip_id: of the recording.
        variant: of the recording in the bank.
        caption: of the recording.
        family: of the caption.
        snr_db: A-weighted level over the background's, after the gain was limited to keep the
            mixture from clipping.
        gain: factor of the source's samples.
        segments: its pieces.
    """

    clip_id: str
    variant: int
    caption: str
    family: str
    snr_db: float
    gain: float
    segments: tuple[Segment, ...]


class Background(NamedTuple):
    """The background of a mixture, or a masker over it: an excerpt of a source.

    Attributes:
        clip_id: of the recording.
        variant: of the recording in the bank.
        start: first sample of the excerpt in the source.
        gain: factor of the source's samples.
        level_db: A-weighted level after the gain, dBFS.
    """

    clip_id: str
    variant: int
    start: int
    gain: float
    level_db: float


class Recipe(NamedTuple):
    """Everything about one mixture.

    Attributes:
        index: of the mixture in its split.
        split: of its recordings.
        sample_rate: in Hz.
        n_samples: length.
        n_fade: samples of the fade at either end of every segment.
        background: None for silence.
        events: what is mixed.
        labels: when each caption is true, in seconds: the ground truth.
        masker: speech or music over the background; None: without.
    """

    index: int
    split: str
    sample_rate: int
    n_samples: int
    n_fade: int
    background: Background | None
    events: tuple[PlacedEvent, ...]
    labels: tuple[Event, ...]
    masker: Background | None = None

    def as_row(self) -> dict[str, Any]:
        """Return the recipe as nested dicts and lists, a row of `SCHEMA`."""
        row = self._asdict()
        row["background"] = self.background and self.background._asdict()
        row["events"] = [
            e._asdict() | {"segments": [s._asdict() for s in e.segments]} for e in self.events
        ]
        row["labels"] = [label._asdict() for label in self.labels]
        if self.masker is None:
            del row["masker"]
        else:
            row["masker"] = self.masker._asdict()
        return row

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Recipe":
        """Return the recipe of a row, as `datasets`, `pyarrow` or the JSON of a shard give it."""
        events = (
            PlacedEvent(**e | {"segments": tuple(Segment(**s) for s in e["segments"])})
            for e in row["events"]
        )
        return cls(
            **row
            | {
                "background": _excerpt(row["background"]),
                "events": tuple(events),
                "labels": tuple(Event(**label) for label in row["labels"]),
                "masker": _excerpt(row.get("masker")),
            }
        )


def _excerpt(row: dict[str, Any] | None) -> Background | None:
    # Without a name: silence, as shards in tar files have it.
    return Background(**row) if row and row["clip_id"] else None


def _struct(**types) -> pyarrow.DataType:
    return pyarrow.struct(list(types.items()))


_I, _F, _S = pyarrow.int64(), pyarrow.float64(), pyarrow.string()
_SEGMENT = _struct(onset=_I, source_start=_I, n_samples=_I)
_EVENT = _struct(
    clip_id=_S,
    variant=_I,
    caption=_S,
    family=_S,
    snr_db=_F,
    gain=_F,
    segments=pyarrow.list_(_SEGMENT),
)
_EXCERPT = _struct(clip_id=_S, variant=_I, start=_I, gain=_F, level_db=_F)
SCHEMA = pyarrow.schema(
    {
        "index": _I,
        "split": _S,
        "sample_rate": _I,
        "n_samples": _I,
        "n_fade": _I,
        "background": _EXCERPT,
        "events": pyarrow.list_(_EVENT),
        "labels": pyarrow.list_(_struct(onset=_F, offset=_F, caption=_S)),
    }
)
MASKED = SCHEMA.append(pyarrow.field("masker", _EXCERPT))  # of mixtures that may have a masker


def to_table(recipes: Iterable[Recipe], schema: pyarrow.Schema = SCHEMA) -> pyarrow.Table:
    """Return recipes as a table of `SCHEMA`, or of `MASKED`."""
    return pyarrow.Table.from_pylist([recipe.as_row() for recipe in recipes], schema=schema)


def write(path: str | Path, tables: pyarrow.Table | Iterable[pyarrow.Table]) -> None:
    """Write the Parquet file that `read` and `datasets.Dataset.from_parquet` read.

    Tables, all of one schema, are written as they come, each as row groups of its own, and need not
    fit into memory together. The file gets its name when it is complete.
    """
    tables = iter([tables] if isinstance(tables, pyarrow.Table) else tables)
    first = next(tables, SCHEMA.empty_table())
    with (
        files.atomic_file(path) as partial,
        pyarrow.parquet.ParquetWriter(partial, first.schema, compression="zstd") as writer,
    ):
        for table in chain([first], tables):
            writer.write_table(table)


class Recipes(Sequence[Recipe]):
    """The recipes of a Parquet file as a sequence; a slice of it is a list.

    They are not in memory: the file is unpacked once, into `artifacts/cache` of the project in
    which it lies (else into the cache of `datasets`, HF_DATASETS_CACHE), and every process maps
    that. So a million recipes cost a training process no more memory than a hundred. A copy belongs
    to a content, not to a time; the two newest of a file are kept, as a training that runs may use
    the older one. The cache can be removed at any time; it is made again.
    """

    def __init__(self, dataset: datasets.Dataset):
        self._dataset = dataset

    @property
    def table(self) -> pyarrow.Table:
        """The recipes as a table of `SCHEMA`, mapped and not in memory."""
        return self._dataset.data.table

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, i: int | slice) -> "Recipe | list[Recipe]":
        if isinstance(i, slice):
            return [self[row] for row in range(len(self))[i]]
        return Recipe.from_row(self._dataset[int(i)])


def read(path: str | Path) -> Recipes:
    """Open the recipes of a Parquet file.

    Raises FileNotFoundError if there is none, ValueError if it is damaged or has other columns.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no mixtures yet; 02_mix draws them")
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if not any(file.schema_arrow.equals(schema) for schema in (SCHEMA, MASKED)):
                names = file.schema_arrow.names
                raise ValueError(f"{path}: not a table of mixtures: {names}, not {SCHEMA.names}")
            copy = _copy_of(path)
            if _n_rows(copy) != file.metadata.num_rows:
                _unpack(file, copy)
                _forget_older(copy)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowKeyError) as error:
        raise ValueError(
            f"{path}: damaged ({str(error).splitlines()[0]}); 02_mix draws the mixtures again"
        ) from error
    return Recipes(datasets.Dataset.from_file(str(copy)))


def _copy_of(path: Path) -> Path:
    """Where the unpacked recipes of a file are: one name for one place and content."""
    path = path.resolve()
    place = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return _cache(path) / f"{place}-{files.sha256(path)[:32]}.arrow"


def _n_rows(copy: Path) -> int | None:
    """The number of rows of an unpacked file; None if it is missing or damaged."""
    try:
        with pyarrow.memory_map(str(copy)) as file, pyarrow.ipc.open_stream(file) as stream:
            return sum(batch.num_rows for batch in stream)
    except (OSError, pyarrow.ArrowInvalid):
        return None


def _unpack(file: pyarrow.parquet.ParquetFile, copy: Path) -> None:
    with (
        files.atomic_file(copy) as unfinished,
        pyarrow.OSFile(str(unfinished), "wb") as out,
        pyarrow.ipc.new_stream(out, file.schema_arrow) as stream,
    ):
        for batch in file.iter_batches(batch_size=1000):
            stream.write_batch(batch)


def _forget_older(copy: Path) -> None:
    """Remove all but the two newest copies of a file; a process that maps one still has it."""
    place = copy.name.partition("-")[0]
    copies = sorted(copy.parent.glob(f"{place}-*.arrow"), key=lambda path: path.stat().st_mtime_ns)
    for old in copies[:-2]:
        old.unlink(missing_ok=True)


def _cache(path: Path) -> Path:
    for folder in path.parents:
        if (folder / "dvc.yaml").is_file():
            return folder / paths.CACHE / "recipes"
    return Path(datasets.config.HF_DATASETS_CACHE) / "flam-recipes"


def render(bank: Bank, recipe: Recipe) -> Float[np.ndarray, "sample"]:
    """Render the audio of a recipe: background, events and masker, float32 in [-1, 1].

    Only multiplications and additions of float32 in a fixed order: bit by bit the same anywhere.
    """
    mixture = _render_background(bank, recipe)
    for event in recipe.events:
        _add(bank, recipe, event, mixture)
    if recipe.masker is not None:  # last, so that all else is what it is without
        mixture += _render_excerpt(bank, recipe, recipe.masker)
    return mixture


def render_stems(bank: Bank, recipe: Recipe) -> Float[np.ndarray, "stem sample"]:
    """Render the parts that `render` adds up: the background, each event, the masker if any."""
    n_events = len(recipe.events)
    stems = np.zeros((1 + n_events + (recipe.masker is not None), recipe.n_samples), np.float32)
    stems[0] = _render_background(bank, recipe)
    for event, stem in zip(recipe.events, stems[1 : 1 + n_events], strict=True):
        _add(bank, recipe, event, stem)
    if recipe.masker is not None:
        stems[-1] = _render_excerpt(bank, recipe, recipe.masker)
    return stems


def audible_families(bank: Bank, recipe: Recipe) -> set[str]:
    """Return the families that sound in background or masker: unknown there, not negative."""
    behind = [part for part in (recipe.background, recipe.masker) if part is not None]
    rows = [bank.row(part.clip_id, part.variant) for part in behind]
    return {family for row in rows for family in bank.get(row, "audible")}


def _render_background(bank, recipe):
    if bank.sample_rate != recipe.sample_rate:
        raise ValueError(
            f"a recipe for {recipe.sample_rate} Hz, but {bank.folder} has {bank.sample_rate} Hz"
        )
    if recipe.background is None:
        return np.zeros(recipe.n_samples, np.float32)
    return _render_excerpt(bank, recipe, recipe.background)


def _render_excerpt(bank, recipe, excerpt):
    clip_id, variant, start, gain, _ = excerpt
    row = bank.row(clip_id, variant)
    excerpt = bank.integers(row, start, recipe.n_samples)
    return excerpt * np.float32(gain * bank.get(row, "scale"))


def _add(bank, recipe, event, mixture):
    """Add an event's segments to the mixture, each faded in and out."""
    row = bank.row(event.clip_id, event.variant)
    factor = np.float32(event.gain * bank.get(row, "scale"))
    for onset, start, length in event.segments:
        segment = bank.integers(row, start, length) * factor
        fade = levels.fade(min(recipe.n_fade, length // 2))
        segment[: len(fade)] *= fade
        segment[length - len(fade) :] *= fade[::-1]
        mixture[onset : onset + length] += segment
