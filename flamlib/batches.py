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
from flamlib.bank import Bank
from flamlib.distributions import generator
from flamlib.lexicon import Lexicon
from flamlib.recipes import Recipe


class Batch(NamedTuple):
    """One process's share of a step.

    `queries` are those of the whole step, each once, the same in every process, and `texts` a
    wording of each; the labels say what all of them mean for this process's clips. `own` are the
    queries that this process reads for all the others. `pair_captions` are wordings too. Where
    mixtures, or pairs, are not heard, there are none of them.
    """

    waveform: Float[Tensor, "clip sample"]
    queries: list[str]
    texts: list[str]
    own: slice
    active: Bool[Tensor, "clip query frame"]
    known: Bool[Tensor, "clip query"]
    pair_waveform: Float[Tensor, "pair pair_sample"]
    pair_captions: list[str]


@dataclass(frozen=True, eq=False)
class Batches(Dataset):
    """The steps of a training run; item `step` is this process's share of it.

    A step holds `batch_size` mixtures and `n_pairs` single recordings of `split` with their
    captions, over all processes. Everything drawn depends on (seed, step) alone, so a run continues
    anywhere without replaying what came before, and a step is the same however many processes
    share it. What the objective does not hear (`hears_mixtures`, `hears_pairs`) is drawn all the
    same, so that the rest of the step stays what it is, but neither rendered nor labelled.
    """

    bank: Bank
    lexicon: Lexicon
    mixtures: Sequence[Recipe]
    rules: mixing.Rules
    split: str
    seed: int
    n_steps: int
    batch_size: int
    n_pairs: int
    pair_s: float
    pair_background_share: float
    n_parents: int
    n_hard_negatives: int
    wording_share: float
    n_frames: int
    frame_s: float
    hears_mixtures: bool
    hears_pairs: bool
    rank: int
    n_ranks: int

    def __post_init__(self):
        if self.batch_size % self.n_ranks:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be shared evenly by {self.n_ranks} "
                "processes: each counts the same in the gradient"
            )
        if self.n_hard_negatives < 0:
            raise ValueError(f"n_hard_negatives: expected 0 or more, got {self.n_hard_negatives}")
        n_samples = round(self.rules.clip_s * self.bank.sample_rate)
        if any(recipe.n_samples != n_samples for recipe in self.mixtures[:1]):
            raise ValueError(
                f"the mixtures are of {self.mixtures[0].n_samples} samples, clips of "
                f"{self.rules.clip_s} s have {n_samples}: draw them again"
            )

    def __len__(self) -> int:
        return self.n_steps

    def __getitem__(self, step: int) -> Batch:
        rng = generator(self.seed, "step", step, "rank", 0)  # what is drawn is for all of them
        queries = self._queries([self.mixtures[i] for i in self.step_rows(step)], rng)
        batch = [self.mixtures[i] for i in self.rows(step)] if self.hears_mixtures else []
        active, known = self.lexicon.label(
            [recipe.labels for recipe in batch],
            [audible(self.bank, recipe) for recipe in batch],
            queries,
            n_frames=self.n_frames,
            frame_s=self.frame_s,
        )
        pairs = self._draw_pairs(rng)
        texts = self._word(queries, rng)
        pair_captions = [self.bank.of(source, "caption") for source, _ in pairs]
        own = slice(self.rank, None, self.n_ranks)
        heard = range(len(pairs))[own] if self.hears_pairs else ()
        solos = [self._solo(step, place, *pairs[place]) for place in heard]
        return Batch(
            waveform=self._render(batch, self.rules.clip_s),
            queries=queries,
            texts=texts,
            own=own,
            active=torch.from_numpy(active),
            known=torch.from_numpy(known),
            pair_waveform=self._render(solos, self.pair_s),
            pair_captions=self._word(pair_captions, rng)[own],
        )

    def rows(self, step: int) -> list[int]:
        """This rank's mixtures."""
        return self.step_rows(step)[self.rank :: self.n_ranks]

    def step_rows(self, step: int) -> list[int]:
        """The mixtures of all processes: each pass over them is shuffled anew."""
        n = len(self.mixtures)
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
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
        for _ in range(self.n_hard_negatives if captions else 0):
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

    def _draw_pairs(self, rng: np.random.Generator) -> list[tuple[int, bool]]:
        """Rows of recordings of as many different families, and whether on a background.

        So no caption is true of two of them.
        """
        by_family = self._captions_by_family()
        n_pairs = min(self.n_pairs, len(by_family))
        pairs = []
        for f in rng.choice(len(by_family), n_pairs, replace=False):
            captions = by_family[f]
            recordings = captions[int(rng.integers(len(captions)))]
            variants = recordings[int(rng.integers(len(recordings)))]
            source = variants[int(rng.integers(len(variants)))]
            pairs.append((source, bool(rng.random() < self.pair_background_share)))
        return pairs

    def _solo(self, step: int, place: int, source: int, background: bool) -> Recipe:
        return mixing.solo(
            self.bank,
            replace(self.rules, clip_s=self.pair_s),
            seed=self.seed,
            split=self.split,
            index=step * self.n_pairs + place,
            source=source,
            background=background,
        )

    def _captions_by_family(self) -> list[list[list[list[int]]]]:
        groups: dict[str, list] = {}
        for recordings in self.bank.recordings("foreground", self.split).values():
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
