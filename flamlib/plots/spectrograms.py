"""Figures of one clip: its spectrogram above a row for each caption or event."""

import math
import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from flamlib.data.mixtures.recipes import Recipe
from flamlib.plots.mel_levels import levels_db, limits, mel, shown_db
from flamlib.plots.style import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PAGE,
    PALE,
    RED,
    SCORE,
    TRUTH,
    legend_above,
    shortened,
    styled,
)
from flamlib.sound_events.detection import Detection
from flamlib.sound_events.events import Event

N_STEPS = 1200  # of a score over the width of a page
ROUND_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800)  # between ticks; then hours
SCORE_FOOT = 0.7  # of the height of a row, from its top: below it are the bars


@styled
def detection_map(
    waveform: Float[np.ndarray, "sample"],
    sample_rate: int,
    scores: Float[np.ndarray, "frame caption"],
    frame_edges: Float[np.ndarray, "edge"],
    captions: Sequence[str],
    *,
    ground_truth: Sequence[Event] | None = None,
    detections: Sequence[Detection] = (),
    threshold: float | None = None,
) -> Figure:
    """Draw a spectrogram, and for each caption its scores, ground truth and detections.

    A row shows the caption's score over time, from 0 at its foot to 1, and below it the events of
    the ground truth and the detections as bars. A caption without events is marked absent.

    Args:
        waveform: mono samples, from the first frame's start on.
        sample_rate: Hz.
        scores: in [0, 1].
        frame_edges: seconds, one more than there are frames; they need not begin at 0.
        captions: names of the rows.
        ground_truth: the true events; None: unknown.
        detections: detected events.
        threshold: drawn as a line.
    """
    start_s = float(frame_edges[0])
    figure, above, below = _sound_over_rows(waveform, sample_rate, len(captions), 0.38, start_s)
    _score_rows(below, scores, frame_edges, captions, threshold)
    for row, caption in enumerate(captions):
        _bars(
            below, row, 0.72, 0.82, [e for e in ground_truth or () if e.caption == caption], ORANGE
        )
        _bars(below, row, 0.84, 0.94, [d for d in detections if d.caption == caption], INK)

    sounding = None if ground_truth is None else {event.caption for event in ground_truth}
    absent = [sounding is not None and caption not in sounding for caption in captions]
    _name_rows(below, captions, absent)
    handles = [Patch(facecolor=SCORE, edgecolor=BLUE, linewidth=0.8, label="score")]
    if threshold is not None:
        handles.append(Line2D([], [], color=INK, lw=0.5, ls=(0, (1, 3)), label="threshold"))
    if ground_truth is not None:
        handles.append(Line2D([], [], color=ORANGE, linewidth=3, label="ground truth"))
    if detections:
        handles.append(Line2D([], [], color=INK, linewidth=3, label="detected"))
    legend_above(above, handles)
    return figure


@styled
def timeline(
    scores: Float[np.ndarray, "frame caption"],
    frame_edges: Float[np.ndarray, "edge"],
    captions: Sequence[str],
    *,
    detections: Sequence[Detection],
    threshold: float,
) -> Figure:
    """Draw the scores and detections of a whole recording, however long, without its sound.

    Of a long recording each step shows the highest score of its frames, in as many steps as a page
    can show.

    Args:
        scores: in [0, 1].
        frame_edges: seconds, one more than there are frames.
        captions: names of the rows.
        detections: detected events.
        threshold: drawn as a line.
    """
    n_rows = max(len(captions), 1)
    figure = Figure(figsize=(PAGE, 0.38 * n_rows + 0.75), layout="constrained")
    axes = figure.subplots()
    size = math.ceil(len(scores) / N_STEPS)
    starts = np.arange(0, len(scores), size)
    highest = np.maximum.reduceat(scores, starts, axis=0)
    edges = np.append(frame_edges[starts], frame_edges[-1])
    _time_over_rows(axes, 0.0, float(frame_edges[-1]), n_rows)
    _score_rows(axes, highest, edges, captions, threshold)
    for row, caption in enumerate(captions):
        _bars(axes, row, 0.84, 0.94, [d for d in detections if d.caption == caption], INK)
    _name_rows(axes, captions)
    return figure


@styled
def mixture(waveform: Float[np.ndarray, "sample"], recipe: Recipe) -> Figure:
    """Draw the spectrogram of a mixture, and a row for each of its events.

    Pale bars are the recording as it was placed, full ones the time when its caption is active. The
    number at the right is the event's level above the background (SNR).
    """
    rate, n_rows = recipe.sample_rate, len(recipe.events)
    figure, above, below = _sound_over_rows(waveform, rate, n_rows, 0.3)
    for row, event in enumerate(recipe.events):
        placed = [
            Event(s.onset / rate, (s.onset + s.n_samples) / rate, event.caption)
            for s in event.segments
        ]
        _bars(below, row, 0.2, 0.8, placed, TRUTH)
        # Two events may share a caption: a label belongs to the one whose segments it meets.
        labels = [e for e in recipe.labels if e.caption == event.caption]
        met = [e for e in labels if any(e.onset < p.offset and p.onset < e.offset for p in placed)]
        _bars(below, row, 0.34, 0.66, met, ORANGE)
        _note(below, row, f"{event.snr_db:+.0f} dB")
    _name_rows(below, [event.caption for event in recipe.events])
    pale = Line2D([], [], color=TRUTH, linewidth=5, label="recording as placed")
    full = Line2D([], [], color=ORANGE, linewidth=3, label="caption active")
    legend_above(above, [pale, full])
    return figure


@styled
def heat_map(
    waveform: Float[np.ndarray, "sample"],
    sample_rate: int,
    scores: Float[np.ndarray, "frame caption"],
    frame_edges: Float[np.ndarray, "edge"],
    captions: Sequence[str],
    *,
    ground_truth: Sequence[Event],
) -> Figure:
    """Draw a spectrogram, and the scores of all captions over time as colours, from 0 to 1.

    Boxes are the events of the ground truth; a caption without events is marked absent. All figures
    have the same room for names at their left.

    Args:
        waveform: mono samples.
        sample_rate: Hz.
        scores: in [0, 1].
        frame_edges: seconds, one more than there are frames.
        captions: names of the rows.
        ground_truth: the true events.
    """
    n_rows, duration_s = len(captions), len(waveform) / sample_rate
    inches = [1.1, 0.27 * n_rows]
    height = sum(inches) + 0.75
    figure = Figure(figsize=(0.78 * PAGE, height))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=inches)
    figure.subplots_adjust(
        left=0.34, right=0.86, top=1 - 0.12 / height, bottom=0.45 / height, hspace=0.12
    )
    _spectrogram(above, waveform, sample_rate)
    seen = below.pcolormesh(
        frame_edges, np.arange(n_rows + 1), scores.T, cmap="viridis", vmin=0, vmax=1,
        rasterized=True,
    )  # fmt: skip
    below.set(ylim=(n_rows, 0), xlim=(0, duration_s), xlabel="time (s)")
    for row, caption in enumerate(captions):
        spans = [(e.onset, e.offset - e.onset) for e in ground_truth if e.caption == caption]
        below.broken_barh(spans, (row + 0.06, 0.88), facecolor="none", edgecolor="white", lw=1.4)
    below.hlines(range(1, n_rows), 0, duration_s, color="white", linewidth=0.5)
    sounding = {event.caption for event in ground_truth}
    _name_rows(below, captions, [caption not in sounding for caption in captions])
    below.spines[:].set_visible(False)
    box = below.get_position()
    bar = figure.add_axes((0.945, box.y0, 0.012, max(box.height, 0.1)))
    figure.colorbar(seen, cax=bar, ticks=[0, 0.5, 1]).outline.set_visible(False)
    return figure


@styled
def score_map(
    scores: Float[np.ndarray, "frame caption"],
    frame_edges: Float[np.ndarray, "edge"],
    captions: Sequence[str],
    *,
    events: Sequence[Event] | Sequence[Detection],
    selected: Event | Detection | None = None,
    sound: tuple[Float[np.ndarray, "sample"], int] | None = None,
    view: tuple[float, float] | None = None,
) -> Figure:
    """Draw scores as colours, from 0 to 1, and events as boxes; of any stretch of a recording.

    Of a long one each step shows the highest score of its frames.

    Args:
        scores: in [0, 1].
        frame_edges: seconds, one more than there are frames; they need not begin at 0.
        captions: names of the rows.
        events: drawn where they meet the stretch.
        selected: one of them, which stands out.
        sound: mono samples of the stretch and their sample rate; None: no spectrogram.
        view: seconds that are marked.
    """
    n_rows, start_s, stop_s = max(len(captions), 1), float(frame_edges[0]), float(frame_edges[-1])
    if sound is None:
        figure = Figure(figsize=(PAGE, 0.24 * n_rows + 0.55), layout="constrained")
        axes = figure.subplots()
        _time_over_rows(axes, start_s, stop_s, n_rows)
    else:
        figure, _, axes = _sound_over_rows(*sound, len(captions), 0.27, start_s)
    size = math.ceil(len(scores) / N_STEPS)
    starts = np.arange(0, len(scores), size)
    highest = np.maximum.reduceat(scores, starts, axis=0)
    edges = np.append(frame_edges[starts], stop_s)
    if captions:
        axes.pcolormesh(
            edges, np.arange(n_rows + 1), highest.T, cmap="viridis", vmin=0, vmax=1, rasterized=True
        )
    for row, caption in enumerate(captions):
        near = [
            e for e in events if e.caption == caption and e.onset < stop_s and e.offset > start_s
        ]
        for event in near:
            # A bright line on a dark one, to be seen on any colour.
            bright, width = (RED, 2.2) if event == selected else ("white", 1.0)
            span = [(event.onset, event.offset - event.onset)]
            for color, lw in ((INK, width + 1.4), (bright, width)):
                box = {"facecolor": "none", "edgecolor": color, "lw": lw}
                axes.broken_barh(span, (row + 0.1, 0.8), **box)
    axes.hlines(range(1, n_rows), start_s, stop_s, color="white", linewidth=0.5)
    if view is not None:
        axes.axvspan(*view, facecolor="none", edgecolor=RED, linewidth=1.2)
    axes.set_xlim(start_s, stop_s)
    _name_rows(axes, captions)
    return figure


def _sound_over_rows(
    waveform, sample_rate, n_rows, row_inches, start_s=0.0
) -> tuple[Figure, Axes, Axes]:
    """Draw a spectrogram above axes with `n_rows` rows of height 1, from 0 at the top."""
    heights = [1.25, row_inches * max(n_rows, 1)]
    figure = Figure(figsize=(PAGE, sum(heights) + 0.75), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=heights)
    _spectrogram(above, waveform, sample_rate, start_s)
    _time_over_rows(below, start_s, start_s + len(waveform) / sample_rate, n_rows)
    return figure, above, below


def _time_over_rows(axes: Axes, start_s: float, stop_s: float, n_rows: int) -> None:
    """Give axes rows of height 1, from 0 at the top, and a time axis, in minutes if it is long."""
    axes.set(ylim=(max(n_rows, 1), 0), xlim=(start_s, stop_s), xlabel="time (s)")
    axes.hlines(range(n_rows), start_s, stop_s, color=PALE, linewidth=0.6, zorder=0)
    axes.spines["left"].set_visible(False)
    if stop_s > 180:
        least_s = (stop_s - start_s) / 9
        step_s = next((s for s in ROUND_S if s >= least_s), 3600 * math.ceil(least_s / 3600))
        axes.xaxis.set_major_locator(MultipleLocator(step_s))
        axes.xaxis.set_major_formatter(lambda s, _: f"{s // 60:.0f}:{s % 60:02.0f}")
        axes.set_xlabel("time (min:s)")


def _score_rows(axes: Axes, scores, frame_edges, captions, threshold: float | None) -> None:
    """Draw each caption's score in its row, from 0 at its foot to 1, and the threshold."""
    for row in range(len(captions)):
        height = row + SCORE_FOOT - (SCORE_FOOT - 0.08) * scores[:, row]
        axes.stairs(height, frame_edges, baseline=row + SCORE_FOOT, fill=True, color=SCORE)
        axes.stairs(height, frame_edges, baseline=None, color=BLUE, linewidth=0.8)
        if threshold is not None:
            level = row + SCORE_FOOT - (SCORE_FOOT - 0.08) * threshold
            axes.axhline(level, color=INK, lw=0.5, ls=(0, (1, 3)))


def _bars(axes: Axes, row: int, top: float, foot: float, events: Iterable, color: str) -> None:
    """Draw events as bars between two heights of a row."""
    spans = [(event.onset, event.offset - event.onset) for event in events]
    axes.broken_barh(spans, (row + top, foot - top), color=color, linewidth=0)


def _name_rows(axes: Axes, captions: Sequence[str], absent: Iterable[bool] = ()) -> None:
    """Label the rows with captions, in two lines if need be; absent ones in grey italics."""
    texts = [textwrap.fill(shortened(c, 56), 30) for c in captions]
    axes.set_yticks([row + 0.5 for row in range(len(captions))], texts)
    axes.tick_params(axis="y", length=0)
    for row, is_absent in enumerate(absent):
        if is_absent:
            axes.get_yticklabels()[row].set(color=GREY, style="italic")
            _note(axes, row, "absent", color=GREY, style="italic")


def _note(axes: Axes, row: int, text: str, **kwargs) -> None:
    """Write a word to the right of a row."""
    axes.annotate(
        text, (1, row + 0.5), (4, 0), ("axes fraction", "data"), "offset points",
        va="center", fontsize=7, annotation_clip=False, **kwargs,
    )  # fmt: skip


def _spectrogram(
    axes: Axes, waveform: Float[np.ndarray, "sample"], sample_rate: int, start_s: float = 0.0
) -> None:
    """Draw a log-mel spectrogram, its loudest 70 dB."""
    level_db, (low, high) = levels_db(waveform, sample_rate), limits(sample_rate)
    darkest, brightest = shown_db(level_db)
    axes.imshow(
        level_db.T, origin="lower", aspect="auto", cmap="magma", vmin=darkest, vmax=brightest,
        extent=(start_s, start_s + len(waveform) / sample_rate, mel(low), mel(high)),
        interpolation="antialiased",
    )  # fmt: skip
    ticks = [hz for hz in (250, 500, 1000, 2000, 4000, 8000) if low <= hz <= high]
    axes.set_yticks([mel(hz) for hz in ticks], [f"{hz / 1000:g}" for hz in ticks])
    axes.set(ylabel="frequency (kHz)")
    axes.tick_params(axis="x", labelbottom=False)
    axes.spines[:].set_visible(False)
