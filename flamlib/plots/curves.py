"""Figures of a training run: its losses, the learned priors, the scores of one clip."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.figure import Figure

from flamlib.plots.style import BLUE, COLUMN, GREY, ORANGE, PAGE, shortened, styled


@styled
def loss_curves(history: pd.DataFrame | Sequence[Mapping[str, float | int]]) -> Figure:
    """Draw the losses of a training run over its steps, in nats, each on its own scale.

    The total is the weighted sum of the others. The validation loss is the same sum for the
    averaged weights, without dropout and noise, on mixtures of recordings that are not trained on.

    `history` has columns `step`, `loss` and `valid_loss` (both totals), and `<name>_nats`; what is
    missing is not drawn. Thin: as logged; thick: a moving average, with its last value.
    """
    table = pd.DataFrame(history).set_index("step")
    panels = {"loss": "total (weighted sum)"}
    panels |= {name: name.removesuffix("_nats") for name in table if name.endswith("_nats")}
    panels = {name: title for name, title in panels.items() if _has_values(table, name)}
    figure = Figure(figsize=(PAGE * max(len(panels), 3) / 3, 1.9), layout="constrained")
    for axes, (name, title) in zip(
        np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True
    ):
        loss = table[name].dropna()
        smooth = loss.ewm(span=max(1, len(loss) / 20)).mean()
        axes.plot(loss.index, loss, color=BLUE, linewidth=0.6, alpha=0.4)
        axes.plot(loss.index, smooth, color=BLUE, label="training")
        axes.set_title(title)
        axes.set_title(f"{smooth.iloc[-1]:.3g}", loc="right", color=BLUE, weight="normal")
        axes.set(xlabel="step", xlim=(0, None))
        axes.grid(axis="y")
        if name == "loss" and _has_values(table, "valid_loss"):
            valid = table["valid_loss"].dropna()
            axes.plot(
                valid.index, valid, "o--", color=ORANGE, label=f"validation, {valid.iloc[-1]:.3g}"
            )
            axes.legend()
    figure.axes[0].set_ylabel("loss (nats)")
    return figure


@styled
def priors(
    logit_bias: Float[np.ndarray, "caption"],
    active: Bool[np.ndarray, "clip caption frame"],
    known: Bool[np.ndarray, "clip caption"],
) -> Figure:
    """Draw the predicted prior log-odds of each caption over the measured ones.

    These are the log-odds of the share of its known frames that are active. Captions that are
    active in none of them, or in all, have no finite log-odds and are left out.
    """
    n_active = (active & known[:, :, None]).sum(axis=(0, 2))
    n_silent = known.sum(axis=0) * active.shape[2] - n_active
    finite = (n_active > 0) & (n_silent > 0)
    log_odds, bias = np.log(n_active[finite] / n_silent[finite]), logit_bias[finite]

    figure = Figure(figsize=(COLUMN, 3.0), layout="constrained")
    axes = figure.subplots()
    axes.scatter(log_odds, bias, s=12, color=BLUE, alpha=0.6, linewidth=0)
    both = np.concatenate([log_odds, bias])
    low, high = (both.min() - 0.3, both.max() + 0.3) if len(both) else (-8, 0)
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(xlabel="measured prior log-odds", ylabel="predicted prior log-odds (logit bias)")
    return figure


@styled
def score_map(
    scores: Float[np.ndarray, "caption frame"],
    active: Bool[np.ndarray, "caption frame"],
    captions: Sequence[str],
    *,
    frame_s: float,
) -> Figure:
    """Draw the score of each caption in each frame, with frames around its events.

    Args:
        scores: in [0, 1].
        active: ground truth.
        captions: names of the rows.
        frame_s: seconds of a frame.
    """
    n_captions, n_frames = scores.shape
    figure = Figure(figsize=(PAGE, 0.8 + 0.2 * n_captions), layout="constrained")
    axes = figure.subplots()
    edges = np.arange(n_frames + 1) * frame_s
    image = axes.pcolormesh(edges, np.arange(n_captions + 1), scores, cmap="Blues", vmin=0, vmax=1)
    for row in range(n_captions):
        changes = np.flatnonzero(np.diff(active[row], prepend=False, append=False))
        for first, end in changes.reshape(-1, 2):
            times, sides = edges[[first, end, end, first, first]], row + np.array([0, 0, 1, 1, 0])
            axes.plot(times, sides, color=ORANGE, linewidth=1.2, clip_on=False)
    texts = [shortened(caption, 44) for caption in captions]
    axes.set_yticks(np.arange(n_captions) + 0.5, texts)
    axes.set(ylim=(n_captions, 0), xlabel="time (s)")
    axes.tick_params(axis="y", length=0)
    figure.colorbar(image, ax=axes, label="score", pad=0.01)
    return figure


def _has_values(table: pd.DataFrame, name: str) -> bool:
    return name in table and bool(table[name].notna().any())
