"""The clips that a model did best and worst on, as players over heat maps of its scores."""

import base64
import io
import re
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import soundfile
from jaxtyping import Float
from matplotlib.figure import Figure

from flamlib.data.mixtures import recipes
from flamlib.data.mixtures.bank import Bank
from flamlib.evaluation import splits
from flamlib.evaluation.splits import EvalSplit
from flamlib.metrics.ranking import auroc_by_clip
from flamlib.plots import spectrograms, style


class Example(NamedTuple):
    """A clip of a split, the AUROC within it, and whether it is one of the "best" or "worst"."""

    split: str
    clip: int
    auroc: float
    kind: str


def pick(
    split: EvalSplit, scores: Float[np.ndarray, "clip caption frame"], n: int
) -> list[Example]:
    """Return the `n` clips of the highest AUROC and the `n` of the lowest, the extremes first.

    None is in both. Clips without events have no AUROC and are in neither.
    """
    frames = split.frame_table(scores)
    per_clip = auroc_by_clip(frames.scores, frames.active, frames.clip, frames.known)
    order = [int(i) for i in np.argsort(per_clip, kind="stable") if not np.isnan(per_clip[i])]
    worst = order[: min(n, len(order) // 2)]
    best = order[::-1][: min(n, (len(order) + 1) // 2)]
    return [
        Example(split.name, clip, float(per_clip[clip]), kind)
        for kind, clips in (("best", best), ("worst", worst))
        for clip in clips
    ]


def example_content(
    example: Example,
    split: EvalSplit,
    scores: Float[np.ndarray, "clip caption frame"],
    bank: Bank,
    *,
    n_absent: int,
) -> dict[str, Any]:
    """Return what the page shows of an example: a heat map as SVG, its audio, and a caption.

    Args:
        example: of `pick`.
        split: what the example is of.
        scores: of all clips of the split.
        bank: the recordings.
        n_absent: how many absent captions to show, those of the highest scores.
    """
    inputs = splits.plot_inputs(split, scores, example.clip, n_absent=n_absent)
    waveform = recipes.render(bank, split.mixtures[example.clip])
    figure = spectrograms.heat_map(waveform, bank.sample_rate, **inputs)
    svg = inline_svg(figure, f"{example.split}-{example.clip}-")
    box = figure.axes[0].get_position()
    active = list(dict.fromkeys(event.caption for event in inputs["ground_truth"]))
    absent = [caption for caption in inputs["captions"] if caption not in active]
    return {
        "title": f"{example.split.replace('_', ' ')}, clip {example.clip}",
        "value": f"{example.auroc:.3f}",
        "kind": example.kind,
        "svg": svg,
        "left": f"{box.x0:.5f}",
        "right": f"{box.x1:.5f}",
        "audio": data_uri(waveform, bank.sample_rate),
        "caption": f"Active: {', '.join(active)}. Absent captions of the highest scores: "
        f"{', '.join(absent) or 'none'}.",
    }


def data_uri(waveform: Float[np.ndarray, "sample"], sample_rate: int) -> str:
    """Return audio as a data URI of FLAC: lossless, and every browser plays it."""
    content = io.BytesIO()
    soundfile.write(content, np.clip(waveform, -1, 1), sample_rate, format="FLAC")
    return "data:audio/flac;base64," + base64.b64encode(content.getvalue()).decode("ascii")


def inline_svg(figure: Figure | str, prefix: str) -> str:
    """Return a figure, or the text of an SVG file, as an element of a page.

    The XML header is dropped, and ids get a prefix, as all figures share those of the page.
    """
    if isinstance(figure, Figure):
        content = io.StringIO()
        overrides = {"svg.hashsalt": "flam", "svg.fonttype": "path", "savefig.bbox": None}
        with matplotlib.rc_context(style.STYLE | overrides):
            figure.savefig(content, format="svg", metadata={"Date": None})
        text = content.getvalue()
    else:
        text = figure
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'href="#', f'href="#{prefix}', text)
    return re.sub(r"url\(#", f"url(#{prefix}", text)
