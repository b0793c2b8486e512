"""All recordings decoded once, at the experiment's rate, in memory-mapped arrays.

A folder of four files. `samples.i16` holds every source, one after another, each scaled to the
full range of 16 bits by a factor of its own; `levels.f32` its A-weighted level per hop of 25 ms;
`sources.parquet` one row per source; `bank.json` what the bank was built with. What could not be
read is in `skipped.tsv`. Worker processes that open the same bank share its pages.

A *source* is one recording as it will be mixed: variant 0 is the recording itself, cut to the part
in which something sounds; the training recordings have further variants, heard at another speed,
through another microphone (equaliser, low-pass) or in another room (reverberation).
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import scipy.signal
from jaxtyping import Float
from tqdm.auto import tqdm

from flamlib import audio, project

WINDOW_S, HOP_S = 0.05, 0.025  # of the level profiles
MARGIN_S = 0.05  # kept on either side of the part in which a foreground sounds
ACTIVE_RANGE_DB = 40.0  # quieter than the loudest hop by more than this: the sound has not begun
GATE_DB = 20.0  # and by more than this: does not count towards its level, as in a loudness meter
CROSSFADE_S = 0.5  # where the end of a looped background meets its beginning

CLIP_COLUMNS = ("clip_id", "path", "role", "caption", "family", "split", "group", "onset", "offset")


def generator(*key: int | str) -> np.random.Generator:
    """Random numbers that depend on the key alone: not on the process, nor on earlier draws.

    >>> generator(7, "train", 3).integers(1000) == generator(7, "train", 3).integers(1000)
    True
    """
    words = []
    for part in key:
        if isinstance(part, str):
            part = int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "little")
        words.append(part)
    return np.random.default_rng(np.random.SeedSequence(words))


def gated_db(levels_db: Float[np.ndarray, "hop"]) -> float:
    """Level of a sound's loud part: mean power of the hops within 20 dB of its loudest hop.

    Silence before, after and between the strokes of a hammer, or the long tail of a bell, would
    otherwise make a sound quieter the longer it takes to end.

    >>> round(gated_db(np.array([-90.0, -20.0, -20.0, -60.0])), 3)
    -20.0
    """
    return audio.mean_db(levels_db[levels_db >= levels_db.max() - GATE_DB])


@dataclass(frozen=True, eq=False)
class Bank:
    """Every source of an experiment. `bank[i]` are the samples of row i of `bank.sources`.

    `sources` has the columns clip_id, variant, role, caption, family, split, group, `audible`
    (families that can be heard in a background), start, n_samples, scale (amplitude of one 16-bit
    step), level_start, n_levels, onset and offset (seconds, the active part), level_db (A-weighted,
    of the active part), peak. `samples` and `levels` are the arrays that they point into.
    """

    folder: Path
    sample_rate: int
    clip_s: float
    sources: pd.DataFrame
    samples: np.memmap
    levels_db: np.memmap

    @classmethod
    def open(cls, folder: str | Path) -> "Bank":
        """Map a folder that `build` wrote; nothing is read before it is used."""
        folder = Path(folder)
        if not (folder / "bank.json").is_file():
            raise FileNotFoundError(f"{folder}: no bank.json, so no bank was completed here")
        about = json.loads((folder / "bank.json").read_text())
        return cls(
            folder=folder,
            sample_rate=about["sample_rate"],
            clip_s=about["clip_s"],
            sources=pd.read_parquet(folder / "sources.parquet"),
            samples=np.memmap(folder / "samples.i16", dtype="<i2", mode="r"),
            levels_db=np.memmap(folder / "levels.f32", dtype="<f4", mode="r"),
        )

    def __post_init__(self):
        # Python numbers in lists: a thousandth of the cost of looking into the table.
        lists = {name: self.sources[name].tolist() for name in self.sources}
        rows = {
            key: i for i, key in enumerate(zip(lists["clip_id"], lists["variant"], strict=True))
        }
        object.__setattr__(self, "_columns", lists)
        object.__setattr__(self, "_rows", rows)
        object.__setattr__(self, "_recordings", {})

    def __reduce__(self):
        return Bank.open, (self.folder,)  # a worker process maps the files again

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, i: int) -> Float[np.ndarray, "sample"]:
        return self.integers(i) * np.float32(self.of(i, "scale"))

    def integers(self, i: int, start: int = 0, n_samples: int | None = None) -> np.ndarray:
        """Source i as 16-bit integers, or a part of it; a view of the file, not a copy."""
        n_samples = self.of(i, "n_samples") - start if n_samples is None else n_samples
        first = self.of(i, "start") + start
        return self.samples[first : first + n_samples]

    def profile(self, i: int) -> Float[np.ndarray, "hop"]:
        """A-weighted level of source i in dBFS; hop h is the time [h, h + 1) * HOP_S."""
        first = self.of(i, "level_start")
        return self.levels_db[first : first + self.of(i, "n_levels")]

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

    def recordings(self, role: str, split: str) -> dict[str, list[list[int]]]:
        """Rows of a role and split: for each caption its recordings, for each of them its variants.

        Sorted by caption and clip_id, so that the order of `clips.tsv` has no say in what is drawn.
        """
        if (role, split) not in self._recordings:
            chosen = self.sources[(self.sources["role"] == role) & (self.sources["split"] == split)]
            chosen = chosen.sort_values(["caption", "clip_id", "variant"])
            found = defaultdict(list)
            for (caption, _), variants in chosen.groupby(["caption", "clip_id"], sort=False):
                found[caption].append(variants.index.tolist())
            self._recordings[role, split] = dict(found)
        return self._recordings[role, split]


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
    Backgrounds shorter than a clip are looped to the length of two. `variants` says what the
    training recordings also sound like, see `augment`: `n_foreground` and `n_background` variants
    each. A source depends on (seed, clip_id, variant) alone. A recording that cannot be read, or
    that is silent, is skipped and listed in `out/skipped.tsv`.
    """
    data = Path(data)
    clips = _read_clips(data)
    work = partial(
        _sources, data=data, seed=seed, sample_rate=sample_rate, clip_s=clip_s, variants=variants
    )
    rows, skipped = [], []
    with (
        project.atomic_folder(out) as folder,
        open(folder / "samples.i16", "wb") as samples,
        open(folder / "levels.f32", "wb") as levels,
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


def augment(
    waveform: Float[np.ndarray, "sample"],
    sample_rate: int,
    rng: np.random.Generator,
    *,
    eq_db: float | int,
    lowpass_share: float | int,
    reverb_share: float | int,
) -> Float[np.ndarray, "longer"]:
    """The sound through another microphone, and perhaps in another room.

    A random equaliser with bands of up to `eq_db`; in a share of cases a low-pass between 2 and
    7 kHz, because the recordings of old packages are dull (11 kHz) and dullness must not give
    their captions away; in a share of cases the reverberation of a room.
    """
    waveform = _equalise(waveform, sample_rate, rng, eq_db)
    if rng.random() < lowpass_share:
        cutoff = min(np.exp(rng.uniform(np.log(2000), np.log(7000))), 0.45 * sample_rate)
        order = int(rng.integers(2, 11))  # from a closed door to an old sound card
        sections = scipy.signal.butter(order, cutoff, fs=sample_rate, output="sos")
        waveform = scipy.signal.sosfilt(sections, waveform)
    if rng.random() < reverb_share:
        waveform = _reverberate(waveform, sample_rate, rng)
    return waveform.astype(np.float32)


def _equalise(waveform, sample_rate, rng, eq_db):
    """One shelf and one or two bells at random frequencies, each between -eq_db and eq_db.

    Adding (gain - 1) times the output of a low-pass of first order to the sound is a shelf; adding
    that of a band-pass, whose phase is zero at its centre, is a bell.
    """
    for band in range(int(rng.integers(2, 4))):
        gain = 10 ** (rng.uniform(-eq_db, eq_db) / 20)
        hz = np.exp(rng.uniform(np.log(100), np.log(0.4 * sample_rate)))
        if band == 0:
            b, a = scipy.signal.butter(1, hz, fs=sample_rate)
        else:
            half = 2 ** (rng.uniform(0.5, 2.5) / 2)  # a width of half to two and a half octaves
            edges = hz / half, min(hz * half, 0.49 * sample_rate)
            b, a = scipy.signal.butter(1, edges, "bandpass", fs=sample_rate)
        waveform = waveform + (gain - 1) * scipy.signal.lfilter(b, a, waveform)
    return waveform


def _reverberate(waveform, sample_rate, rng):
    """The sound followed by noise that decays by 60 dB in T60 = 0.1 to 0.6 s.

    response(t) = delta(t) + noise(t) * 10^(-3 t / T60),  energy of the second -12 to 3 dB
    """
    t60 = np.exp(rng.uniform(np.log(0.1), np.log(0.6)))
    t = np.arange(int(t60 * sample_rate)) / sample_rate
    tail = rng.standard_normal(len(t)) * 10 ** (-3 * t / t60)
    tail *= 10 ** (rng.uniform(-12, 3) / 20) / np.linalg.norm(tail)
    wet = scipy.signal.oaconvolve(waveform, tail)
    wet[: len(waveform)] += waveform
    return wet


def _sources(clip, *, data, seed, sample_rate, clip_s, variants):
    """All variants of one recording as (row, 16-bit samples, levels), or why there are none."""
    foreground = clip["role"] == "foreground"
    n_variants = variants["n_foreground" if foreground else "n_background"]
    sound = {k: variants[k] for k in ("eq_db", "lowpass_share", "reverb_share")}
    if not foreground:
        sound["reverb_share"] = 0.0  # a place is its own room
    try:
        span = {}
        if foreground:
            span = {
                "start_s": max(0.0, clip["onset"] - MARGIN_S),
                "stop_s": clip["offset"] + MARGIN_S,
            }
        original, native_rate = audio.read(data / clip["path"], **span)
        made = []
        for variant in range(1 + n_variants * (clip["split"] == "train")):
            rng = generator(seed, clip["clip_id"], variant)
            speed = 1.0 if variant == 0 else rng.uniform(*variants["speed"])
            waveform = audio.resample(original, native_rate * speed, sample_rate)
            if variant:
                waveform = augment(waveform, sample_rate, rng, **sound)
            if not foreground:
                waveform = _looped(waveform, sample_rate, clip_s)
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
        "audible": clip["audible"],
        "start": 0,
        "n_samples": len(integers),
        "scale": scale,
        "level_start": 0,
        "n_levels": len(profile),
        "onset": float(active[0] * HOP_S),
        "offset": float(min((active[-1] + 1) * HOP_S, len(integers) / sample_rate)),
        "level_db": gated_db(profile),
        "peak": float(np.abs(heard).max()),
    }
    return row, integers, profile


def _looped(waveform, sample_rate, clip_s):
    """A background at least a clip long: a shorter one goes round until it lasts for two.

    The end is faded into the beginning at equal power, sin^2 + cos^2 = 1, since two moments of a
    background are unrelated: at equal amplitude, rain would dip by 3 dB in every round.
    """
    if len(waveform) >= clip_s * sample_rate:
        return waveform
    n_fade = min(round(CROSSFADE_S * sample_rate), len(waveform) // 2)
    angle = np.pi / 2 * (np.arange(n_fade) + 0.5) / max(n_fade, 1)
    seam = waveform[:n_fade] * np.sin(angle) + waveform[len(waveform) - n_fade :] * np.cos(angle)
    round_ = np.concatenate([seam, waveform[n_fade : len(waveform) - n_fade]])
    n_samples = int(np.ceil(2 * clip_s * sample_rate))
    return np.resize(round_, n_samples).astype(np.float32)


def _read_clips(data: Path) -> list[dict]:
    """The rows of clips.tsv as dicts, with onset and offset as numbers, checked."""
    path = data / "clips.tsv"
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

    clips = table[list(CLIP_COLUMNS)].to_dict("records")
    for line, clip in enumerate(clips, start=2):
        if clip["role"] not in ("foreground", "background"):
            raise ValueError(f"{path}, line {line}: role is {clip['role']!r}")
        clip["audible"] = audible[clip["clip_id"]]
        try:
            clip["onset"] = float(clip["onset"] or 0)
            clip["offset"] = float(clip["offset"] or "inf")
        except ValueError as error:
            raise ValueError(
                f"{path}, line {line}: onset and offset are seconds ({error})"
            ) from error
    return clips


def _map(function, items, n_jobs: int) -> Iterator:
    """The function of every item, in order. Spawned processes: the caller may hold threads."""
    if n_jobs <= 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(n_jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(function, items, chunksize=4)
