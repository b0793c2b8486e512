"""All recordings decoded once, at the experiment's rate, in memory-mapped arrays.

A folder of six files. `samples.i16` holds every source, one after another, each scaled to the
full range of 16 bits by a factor of its own; `levels.f32` its A-weighted level per hop of 25 ms and
`peaks.u16` its largest sample there; `sources.parquet` one row per source; `bank.json` what the
bank was built with; `skipped.tsv` what could not be read. Worker processes that open the same bank
share its pages.
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
import pyarrow.parquet
from jaxtyping import Float, Int16, UInt16
from tqdm import tqdm

from flamlib.config import VariantsConfig
from flamlib.parameters import plain
from flamlib import files, parallel
from flamlib.data.mixtures import augmentation, sources
from flamlib.data.mixtures.sources import HOP_S, Source


@dataclass(frozen=True, eq=False)
class Bank:
    """Every source of an experiment. `bank[i]` are the samples of row i of `bank.sources`.

    `sources` has the columns clip_id, variant, role, caption, family, split, group, package,
    audible (families that can be heard in a background), start, n_samples, scale (amplitude of one
    16-bit step), level_start, n_levels, onset and offset (seconds, the active part), level_db
    (A-weighted, of the active part), peak. `samples`, `levels_db` and `peaks` are the arrays that
    they point into.
    """

    folder: Path
    sample_rate: int
    clip_s: float
    sources: pd.DataFrame
    samples: Int16[np.ndarray, "samples_of_all"]
    levels_db: Float[np.ndarray, "hops_of_all"]
    peaks: UInt16[np.ndarray, "hops_of_all"]

    @classmethod
    def open(cls, folder: str | Path) -> "Bank":
        """Map a folder that `build` wrote; samples are read from disk when they are used."""
        folder = Path(folder)
        if not (folder / "bank.json").is_file():
            raise FileNotFoundError(f"{folder}: no bank.json, so no bank was completed here")
        if not (folder / "peaks.u16").is_file():
            raise ValueError(f"{folder}: of an earlier version, without peaks.u16: build it again")
        about = json.loads((folder / "bank.json").read_text())
        return cls(
            folder=folder,
            sample_rate=about["sample_rate"],
            clip_s=about["clip_s"],
            sources=pd.read_parquet(folder / "sources.parquet"),
            # As plain arrays: a slice of a memmap object costs ten times one of an array.
            samples=np.asarray(np.memmap(folder / "samples.i16", dtype="<i2", mode="r")),
            levels_db=np.asarray(np.memmap(folder / "levels.f32", dtype="<f4", mode="r")),
            peaks=np.asarray(np.memmap(folder / "peaks.u16", dtype="<u2", mode="r")),
        )

    def __reduce__(self):
        return Bank.open, (self.folder,)  # a worker process maps the files again

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, i: int) -> Float[np.ndarray, "sample"]:
        return self.integers(i) * np.float32(self.get(i, "scale"))

    def get(self, i: int, column: str) -> Any:
        """One value of the sources' table."""
        return self._columns[column][i]

    def row(self, clip_id: str, variant: int) -> int:
        """Where a source is. Raises KeyError for one that this bank does not hold."""
        try:
            return self._rows[clip_id, variant]
        except KeyError:
            raise KeyError(
                f"{self.folder}: no source {clip_id!r} variant {variant}; were the recipes drawn "
                "from another bank?"
            ) from None

    def recordings(
        self, role: str, split: str, package: str | None = None
    ) -> dict[str, list[list[int]]]:
        """Rows of a role and split: for each caption its recordings, for each of them its variants.

        Those of one package, or of all. In order of caption, clip_id and variant: the order of
        `clips.tsv` does not matter.
        """
        key = role, split, package
        if key not in self._recordings:
            self._recordings[key] = self._find_recordings(*key)
        return self._recordings[key]

    def nested(self, role: str, split: str, package: str | None = None) -> list[list[list[int]]]:
        """Rows of `recordings` without the captions' names, as a list to pick from."""
        key = "nested", role, split, package
        if key not in self._recordings:
            self._recordings[key] = list(self.recordings(role, split, package).values())
        return self._recordings[key]

    def flat(self, role: str, split: str) -> list[list[int]]:
        """The recordings of all captions in one list, each with its variants."""
        key = "flat", role, split
        if key not in self._recordings:
            captions = self.nested(role, split)
            self._recordings[key] = [recording for caption in captions for recording in caption]
        return self._recordings[key]

    def integers(
        self, i: int, start: int = 0, n_samples: int | None = None
    ) -> Int16[np.ndarray, "sample"]:
        """Source i, or a part of it, in steps of its scale; a view of the file, not a copy."""
        n_samples = self.get(i, "n_samples") - start if n_samples is None else n_samples
        first = self.get(i, "start") + start
        return self.samples[first : first + n_samples]

    def levels(
        self, i: int, start: int = 0, n_samples: int | None = None
    ) -> Float[np.ndarray, "hop"]:
        """A-weighted levels of source i in dBFS, or those of the hops that touch a part of it.

        Hop h is the time [h, h + 1) * HOP_S of the source.
        """
        first, last = self._hops(i, start, n_samples)
        return self.levels_db[first:last]

    def peak(self, i: int, start: int = 0, n_samples: int | None = None) -> float:
        """Largest amplitude of source i, or of the hops that touch a part; at least one step.

        By hops, because to look at every sample would take longer than all else about a mixture.
        """
        if n_samples is None and not start:
            return self.get(i, "peak")
        first, last = self._hops(i, start, n_samples)
        return max(int(self.peaks[first:last].max()), 1) * self.get(i, "scale")

    @cached_property
    def _columns(self):
        # Python numbers in lists: a thousandth of the cost of looking into the table.
        return {name: self.sources[name].tolist() for name in self.sources}

    @cached_property
    def _rows(self):
        keys = zip(self._columns["clip_id"], self._columns["variant"], strict=True)
        return {key: i for i, key in enumerate(keys)}

    @cached_property
    def _recordings(self):
        return {}

    def _find_recordings(self, role, split, package):
        table = self.sources
        chosen = table[(table["role"] == role) & (table["split"] == split)]
        if package is not None:
            chosen = chosen[chosen["package"] == package]
        found = {}
        ordered = chosen.sort_values(["caption", "clip_id", "variant"])
        for (caption, _), rows in ordered.groupby(["caption", "clip_id"], sort=False):
            found.setdefault(caption, []).append(rows.index.tolist())
        return found

    def _hops(self, i, start, n_samples):
        """First and last (exclusive) of the hops, of all sources, that touch a part of source i."""
        n_samples = self.get(i, "n_samples") - start if n_samples is None else n_samples
        hop = HOP_S * self.sample_rate
        first, last = int(start / hop), math.ceil((start + n_samples) / hop)
        at = self.get(i, "level_start")
        return at + first, at + min(last, self.get(i, "n_levels"))


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
    """Decode the recordings of `data/clips.tsv` into the bank `out`.

    Foregrounds are cut to the part in which they sound, with at most 50 ms before and after.
    Backgrounds shorter than a clip are looped to the length of two. A recording that cannot be
    read, or that is silent, is skipped and listed in `out/skipped.tsv`.

    `variants` says what the training recordings also sound like: `n_foreground` and
    `n_background` variants each, played at a random `speed` [lowest, highest], then
    `augmentation.augment`; `rooms` is a folder of impulse responses. A source depends on (seed,
    clip_id, variant) alone, and its labels are measured on what became of it.
    """
    rooms = []
    if variants.room_prob:
        rooms = augmentation.read_rooms(variants.rooms, sample_rate)
    data = Path(data)
    clips = sources.read_clips(data)
    work = partial(
        sources.of_clip,
        data=data,
        seed=seed,
        sample_rate=sample_rate,
        clip_s=clip_s,
        variants=variants,
        rooms=rooms,
    )
    about = {"sample_rate": sample_rate, "clip_s": clip_s, "seed": seed, "variants": plain(variants)}
    with files.atomic_folder(out) as folder:
        write(folder, clips, work, about=about, n_jobs=n_jobs, progress=progress)


def write(
    folder: Path,
    clips: Sequence[Mapping[str, Any]],
    work: Callable[[Any], list[Source] | str],
    *,
    about: Mapping[str, Any],
    n_jobs: int,
    progress: bool,
) -> None:
    """Write into an empty folder the bank of `work(clip)` of every clip, in order.

    What `work` returns are the sources of a clip (a dict with clip_id and path), or why there are
    none. `about` has sample_rate and clip_s at least. Raises ValueError if there are no sources.
    """
    rows, skipped = [], []
    with (
        open(folder / "samples.i16", "wb") as samples,
        open(folder / "levels.f32", "wb") as levels,
        open(folder / "peaks.u16", "wb") as peaks,
    ):
        done = parallel.in_order(work, clips, n_jobs=n_jobs)
        done = tqdm(done, total=len(clips), disable=not progress)
        for clip, made in zip(clips, done, strict=True):
            if isinstance(made, str):
                skipped.append({"clip_id": clip["clip_id"], "path": clip["path"], "why": made})
                continue
            for row, integers, levels_db, of_hops in made:
                begins = {"start": samples.tell() // 2, "level_start": levels.tell() // 4}
                samples.write(integers.astype("<i2").tobytes())
                levels.write(levels_db.astype("<f4").tobytes())
                peaks.write(of_hops.astype("<u2").tobytes())
                rows.append(row | begins)
    if not rows:
        raise ValueError(f"none of {len(clips)} recordings could be used: {skipped[:3]}")

    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(rows), folder / "sources.parquet", compression="zstd"
    )
    pd.DataFrame(skipped, columns=["clip_id", "path", "why"]).to_csv(
        folder / "skipped.tsv", sep="\t", index=False
    )
    (folder / "bank.json").write_text(json.dumps(about, indent=2, default=dict) + "\n")

