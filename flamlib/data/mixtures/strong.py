"""Recordings whose events others have timed, as clips to train on beside the mixtures.

A set is a folder: a bank of its recordings as they are, `clips.parquet`, whose recipes have no
events of ours (each is a recording, or a piece of one, as its background, and what was annotated as
its labels), and `set.json`. So a clip is rendered as a mixture is, bit by bit the same anywhere.

What is known of a clip: in a *closed* set every listener was asked for every label, and one that is
not annotated does not sound. Where captions are free text, nothing is known of those of another
clip. Of captions that are not the set's own nothing is known in either.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from flamlib import audio, files
from flamlib.events import Event, active_frames
from flamlib.data.mixtures import bank, recipes, sources
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.recipes import Background, Recipe
from flamlib.data.datasets.annotations import AnnotatedSet

SYNTHETIC = "synthetic"  # the name, among weights, of what is no set: the mixtures
LEFT_OUT = 0.05  # of a clip's length may be lost at the end of a recording


@dataclass(frozen=True, eq=False)
class StrongSet:
    """A set that `build` wrote: its clips, the captions that it knows, and whether it is closed."""

    name: str
    bank: Bank
    clips: Sequence[Recipe]
    captions: frozenset[str]
    closed: bool

    @classmethod
    def open(cls, folder: str | Path) -> "StrongSet":
        """Raises FileNotFoundError for a folder that `build` did not write."""
        folder = Path(folder)
        if not (folder / "set.json").is_file():
            raise FileNotFoundError(f"{folder}: no set.json; 02_mix makes the sets of `mix.strong`")
        about = json.loads((folder / "set.json").read_text(encoding="utf-8"))
        return cls(
            name=folder.name,
            bank=Bank.open(folder),
            clips=recipes.read(folder / "clips.parquet"),
            captions=frozenset(about["captions"]),
            closed=about["closed"],
        )

    def label(
        self,
        labels: Sequence[Sequence[Event]],
        queries: Sequence[str],
        *,
        n_frames: int,
        frame_s: float,
    ) -> tuple[Bool[np.ndarray, "clip query frame"], Bool[np.ndarray, "clip query"]]:
        """In which frames of which clip of this set a query is true, and whether that is known.

        `labels` are each clip's events.
        """
        active = np.zeros((len(labels), len(queries), n_frames), bool)
        known = np.zeros((len(labels), len(queries)), bool)
        for i, events in enumerate(labels):
            active[i] = active_frames(events, queries, n_frames=n_frames, frame_s=frame_s)
            asked = self.captions if self.closed else {event.caption for event in events}
            known[i] = [query in asked for query in queries]
        return active, known


def select_sets(
    folder: str | Path, weights: Mapping[str, float | int] | None
) -> tuple[tuple[StrongSet, ...], tuple[float, ...]]:
    """The sets below a folder that have a weight, and how often a clip comes from each of them.

    As a share of all clips: what is left to 1 are mixtures, whose weight goes by the name of
    `SYNTHETIC`. Without weights every clip is a mixture. Raises ValueError for weights that cannot
    be meant, and for a set that is not there.
    """
    if weights is None:
        return (), ()
    total = sum(weights.values())
    if min(weights.values(), default=0) < 0 or not 0 < total < float("inf"):
        raise ValueError(
            f"set_weights: expected null, or numbers from 0 and not all 0, got {dict(weights)}"
        )
    known = {path.parent.name for path in Path(folder).glob("*/set.json")}
    if missing := sorted(weights.keys() - known - {SYNTHETIC}):
        raise ValueError(
            f"set_weights: no set {missing[0]!r} in {folder}, which holds {sorted(known)}; "
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
    progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """Write each set to a folder of its name in `out`; return, and write to `sets.json`, in numbers
    what they are.

    Recordings shorter than a clip end in silence; a longer one becomes as few clips as cover it,
    evenly spread, but for at most a twentieth of a clip at its end. The folder is written whole or
    not at all. Raises ValueError for two sets of one name and for one whose name is the mixtures'.
    """
    names = [each.name for each in sets]
    for name in names:
        if names.count(name) > 1 or name == SYNTHETIC or Path(name).name != name:
            raise ValueError(f"mix.strong: {name!r} is no name for a set of its own")
    how = {"sample_rate": sample_rate, "clip_s": clip_s, "n_jobs": n_jobs, "progress": progress}
    with files.atomic_folder(out) as whole:
        numbers = {each.name: _build(each, whole / each.name, **how) for each in sets}
        text = json.dumps(numbers, indent=2, ensure_ascii=False) + "\n"
        (whole / "sets.json").write_text(text, encoding="utf-8")
    return numbers


def windows(n_samples: int, n_clip: int) -> list[int]:
    """Where the clips of a recording begin, in samples: as few as cover it, evenly spread.

    >>> windows(160_000, 160_000), windows(165_000, 160_000), windows(400_000, 160_000)
    ([0], [0], [0, 120000, 240000])
    """
    n = max(1, ceil(n_samples / n_clip - LEFT_OUT))
    spare = min(max(n_samples - n_clip, 0), (n - 1) * n_clip)  # no gap between two of them
    return [round(i * spare / (n - 1)) for i in range(n)] if n > 1 else [0]


def _build(annotated, folder, *, sample_rate, clip_s, n_jobs, progress):
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
    about = {"sample_rate": sample_rate, "clip_s": clip_s}
    work = partial(_source, sample_rate=sample_rate, clip_s=clip_s)
    bank.write(folder, clips, work, about=about, n_jobs=n_jobs, progress=progress)

    opened = Bank.open(folder)
    events = {clip.name: clip.events for clip in annotated.present}
    drawn = list(_recipes(opened, events, annotated.name))
    recipes.write(folder / "clips.parquet", recipes.to_table(drawn))
    known = {"captions": sorted(annotated.captions), "closed": annotated.closed}
    text = json.dumps(known, indent=2, ensure_ascii=False) + "\n"
    (folder / "set.json").write_text(text, encoding="utf-8")
    return {
        "n_recordings": len(opened),
        "n_missing": len(annotated.clips) - len(opened),
        "n_clips": len(drawn),
        "n_events": sum(len(recipe.labels) for recipe in drawn),
        "n_captions": len(annotated.captions),
        "repairs": dict(annotated.repairs),
        "notes": list(annotated.notes),
    }


def _source(clip, *, sample_rate, clip_s):
    """The recording, at least a clip long, as the one source that there is of it."""
    try:
        waveform, _ = audio.read(clip["path"], sample_rate=sample_rate)
        lacking = round(clip_s * sample_rate) - len(waveform)
        waveform = np.pad(waveform, (0, max(lacking, 0)))
        return [sources.of_waveform(clip, 0, waveform, sample_rate)]
    except audio.Unreadable as error:
        return str(error)


def _recipes(opened, events, split):
    n_clip, index = round(opened.clip_s * opened.sample_rate), 0
    clip_s = n_clip / opened.sample_rate
    for row in range(len(opened)):
        clip_id = opened.get(row, "clip_id")
        for start in windows(opened.get(row, "n_samples"), n_clip):
            level_db = audio.mean_db(opened.levels(row, start, n_clip))
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
    """The parts of events that lie in a clip, in seconds from its start."""
    for onset, offset, caption in events:
        first, last = max(onset - start_s, 0.0), min(offset - start_s, clip_s)
        if first < last:
            yield Event(first, last, caption)
