"""Single recordings, each with its caption: what the losses of whole clips learn from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer

from flamlib.compute.distributions import generator
from flamlib.data.mixtures import mixing
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.recipes import Recipe
from flamlib.data.mixtures.source_table import Groups
from flamlib.experiment.parameters import plain
from flamlib.experiment.params.learning import TrainConfig
from flamlib.experiment.params.sounds import MixtureConfig


class Pair(NamedTuple):
    """One way to hear a recording.

    Attributes:
        source: its row in the bank.
        index: what is drawn of it (where it is cut, its level, its background) depends on this.
        background: whether it is put on one.
    """

    source: int
    index: int
    background: bool


@dataclass(frozen=True, eq=False)
class Pairs:
    """The single recordings of a split.

    Attributes:
        bank: the recordings.
        mixture: how they are put on backgrounds.
        train: `pair_s`, `pair_background_prob` and `n_pair_takes`, see `TrainConfig`.
        split: of the bank.
        seed: of what is drawn anew in each step. What is drawn once has the seed of the bank, as it
            is data: runs of several seeds share it.

    """

    bank: Bank
    mixture: MixtureConfig
    train: TrainConfig
    split: str
    seed: int

    def check(self) -> None:
        """Raise ValueError if there are no backgrounds, where they need some, or too short ones."""
        if self.train.pair_background_prob > 0:
            if self.train.pair_s > self.bank.clip_s:
                raise ValueError(
                    f"pair_s {self.train.pair_s} is longer than clip_s {self.bank.clip_s}, for "
                    "which backgrounds are long enough: shorten it, or set pair_background_prob "
                    "to 0"
                )
            if not self.bank.recordings("background", self.split):
                raise ValueError(
                    f"there are no backgrounds of split {self.split!r} to put recordings on: set "
                    "pair_background_prob to 0"
                )

    @property
    def n_drawn(self) -> int:
        """Number of recordings of a step, over all processes; no two are of one family."""
        return min(self.train.pair_batch_size, len(self._by_family))

    def draw(self, step: int, rng: np.random.Generator) -> list[Pair]:
        """Draw the recordings of a step, of as many different families.

        So no caption is true of two of them.
        """
        pairs = []
        for place, f in enumerate(rng.choice(len(self._by_family), self.n_drawn, replace=False)):
            captions = self._by_family.captions(int(f))
            recordings = self._nested[captions[int(rng.integers(len(captions)))]]
            variants = recordings[int(rng.integers(len(recordings)))]
            source = variants[int(rng.integers(len(variants)))]
            if self.train.n_pair_takes is None:
                index = step * self.train.pair_batch_size + place
                background = bool(rng.random() < self.train.pair_background_prob)
                pairs.append(Pair(source, index, background))
            else:
                pairs.append(self._take(source, int(rng.integers(self.train.n_pair_takes))))
        return pairs

    def takes(self) -> list[Pair]:
        """List all that `draw` may draw, in order.

        Raises ValueError where `n_pair_takes` is null: then there is no end of them.
        """
        if self.train.n_pair_takes is None:
            raise ValueError("train.n_pair_takes is null: single recordings are drawn without end")
        n_takes = range(self.train.n_pair_takes)
        return [self._take(source, take) for source in self._rows.tolist() for take in n_takes]

    def rows(self, pairs: Sequence[Pair]) -> list[int]:
        """Return where each of these is in the list of `takes`."""
        n_takes = self.train.n_pair_takes
        places = np.searchsorted(self._rows, [pair.source for pair in pairs]).tolist()
        return [
            place * n_takes + pair.index % n_takes
            for place, pair in zip(places, pairs, strict=True)
        ]

    def recipe(self, pair: Pair) -> Recipe:
        """Return how to render a recording."""
        return mixing.draw_single_event(
            self.bank,
            replace(self.mixture, clip_s=self.train.pair_s),
            seed=self.seed if self.train.n_pair_takes is None else self.bank.seed,
            split=self.split,
            index=pair.index,
            source=pair.source,
            background=pair.background,
        )

    def settings(self) -> dict[str, Any]:
        """Return what decides, with the bank, how each of `takes` is rendered."""
        names = ("pair_s", "pair_background_prob", "n_pair_takes")
        of_train = {name: getattr(self.train, name) for name in names}
        mixture = plain(self.mixture)
        return {"split": self.split, "mixture": mixture, **of_train}

    def _take(self, source: int, take: int) -> Pair:
        index = source * self.train.n_pair_takes + take
        coin = generator(self.bank.seed, "take", index).random()
        return Pair(source, index, bool(coin < self.train.pair_background_prob))

    @property
    def _nested(self) -> Groups:
        return self.bank.nested("foreground", self.split)

    @cached_property
    def _by_family(self) -> "_ByFamily":
        families = self.bank.table.columns["family"].codes[self._nested.first_rows()]
        _, first, numbers = np.unique(families, return_index=True, return_inverse=True)
        order_of_families = np.argsort(np.argsort(first))  # as they appear among the captions
        number = order_of_families[numbers]
        captions = np.argsort(number, kind="stable")
        starts = np.append(0, np.cumsum(np.bincount(number)))
        return _ByFamily(captions.astype(np.uint32), starts.astype(np.uint32))

    @cached_property
    def _rows(self) -> Integer[np.ndarray, "source"]:
        """The rows of the bank that are of the split, in order."""
        return np.sort(self.bank.flat("foreground", self.split).rows())


@dataclass(frozen=True, eq=False)
class _ByFamily:
    """The captions of each family, as their numbers."""

    all_captions: Integer[np.ndarray, "caption"]
    starts: Integer[np.ndarray, "family_or_end"]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def captions(self, family: int) -> list[int]:
        """Return those of one."""
        return self.all_captions[self.starts[family] : self.starts[family + 1]].tolist()
