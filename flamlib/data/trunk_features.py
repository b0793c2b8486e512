"""What a frozen trunk makes of clips, computed once and stored.

    features/<part>/manifest.json    which trunk, of which clips, and the shards
    features/<part>/00000.npy        [clip, step, width], float16; a row per clip, in order

A *part* is a list of clips: the mixtures of a split, its single recordings, a strong set.
`training.feature_extraction` writes them; training and evaluation read them in place of audio. Half
precision changes what the top of the tower makes of them by 2 to 3 parts in ten thousand.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float16
from torch import Tensor

from flamlib.storage import manifest

AGAIN = "compute them again with 02b_features"


@dataclass(frozen=True, eq=False)
class ClipFeatures:
    """The stored clips of one part, in order.

    Attributes:
        folder: of the shards.
        shard_sizes: clips of each shard.
        shape: steps and width of a clip.
    """

    folder: Path
    shard_sizes: tuple[int, ...]
    shape: tuple[int, int]

    def __len__(self) -> int:
        return sum(self.shard_sizes)

    def read(self, rows: Sequence[int]) -> Float16[Tensor, "clip step width"]:
        """Read these clips.

        Raises ValueError naming a shard that is damaged.
        """
        found = torch.empty(len(rows), *self.shape, dtype=torch.float16)
        self.read_into(found, dict(enumerate(rows)))
        return found

    def read_into(self, found: Float16[Tensor, "clip step width"], rows: Mapping[int, int]) -> None:
        """Read clips into some places of `found`, by `rows` of each place, as `read` does."""
        size, places = self.shard_sizes[0], found.numpy()
        for shard in sorted({row // size for row in rows.values()}):
            here = [(places[at], row % size) for at, row in rows.items() if row // size == shard]
            self._read_shard(shard, here)

    def _read_shard(self, shard: int, wanted: Sequence[tuple[np.ndarray, int]]) -> None:
        # Read and not mapped: pages that are mapped for one clip cost ten times its copy.
        path, expected = self.folder / shard_name(shard), (self.shard_sizes[shard], *self.shape)
        try:
            with open(path, "rb", buffering=0) as file:
                np.lib.format.read_magic(file)
                shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
                if shape != expected or dtype != np.float16 or by_column:
                    raise ValueError(f"it holds {dtype} {shape}, not float16 {expected}")
                start = file.tell()
                for place, row in wanted:
                    file.seek(start + row * place.nbytes)
                    if file.readinto(place) != place.nbytes:
                        raise ValueError("it is cut off")
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{path} cannot be read ({error}): {AGAIN}") from error


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"{number:05d}.npy"


def parameters(trunk: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides the stored output: the trunk (`trunk_id`), and what the clips are."""
    return json.loads(json.dumps({"trunk": dict(trunk), "content": dict(content)}))


def open_part(
    folder: str | Path, trunk: Mapping[str, Any] | None, content: Mapping[str, Any]
) -> ClipFeatures | None:
    """Open a part, if this trunk's output of it is stored.

    Args:
        folder: of the part.
        trunk: of the model that is to go on from it, see `HasTrunk.trunk_id`.
        content: digests and settings that say what the clips are.

    Returns:
        The clips; None where nothing is stored, or the output of a trunk with other settings.

    Raises:
        ValueError: what is stored is of the same trunk with other weights, or of other clips, or
            lacks a shard or the end of one.
    """
    folder = Path(folder)
    if trunk is None or not (folder / manifest.NAME).is_file():
        return None
    about = manifest.read(folder)
    stored, wanted = about["parameters"], parameters(trunk, content)
    if any(stored["trunk"].get(k) != v for k, v in wanted["trunk"].items() if k != "sha256"):
        return None
    if stored["trunk"] != wanted["trunk"]:
        raise ValueError(f"{folder}: of a trunk with other weights than the model's: {AGAIN}")
    if other := [k for k, v in wanted["content"].items() if stored["content"].get(k) != v]:
        raise ValueError(f"{folder}: of other clips ({', '.join(other)} differ): {AGAIN}")
    shards = about["shards"]
    for shard in shards:
        path = folder / shard["name"]
        if not path.is_file() or path.stat().st_size != shard["n_bytes"]:
            raise ValueError(f"{path} is missing or cut off: {AGAIN}")
    sizes = tuple(shard["stop"] - shard["start"] for shard in shards)
    return ClipFeatures(folder, sizes, tuple(shards[0]["shape"]))
