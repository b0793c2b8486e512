"""Mixtures as audio files with their labels, for listening and for other tools."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int16

from flamlib.compute import parallel
from flamlib.data.mixtures import recipes
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.recipes import Recipe
from flamlib.sound_events.events import write_events
from flamlib.sound_events.jams import write_jams
from flamlib.storage import files
from flamlib.waveforms import audio


def write_audio(
    bank: Bank,
    mixtures: Sequence[Recipe],
    folder: str | Path,
    *,
    n_jobs: int,
    progress: bool = True,
) -> None:
    """Write mixtures as audio files with their labels, for listening and for other tools.

        00012.flac      the mixture of index 12: mono, 16 bit
        00012.jams      its events, and in its sandbox its recipe
        events.tsv      filename onset offset event_label
        durations.tsv   filename duration

    The folder is written whole or not at all. Nothing in flamlib reads it.

    Args:
        bank: the recordings.
        mixtures: their recipes.
        folder: where to.
        n_jobs: threads.
        progress: show a progress bar.
    """
    names = [f"{recipe.index:05d}.flac" for recipe in mixtures]
    seconds = [recipe.n_samples / recipe.sample_rate for recipe in mixtures]
    labels = [recipe.labels for recipe in mixtures]
    with files.atomic_folder(folder) as whole:
        write_one, pairs = partial(_write_one, bank, whole), list(zip(names, mixtures, strict=True))
        how = {"progress": progress, "what": f"write {Path(folder).name}"}
        for _ in parallel.each(write_one, pairs, n_jobs=n_jobs, threads=True, **how):
            pass
        write_events(whole / "events.tsv", dict(zip(names, labels, strict=True)))
        rows = [f"{name}\t{s!r}" for name, s in zip(names, seconds, strict=True)]
        (whole / "durations.tsv").write_text("\n".join(["filename\tduration", *rows, ""]))


def to_int16(waveform: Float[np.ndarray, "sample"]) -> Int16[np.ndarray, "sample"]:
    """Return the samples in 16 bits; an amplitude of 1 does not fit and becomes 32767."""
    return np.clip(np.rint(waveform * 32768), -32768, 32767).astype(np.int16)


def _write_one(bank, folder, named):
    name, recipe = named
    samples = to_int16(recipes.render(bank, recipe))
    (folder / name).write_bytes(audio.flac(samples, recipe.sample_rate))
    write_jams(
        (folder / name).with_suffix(".jams"),
        recipe.labels,
        recipe.n_samples / recipe.sample_rate,
        sandbox={"recipe": recipe.as_row()},
    )
