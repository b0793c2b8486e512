"""Recipes -> what one training step looks at: audio, queries and their labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.data import Dataset

from flamlib import mixing, recipes
from flamlib.bank import Bank, generator
from flamlib.lexicon import Lexicon
from flamlib.recipes import Recipe


class Batch(NamedTuple):
    """One process's share of a step. `queries` and `pair_captions` are texts, one wording each."""

    waveform: Float[Tensor, "clip sample"]
    queries: list[str]
    active: Bool[Tensor, "clip query frame"]
    known: Bool[Tensor, "clip query"]
    pair_waveform: Float[Tensor, "pair pair_sample"]
    pair_captions: list[str]


@dataclass(frozen=True, eq=False)
class Batches(Dataset):
    """The steps of a training run; item `step` is this process's share of it.

    A step holds `batch_size` mixtures and `n_pairs` single recordings with their captions, over all
    processes. Everything drawn depends on (seed, step, rank) alone, so a run continues anywhere
    without replaying what came before, and the mixtures of a step do not depend on how many
    processes share them.
    """

    bank: Bank
    lexicon: Lexicon
    mixtures: Sequence[Recipe]
    rules: mixing.Rules
    seed: int
    n_steps: int
    batch_size: int
    n_pairs: int
    pair_s: float
    pair_background_share: float
    n_parents: int
    wording_share: float
    n_frames: int
    frame_s: float
    rank: int
    n_ranks: int

    def __post_init__(self):
        if self.batch_size % self.n_ranks:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be shared evenly by {self.n_ranks} "
                "processes: each counts the same in the gradient"
            )
        n_samples = round(self.rules.clip_s * self.bank.sample_rate)
        if any(recipe.n_samples != n_samples for recipe in self.mixtures[:1]):
            raise ValueError(
                f"the mixtures are of {self.mixtures[0].n_samples} samples, clips of "
                f"{self.rules.clip_s} s have {n_samples}: draw them again"
            )

    def __len__(self) -> int:
        return self.n_steps

    def __getitem__(self, step: int) -> Batch:
        rng = generator(self.seed, "step", step, "rank", self.rank)
        batch = [self.mixtures[i] for i in self.rows(step)]
        queries = self._queries(batch, rng)
        active, known = self.lexicon.label(
            [recipe.labels for recipe in batch],
            [audible(self.bank, recipe) for recipe in batch],
            queries,
            n_frames=self.n_frames,
            frame_s=self.frame_s,
        )
        pairs = self._pairs(step, rng)
        return Batch(
            waveform=self._render(batch, self.rules.clip_s),
            queries=self._word(queries, rng),
            active=torch.from_numpy(active),
            known=torch.from_numpy(known),
            pair_waveform=self._render(pairs, self.pair_s),
            pair_captions=self._word([pair.events[0].caption for pair in pairs], rng),
        )

    def rows(self, step: int) -> list[int]:
        """This rank's mixtures: each pass over them is shuffled anew."""
        n = len(self.mixtures)
        first = step * self.batch_size
        places = range(first + self.rank, first + self.batch_size, self.n_ranks)
        orders = {epoch: self._order(epoch) for epoch in {place // n for place in places}}
        return [int(orders[place // n][place % n]) for place in places]

    def _order(self, epoch: int) -> np.ndarray:
        return generator(self.seed, "epoch", epoch).permutation(len(self.mixtures))

    def _queries(self, batch: list[Recipe], rng: np.random.Generator) -> list[str]:
        """Every caption that sounds in the batch, some of their parents, and the hard negatives."""
        captions = sorted({event.caption for recipe in batch for event in recipe.labels})
        parents = {p for caption in captions for p in self.lexicon.parents[caption]}
        parents = sorted(parents - set(captions))  # a corpus may have one that is a caption too
        n_parents = min(self.n_parents, len(parents))
        queries = captions + [
            parents[i] for i in rng.choice(len(parents), n_parents, replace=False)
        ]
        return queries + self._hard_negatives(captions, queries, rng)

    def _hard_negatives(
        self, captions: list[str], queries: list[str], rng: np.random.Generator
    ) -> list[str]:
        """Captions that resemble one that sounds, and do not: each is one of the ten most alike."""
        hard: list[str] = []
        for _ in range(self.rules.n_hard_negatives if captions else 0):
            alike = self.lexicon.resembling(captions[int(rng.integers(len(captions)))], 10)
            alike = [text for text in alike if text not in queries and text not in hard]
            if alike:
                hard.append(alike[int(rng.integers(len(alike)))])
        return hard

    def _word(self, queries: list[str], rng: np.random.Generator) -> list[str]:
        """The query itself, or as often as `wording_share` says any of its wordings."""

        def word(query: str) -> str:
            if rng.random() >= self.wording_share:
                return query
            texts = self.lexicon.wordings[query]
            return texts[int(rng.integers(len(texts)))]

        return [word(query) for query in queries]

    def _pairs(self, step: int, rng: np.random.Generator) -> list[Recipe]:
        """Single recordings of as many different families: no caption is true of two of them."""
        n = len(range(self.rank, self.n_pairs, self.n_ranks))
        by_family = self._captions_by_family()
        families = rng.choice(len(by_family), min(n, len(by_family)), replace=False)
        rules = replace(self.rules, clip_s=self.pair_s)
        pairs = []
        for place, f in enumerate(families):
            captions = by_family[f]
            recordings = captions[int(rng.integers(len(captions)))]
            variants = recordings[int(rng.integers(len(recordings)))]
            pairs.append(
                mixing.solo(
                    self.bank,
                    rules,
                    seed=self.seed,
                    split="train",
                    index=(step * self.n_ranks + self.rank) * self.n_pairs + place,
                    source=variants[int(rng.integers(len(variants)))],
                    background=bool(rng.random() < self.pair_background_share),
                )
            )
        return pairs

    def _captions_by_family(self) -> list[list[list[list[int]]]]:
        groups: dict[str, list] = {}
        for recordings in self.bank.recordings("foreground", "train").values():
            groups.setdefault(self.bank.of(recordings[0][0], "family"), []).append(recordings)
        return list(groups.values())

    def _render(self, batch: list[Recipe], clip_s: float | int) -> Float[Tensor, "clip sample"]:
        # Filled, not stacked: there may be none, where an objective needs no pairs or no mixtures.
        waveform = torch.zeros(len(batch), round(clip_s * self.bank.sample_rate))
        for i, recipe in enumerate(batch):
            waveform[i] = torch.from_numpy(recipes.render(self.bank, recipe))
        return waveform


def audible(bank: Bank, recipe: Recipe) -> set[str]:
    """The families that can be heard in a mixture's background."""
    if recipe.background is None:
        return set()
    row = bank.row(recipe.background.clip_id, recipe.background.variant)
    return set(bank.of(row, "audible"))
