"""Figures of a corpus and of the mixtures made from it."""

import math

import numpy as np
import pandas as pd
import seaborn
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from flamlib.plots.style import BLUE, GREEN, ORANGE, PAGE, plain_numbers, shortened, styled

ROLES = {"foreground": BLUE, "background": ORANGE, "masker": GREEN}
SPLITS = ("train", "valid", "heldout", "seen_captions", "unseen_captions")


@styled
def corpus_overview(clips: pd.DataFrame) -> Figure:
    """Draw how many recordings a corpus has, of which split, duration, sample rate and licence.

    `clips` is the corpus's table `clips.tsv`, one row per recording.
    """
    figure = Figure(figsize=(PAGE, 4.2), layout="constrained")
    (splits, captions, repeats), (seconds, rates, licences) = figure.subplots(2, 3)
    foreground = clips[clips["role"] == "foreground"]
    _counts(
        splits, clips.groupby(["split", "role"]).size().unstack(fill_value=0), "recordings by split"
    )
    _counts(captions, foreground.groupby("split")["caption"].nunique(), "captions by split")
    edges = [0, 1, 2, 4, 8, 16, 32, math.inf]
    names = ["1", "2", "3–4", "5–8", "9–16", "17–32", "more"]
    several = pd.cut(foreground["caption"].value_counts(), edges, labels=names)
    _counts(repeats, several.value_counts(sort=False), "captions by number of recordings")
    seaborn.histplot(
        clips, x="duration_s", hue="role", hue_order=list(ROLES), palette=list(ROLES.values()),
        ax=seconds, log_scale=True, bins=30, element="step", linewidth=0.8, legend=False,
    )  # fmt: skip
    seconds.set(title="duration of recordings", xlabel="seconds", ylabel="recordings")
    plain_numbers(seconds.xaxis)
    rate = clips["sample_rate"].map(lambda hz: f"{hz / 1000:g} kHz")
    _counts(rates, _common(rate, 7), "recordings by sample rate")
    _counts(licences, _common(clips["licence"], 7), "recordings by licence")
    handles = [Patch(color=color, label=role) for role, color in ROLES.items()]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    return figure


@styled
def mixtures_overview(
    events: pd.DataFrame,
    labels: pd.DataFrame,
    captions: pd.DataFrame,
    polyphony: Float[np.ndarray, "captions_at_once"],
) -> Figure:
    """Draw statistics of mixtures: their events, polyphony, SNR, and how common each caption is.

    Args:
        events: of `stats.events`, one row per event of a recipe.
        labels: of `stats.labels`, one row per event of the ground truth.
        captions: of `stats.captions`, one row per caption.
        polyphony: of `stats.polyphony`, the share of time with 0, 1, … active captions.
    """
    figure = Figure(figsize=(PAGE, 4.0), layout="constrained")
    (number, at_once, seconds), (snr, often, prior) = figure.subplots(2, 3)
    per_mixture = events.groupby("index").size().value_counts(normalize=True).sort_index()
    number.bar(per_mixture.index, per_mixture, 0.8, color=BLUE)
    number.set(title="events per mixture", xlabel="events", ylabel="share of mixtures")
    at_once.bar(range(len(polyphony)), polyphony, 0.8, color=BLUE)
    at_once.set(title="polyphony", xlabel="captions active at once", ylabel="share of time")
    for axes in (number, at_once):
        axes.xaxis.get_major_locator().set_params(integer=True)
    look = dict(color=BLUE, element="step", linewidth=0.8, bins=25, stat="proportion")
    seaborn.histplot(labels["duration_s"], ax=seconds, log_scale=True, **look)
    plain_numbers(seconds.xaxis)
    seconds.set(title="duration of events", xlabel="seconds", ylabel="share of events")
    seaborn.histplot(events["snr_db"], ax=snr, **look)
    snr.set(title="level of events", xlabel="dB above the background", ylabel="share of events")
    rank = np.arange(1, len(captions) + 1)
    often.plot(rank, captions["n_events"], color=BLUE, drawstyle="steps-mid")
    often.set(title="events per caption", xlabel="captions, by rank", ylim=(0, None))
    often.set_ylabel("events")
    prior.plot(rank, captions["prior"].sort_values(ascending=False), color=BLUE)
    prior.set(
        title="prior of each caption", xlabel="captions, by rank", ylabel="share of time active"
    )
    if captions["prior"].gt(0).any():
        prior.set_yscale("log")
        plain_numbers(prior.yaxis)
    return figure


def _common(values: pd.Series, n: int) -> pd.Series:
    """Count the n most common values, and all others together."""
    counts = values.value_counts()
    rest = counts[n:].sum()
    return counts if not rest else pd.concat([counts[:n], pd.Series({"other": rest})])


def _counts(axes: Axes, counts: pd.Series | pd.DataFrame, title: str) -> None:
    """Draw horizontal bars with their numbers; the columns of a table, by role, are stacked."""
    table = counts.to_frame("all") if isinstance(counts, pd.Series) else counts
    order = [split for split in SPLITS if split in table.index]
    table = table.loc[order] if order else table
    left = np.zeros(len(table))
    for column in sorted(table, reverse=True):
        axes.barh(range(len(table)), table[column], 0.7, left, color=ROLES.get(column, BLUE))
        left += table[column].to_numpy()
    for row, total in enumerate(left):
        axes.annotate(
            f"{total:,.0f}",
            (total, row),
            (2, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    names = [shortened(str(name).replace("_", " "), 22) for name in table.index]
    axes.set_yticks(range(len(table)), names)
    axes.set(title=title, ylim=(len(table) - 0.5, -0.5), xlim=(0, 1.18 * max(left, default=1)))
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", length=0, labelbottom=False)
    axes.spines[["left", "bottom"]].set_visible(False)
