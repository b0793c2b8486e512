"""Find recordings that are the same sound as one that is held out, by what is heard in them.

The fingerprint is that of Haitsma and Kalker (ISMIR 2002): 32 bits every 20 ms, each the sign of a
difference between neighbouring bands and over time. A copy at another level, coded anew, resampled
or cut at its ends has nearly the same bits at some shift; two takes of one sound have not.

Only what is held out is kept in memory, about 3 kB for 10 s; every other recording is read once and
compared.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, UInt32
from tqdm import tqdm

from flamlib.compute import parallel
from flamlib.waveforms import audio

RATE = 8000
WINDOW, HOP, LAG = 2048, 160, 4  # samples, samples, hops
LOWEST_HZ, HIGHEST_HZ, N_BANDS = 100.0, 3600.0, 33
RANGE_DB = 50.0  # below the loudest frame a recording's noise floor begins, which codecs change
LEAST_DB = 0.2  # median difference; in less nothing moves
N_FLIPPED = 4  # bits that are tried both ways, those of the smallest differences
LEAST_FRAMES = 10
RANKS = {"train": 0, "valid": 1}  # of splits; tests have 2
MAX_ERROR = 0.2  # share of bits that differ: of other sounds half of them
LONGEST_S = 120.0  # of a recording; the rest is not compared

# Of any length each: a list of them holds recordings of many.
Print = tuple[UInt32[np.ndarray, "_"], Bool[np.ndarray, "_"]]


def split_copies(
    clips: pd.DataFrame,
    folder: Path,
    held_out: Mapping[Path, str],
    *,
    n_jobs: int,
    progress: bool = True,
) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """Return the clips without copies of what is held out from them, and the rows of skipped.tsv.

    What is tested with counts as held out from validation, and both from training. The recordings
    of the copies are deleted.

    Args:
        clips: rows of `clips.tsv`.
        folder: the corpus.
        held_out: other recordings that are held out, with what they are.
        n_jobs: processes.
        progress: show progress bars.
    """
    paths = [*(folder / path for path in clips["path"]), *held_out]
    ranks = [*(RANKS.get(split, 2) for split in clips["split"]), *([3] * len(held_out))]
    names = [*(clips["package"] + " " + clips["member"]), *held_out.values()]
    copies = find_copies(paths, ranks, n_jobs=n_jobs, progress=progress)
    copies = {i: other for i, other in copies.items() if i < len(clips)}
    skipped = []
    for i, other in copies.items():
        paths[i].unlink()
        why = f"sounds the same as {names[other]}, which is held out"
        skipped.append({key: clips[key].iloc[i] for key in ("package", "member")} | {"why": why})
    return clips.drop(index=clips.index[list(copies)]), skipped


def find_copies(
    paths: Sequence[Path],
    ranks: Sequence[int],
    *,
    n_jobs: int = 1,
    progress: bool = True,
) -> dict[int, int]:
    """Return, for each recording that is a copy of one of a higher rank, the number of that one.

    Args:
        paths: of recordings; one that cannot be read is no copy.
        ranks: of each: 0 is trained on, what is held out has more.
        n_jobs: processes.
        progress: show progress bars.
    """
    held_out = [i for i, rank in enumerate(ranks) if rank]
    lower = [i for i, rank in enumerate(ranks) if rank < max(ranks, default=0)]
    if not held_out or not lower:
        return {}
    options = {"disable": not progress, "unit": "recording"}
    prints = parallel.in_order(fingerprint_file, [paths[i] for i in held_out], n_jobs=n_jobs)
    index = Index(list(tqdm(prints, "fingerprints", total=len(held_out), **options)))
    found = parallel.in_order(
        partial(_matches, index=index), [paths[i] for i in lower], n_jobs=n_jobs
    )
    copies = {}
    bar = tqdm(found, "copies", total=len(lower), **options)
    for i, matches in zip(lower, bar, strict=True):
        others = [j for j in (held_out[m] for m in matches) if ranks[j] > ranks[i] and j != i]
        if others:
            copies[i] = others[0]
    return copies


def fingerprint_file(path: Path) -> Print:
    """Return the fingerprint of a recording, see `fingerprint`; an empty one if it is damaged."""
    try:
        with audio.Recording(path) as recording:
            waveform = recording.read(0.0, min(recording.duration_s, LONGEST_S))
            return fingerprint(waveform, recording.sample_rate)
    except audio.Unreadable:
        return np.zeros(0, np.uint32), np.zeros(0, bool)


def fingerprint(waveform: Float[np.ndarray, "sample"], sample_rate: int) -> Print:
    """Return 32 bits for every `HOP`, and whether they say anything."""
    bits, _, valid = _frames(waveform, sample_rate)
    return bits, valid


class Index:
    """Fingerprints, looked up by their frames."""

    def __init__(self, prints: Sequence[Print]) -> None:
        self.prints = prints
        frames = [np.flatnonzero(valid) for _, valid in prints]
        self._values = np.concatenate(
            [bits[f] for (bits, _), f in zip(prints, frames, strict=True)]
        )
        self._which = np.repeat(np.arange(len(prints), dtype=np.int32), [len(f) for f in frames])
        self._frame = np.concatenate(frames).astype(np.int32)
        order = np.argsort(self._values, kind="stable")
        self._values, self._which = self._values[order], self._which[order]
        self._frame = self._frame[order]

    def matches(self, waveform: Float[np.ndarray, "sample"], sample_rate: int) -> Iterator[int]:
        """Yield the numbers of the fingerprints that a waveform is a copy of, the nearest first."""
        bits, differences, valid = _frames(waveform, sample_rate)
        frames = np.flatnonzero(valid)
        if not len(frames):
            return
        weakest = np.argsort(np.abs(differences[frames]), axis=1)[:, :N_FLIPPED].astype(np.uint32)
        masks = np.zeros((len(frames), 1), np.uint32)
        for bit in weakest.T:
            masks = np.concatenate([masks, masks | (np.uint32(1) << bit)[:, None]], axis=1)
        asked = (bits[frames][:, None] ^ masks).ravel()
        at = np.repeat(frames, masks.shape[1])
        first = np.searchsorted(self._values, asked, "left")
        count = np.searchsorted(self._values, asked, "right") - first
        hit = np.repeat(np.arange(len(asked)), count)
        rows = np.repeat(first - np.concatenate([[0], np.cumsum(count)[:-1]]), count)
        rows = rows + np.arange(len(hit))
        shifts = Counter(
            zip(self._which[rows].tolist(), (self._frame[rows] - at[hit]).tolist(), strict=True)
        )
        found = {}
        for (which, shift), _ in shifts.most_common(50):
            error = _error((bits, valid), self.prints[which], shift)
            if error <= min(MAX_ERROR, found.get(which, 1.0)):
                found[which] = error
        yield from sorted(found, key=found.get)


def _matches(path: Path, *, index: Index) -> list[int]:
    try:
        with audio.Recording(path) as recording:
            waveform = recording.read(0.0, min(recording.duration_s, LONGEST_S))
            return list(index.matches(waveform, recording.sample_rate))
    except audio.Unreadable:
        return []


def _error(one, other, shift):
    """The share of bits that differ where both say something; 1 if that is too little."""
    start, stop = max(0, -shift), min(len(one[0]), len(other[0]) - shift)
    if stop - start < LEAST_FRAMES:
        return 1.0
    mine, theirs = slice(start, stop), slice(start + shift, stop + shift)
    both = one[1][mine] & other[1][theirs]
    # Of the shorter one most has to be in the other: a sound that both hold is no copy.
    if both.sum() < max(LEAST_FRAMES, 0.7 * min(one[1].sum(), other[1].sum())):
        return 1.0
    differing = np.bitwise_count(one[0][mine][both] ^ other[0][theirs][both])
    return float(differing.mean() / 32)


def _frames(waveform, sample_rate):
    """Bits, the differences in dB of which they are the signs, and whether a frame says anything.

    Of a frame that is quiet, or in which nothing moves, the signs are those of noise or rounding.
    """
    waveform = audio.resample(np.asarray(waveform, np.float32), sample_rate, RATE)
    padded = np.pad(waveform, WINDOW // 2)
    n_frames = 1 + (len(padded) - WINDOW) // HOP if len(padded) >= WINDOW else 0
    framed = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:n_frames]
    window = np.hanning(WINDOW).astype(np.float32)
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, N_BANDS + 1) * WINDOW / RATE
    starts = np.maximum.accumulate(np.ceil(edges).astype(int))
    power = [
        np.add.reduceat(np.abs(np.fft.rfft(piece * window)) ** 2, starts, axis=1)[:, :-1]
        for piece in np.array_split(framed, max(1, n_frames // 1000))
    ]
    power = np.concatenate(power) + 1e-12
    level = 10 * np.log10(power)
    total = 10 * np.log10(power.sum(axis=1))
    steep = np.diff(level, axis=1)
    differences = np.zeros_like(steep)
    differences[LAG:] = steep[LAG:] - steep[:-LAG]
    bits = (differences > 0) @ (np.uint32(1) << np.arange(32, dtype=np.uint32))
    is_loud = (total >= total.max() - RANGE_DB) & (total > -60) if n_frames else np.zeros(0, bool)
    is_loud[:LAG] = False
    moves = np.median(np.abs(differences), axis=1) >= LEAST_DB
    return bits.astype(np.uint32), differences, is_loud & moves
