"""The bank: all recordings decoded once, at one sample rate, in files that are mapped.

    00000.bin ...   shards: of every source its samples, levels and peaks, see `bank_shards`
    sources.arrow   one row per source, see `Bank`; with `index/`, see `source_table`
    bank.json       the parameters that the bank was built with
    skipped.tsv     recordings that could not be used, and why: clip_id path why
    manifest.json   the checksums of the shards

Processes that open the same bank share its pages in memory, and what each has of its own does not
grow with the bank.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute
from jaxtyping import Float, Int16

from flamlib.data.mixtures import augmentation, bank_shards, source_table, sources
from flamlib.data.mixtures.source_table import Captions, Groups, SourceTable
from flamlib.data.mixtures.sources import HOP_S, Source
from flamlib.experiment.parameters import plain
from flamlib.experiment.params.sounds import VariantsConfig
from flamlib.storage import files


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
            shard: the number of the file that holds it;
            start, n_samples: where its samples lie there, and how many there are;
            scale: amplitude of one step of its samples;
            level_start, n_levels: where its levels lie there, and how many hops it has;
            onset, offset: its active part, in seconds;
            level_db: A-weighted level of its active part, dBFS;
            peak: its largest amplitude.
    """

    folder: Path
    sample_rate: int
    clip_s: float
    seed: int
    table: SourceTable

    @property
    def sources(self) -> pd.DataFrame:
        """The table for pandas: a kB of memory a source, where `get` takes none."""
        return self.table.to_pandas()

    @property
    def n_samples(self) -> int:
        """Number of samples of all sources."""
        return pyarrow.compute.sum(self.table.batch["n_samples"]).as_py()

    def distinct(self, column: str) -> set[str]:
        """Return the texts that one of the columns `source_table.REPEATED` has."""
        return set(self.table.columns[column].texts.to_pylist())

    def skipped(self) -> dict[str, str]:
        """Return why recordings could not be used, a sentence each, by clip_id."""
        rows = pd.read_csv(self.folder / "skipped.tsv", sep="\t", dtype=str, keep_default_na=False)
        return dict(zip(rows["clip_id"], rows["why"], strict=True))

    @classmethod
    def open(cls, folder: str | Path) -> "Bank":
        """Map the files of a folder that `build` wrote; samples are read when they are used.

        Raises FileNotFoundError for a folder without a bank, ValueError for one of an old version.
        """
        folder = Path(folder)
        if not (folder / "bank.json").is_file():
            raise FileNotFoundError(f"{folder}: no bank.json, so no bank was completed here")
        if not (folder / source_table.TABLE).is_file():
            raise ValueError(
                f"{folder}: of an earlier version, without {source_table.TABLE}: build it again"
            )
        parameters = json.loads((folder / "bank.json").read_text())
        return cls(
            folder=folder,
            sample_rate=parameters["sample_rate"],
            clip_s=parameters["clip_s"],
            seed=parameters.get("seed", 0),  # recordings of others have no variants
            table=SourceTable.open(folder),
        )

    def __reduce__(self):
        return Bank.open, (self.folder,)  # a worker process maps the files again

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, i: int) -> Float[np.ndarray, "sample"]:
        return self.integers(i) * np.float32(self.get(i, "scale"))

    def get(self, i: int, column: str) -> Any:
        """Return the value of a column of `sources` for source i."""
        return self.table.columns[column][i]

    def row(self, clip_id: str, variant: int) -> int:
        """Return the row of a source. Raises KeyError if the bank does not hold it."""
        row = self.table.row(clip_id, variant)
        if row is None:
            raise KeyError(
                f"{self.folder}: no source {clip_id!r} variant {variant}; were the recipes drawn "
                "from another bank?"
            )
        return row

    def recordings(self, role: str, split: str, package: str | None = None) -> Captions:
        """Return rows of a role and split, as `{caption: [[variant, ...] of a recording, ...]}`.

        Of one package, or of all. They are sorted by caption, clip_id and variant, so the order of
        `clips.tsv` does not matter.
        """
        return self.table.recordings(role, split, package)

    def nested(self, role: str, split: str, package: str | None = None) -> Groups:
        """Return the rows of `recordings` as groups: `[caption][recording][variant]`."""
        return self.table.recordings(role, split, package).groups

    def flat(self, role: str, split: str) -> Groups:
        """Return the rows of `recordings` without the level of captions: `[recording][variant]`."""
        key = role, split
        if key not in self._flat:
            self._flat[key] = self.nested(role, split).flat()
        return self._flat[key]

    def integers(
        self, i: int, start: int = 0, n_samples: int | None = None
    ) -> Int16[np.ndarray, "sample"]:
        """Return samples of source i, in steps of its scale: a view of the file, not a copy."""
        n_samples = self.get(i, "n_samples") - start if n_samples is None else n_samples
        first = self.get(i, "start") + start
        return self._arrays(i).samples[first : first + n_samples]

    def levels(
        self, i: int, start: int = 0, n_samples: int | None = None
    ) -> Float[np.ndarray, "hop"]:
        """Return the A-weighted levels (dBFS) of source i, or of the hops that touch a part of it.

        Hop h is the time [h, h + 1) * HOP_S of the source.
        """
        first, last = self._hops(i, start, n_samples)
        at = self.get(i, "level_start")
        return self._arrays(i).levels_db[at + first : at + last]

    def peak(self, i: int, start: int = 0, n_samples: int | None = None) -> float:
        """Return the largest amplitude of source i, or of the hops that touch a part of it.

        At least one step of its scale. By hops, because to look at every sample would take longer
        than everything else about a mixture.
        """
        if n_samples is None and not start:
            return self.get(i, "peak")
        first, last = self._hops(i, start, n_samples)
        at = 2 * (self.get(i, "level_start") + self.get(i, "n_levels"))  # after the levels
        largest = self._arrays(i).peaks[at + first : at + last].max()
        return max(int(largest), 1) * self.get(i, "scale")

    @cached_property
    def _flat(self):
        return {}

    @cached_property
    def _shards(self):
        return {}

    def _arrays(self, i):
        """The shard that holds source i, mapped when it is first used."""
        number = self.table.columns["shard"][i]
        arrays = self._shards.get(number)
        if arrays is None:
            arrays = bank_shards.open_shard(self.folder / bank_shards.shard_name(number))
            self._shards[number] = arrays
        return arrays

    def _hops(self, i, start, n_samples):
        """The hops of source i that touch a part of it: first and end."""
        n_samples = self.get(i, "n_samples") - start if n_samples is None else n_samples
        hop = HOP_S * self.sample_rate
        first, last = int(start / hop), math.ceil((start + n_samples) / hop)
        return first, min(last, self.get(i, "n_levels"))


def build(
    data: str | Path,
    out: str | Path,
    *,
    seed: int,
    sample_rate: int,
    clip_s: float | int,
    variants: VariantsConfig,
    n_jobs: int,
    scheduler: str | None = None,
    progress: bool = True,
) -> None:
    """Decode the recordings of a corpus into a bank.

    Foregrounds are cut to the part in which they sound, with at most 50 ms before and after.
    Backgrounds shorter than a clip are looped to the length of two. A recording that cannot be
    read, or that is silent, is skipped and listed in `skipped.tsv`. A source depends on
    (seed, clip_id, variant) alone; its level and active part are measured after augmentation.

    A call that was stopped leaves its shards beside `out`; the same call goes on from there, as
    long as no recording was changed.

    Args:
        data: folder of the corpus, with `clips.tsv`.
        out: folder of the bank; it has its name when it is whole.
        seed: of the augmentation.
        sample_rate: of the bank, Hz.
        clip_s: length of the mixtures.
        variants: how many further variants a training recording has, and their augmentation.
        n_jobs: processes.
        scheduler: of a dask cluster, see `parallel.each`; its workers see all folders under the
            same paths.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: there is no `clips.tsv`.
        ValueError: a row of it, or a room's impulse response, cannot be used.
    """
    rooms = None
    if variants.room_prob:
        rooms = Path(variants.rooms).resolve()
        augmentation.read_rooms(rooms, sample_rate)  # now, rather than in a worker
        _read_rooms.cache_clear()
    data = Path(data).resolve()
    clips = [clip | {"file": _state(data / clip["path"])} for clip in sources.read_clips(data)]
    work = partial(
        _make_sources,
        rooms=rooms,
        data=data,
        seed=seed,
        sample_rate=sample_rate,
        clip_s=clip_s,
        variants=variants,
    )
    parameters = {
        "sample_rate": sample_rate,
        "clip_s": clip_s,
        "seed": seed,
        "variants": plain(variants),
    }
    how = {"n_jobs": n_jobs, "scheduler": scheduler, "progress": progress}
    with files.resumable_folder(out) as folder:
        write(folder, clips, work, parameters=parameters, **how)


def write(
    folder: Path,
    clips: Sequence[Mapping[str, Any]],
    work: bank_shards.Work,
    *,
    parameters: Mapping[str, Any],
    n_jobs: int,
    scheduler: str | None = None,
    progress: bool,
) -> None:
    """Write the files of a bank into a folder: an empty one, or what this call left when stopped.

    Args:
        folder: where to.
        clips: a dict for each recording, with clip_id and path.
        work: makes the sources of a recording, or says why there are none; pickled.
        parameters: what becomes `bank.json`; sample_rate and clip_s at least.
        n_jobs: processes.
        scheduler: of a dask cluster, see `parallel.each`.
        progress: show a progress bar.

    Raises:
        ValueError: no recording has a source.
    """
    tables, skipped = [], []
    how = {"n_jobs": n_jobs, "scheduler": scheduler, "progress": progress}
    if clips:
        tables, skipped = bank_shards.fill(folder, clips, work, parameters=parameters, **how)
    if not tables:
        reasons = "; ".join(row["why"] for row in skipped[:3])
        raise ValueError(f"none of {len(clips)} recordings could be used: {reasons}")
    source_table.write(folder, pyarrow.concat_tables(tables))
    pd.DataFrame(skipped, columns=["clip_id", "path", "why"]).to_csv(
        folder / "skipped.tsv", sep="\t", index=False
    )
    (folder / "bank.json").write_text(json.dumps(parameters, indent=2, default=dict) + "\n")
    bank_shards.finish(folder)


def _make_sources(
    clip: Mapping[str, Any], *, rooms: Path | None, sample_rate: int, **how: Any
) -> list[Source] | str:
    found = () if rooms is None else _read_rooms(rooms, sample_rate)
    return sources.make_sources(clip, rooms=found, sample_rate=sample_rate, **how)


@lru_cache(maxsize=1)
def _read_rooms(folder: Path, sample_rate: int) -> Sequence[Float[np.ndarray, "of_room"]]:
    return augmentation.read_rooms(folder, sample_rate)


def _state(path: Path) -> str:
    """What tells that a file was changed since."""
    try:
        stat = path.stat()
    except OSError:
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns}"
