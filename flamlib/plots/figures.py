"""Figures of an evaluation; those of single clips are in `spectrograms`.

Models and splits have the same colours and markers in all figures (`MODELS`, `SPLITS`).
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from flamlib.metrics.spans import SpanCurve
from flamlib.plots.style import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    ORANGE,
    PAGE,
    RED,
    legend_above,
    plain_numbers,
    shortened,
    styled,
)

# Name in tables: name to read, colour, line, marker.
MODELS = {
    "flam": ("FLAM", BLUE, "-", "o"),
    "flam_global": ("FLAM-Global", RED, "--", "s"),
    "mga_clap": ("MGA-CLAP", ORANGE, "-.", "D"),
    "label_matching": ("label matching", GREEN, ":", "^"),
}
SPLITS = {
    "seen_captions": ("seen captions", BLUE, "o"),
    "unseen_captions": ("unseen captions", ORANGE, "D"),
}


@styled
def f1_curves(curves: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Draw frame-wise macro F1 over the threshold, one for all captions; the best is marked.

    `curves[model]` is what `f1.f1_over_thresholds` returns.
    """
    figure = Figure(figsize=(COLUMN, 2.3), layout="constrained")
    axes = figure.subplots()
    for model, curve in curves.items():
        name, color, line, marker = MODELS[model]
        threshold, f1 = curve["threshold"], curve["f1_macro"]
        best = int(np.argmax(f1))
        # In the legend: beside their marks, the values of two models would often overlap.
        label = f"{name}, best {f1[best]:.2f}"
        axes.plot(
            threshold, f1, marker, color=color, linestyle=line, label=label, markevery=[best],
            markeredgecolor="white", markersize=5.5,
        )  # fmt: skip
    axes.set(xlim=(0, 1), xlabel="threshold for all captions", ylabel="frame-wise F1, macro")
    axes.set_ylim(0, 1.7 * max(np.max(c["f1_macro"]) for c in curves.values()))
    axes.grid(axis="y")
    axes.legend(loc="upper left")
    return figure


@styled
def recall_curves(curves: Mapping[str, SpanCurve]) -> Figure:
    """Draw the recall of events over false spans a minute, one threshold for all captions.

    `curves[model]` is of `spans.SpanChanges.curve`. A curve ends where the model has no more.
    """
    figure = Figure(figsize=(COLUMN, 2.3), layout="constrained")
    axes = figure.subplots()
    rates = np.geomspace(0.01, 10, 200)
    for model, curve in curves.items():
        name, color, line, marker = MODELS[model]
        shown = rates[rates <= max(curve.false_spans.max(), rates[0])]
        label = f"{name}, at 1: {curve.recall_at([1])[0]:.2f}"
        one = [int(np.searchsorted(shown, 1.0))] if shown[-1] > 1 else []
        axes.plot(
            shown, curve.recall_at(shown), marker, color=color, linestyle=line, label=label,
            markevery=one, markeredgecolor="white", markersize=5.5,
        )  # fmt: skip
    axes.set(xscale="log", xlim=(rates[0], rates[-1]), ylim=(0, 1))
    axes.set(xlabel="false spans a minute and caption", ylabel="recall of events, macro")
    axes.set_xticks([0.01, 0.1, 1, 10], ["0.01", "0.1", "1", "10"])
    axes.grid()
    axes.legend(loc="upper left")
    return figure


@styled
def per_caption(captions: pd.DataFrame) -> Figure:
    """Draw the AUROC of every caption with FLAM and FLAM-Global, and a line between them.

    `captions` is `evaluate.caption_table`. Two columns, sorted by FLAM's, best on top.
    """
    models = ("flam", "flam_global")
    columns = [f"auroc_{model}" for model in models]
    table = captions.dropna(subset=columns).sort_values(columns[0], ascending=False)
    half = max(1, math.ceil(len(table) / 2))
    figure = Figure(figsize=(PAGE, 0.9 + 0.135 * half), layout="constrained")
    low = min(0.45, math.floor(20 * table[columns].min(axis=None)) / 20) if len(table) else 0
    for axes, part in zip(
        figure.subplots(1, 2, sharex=True), (table[:half], table[half:]), strict=True
    ):
        rows = range(len(part))
        better = np.where(part[columns[0]] >= part[columns[1]], BLUE, RED)
        axes.hlines(
            rows, part[columns[1]], part[columns[0]], color=better, alpha=0.45, linewidth=1.5
        )
        for model, column in reversed(list(zip(models, columns, strict=True))):
            name, color, _, marker = MODELS[model]
            axes.plot(part[column], rows, marker, color=color, markersize=3.2, label=name)
        axes.axvline(0.5, color=GREY, linewidth=0.6, linestyle=(0, (1, 2)))
        axes.set_yticks(rows, [shortened(c, 34) for c in part["caption"]])
        axes.tick_params(axis="y", length=0, labelsize=6)
        axes.set(ylim=(half - 0.4, -0.6), xlim=(low, 1.01), xlabel="frame-wise AUROC")
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
    legend_above(figure.axes[1], figure.axes[1].get_legend_handles_labels()[0][::-1])
    return figure


@styled
def bias_against_prior(captions: pd.DataFrame) -> Figure:
    """Draw the prior log-odds that FLAM predicts for each caption over the measured ones.

    `captions` is `evaluate.caption_table`. On the diagonal the prior is right. A mark is the larger
    the more clips its caption is in; ρ is Spearman's rank correlation, which captions that all have
    the same prior, as novel ones do, have none of.
    """
    table = captions[np.isfinite(captions["log_odds"])]
    figure = Figure(figsize=(COLUMN, 3.1), layout="constrained")
    axes = figure.subplots()
    for name, part in table.groupby("part"):
        label, color, marker = SPLITS[name]
        how_well = "the same for all"
        if part[["log_odds", "logit_bias"]].nunique().min() > 1:
            rank = part["log_odds"].corr(part["logit_bias"], method="spearman")
            how_well = f"ρ = {rank:.2f}"
        axes.scatter(
            part["log_odds"], part["logit_bias"], s=10 + 2 * part["n_clips"], marker=marker,
            color=color, alpha=0.65, linewidth=0.4, edgecolor="white",
            label=f"{label}, {how_well}",
        )  # fmt: skip
    both = table[["log_odds", "logit_bias"]].to_numpy()
    low, high = (both.min() - 0.3, both.max() + 0.3) if len(both) else (-8, 0)
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(xlabel="measured prior log-odds", ylabel="predicted prior log-odds (logit bias)")
    if len(table):
        legend_above(axes, axes.get_legend_handles_labels()[0])
    return figure


@styled
def reliability(bins: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Draw a reliability diagram, and below it a histogram of the probabilities.

    `bins[model]` is what `calibration.reliability` returns. A calibrated model lies on the
    diagonal. A model that is none of `MODELS` is grey.
    """
    figure = Figure(figsize=(COLUMN, 3.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
    for model, of in bins.items():
        name, color, line, marker = MODELS.get(model, (model, GREY, "-", "x"))
        above.plot(
            of["mean_prob"], of["frequency"], marker, color=color, linestyle=line, label=name,
            clip_on=False,
        )  # fmt: skip
        edges = np.linspace(0, 1, len(of["count"]) + 1)
        below.stairs(of["count"], edges, color=color, linestyle=line, linewidth=1)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of frames active")
    above.legend(loc="upper left")
    below.set(yscale="log", xlabel="predicted probability", ylabel="frames")
    plain_numbers(below.yaxis)
    for axes in (above, below):
        axes.grid()
    return figure
