"""The effect of a bias per caption, on two captions: one long and frequent, one short and rare.

The two come together, as rain and thunder do: the rare one sounds nowhere but over the frequent
one. Where one bias serves both (`network.bias` "shared"), it cannot be the log-odds of both, and
the embeddings have to make up for it; the paper (arXiv:2505.05335) holds that the rare caption then
pays. Here a model of each kind is trained on such mixtures of real recordings, and asked.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from flamlib import paths
from flamlib.config import Config, DependencyConfig, MixtureConfig
from flamlib.data.mixtures import mixing, recipes
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.data.mixtures.recipes import Recipe, Segment
from flamlib.distributions import KeyedRandom
from flamlib.evaluation import ablation, evaluate, splits
from flamlib.evaluation.splits import EvalSplit, SplitLogits
from flamlib.metrics import sed
from flamlib.metrics.f1 import f1_over_thresholds
from flamlib.metrics.ranking import frame_auroc
from flamlib.models.flam import FLAM
from flamlib.plots.style import BLUE, GREY, ORANGE, PAGE, styled

KINDS = ("per_caption", "shared")  # of bias
TEST = "seen_captions"
# What a frame holds, for a caption: itself, only the other of the two, or neither.
HOLDS = ("it sounds", "the other alone", "neither")


class Pair(NamedTuple):
    """The two captions, the share of clips that have the first, the share of those in which the
    second sounds too, and for how many seconds."""

    frequent: str
    rare: str
    frequent_share: float
    rare_share: float
    rare_s: float

    @classmethod
    def of(cls, dependency: DependencyConfig) -> "Pair":
        """Return the pair of a configuration."""
        return cls(*(getattr(dependency, name) for name in cls._fields))


def draw(
    bank: Bank, rules: MixtureConfig, pair: Pair, *, seed: int, split: str, index: int
) -> Recipe:
    """Draw a clip: a background and, at random, the frequent caption throughout, and the rare one.

    A recording of the frequent caption is repeated until the clip is full; of a recording of the
    rare one `rare_s` seconds from where it begins to sound come at a random time.
    """
    rng = KeyedRandom(seed, "dependency", split, index)
    n_clip = round(rules.clip_s * bank.sample_rate)
    placed: list[tuple[int, list[Segment]]] = []
    if rng.random() < pair.frequent_share:
        row = _pick(bank, rng, split, pair.frequent)
        n = min(bank.get(row, "n_samples"), n_clip)
        starts = range(0, n_clip, n)
        placed.append((row, [Segment(at, 0, min(n, n_clip - at)) for at in starts]))
        if rng.random() < pair.rare_share:
            row = _pick(bank, rng, split, pair.rare)
            begin = round(bank.get(row, "onset") * bank.sample_rate)
            n = min(round(pair.rare_s * bank.sample_rate), bank.get(row, "n_samples") - begin)
            placed.append((row, [Segment(rng.integer(0, n_clip - n), begin, n)]))
    return mixing.add_background(bank, rules, placed, seed=seed, split=split, index=index)


def write_mixtures(
    folder: Path,
    bank: Bank,
    rules: MixtureConfig,
    pair: Pair,
    *,
    seed: int,
    n_train: int,
    n_test: int,
) -> None:
    """`train.parquet`, `valid.parquet` and, of other recordings, the mixtures to be asked about.

    Raises ValueError for a caption of which a split has no recording, and for one that sounds in no
    mixture of the test.
    """

    def write(name: str, split: str, indices: range) -> None:
        drawn = [draw(bank, rules, pair, seed=seed, split=split, index=i) for i in indices]
        sounding = {event.caption for recipe in drawn for event in recipe.labels}
        if name == TEST and (silent := {pair.frequent, pair.rare} - sounding):
            raise ValueError(f"{sorted(silent)} sounds in none of {n_test} mixtures: draw more")
        recipes.write(folder / f"{name}.parquet", recipes.to_table(iter(drawn)))

    write(TEST, TEST, range(n_test))
    write("train", "train", range(n_train))
    write("valid", "train", range(n_train, n_train + 32))


def ask(model: Path, mixtures: Path, bank: Bank, lexicon: Lexicon, pair: Pair) -> "Answer":
    """What a saved model says of both captions on mixtures of recordings that are new to it."""
    listener = FLAM.from_pretrained(model)
    drawn = recipes.read(mixtures / f"{TEST}.parquet")[:]
    split = EvalSplit.from_mixtures(TEST, drawn, bank, lexicon, frame_s=listener.frame_s)
    return Answer(splits.predict_logits(listener, split, bank, batch_size=16, progress=False))


class Answer(NamedTuple):
    """The test mixtures, and a model's logits of them."""

    logits: SplitLogits

    @property
    def split(self) -> EvalSplit:
        """The test mixtures."""
        return self.logits.split

    def frames(self, pair: Pair) -> pd.DataFrame:
        """A row per frame and caption, where it is known: `caption holds score`, score unbiased."""
        table, captions = self.logits.score_table(), self.split.captions
        score, active, known = table.scores, table.active, table.known
        rows = []
        for caption, other in ((pair.frequent, pair.rare), (pair.rare, pair.frequent)):
            at, beside = captions.index(caption), captions.index(other)
            holds = np.where(active[:, at], 0, np.where(active[:, beside], 1, 2))
            table = {"caption": caption, "holds": np.array(HOLDS)[holds], "score": score[:, at]}
            rows.append(pd.DataFrame(table)[known[:, at]])
        return pd.concat(rows, ignore_index=True)

    def numbers(self, pair: Pair, *, n_thresholds: int) -> dict[str, dict[str, float | None]]:
        """Of each caption, by "frequent" and "rare":

        active_share log_odds logit_bias  how often it sounds, what its bias should be and is
        auroc                             of its frames
        f1_own f1_common                  at the threshold best for it, and at the one for both
        score_active score_other          mean where it sounds, and where the other does alone

        None where a number is not defined: the log-odds of what sounds all the time, say.
        """
        split, table = self.split, self.logits.score_table()
        score, active, known = table.scores, table.active, table.known
        thresholds = sed.candidate_thresholds(score[known], n_thresholds)
        both = f1_over_thresholds(score, active, thresholds, known)["f1_macro"]
        auroc = frame_auroc(score, active, known)["per_caption"]
        means = self.frames(pair).groupby(["caption", "holds"])["score"].mean()
        found = {}
        for name, caption in (("frequent", pair.frequent), ("rare", pair.rare)):
            at = split.captions.index(caption)
            share = split.active_share()[at]
            of = (x[:, [at]] for x in (score, active))
            f1 = f1_over_thresholds(*of, thresholds, known[:, [at]])["f1_macro"]
            found[name] = {
                "active_share": share,
                "log_odds": np.log(share / (1 - share)) if 0 < share < 1 else np.nan,
                "logit_bias": self.logits.logit_bias[at],
                "auroc": auroc[at],
                "f1_own": f1.max(),
                "f1_common": f1[np.argmax(both)],
                "score_active": means.get((caption, HOLDS[0])),
                "score_other": means.get((caption, HOLDS[1])),
            }
        return evaluate.nan_to_none(found)


def compare(root: Path, config: Config, pair: Pair) -> dict[str, Answer]:
    """Draw the mixtures, train a model of each of `KINDS` of bias on them, and score both."""
    bank, lexicon = Bank.open(root / paths.BANK), Lexicon.read(root / paths.CAPTIONS)
    mixtures = root / paths.DEPENDENCY / "mixtures"
    sizes = {"n_train": config.dependency.n_train, "n_test": config.dependency.n_test}
    write_mixtures(mixtures, bank, config.mixture, pair, seed=config.seed, **sizes)
    answers = {}
    for kind in KINDS:
        changed = config.override({**config.dependency.budget, "network.bias": kind})
        out = root / paths.DEPENDENCY / kind
        with ablation.trained(root, out, mixtures, "flam", changed) as model:
            answers[kind] = ask(model, mixtures, bank, lexicon, pair)
    return answers


@styled
def score_densities(answers: Mapping[str, Answer], pair: Pair) -> Figure:
    """How the unbiased score of each caption is distributed over frames, by what they hold: a row
    of panels per model, a column per caption. The line is at one half, which says nothing."""
    figure = Figure(figsize=(PAGE, 1.7 * len(answers) + 0.4), layout="constrained")
    panels = figure.subplots(len(answers), 2, sharex=True, squeeze=False)
    colors = dict(zip(HOLDS, (BLUE, ORANGE, GREY), strict=True))
    for row, (kind, answer) in zip(panels, answers.items(), strict=True):
        frames = answer.frames(pair)
        for axes, (name, caption) in zip(
            row, (("frequent", pair.frequent), ("rare", pair.rare)), strict=True
        ):
            seaborn.violinplot(
                frames[frames["caption"] == caption], x="score", y="holds", hue="holds", ax=axes,
                order=HOLDS, hue_order=HOLDS, palette=colors, density_norm="width", cut=0,
                inner="quart", linewidth=0.6, legend=False,
            )  # fmt: skip
            axes.axvline(0.5, color=GREY, linewidth=0.6, linestyle=(0, (1, 2)))
            axes.set(xlim=(0, 1), xlabel="unbiased score", ylabel="")
            axes.set_title(f"{caption} ({name}); bias: {kind.replace('_', ' ')}")
    return figure


def _pick(bank: Bank, rng: KeyedRandom, split: str, caption: str) -> int:
    recordings = bank.recordings("foreground", split)
    if caption not in recordings:
        raise ValueError(
            f"{bank.folder}: split {split!r} has no recording of {caption!r}, but of "
            f"{', '.join(sorted(recordings))}"
        )
    return rng.choice(rng.choice(recordings[caption]))
