"""Recipes -> what one training step looks at: audio, queries and their labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16
from torch import Tensor
from torch.utils.data import Dataset

from flamlib.compute.distributions import generator
from flamlib.data.mixtures import recipes, strong
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.data.mixtures.recipes import Recipe
from flamlib.data.mixtures.strong import StrongSet
from flamlib.data.pairs import Pair, Pairs
from flamlib.data.trunk_features import ClipFeatures
from flamlib.experiment.params.learning import TrainConfig
from flamlib.experiment.params.sounds import MixtureConfig


class Batch(NamedTuple):
    """One process's share of a step.

    Attributes:
        audio: this process's clips, waveforms or what a frozen trunk made of them; none where no
            loss uses them.
        queries: the captions of the whole step, each once, the same in every process.
        texts: the wording of each query in this step.
        own: the queries that this process encodes, for all processes.
        active: whether a query sounds in a frame of one of this process's clips.
        known: whether that is known of a query and a clip.
        pair_audio: this process's single recordings, likewise.
        pair_captions: the wording of their captions.
    """

    audio: Float[Tensor, "clip sample"] | Float16[Tensor, "clip step width"]
    queries: list[str]
    texts: list[str]
    own: slice
    active: Bool[Tensor, "clip query frame"]
    known: Bool[Tensor, "clip query"]
    pair_audio: Float[Tensor, "pair pair_sample"] | Float16[Tensor, "pair pair_step width"]
    pair_captions: list[str]


class StepFeatures(NamedTuple):
    """What a frozen trunk made of all that a step may hold.

    Attributes:
        clips: of the mixtures, and of each strong set; none where no loss uses them.
        pairs: of the single recordings; None where no loss uses them.
    """

    clips: Sequence[ClipFeatures]
    pairs: ClipFeatures | None


@dataclass(frozen=True, eq=False)
class Batches(Dataset):
    """The steps of a training run; item `step` is this process's share of it.

    A step holds `train.batch_size` clips and `train.pair_batch_size` single recordings with their
    captions, over all processes. Everything drawn depends on (seed, step) alone, so a run continues
    anywhere without replaying what came before, and a step is the same however many processes
    share it. What no loss uses is drawn all the same, so that the rest of the step stays what it
    is, but neither rendered nor labelled.

    Attributes:
        bank: the recordings.
        lexicon: what the captions mean for each other.
        mixtures: recipes of the synthetic clips.
        sets, set_shares: strongly labelled sets, and the probability that a clip is of each; the
            remaining probability is that of the mixtures.
        pairs: the single recordings.
        mixture: the rules of the mixtures.
        train: sizes and probabilities of a step, and `n_steps`.
        seed: of everything drawn.
        n_frames, frame_s: frames of a clip, and their length in seconds.
        uses_mixtures, uses_pairs: whether some loss uses the clips, and the single recordings.
        rank, n_ranks: which of how many processes this is.
        features: what a frozen trunk made of the clips and of the single recordings; None: they are
            rendered.

    Raises ValueError if the data do not fit the parameters.
    """

    bank: Bank
    lexicon: Lexicon
    mixtures: Sequence[Recipe]
    sets: Sequence[StrongSet]
    set_shares: Sequence[float]
    pairs: Pairs
    mixture: MixtureConfig
    train: TrainConfig
    seed: int
    n_frames: int
    frame_s: float
    uses_mixtures: bool
    uses_pairs: bool
    rank: int
    n_ranks: int
    features: StepFeatures | None = None

    def __post_init__(self):
        if self.uses_pairs:
            self.pairs.check()
        n_samples = round(self.mixture.clip_s * self.bank.sample_rate)
        named = {"the mixtures": self.mixtures} | {each.name: each.clips for each in self.sets}
        for name, clips in named.items():
            if any(recipe.n_samples != n_samples for recipe in clips[:1]):
                raise ValueError(
                    f"{name}: clips of {clips[0].n_samples} samples, where those of "
                    f"{self.mixture.clip_s} s have {n_samples}: make them again with 02_mix"
                )

    def __len__(self) -> int:
        return self.train.n_steps

    def __getitem__(self, step: int) -> Batch:
        rng = generator(self.seed, "step", step, "rank", 0)  # what is drawn is for all of them
        slots = self.step_slots(step)
        batch = [self._clip(*slot) for slot in slots]
        queries = self._queries(self._slots(step, batch), rng)
        mine = slice(self.rank, None, self.n_ranks) if self.uses_mixtures else slice(0)
        slots, batch = slots[mine], batch[mine]
        active, known = self._label([number for number, _ in slots], batch, queries)
        pairs = self.pairs.draw(step, rng)
        texts = self._word(queries, rng)
        pair_captions = [self.bank.get(pair.source, "caption") for pair in pairs]
        own = slice(self.rank, None, self.n_ranks)
        return Batch(
            audio=self._audio(slots),
            queries=queries,
            texts=texts,
            own=own,
            active=torch.from_numpy(active),
            known=torch.from_numpy(known),
            pair_audio=self._pair_audio(pairs[own] if self.uses_pairs else []),
            pair_captions=self._word(pair_captions, rng)[own],
        )

    def step_slots(self, step: int) -> list[tuple[int, int]]:
        """Return (dataset, row) of every clip of a step, over all processes.

        Dataset 0 is the mixtures, 1 the first of `sets`. Each dataset has its own shuffled order
        per epoch and advances by `batch_size` rows each step, used or not. So a step can be
        computed without the steps before it, and the clips of a set come equally often.
        """
        numbers = self._numbers(step)
        rows = {number: self._rows(step, number) for number in set(numbers)}
        return [(number, rows[number][place]) for place, number in enumerate(numbers)]

    def names(self, step: int) -> list[str]:
        """Name the clips of all processes: `synthetic 12`, `desed 3`."""
        sets = [strong.SYNTHETIC, *(each.name for each in self.sets)]
        return [f"{sets[number]} {row}" for number, row in self.step_slots(step)]

    def all_texts(self) -> list[str]:
        """List every text that a caption of some step may have."""
        captions = set(self.bank.recordings("foreground", self.pairs.split))
        captions = captions.union(*(one.captions for one in self.sets))
        if self.train.n_hypernyms:
            captions |= {parent for one in captions for parent in self.lexicon.parents[one]}
        wordings = (self.lexicon.wordings[caption] for caption in captions)
        n_words = None if self.train.wording_prob else 1
        return sorted({text for of_caption in wordings for text in of_caption[:n_words]})

    def _numbers(self, step: int) -> list[int]:
        if not self.sets:
            return [0] * self.train.batch_size
        bounds = list(accumulate([1 - sum(self.set_shares), *self.set_shares]))
        drawn = generator(self.seed, "sets", step).random(self.train.batch_size)
        # The last bound is one, but for rounding: nothing is beyond it.
        return np.searchsorted(bounds[:-1], drawn, side="right").tolist()

    def _rows(self, step: int, number: int) -> list[int]:
        n = len(self.sets[number - 1].clips if number else self.mixtures)
        places = range(step * self.train.batch_size, (step + 1) * self.train.batch_size)
        orders = {e: self._order(number, n, e) for e in {place // n for place in places}}
        return [int(orders[place // n][place % n]) for place in places]

    def _order(self, number: int, n: int, epoch: int) -> np.ndarray:
        # Of mixtures as it was before there were sets.
        key = (self.sets[number - 1].name, "epoch") if number else ("epoch",)
        return generator(self.seed, *key, epoch).permutation(n)

    def _clip(self, number: int, row: int) -> Recipe:
        return self.sets[number - 1].clips[row] if number else self.mixtures[row]

    def _label(
        self, numbers: list[int], batch: list[Recipe], queries: list[str]
    ) -> tuple[Bool[np.ndarray, "clip query frame"], Bool[np.ndarray, "clip query"]]:
        """By each set's own rule: what of its clips is true, and what of that is known."""
        frames = {"n_frames": self.n_frames, "frame_s": self.frame_s, "clip_s": self.mixture.clip_s}
        active = np.zeros((len(batch), len(queries), self.n_frames), bool)
        known = np.zeros((len(batch), len(queries)), bool)
        for number in set(numbers):
            rows = [i for i, other in enumerate(numbers) if other == number]
            labels = [batch[i].labels for i in rows]
            if number:
                found = self.sets[number - 1].label(labels, queries, **frames)
            else:
                audible = [recipes.audible_families(self.bank, batch[i]) for i in rows]
                found = self.lexicon.label(labels, audible, queries, **frames)
            active[rows], known[rows] = found
        return active, known

    def _slots(self, step: int, batch: list[Recipe]) -> list[str]:
        """The captions of the clips of a step: of each at most `max_captions_per_clip`."""
        rng, captions = generator(self.seed, "slots", step), set()
        for recipe in batch:
            own = sorted({event.caption for event in recipe.labels})
            if (
                self.train.max_captions_per_clip is not None
                and len(own) > self.train.max_captions_per_clip
            ):
                own = rng.choice(own, self.train.max_captions_per_clip, replace=False).tolist()
            captions |= set(own)
        return sorted(captions)

    def _queries(self, captions: list[str], rng: np.random.Generator) -> list[str]:
        """The captions of a batch, some of their parents, and the hard negatives."""
        parents = {p for caption in captions for p in self.lexicon.parents[caption]}
        parents = sorted(parents - set(captions))  # a corpus may have one that is a caption too
        n_hypernyms = min(self.train.n_hypernyms, len(parents))
        queries = captions + [
            parents[i] for i in rng.choice(len(parents), n_hypernyms, replace=False)
        ]
        return queries + self._hard_negatives(captions, queries, rng)

    def _hard_negatives(
        self, captions: list[str], queries: list[str], rng: np.random.Generator
    ) -> list[str]:
        """Captions that resemble one that sounds, and do not: each is one of the ten most alike."""
        hard: list[str] = []
        for _ in range(self.train.n_hard_negatives if captions else 0):
            alike = self.lexicon.resembling(captions[int(rng.integers(len(captions)))], 10)
            alike = [text for text in alike if text not in queries and text not in hard]
            if alike:
                hard.append(alike[int(rng.integers(len(alike)))])
        return hard

    def _word(self, queries: list[str], rng: np.random.Generator) -> list[str]:
        """The query itself, or as often as `wording_prob` says any of its wordings."""

        def word(query: str) -> str:
            if rng.random() >= self.train.wording_prob:
                return query
            texts = self.lexicon.wordings[query]
            return texts[int(rng.integers(len(texts)))]

        return [word(query) for query in queries]

    def _audio(
        self, slots: Sequence[tuple[int, int]]
    ) -> Float[Tensor, "clip sample"] | Float16[Tensor, "clip step width"]:
        """The clips of a step: as they are stored, or else rendered."""
        if self.features is None or not slots:
            banks = [self.sets[number - 1].bank if number else self.bank for number, _ in slots]
            return self._render(banks, [self._clip(*slot) for slot in slots], self.mixture.clip_s)
        audio = torch.empty(len(slots), *self.features.clips[0].shape, dtype=torch.float16)
        for number, clips in enumerate(self.features.clips):
            rows = {place: row for place, (other, row) in enumerate(slots) if other == number}
            clips.read_into(audio, rows)
        return audio

    def _pair_audio(
        self, pairs: Sequence[Pair]
    ) -> Float[Tensor, "pair sample"] | Float16[Tensor, "pair step width"]:
        """The single recordings, likewise."""
        if self.features is not None and pairs:
            return self.features.pairs.read(self.pairs.rows(pairs))
        solos = [self.pairs.recipe(pair) for pair in pairs]
        return self._render([self.bank] * len(solos), solos, self.train.pair_s)

    def _render(
        self, banks: list[Bank], batch: list[Recipe], clip_s: float | int
    ) -> Float[Tensor, "clip sample"]:
        # Filled, not stacked: there may be none, where an objective needs no pairs or no mixtures.
        waveform = torch.zeros(len(batch), round(clip_s * self.bank.sample_rate))
        for i, (bank, recipe) in enumerate(zip(banks, batch, strict=True)):
            waveform[i] = torch.from_numpy(recipes.render(bank, recipe))
        return waveform
