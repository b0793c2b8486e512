"""Run the frozen trunk of the audio tower over every clip of the experiment, and store its output.

FLAM, the models it is compared with, every arm of the study that leaves the trunk alone, and their
evaluation go on from there. Where the trunk learns there is nothing to store, and they get audio.
"""

import functools
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float16
from torch import Tensor, nn

from flamlib.compute import memory
from flamlib.data import trunk_features
from flamlib.data.mixtures import recipes, strong
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.recipes import Recipe
from flamlib.data.pairs import Pairs
from flamlib.data.trunk_features import ClipFeatures
from flamlib.experiment.config import Config
from flamlib.models import class_features
from flamlib.models.yamnet import YAMNet, read_class_names
from flamlib.storage import files, manifest
from flamlib.training.init import pretrained_audio_tower
from flamlib.training.resume import checksum

ABOUT = "about.json"
BATCH = 4  # clips that go through the trunk at once: what they are on the way stays in the cache
PAIRS = "pairs_{split}"  # the part of a split's single recordings


@runtime_checkable
class Clips(Protocol):
    """Clips that can be rendered, one by one, in any process."""

    def __len__(self) -> int: ...

    def render(self, row: int) -> Float[np.ndarray, "sample"]:
        """Return a waveform."""


@dataclass(frozen=True, eq=False)
class Mixtures:
    """Clips of a table of recipes."""

    bank: Bank
    recipes: Sequence[Recipe]

    def __len__(self) -> int:
        return len(self.recipes)

    def render(self, row: int) -> Float[np.ndarray, "sample"]:
        """Return the waveform of a recipe."""
        return recipes.render(self.bank, self.recipes[row])


@dataclass(frozen=True, eq=False)
class SingleRecordings:
    """Single recordings, in the order of `Pairs.takes`."""

    pairs: Pairs

    def __len__(self) -> int:
        return len(self._takes)

    def render(self, row: int) -> Float[np.ndarray, "sample"]:
        """Return the waveform of a recording."""
        return recipes.render(self.pairs.bank, self.pairs.recipe(self._takes[row]))

    @functools.cached_property
    def _takes(self):
        return self.pairs.takes()


class Part(NamedTuple):
    """Clips that are stored together; see `data.trunk_features`."""

    name: str
    content: Mapping[str, Any]
    clips: Clips


@dataclass(frozen=True, kw_only=True)
class StoredFeatures:
    """Where trunk outputs are stored, and of what.

    Attributes:
        folder: with a folder for each part.
        bank: checksum of the bank.
        mixtures: folder with a table of mixtures for each split.
    """

    folder: Path
    bank: str
    mixtures: Path

    @classmethod
    def of(cls, folder: str | Path, bank: str | Path, mixtures: str | Path) -> "StoredFeatures":
        """Return the same, given the folder of the bank."""
        return cls(folder=Path(folder), bank=checksum(bank), mixtures=Path(mixtures))

    def of_split(self, trunk: Mapping[str, Any] | None, split: str) -> ClipFeatures | None:
        """Open the mixtures of a split; see `trunk_features.open_part`."""
        if trunk is None:
            return None
        content = self.mixtures_content(self.mixtures / f"{split}.parquet")
        return trunk_features.open_part(self.folder / split, trunk, content)

    def of_pairs(self, trunk: Mapping[str, Any] | None, pairs: Pairs) -> ClipFeatures | None:
        """Open the single recordings of a split, likewise; None where they are drawn anew."""
        if trunk is None or pairs.train.n_pair_takes is None:
            return None
        part = self.folder / PAIRS.format(split=pairs.split)
        return trunk_features.open_part(part, trunk, self.pairs_content(pairs))

    def of_set(self, trunk: Mapping[str, Any] | None, one: strong.StrongSet) -> ClipFeatures | None:
        """Open the clips of a strong set, likewise."""
        if trunk is None:
            return None
        return trunk_features.open_part(
            self.folder / f"set_{one.name}", trunk, self.set_content(one)
        )

    def mixtures_content(self, table: Path) -> dict[str, Any]:
        """Say what the clips of a table of recipes are."""
        return {"bank": self.bank, "recipes": checksum(table)}

    def pairs_content(self, pairs: Pairs) -> dict[str, Any]:
        """Say what the single recordings of a split are."""
        return {"bank": self.bank, "recordings": json.dumps(pairs.settings(), sort_keys=True)}

    def set_content(self, one: strong.StrongSet) -> dict[str, Any]:
        """Say what the clips of a strong set are."""
        return {"set": checksum(one.bank.folder)}


def extract(
    config: Config,
    *,
    bank: str | Path,
    mixtures: str | Path,
    sets: str | Path,
    weights: str | Path,
    out: str | Path,
    progress: bool = True,
) -> dict[str, Any]:
    """Store what the trunk makes of all clips; go on where an earlier call was stopped.

    What is stored of another trunk, or of other clips, is made again, and parts that are no longer
    asked for are removed.

    Args:
        config: `seed`, `mixture`, `network`, `train` and `features` are used.
        bank: folder of the recordings.
        mixtures: folder with a table of mixtures for each split.
        sets: folder of strongly labelled sets, of which those with a weight are taken.
        weights: folder of the pretrained towers' folders.
        out: folder to write: `about.json`, and a folder for each part.
        progress: show progress bars.

    Returns:
        What `about.json` says: `trunk` (None: it learns, nothing is stored), and of each part its
        `n_clips`, `shape` and `n_bytes`.

    Raises:
        ValueError: all of it would be more than `features.max_gb`, or clips do not fill the windows
            of the tower; before anything is computed.
        OSError: more than the disk has left, or it became full on the way.
    """
    out, weights = Path(out), Path(weights)
    memory.keep_freed()
    files.make_folder(out)
    tower = pretrained_audio_tower(weights, config.network).eval()
    trunk = tower.trunk_id()
    about: dict[str, Any] = {"trunk": trunk, "parts": {}}
    if trunk is not None:
        stored = StoredFeatures.of(out, bank, mixtures)
        parts = list(_parts(stored, config, Bank.open(bank), Path(sets)))
        sizes = {part.name: _n_bytes(tower, part) for part in parts}
        _check_size(config, out, sizes)
        for part in parts:
            how = {"shard_clips": config.features.shard_clips, "progress": progress}
            about["parts"][part.name] = _store_part(part, tower, out / part.name, **how)
    for folder in out.iterdir():
        if folder.is_dir() and folder.name not in about["parts"]:
            shutil.rmtree(folder)
    files.atomic_write(out / ABOUT, json.dumps(about, indent=1) + "\n")
    return about


def _parts(stored: StoredFeatures, config: Config, bank: Bank, sets: Path) -> Iterator[Part]:
    for table in sorted(stored.mixtures.glob("*.parquet")):
        clips = Mixtures(bank, recipes.read(table))
        yield Part(table.stem, stored.mixtures_content(table), clips)
    if config.train.n_pair_takes is not None:
        for split in ("train", "valid"):
            pairs = pairs_of(config, bank, split)
            clips = SingleRecordings(pairs)
            if len(clips):
                name = PAIRS.format(split=split)
                yield Part(name, stored.pairs_content(pairs), clips)
    for one in strong.select_sets(sets, config.train.set_weights)[0]:
        yield Part(f"set_{one.name}", stored.set_content(one), Mixtures(one.bank, one.clips))


def strongest_classes(
    tower: YAMNet, clip: Float16[Tensor, "1 step width"], weights: Path, *, n_classes: int
) -> dict[str, Any]:
    """Find the classes that the frozen classifier of a tower is surest of in a clip.

    Args:
        tower: with the classifier.
        clip: the stored output of its trunk.
        weights: folder of the pretrained towers' folders, for the names of the classes.
        n_classes: how many.

    Returns:
        Their probabilities by frame, as `spectrograms.detection_map` takes them: "scores"
        `[frame, class]`, "captions" and "frame_edges".
    """
    with torch.inference_mode():
        evidence = tower(clip)[0, :, tower.width :]
    probs = class_features.probability(evidence)
    names = read_class_names(weights / "yamnet")
    order = probs.amax(dim=0).argsort(descending=True)[:n_classes]
    return {
        "scores": probs[:, order].numpy(),
        "captions": [names[i] for i in order],
        "frame_edges": tower.frame_s * np.arange(len(probs) + 1),
    }


def pairs_of(config: Config, bank: Bank, split: str) -> Pairs:
    """Return the single recordings of a split: those of "valid" are on no backgrounds."""
    train = config.train
    if split == "valid":
        train = replace(train, pair_background_prob=0.0)
    return Pairs(bank=bank, mixture=config.mixture, train=train, split=split, seed=config.seed)


def _n_bytes(tower: nn.Module, part: Part) -> int:
    n_samples = len(part.clips.render(0))
    with torch.inference_mode():
        stored = tower.trunk(torch.zeros(1, n_samples))
        n_frames = tower(stored).shape[1]
    if n_frames != tower.n_frames(n_samples):  # what is stored does not say where a clip ends
        raise ValueError(
            f"{part.name}: clips of {n_samples / tower.sample_rate:.4g} s do not fill windows of "
            f"{n_frames * tower.frame_s:.4g} s that the audio tower takes, whose rest would be "
            "stored as a part of them: set mixture.clip_s and train.pair_s to whole windows, or "
            "network.audio.frozen_stages to 0"
        )
    return len(part.clips) * stored.numel() * 2


def _check_size(config: Config, out: Path, sizes: Mapping[str, int]) -> None:
    """Raise an error if there is no place for what will be stored."""
    total, most = sum(sizes.values()), config.features.max_gb * 1e9
    if total > most:
        largest = ", ".join(f"{name} {n / 1e9:.2f}" for name, n in sizes.items() if n > total / 20)
        raise ValueError(
            f"what the trunk makes of all clips would be {total / 1e9:.2f} GB ({largest}), more "
            f"than features.max_gb = {config.features.max_gb}: raise it, or lower mix.n_train or "
            "train.n_pair_takes"
        )
    there = sum(path.stat().st_size for path in out.rglob("*.npy"))
    free = shutil.disk_usage(out).free
    if total - there > free:
        raise OSError(
            f"{out}: {(total - there) / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free on "
            "this disk: make room, or lower mix.n_train"
        )


def _store_part(
    part: Part,
    tower: nn.Module,
    out: Path,
    *,
    shard_clips: int,
    progress: bool,
) -> dict[str, Any]:
    wanted = trunk_features.parameters(tower.trunk_id(), part.content)
    if (out / manifest.NAME).is_file() and manifest.read(out)["parameters"] != wanted:
        print(f"{out}: of another trunk or of other clips, computed anew")
        shutil.rmtree(out)
    jobs = [
        {"name": trunk_features.shard_name(k), "start": rows.start, "stop": rows.stop}
        for k, rows in enumerate(manifest.split(len(part.clips), shard_clips))
    ]
    write = functools.partial(_write_shard, part.clips, tower)
    # In this process, whose threads share the network's layers: that is faster than processes.
    how = {"n_jobs": 1, "scheduler": None, "progress": progress, "what": f"features {part.name}"}
    filled = manifest.fill(out, wanted, jobs, write, **how)
    shards = filled["shards"]
    n_bytes = sum(shard["n_bytes"] for shard in shards)
    return {"n_clips": len(part.clips), "shape": shards[0]["shape"], "n_bytes": n_bytes}


def _write_shard(clips: Clips, tower: nn.Module, path: Path, job: Mapping) -> dict[str, Any]:
    found = []
    with torch.inference_mode():
        for start in range(job["start"], job["stop"], BATCH):
            rows = range(start, min(start + BATCH, job["stop"]))
            waveform = torch.from_numpy(np.stack([clips.render(row) for row in rows]))
            found.append(tower.trunk(waveform).half())
    stored = torch.cat(found).numpy()
    if not np.isfinite(stored).all():
        raise ValueError(f"clips {job['start']} to {job['stop']}: the trunk's output is not finite")
    with open(path, "wb") as file:
        np.save(file, stored, allow_pickle=False)
    return {"shape": list(stored.shape[1:])}
