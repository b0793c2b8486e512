"""All recordings decoded once, at the experiment's rate, in memory-mapped arrays.

A folder of six files. `samples.i16` holds every source, one after another, each scaled to the
full range of 16 bits by a factor of its own; `levels.f32` its A-weighted level per hop of 25 ms and
`peaks.u16` its largest sample there; `sources.parquet` one row per source; `bank.json` what the
bank was built with; `skipped.tsv` what could not be read. Worker processes that open the same bank
share its pages.

A *source* is one recording as it will be mixed: variant 0 is the recording itself, cut to the part
in which something sounds; the training recordings have further variants, heard at another speed,
through another microphone (equaliser, low-pass) or in another room (reverberation).
"""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
from jaxtyping import Float, Int16, UInt16
from tqdm.auto import tqdm

from flamlib import audio, augmentation, project

WINDOW_S, HOP_S = 0.05, 0.025  # of the level profiles
MARGIN_S = 0.05  # kept on either side of the part in which a foreground sounds
ACTIVE_RANGE_DB = 40.0  # quieter than the loudest hop by more than this: the sound has not begun

MORE_VARIANTS = {  # of `variants`, and what is so if they are not given
    "pitch_semitones": [0.0, 0.0],
    "stretch": [1.0, 1.0],
    "rooms": None,
    "room_share": 0.0,
    "codec_share": 0.0,
}
CLIP_COLUMNS = ("clip_id", "path", "role", "caption", "family", "split", "group", "onset", "offset")


def generator(*key: int | str) -> np.random.Generator:
    """Random numbers that depend on the key alone: not on the process, nor on earlier draws.

    >>> first, again = (generator(7, "train", 3).integers(1000) for _ in range(2))
    >>> bool(first == again)
    True
    """
    words = []
    for part in key:
        if isinstance(part, str):
            part = int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "little")
        words.append(part)
    return np.random.default_rng(np.random.SeedSequence(words))


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
        return self.integers(i) * np.float32(self.of(i, "scale"))

    def of(self, i: int, column: str) -> Any:
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
        n_samples = self.of(i, "n_samples") - start if n_samples is None else n_samples
        first = self.of(i, "start") + start
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
            return self.of(i, "peak")
        first, last = self._hops(i, start, n_samples)
        return max(int(self.peaks[first:last].max()), 1) * self.of(i, "scale")

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
        n_samples = self.of(i, "n_samples") - start if n_samples is None else n_samples
        hop = HOP_S * self.sample_rate
        first, last = int(start / hop), math.ceil((start + n_samples) / hop)
        at = self.of(i, "level_start")
        return at + first, at + min(last, self.of(i, "n_levels"))


def build(
    data: str | Path,
    out: str | Path,
    *,
    seed: int,
    sample_rate: int,
    clip_s: float | int,
    variants: Mapping[str, Any],
    n_jobs: int,
    progress: bool = True,
) -> None:
    """Decode the recordings of `data/clips.tsv` into the bank `out`.

    Foregrounds are cut to the part in which they sound, with at most 50 ms before and after.
    Backgrounds shorter than a clip are looped to the length of two. A recording that cannot be
    read, or that is silent, is skipped and listed in `out/skipped.tsv`.

    `variants` says what the training recordings also sound like: `n_foreground` and
    `n_background` variants each, played at a random `speed` [lowest, highest], then
    `augmentation.augment` with its `eq_db`, `lowpass_share` and `reverb_share`, and what of
    `MORE_VARIANTS` is given; `rooms` is then a folder of impulse responses. A source depends on
    (seed, clip_id, variant) alone, and its labels are measured on what became of it.
    """
    variants = MORE_VARIANTS | dict(variants)
    _check_variants(variants)
    rooms = []
    if variants["room_share"]:
        rooms = augmentation.read_rooms(variants["rooms"], sample_rate)
    data = Path(data)
    clips = _read_clips(data)
    work = partial(
        _sources,
        data=data,
        seed=seed,
        sample_rate=sample_rate,
        clip_s=clip_s,
        variants=variants,
        rooms=rooms,
    )
    rows, skipped = [], []
    with (
        project.atomic_folder(out) as folder,
        open(folder / "samples.i16", "wb") as samples,
        open(folder / "levels.f32", "wb") as levels,
        open(folder / "peaks.u16", "wb") as peaks,
    ):
        done = _map(work, clips, n_jobs)
        for clip, made in zip(
            clips, tqdm(done, total=len(clips), disable=not progress), strict=True
        ):
            if isinstance(made, str):
                skipped.append({"clip_id": clip["clip_id"], "path": clip["path"], "why": made})
                continue
            for about, integers, profile in made:
                about |= {"start": samples.tell() // 2, "level_start": levels.tell() // 4}
                samples.write(integers.astype("<i2").tobytes())
                levels.write(profile.astype("<f4").tobytes())
                peaks.write(_peaks(integers, sample_rate, len(profile)).astype("<u2").tobytes())
                rows.append(about)
        if not rows:
            raise ValueError(
                f"{data}: none of {len(clips)} recordings could be used: {skipped[:3]}"
            )

        pyarrow.parquet.write_table(
            pyarrow.Table.from_pylist(rows), folder / "sources.parquet", compression="zstd"
        )
        pd.DataFrame(skipped, columns=["clip_id", "path", "why"]).to_csv(
            folder / "skipped.tsv", sep="\t", index=False
        )
        about = {"sample_rate": sample_rate, "clip_s": clip_s, "seed": seed, "variants": variants}
        (folder / "bank.json").write_text(json.dumps(about, indent=2, default=dict) + "\n")


def _sources(clip, *, data, seed, sample_rate, clip_s, variants, rooms):
    """All variants of one recording as (row, 16-bit samples, levels), or why there are none."""
    foreground = clip["role"] == "foreground"
    n_variants = variants["n_foreground" if foreground else "n_background"]
    other = {"n_foreground", "n_background", "speed", "rooms"}
    sound = {key: value for key, value in variants.items() if key not in other}
    sound["rooms"] = rooms
    if not foreground:
        sound["reverb_share"] = sound["room_share"] = 0.0  # a place is a room of its own
    try:
        span = {}
        if foreground:
            span = {
                "start_s": max(0.0, clip["onset"] - MARGIN_S),
                "stop_s": clip["offset"] and clip["offset"] + MARGIN_S,
            }
        original, native_rate = audio.read(data / clip["path"], **span)
        made = []
        for variant in range(1 + n_variants * (clip["split"] == "train")):
            rng = generator(seed, clip["clip_id"], variant)
            speed = 1.0 if variant == 0 else rng.uniform(*variants["speed"])
            waveform = audio.resample(original, native_rate * speed, sample_rate)
            if variant:
                waveform = augmentation.augment(waveform, sample_rate, rng, **sound)
            if not foreground:
                waveform = augmentation.looped(waveform, sample_rate, clip_s)
            made.append(_source(clip, variant, waveform, sample_rate))
    except audio.Unreadable as error:
        return str(error)
    return made


def _source(clip, variant, waveform, sample_rate):
    """Quantise, cut a foreground to its active part, measure."""
    profile = audio.a_weighted_db(waveform, sample_rate, window_s=WINDOW_S, hop_s=HOP_S)
    if profile.max() <= audio.FLOOR_DB + ACTIVE_RANGE_DB:
        raise audio.Unreadable(clip["path"], "silent")
    active = np.flatnonzero(profile >= profile.max() - ACTIVE_RANGE_DB)
    if clip["role"] == "foreground":
        # Again by level, because the tail of a room has moved the end.
        first = max(0, round((active[0] * HOP_S - MARGIN_S) * sample_rate))
        waveform = waveform[first : round(((active[-1] + 1) * HOP_S + MARGIN_S) * sample_rate)]

    scale = float(np.float32(np.abs(waveform).max() / 32767))
    integers = np.round(waveform / np.float32(scale)).astype(np.int16)
    heard = integers * np.float32(scale)
    profile = audio.a_weighted_db(heard, sample_rate, window_s=WINDOW_S, hop_s=HOP_S)
    active = np.flatnonzero(profile >= profile.max() - ACTIVE_RANGE_DB)
    row = {
        "clip_id": clip["clip_id"],
        "variant": variant,
        "role": clip["role"],
        "caption": clip["caption"],
        "family": clip["family"],
        "split": clip["split"],
        "group": clip["group"],
        "package": clip["package"],
        "audible": clip["audible"],
        "start": 0,
        "n_samples": len(integers),
        "scale": scale,
        "level_start": 0,
        "n_levels": len(profile),
        "onset": float(active[0] * HOP_S),
        "offset": float(min((active[-1] + 1) * HOP_S, len(integers) / sample_rate)),
        "level_db": audio.gated_db(profile),
        "peak": float(np.abs(heard).max()),
    }
    return row, integers, profile


def _peaks(integers, sample_rate, n_hops):
    """The largest sample of each hop, in steps."""
    first = (np.arange(n_hops) * HOP_S * sample_rate).astype(int)
    amplitude = np.abs(integers.astype(np.int32))
    return np.maximum.reduceat(amplitude, np.minimum(first, len(integers) - 1))


def _read_clips(data: Path) -> list[dict]:
    """The rows of clips.tsv as dicts, with onset and offset as numbers, checked."""
    path = data / "clips.tsv"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no recordings yet; `make data` or 01_corpus makes them")
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=3)
    missing = [name for name in CLIP_COLUMNS if name not in table]
    if missing:
        raise ValueError(f"{path}: no column {missing}; found {list(table)}")
    if table["clip_id"].duplicated().any():
        raise ValueError(
            f"{path}: two rows for {table['clip_id'][table['clip_id'].duplicated()][:3]}"
        )

    audible = defaultdict(list)
    families = data / "background_families.tsv"
    if families.is_file():
        rows = pd.read_csv(families, sep="\t", dtype=str, keep_default_na=False, quoting=3)
        for clip_id, family in zip(rows["clip_id"], rows["family"], strict=True):
            audible[clip_id].append(family)

    if "package" not in table:
        table["package"] = ""  # whoever writes a table by hand has one collection
    clips = table[[*CLIP_COLUMNS, "package"]].to_dict("records")
    for line, clip in enumerate(clips, start=2):
        if clip["role"] not in ("foreground", "background"):
            raise ValueError(f"{path}, line {line}: role is {clip['role']!r}")
        clip["audible"] = audible[clip["clip_id"]]
        try:
            clip["onset"] = float(clip["onset"] or 0)
            clip["offset"] = float(clip["offset"]) if clip["offset"] else None
        except ValueError as error:
            raise ValueError(
                f"{path}, line {line}: onset and offset are seconds ({error})"
            ) from error
    return clips


def _check_variants(variants: Mapping[str, Any]) -> None:
    known = {"n_foreground", "n_background", "speed", "eq_db", "lowpass_share", "reverb_share"}
    known |= MORE_VARIANTS.keys()
    if set(variants) != known:
        raise ValueError(
            f"variants: missing {sorted(known - set(variants))}, "
            f"unused {sorted(set(variants) - known)}: a typo?"
        )
    for name in ("speed", "stretch"):
        slowest, fastest = variants[name]
        if not 0 < slowest <= fastest:
            raise ValueError(f"variants.{name}: expected [lowest, highest], got {variants[name]}")
    low, high = variants["pitch_semitones"]
    if not -36 <= low <= high <= 36:
        raise ValueError(f"variants.pitch_semitones: expected [lowest, highest], got {[low, high]}")
    if variants["room_share"] and variants["rooms"] is None:
        raise ValueError("variants.room_share: there is a share of rooms, but `rooms` is no folder")
    for name in ("lowpass_share", "reverb_share", "room_share", "codec_share"):
        if not 0 <= variants[name] <= 1:
            raise ValueError(f"variants.{name}: a share is from 0 to 1, got {variants[name]}")


def _map(function, items, n_jobs: int) -> Iterator:
    """The function of every item, in order. Spawned processes: the caller may hold threads."""
    if n_jobs <= 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(n_jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(function, items, chunksize=4)
