"""The effect of a bias per caption, on two captions: one long and frequent, one short and rare.

The two come together, as rain and thunder do: the rare one sounds nowhere but over the frequent
one. Where one bias serves both (`network.bias` "shared"), it cannot be the log-odds of both, and
the embeddings have to make up for it; the paper (arXiv:2505.05335) holds that the rare caption then
pays. Here a model of each kind is trained on such mixtures of real recordings, and evaluated.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from flamlib import paths
from flamlib.compute.distributions import KeyedRandom
from flamlib.data.mixtures import mixing, recipes
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.data.mixtures.recipes import Recipe, Segment
from flamlib.evaluation import ablation, evaluate, splits
from flamlib.evaluation.splits import EvalSplit, SplitLogits
from flamlib.experiment import provenance
from flamlib.experiment.config import Config
from flamlib.experiment.parameters import plain
from flamlib.experiment.params.sounds import MixtureConfig
from flamlib.experiment.params.trials import DependencyConfig
from flamlib.metrics import sed
from flamlib.metrics.f1 import f1_over_thresholds
from flamlib.metrics.ranking import caption_auroc
from flamlib.models.flam import FLAM
from flamlib.paths import Places
from flamlib.plots.style import BLUE, GREY, ORANGE, PAGE, styled

KINDS = ("per_caption", "shared")  # of bias
TEST = "seen_captions"
# What a frame holds, for a caption: itself, only the other of the two, or neither.
HOLDS = ("it sounds", "the other alone", "neither")


def draw(
    bank: Bank, rules: MixtureConfig, pair: DependencyConfig, *, seed: int, split: str, index: int
) -> Recipe:
    """Draw a clip: a background and, at random, the frequent caption throughout, and the rare one.

    A recording of the frequent caption is repeated until the clip is full; of a recording of the
    rare one `rare_s` seconds from where it begins to sound come at a random time.

    Args:
        bank: the recordings.
        rules: levels of events and backgrounds, and the length of a mixture.
        pair: the two captions, and how often and how long they sound.
        seed, split, index: the clip depends on these alone.
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
            placed.append((row, [Segment(rng.integer(n_clip - n), begin, n)]))
    return mixing.add_background(bank, rules, placed, seed=seed, split=split, index=index)


def write_mixtures(
    folder: Path,
    bank: Bank,
    rules: MixtureConfig,
    pair: DependencyConfig,
    *,
    seed: int,
) -> None:
    """Write `train.parquet`, `valid.parquet` and, of held-out recordings, the test mixtures.

    Args:
        folder: where they are written.
        bank: the recordings.
        rules: levels of events and backgrounds, and the length of a mixture.
        pair: the two captions and the numbers of mixtures.
        seed: of everything drawn.

    Raises:
        ValueError: a split has no recording of a caption, or a caption sounds in no test mixture.
    """

    def write(name: str, split: str, indices: range) -> None:
        drawn = [draw(bank, rules, pair, seed=seed, split=split, index=i) for i in indices]
        sounding = {event.caption for recipe in drawn for event in recipe.labels}
        if name == TEST and (silent := {pair.frequent, pair.rare} - sounding):
            raise ValueError(
                f"{sorted(silent)} sounds in none of {pair.n_test} mixtures: draw more"
            )
        recipes.write(folder / f"{name}.parquet", recipes.to_table(iter(drawn)))

    write(TEST, TEST, range(pair.n_test))
    write("train", "train", range(pair.n_train))
    write("valid", "train", range(pair.n_train, pair.n_train + 32))


def predict(model: Path, mixtures: Path, bank: Bank, lexicon: Lexicon) -> SplitLogits:
    """Compute a saved model's logits of both captions on the test mixtures.

    Args:
        model: folder of the model.
        mixtures: folder of the mixtures.
        bank: their recordings.
        lexicon: the captions of the corpus.
    """
    net = FLAM.from_pretrained(model)
    drawn = recipes.read(mixtures / f"{TEST}.parquet")[:]
    split = EvalSplit.from_mixtures(TEST, drawn, bank, lexicon, frame_s=net.frame_s)
    return splits.predict_logits(net, split, bank, batch_size=16, progress=False)


def frame_scores(logits: SplitLogits, pair: DependencyConfig) -> pd.DataFrame:
    """Return a row per known frame and caption: `caption holds score`, the unbiased score."""
    table, captions = logits.score_table(), logits.split.captions
    score, active, known = table.scores, table.active, table.known
    rows = []
    for caption, other in ((pair.frequent, pair.rare), (pair.rare, pair.frequent)):
        at, beside = captions.index(caption), captions.index(other)
        holds = np.where(active[:, at], 0, np.where(active[:, beside], 1, 2))
        table = {"caption": caption, "holds": np.array(HOLDS)[holds], "score": score[:, at]}
        rows.append(pd.DataFrame(table)[known[:, at]])
    return pd.concat(rows, ignore_index=True)


def metrics_of(logits: SplitLogits, pair: DependencyConfig) -> dict[str, dict[str, float | None]]:
    """Compute metrics of each caption, by "frequent" and "rare".

        active_share log_odds logit_bias  share of frames in which it sounds, its log-odds, the bias
        auroc                             of its frames
        f1_own f1_common                  at the threshold best for it, and at the one for both
        score_active score_other          mean where it sounds, and where the other does alone

    None where one is not defined: the log-odds of a caption that sounds all the time, say.
    """
    split, table = logits.split, logits.score_table()
    score, active, known = table.scores, table.active, table.known
    thresholds = sed.candidate_thresholds(score[known], pair.n_thresholds)
    both = f1_over_thresholds(score, active, thresholds, known)["f1_macro"]
    auroc = caption_auroc(score, active, known)
    means = frame_scores(logits, pair).groupby(["caption", "holds"])["score"].mean()
    found = {}
    for name, caption in (("frequent", pair.frequent), ("rare", pair.rare)):
        at = split.captions.index(caption)
        share = split.active_share()[at]
        of = (x[:, [at]] for x in (score, active))
        f1 = f1_over_thresholds(*of, thresholds, known[:, [at]])["f1_macro"]
        found[name] = {
            "active_share": share,
            "log_odds": np.log(share / (1 - share)) if 0 < share < 1 else np.nan,
            "logit_bias": logits.logit_bias[at],
            "auroc": auroc[at],
            "f1_own": f1.max(),
            "f1_common": f1[np.argmax(both)],
            "score_active": means.get((caption, HOLDS[0])),
            "score_other": means.get((caption, HOLDS[1])),
        }
    return evaluate.nan_to_none(found)


def record(places: Places, config: Config) -> dict[str, Any]:
    """Record what the comparison is computed from, see `provenance.record`."""
    return provenance.record(
        places.root / "notebooks/08_dependency.ipynb",
        root=places.root,
        parameters=[ablation.shared(config), config.seed, plain(config.dependency)],
        data=ablation.checksums(places, config),
    )


def compare(places: Places, config: Config) -> dict[str, SplitLogits]:
    """Draw the mixtures, train a model of each of `KINDS` of bias on them, and score both."""
    bank, lexicon = Bank.open(places.path(paths.BANK)), Lexicon.read(places.path(paths.CAPTIONS))
    mixtures = places.path(paths.DEPENDENCY) / "mixtures"
    write_mixtures(mixtures, bank, config.mixture, config.dependency, seed=config.seed)
    logits = {}
    for kind in KINDS:
        changed = config.override({**config.dependency.budget, "network.bias": kind})
        out = places.path(paths.DEPENDENCY) / kind
        with ablation.trained(places, out, mixtures, "flam", changed) as model:
            logits[kind] = predict(model, mixtures, bank, lexicon)
    return logits


@styled
def score_densities(logits: Mapping[str, SplitLogits], pair: DependencyConfig) -> Figure:
    """Draw the distribution of each caption's unbiased score over frames, by what sounds in them.

    A row of panels for each model, a column for each caption. The line is at 0.5, no evidence.
    """
    figure = Figure(figsize=(PAGE, 1.7 * len(logits) + 0.4), layout="constrained")
    panels = figure.subplots(len(logits), 2, sharex=True, squeeze=False)
    colors = dict(zip(HOLDS, (BLUE, ORANGE, GREY), strict=True))
    for row, (kind, model_logits) in zip(panels, logits.items(), strict=True):
        frames = frame_scores(model_logits, pair)
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
