"""The bank: all recordings decoded once, at one sample rate, in memory-mapped arrays.

    samples.i16       every source, one after another, each scaled to 16 bits by its own factor
    levels.f32        A-weighted level of every hop of 25 ms, dBFS
    peaks.u16         largest sample of every hop
    sources.parquet   one row per source, see `Bank`
    bank.json         the parameters that the bank was built with
    skipped.tsv       recordings that could not be used, and why: clip_id path why

Processes that open the same bank share its pages in memory.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute
import pyarrow.parquet
from jaxtyping import Float, Int16, UInt16
from tqdm import tqdm

from flamlib import files, parallel
from flamlib.data.mixtures import augmentation, sources
from flamlib.data.mixtures.sources import HOP_S, Source
from flamlib.parameters import plain
from flamlib.params.sounds import VariantsConfig

# Columns of texts that many sources share.
REPEATED = ("role", "caption", "family", "split", "package")


class _Texts:
    """A column of texts of which many are the same: each once, and its number in every row."""

    def __init__(self, column: pyarrow.ChunkedArray):
        coded = column.unify_dictionaries().combine_chunks()
        self.texts, self._codes = coded.dictionary.to_pylist(), coded.indices.to_numpy()
        self._code = memoryview(self._codes)

    def __getitem__(self, i: int) -> str:
        return self.texts[self._code[i]]

    def equals(self, text: str) -> np.ndarray:
        """Whether each row has a text."""
        return self._codes == (self.texts.index(text) if text in self.texts else -1)

    def ranks(self) -> np.ndarray:
        """The place of each row's text among all, in order."""
        return np.argsort(np.argsort(np.array(self.texts, object)))[self._codes]


class _Values:
    """A column of other texts, or of lists of them."""

    def __init__(self, column: pyarrow.ChunkedArray):
        self._values = column.combine_chunks()

    def __getitem__(self, i: int) -> Any:
        return self._values[int(i)].as_py()


def _column(column: pyarrow.ChunkedArray) -> Sequence[Any] | _Texts | _Values:
    """A column of which single values are looked up: a thousandth of what a table takes for it."""
    if pyarrow.types.is_dictionary(column.type):
        return _Texts(column)
    if pyarrow.types.is_integer(column.type) or pyarrow.types.is_floating(column.type):
        return memoryview(column.to_numpy())  # which has Python numbers
    return _Values(column)


@dataclass(frozen=True, eq=False)
class Bank:
    """Every source of an experiment: `bank[i]` are the samples of source i, as float32.

    Attributes:
        folder: where the bank lies.
        sample_rate: of all sources, Hz.
        clip_s: length of the mixtures; backgrounds are at least as long.
        seed: with which the variants of the recordings were drawn.
        table: one row per source, with the columns
            clip_id, variant: what it is; variant 0 is the recording as it is;
            role, caption, family, split, group, package: of its recording;
            audible: families that can be heard in a background;
            start, n_samples: where its samples lie in `samples`;
            scale: amplitude of one step of its samples;
            level_start, n_levels: where its hops lie in `levels_db` and `peaks`;
            onset, offset: its active part, in seconds;
            level_db: A-weighted level of its active part, dBFS;
            peak: its largest amplitude.
        samples: of all sources.
        levels_db: A-weighted levels of all hops, dBFS.
        peaks: largest samples of all hops, in steps.
    """

    folder: Path
    sample_rate: int
    clip_s: float
    seed: int
    table: pyarrow.Table
    samples: Int16[np.ndarray, "samples_of_all"]
    levels_db: Float[np.ndarray, "hops_of_all"]
    peaks: UInt16[np.ndarray, "hops_of_all"]

    @property
    def sources(self) -> pd.DataFrame:
        """The table for pandas: a kB of memory a source, where `get` takes a tenth."""
        return self.table.to_pandas(strings_to_categorical=False).astype(
            {name: object for name in REPEATED if name in self.table.column_names}
        )

    def distinct(self, column: str) -> set[str]:
        """Return the texts that one of the columns `REPEATED` has."""
        return set(self._columns[column].texts)

    def skipped(self) -> list[str]:
        """Return why recordings could not be used, a sentence each, which names the file."""
        rows = pd.read_csv(self.folder / "skipped.tsv", sep="\t", dtype=str, keep_default_na=False)
        return rows["why"].tolist()

    @classmethod
    def open(cls, folder: str | Path) -> "Bank":
        """Map the files of a folder that `build` wrote; samples are read when they are used.

        Raises FileNotFoundError for a folder without a bank, ValueError for one of an old version.
        """
        folder = Path(folder)
        if not (folder / "bank.json").is_file():
            raise FileNotFoundError(f"{folder}: no bank.json, so no bank was completed here")
        if not (folder / "peaks.u16").is_file():
            raise ValueError(f"{folder}: of an earlier version, without peaks.u16: build it again")
        parameters = json.loads((folder / "bank.json").read_text())
        return cls(
            folder=folder,
            sample_rate=parameters["sample_rate"],
            clip_s=parameters["clip_s"],
            seed=parameters.get("seed", 0),  # recordings of others have no variants
            table=pyarrow.parquet.read_table(
                folder / "sources.parquet", read_dictionary=list(REPEATED)
            ),
            # As plain arrays: a slice of a memmap object costs ten times one of an array.
            samples=np.asarray(np.memmap(folder / "samples.i16", dtype="<i2", mode="r")),
            levels_db=np.asarray(np.memmap(folder / "levels.f32", dtype="<f4", mode="r")),
            peaks=np.asarray(np.memmap(folder / "peaks.u16", dtype="<u2", mode="r")),
        )

    def __reduce__(self):
        return Bank.open, (self.folder,)  # a worker process maps the files again

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, i: int) -> Float[np.ndarray, "sample"]:
        return self.integers(i) * np.float32(self.get(i, "scale"))

    def get(self, i: int, column: str) -> Any:
        """Return the value of a column of `sources` for source i."""
        return self._columns[column][i]

    def row(self, clip_id: str, variant: int) -> int:
        """Return the row of a source. Raises KeyError if the bank does not hold it."""
        hashes, order = self._by_hash
        at = int(np.searchsorted(hashes, wanted := hash(clip_id)))
        while at < len(hashes) and hashes[at] == wanted:
            row = int(order[at])
            if (self.get(row, "clip_id"), self.get(row, "variant")) == (clip_id, variant):
                return row
            at += 1
        raise KeyError(
            f"{self.folder}: no source {clip_id!r} variant {variant}; were the recipes drawn "
            "from another bank?"
        )

    def recordings(
        self, role: str, split: str, package: str | None = None
    ) -> dict[str, list[list[int]]]:
        """Return rows of a role and split, as `{caption: [[variant, ...] of a recording, ...]}`.

        Of one package, or of all. They are sorted by caption, clip_id and variant, so the order of
        `clips.tsv` does not matter.
        """
        key = role, split, package
        if key not in self._recordings:
            self._recordings[key] = self._find_recordings(*key)
        return self._recordings[key]

    def nested(self, role: str, split: str, package: str | None = None) -> list[list[list[int]]]:
        """Return the rows of `recordings` as lists: `[caption][recording][variant]`."""
        key = "nested", role, split, package
        if key not in self._recordings:
            self._recordings[key] = list(self.recordings(role, split, package).values())
        return self._recordings[key]

    def flat(self, role: str, split: str) -> list[list[int]]:
        """Return the rows of `recordings` without the level of captions: `[recording][variant]`."""
        key = "flat", role, split
        if key not in self._recordings:
            captions = self.nested(role, split)
            self._recordings[key] = [recording for caption in captions for recording in caption]
        return self._recordings[key]

    def integers(
        self, i: int, start: int = 0, n_samples: int | None = None
    ) -> Int16[np.ndarray, "sample"]:
        """Return samples of source i, in steps of its scale: a view of the file, not a copy."""
        n_samples = self.get(i, "n_samples") - start if n_samples is None else n_samples
        first = self.get(i, "start") + start
        return self.samples[first : first + n_samples]

    def levels(
        self, i: int, start: int = 0, n_samples: int | None = None
    ) -> Float[np.ndarray, "hop"]:
        """Return the A-weighted levels (dBFS) of source i, or of the hops that touch a part of it.

        Hop h is the time [h, h + 1) * HOP_S of the source.
        """
        first, last = self._hops(i, start, n_samples)
        return self.levels_db[first:last]

    def peak(self, i: int, start: int = 0, n_samples: int | None = None) -> float:
        """Return the largest amplitude of source i, or of the hops that touch a part of it.

        At least one step of its scale. By hops, because to look at every sample would take longer
        than everything else about a mixture.
        """
        if n_samples is None and not start:
            return self.get(i, "peak")
        first, last = self._hops(i, start, n_samples)
        return max(int(self.peaks[first:last].max()), 1) * self.get(i, "scale")

    @cached_property
    def _columns(self):
        return {name: _column(self.table[name]) for name in self.table.column_names}

    @cached_property
    def _by_hash(self):
        """The hashes of all clip_ids in order, and the row of each."""
        names = self._columns["clip_id"]
        hashes = np.fromiter((hash(names[i]) for i in range(len(self))), np.int64, len(self))
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order

    @cached_property
    def _recordings(self):
        return {}

    def _find_recordings(self, role, split, package):
        wanted = {"role": role, "split": split} | ({} if package is None else {"package": package})
        is_wanted = [self._columns[column].equals(text) for column, text in wanted.items()]
        rows = np.flatnonzero(np.logical_and.reduce(is_wanted))
        captions = self._columns["caption"]
        keys = {
            "caption": captions.ranks()[rows],
            "clip_id": self.table["clip_id"].take(rows),
            "variant": self.table["variant"].take(rows),
        }
        by = [(name, "ascending") for name in keys]
        ordered = rows[pyarrow.compute.sort_indices(pyarrow.table(keys), by).to_numpy()]
        by_caption: dict[str, list[list[int]]] = {}
        last = None
        for row in ordered.tolist():
            of = captions[row], self._columns["clip_id"][row]
            if of == last:
                by_caption[of[0]][-1].append(row)
            else:
                by_caption.setdefault(of[0], []).append([row])
            last = of
        return by_caption

    def _hops(self, i, start, n_samples):
        """The hops that touch a part of source i: first and end, in the arrays of all sources."""
        n_samples = self.get(i, "n_samples") - start if n_samples is None else n_samples
        hop = HOP_S * self.sample_rate
        first, last = int(start / hop), math.ceil((start + n_samples) / hop)
        offset = self.get(i, "level_start")
        return offset + first, offset + min(last, self.get(i, "n_levels"))


def build(
    data: str | Path,
    out: str | Path,
    *,
    seed: int,
    sample_rate: int,
    clip_s: float | int,
    variants: VariantsConfig,
    n_jobs: int,
    progress: bool = True,
) -> None:
    """Decode the recordings of a corpus into a bank.

    Foregrounds are cut to the part in which they sound, with at most 50 ms before and after.
    Backgrounds shorter than a clip are looped to the length of two. A recording that cannot be
    read, or that is silent, is skipped and listed in `skipped.tsv`. A source depends on
    (seed, clip_id, variant) alone; its level and active part are measured after augmentation.

    Args:
        data: folder of the corpus, with `clips.tsv`.
        out: folder of the bank; written whole or not at all.
        seed: of the augmentation.
        sample_rate: of the bank, Hz.
        clip_s: length of the mixtures.
        variants: how many further variants a training recording has, and their augmentation.
        n_jobs: processes.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: there is no `clips.tsv`.
        ValueError: a row of it, or a room's impulse response, cannot be used.
    """
    rooms = []
    if variants.room_prob:
        rooms = augmentation.read_rooms(variants.rooms, sample_rate)
    data = Path(data)
    clips = sources.read_clips(data)
    work = partial(
        sources.make_sources,
        data=data,
        seed=seed,
        sample_rate=sample_rate,
        clip_s=clip_s,
        variants=variants,
        rooms=rooms,
    )
    parameters = {
        "sample_rate": sample_rate,
        "clip_s": clip_s,
        "seed": seed,
        "variants": plain(variants),
    }
    with files.atomic_folder(out) as folder:
        write(folder, clips, work, parameters=parameters, n_jobs=n_jobs, progress=progress)


def write(
    folder: Path,
    clips: Sequence[Mapping[str, Any]],
    work: Callable[[Any], list[Source] | str],
    *,
    parameters: Mapping[str, Any],
    n_jobs: int,
    progress: bool,
) -> None:
    """Write the files of a bank into an empty folder.

    Args:
        folder: where to.
        clips: a dict for each recording, with clip_id and path.
        work: makes the sources of a recording, or says why there are none; pickled.
        parameters: what becomes `bank.json`; sample_rate and clip_s at least.
        n_jobs: processes.
        progress: show a progress bar.

    Raises:
        ValueError: no recording has a source.
    """
    rows, skipped = [], []
    with (
        open(folder / "samples.i16", "wb") as samples,
        open(folder / "levels.f32", "wb") as levels,
        open(folder / "peaks.u16", "wb") as peaks,
    ):
        done = parallel.in_order(work, clips, n_jobs=n_jobs)
        done = tqdm(done, "decode", total=len(clips), unit="clip", disable=not progress)
        for clip, result in zip(clips, done, strict=True):
            if isinstance(result, str):
                skipped.append({"clip_id": clip["clip_id"], "path": clip["path"], "why": result})
                continue
            for row, integers, levels_db, hop_peaks in result:
                position = {"start": samples.tell() // 2, "level_start": levels.tell() // 4}
                samples.write(integers.astype("<i2").tobytes())
                levels.write(levels_db.astype("<f4").tobytes())
                peaks.write(hop_peaks.astype("<u2").tobytes())
                rows.append(row | position)
    if not rows:
        reasons = "; ".join(row["why"] for row in skipped[:3])
        raise ValueError(f"none of {len(clips)} recordings could be used: {reasons}")

    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(rows), folder / "sources.parquet", compression="zstd"
    )
    pd.DataFrame(skipped, columns=["clip_id", "path", "why"]).to_csv(
        folder / "skipped.tsv", sep="\t", index=False
    )
    (folder / "bank.json").write_text(json.dumps(parameters, indent=2, default=dict) + "\n")
