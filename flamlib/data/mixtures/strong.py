"""Strongly labelled recordings (events with times) to train on together with the mixtures.

A dataset is stored in a folder as a bank of its recordings, `clips.parquet` and `set.json`. The
recipes of `clips.parquet` have no events: the recording, or a part of it, is their background, and
its annotation their labels. So a clip is rendered as a mixture is.

Which labels are *known* in a clip: in a closed dataset annotators listened for every class, so a
class without an annotation is silent. Where captions are free text, only those of the clip itself
are known. Captions that the dataset does not have are unknown in either case.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from flamlib import texts
from flamlib.data.datasets.annotations import AnnotatedSet
from flamlib.data.mixtures import bank, recipes, sources
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.recipes import Background, Recipe
from flamlib.sound_events.events import Event, active_frames
from flamlib.storage import files
from flamlib.waveforms import audio, decibels

SYNTHETIC = "synthetic"  # the key of the mixtures among the weights of datasets
LEFT_OUT = 0.05  # up to this share of a clip is left out at the end of a recording


@dataclass(frozen=True, eq=False)
class StrongSet:
    """A strongly labelled dataset that `build` wrote.

    Attributes:
        name: of the dataset.
        bank: its recordings.
        clips: recipes of its clips.
        captions: every caption of the dataset.
        closed: a caption without an annotation is silent, see `AnnotatedSet`.
    """

    name: str
    bank: Bank
    clips: Sequence[Recipe]
    captions: frozenset[str]
    closed: bool

    @classmethod
    def open(cls, folder: str | Path) -> "StrongSet":
        """Open the dataset of a folder. Raises FileNotFoundError if `build` did not write it."""
        folder = Path(folder)
        if not (folder / "set.json").is_file():
            raise FileNotFoundError(f"{folder}: no set.json; 02_mix makes the sets of `mix.strong`")
        content = json.loads((folder / "set.json").read_text(encoding="utf-8"))
        return cls(
            name=folder.name,
            bank=Bank.open(folder),
            clips=recipes.read(folder / "clips.parquet"),
            captions=frozenset(content["captions"]),
            closed=content["closed"],
        )

    @cached_property
    def _by_key(self) -> dict[str, str]:
        return {texts.key(caption): caption for caption in self.captions}

    def label(
        self,
        labels: Sequence[Sequence[Event]],
        queries: Sequence[str],
        *,
        n_frames: int,
        frame_s: float,
        clip_s: float,
    ) -> tuple[Bool[np.ndarray, "clip query frame"], Bool[np.ndarray, "clip query"]]:
        """Label clips of this dataset, frame by frame.

        Args:
            labels: the events of each clip.
            queries: the captions that are asked for; one of the dataset may be spelled otherwise.
            n_frames: frames of a clip.
            frame_s: length of a frame in seconds.
            clip_s: length of a clip in seconds, of which the last frame has what is left.

        Returns:
            active: in which frames of which clip a query is true, `[clip, query, frame]`.
            known: whether that is known, `[clip, query]`.
        """
        queries = [self._by_key.get(texts.key(query), query) for query in queries]
        frames = {"n_frames": n_frames, "frame_s": frame_s, "clip_s": clip_s}
        active = np.zeros((len(labels), len(queries), n_frames), bool)
        known = np.zeros((len(labels), len(queries)), bool)
        for i, events in enumerate(labels):
            active[i] = active_frames(events, queries, **frames)
            annotated = self.captions if self.closed else {event.caption for event in events}
            known[i] = [query in annotated for query in queries]
        return active, known


def select_sets(
    folder: str | Path, weights: Mapping[str, float | int] | None
) -> tuple[tuple[StrongSet, ...], tuple[float, ...]]:
    """Open the datasets in a folder that have a weight above 0.

    Returns them and the probability of each, its weight divided by the sum of all weights. The key
    "synthetic" is the weight of the mixtures, which take the remaining probability;
    `weights=None`: only mixtures.

    Raises ValueError for a negative weight, for weights that are all 0, and for a dataset that is
    not in the folder.
    """
    if weights is None:
        return (), ()
    total = sum(weights.values())
    if min(weights.values(), default=0) < 0 or not 0 < total < float("inf"):
        raise ValueError(
            f"set_weights: expected null, or numbers from 0 and not all 0, got {dict(weights)}"
        )
    built = {path.parent.name for path in Path(folder).glob("*/set.json")}
    if missing := sorted(weights.keys() - built - {SYNTHETIC}):
        raise ValueError(
            f"set_weights: no set {missing[0]!r} in {folder}, which holds {sorted(built)}; "
            "02_mix makes those of `mix.strong`"
        )
    names = [name for name, weight in weights.items() if weight > 0 and name != SYNTHETIC]
    sets = tuple(StrongSet.open(Path(folder) / name) for name in names)
    return sets, tuple(weights[name] / total for name in names)


def build(
    sets: Sequence[AnnotatedSet],
    out: str | Path,
    *,
    sample_rate: int,
    clip_s: float | int,
    n_jobs: int,
    scheduler: str | None = None,
    progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """Write each dataset to a folder of its name in `out`.

    Recordings shorter than a clip end in silence; a longer one becomes as few clips as cover it,
    evenly spread, except for at most a twentieth of a clip at its end.

    Args:
        sets: the datasets.
        out: the folder; written whole or not at all.
        sample_rate: of their banks, Hz.
        clip_s: length of a clip.
        n_jobs: processes.
        scheduler: of a dask cluster, see `parallel.each`.
        progress: show a progress bar.

    Returns:
        For each dataset, by name, its counts of recordings, clips, events and captions, its repairs
        and notes; also written to `sets.json`.

    Raises:
        ValueError: two datasets have one name, or one has the name of the mixtures.
    """
    names = [dataset.name for dataset in sets]
    for name in names:
        if names.count(name) > 1 or name == SYNTHETIC or Path(name).name != name:
            raise ValueError(f"mix.strong: {name!r} cannot name a set: it is taken, or not a name")
    how = {"n_jobs": n_jobs, "scheduler": scheduler, "progress": progress}
    options = {"sample_rate": sample_rate, "clip_s": clip_s}
    with files.atomic_folder(out) as whole:
        summaries = {s.name: _build(s, whole / s.name, how, **options) for s in sets}
        text = json.dumps(summaries, indent=2, ensure_ascii=False) + "\n"
        (whole / "sets.json").write_text(text, encoding="utf-8")
    return summaries


def windows(n_samples: int, n_clip: int) -> list[int]:
    """Return the first sample of every clip of a recording: as few as cover it, evenly spread.

    >>> windows(160_000, 160_000), windows(165_000, 160_000), windows(400_000, 160_000)
    ([0], [0], [0, 120000, 240000])
    """
    n = max(1, ceil(n_samples / n_clip - LEFT_OUT))
    spare = min(max(n_samples - n_clip, 0), (n - 1) * n_clip)  # no gap between two of them
    return [round(i * spare / (n - 1)) for i in range(n)] if n > 1 else [0]


def _build(annotated, folder, how, *, sample_rate, clip_s):
    folder.mkdir()
    clips = [
        {
            "clip_id": clip.name,
            "path": str(clip.path),
            "role": "strong",  # neither foreground nor background: no mixture is made of it
            "caption": "",
            "family": "",
            "split": "train",
            "group": clip.name,
            "package": annotated.name,
            "audible": [],
        }
        for clip in annotated.present
    ]
    parameters = {"sample_rate": sample_rate, "clip_s": clip_s}
    work = partial(_source, sample_rate=sample_rate, clip_s=clip_s)
    bank.write(folder, clips, work, parameters=parameters, **how)

    opened = Bank.open(folder)
    events = {clip.name: clip.events for clip in annotated.present}
    clips_of_set = list(_recipes(opened, events, annotated.name))
    recipes.write(folder / "clips.parquet", recipes.to_table(clips_of_set))
    content = {"captions": sorted(annotated.captions), "closed": annotated.closed}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (folder / "set.json").write_text(text, encoding="utf-8")
    return {
        "n_recordings": len(opened),
        "n_missing": len(annotated.clips) - len(opened),
        "skipped": annotated.skipped | opened.skipped(),
        "n_clips": len(clips_of_set),
        "n_events": sum(len(recipe.labels) for recipe in clips_of_set),
        "n_captions": len(annotated.captions),
        "repairs": dict(annotated.repairs),
        "notes": list(annotated.notes),
    }


def _source(clip, *, sample_rate, clip_s):
    """The one source of a recording, padded with silence to the length of a clip."""
    try:
        waveform, _ = audio.read(clip["path"], sample_rate=sample_rate)
        lacking = round(clip_s * sample_rate) - len(waveform)
        waveform = np.pad(waveform, (0, max(lacking, 0)))
        return [sources.make_source(clip, 0, waveform, sample_rate)]
    except audio.Unreadable as error:
        return str(error)


def _recipes(opened, events, split):
    n_clip, index = round(opened.clip_s * opened.sample_rate), 0
    clip_s = n_clip / opened.sample_rate
    for row in range(len(opened)):
        clip_id = opened.get(row, "clip_id")
        for start in windows(opened.get(row, "n_samples"), n_clip):
            level_db = decibels.mean_db(opened.levels(row, start, n_clip))
            yield Recipe(
                index=index,
                split=split,
                sample_rate=opened.sample_rate,
                n_samples=n_clip,
                n_fade=0,
                background=Background(clip_id, 0, start, 1.0, level_db),
                events=(),
                labels=tuple(_inside(events[clip_id], start / opened.sample_rate, clip_s)),
            )
            index += 1


def _inside(events, start_s, clip_s):
    """The events that reach into a clip, in seconds from its start, as long as they are.

    Cut at the clip's ends, the last hundredth of a second of one would be an event of its own, of
    which a whole frame is active.
    """
    for onset, offset, caption in events:
        if onset < start_s + clip_s and offset > start_s:
            yield Event(onset - start_s, offset - start_s, caption)
