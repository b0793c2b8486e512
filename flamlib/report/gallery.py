"""The clips a model did best and worst on, to be seen and heard in a page."""

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
from flamlib.evaluation.splits import Part
from flamlib.metrics import metrics
from flamlib.plots import spectrograms, style


class Example(NamedTuple):
    """A clip of a part, the AUROC within it, and whether it is one of the "best" or the "worst"."""

    part: str
    clip: int
    auroc: float
    kind: str


def pick(part: Part, score: Float[np.ndarray, "clip caption frame"], n: int) -> list[Example]:
    """The `n` best clips, best first, and the `n` worst, worst first; none is in both.

    Clips in which nothing sounds have no AUROC and are in neither.
    """
    found = metrics.auroc_by_clip(
        part.by_frame(score), part.active_by_frame, part.clip_by_frame, part.known_by_frame
    )
    per_clip = found["per_clip"]
    order = [int(i) for i in np.argsort(per_clip, kind="stable") if not np.isnan(per_clip[i])]
    worst = order[: min(n, len(order) // 2)]
    best = order[::-1][: min(n, (len(order) + 1) // 2)]
    return [
        Example(part.name, clip, float(per_clip[clip]), kind)
        for kind, clips in (("best", best), ("worst", worst))
        for clip in clips
    ]


def shown(
    example: Example,
    part: Part,
    score: Float[np.ndarray, "clip caption frame"],
    bank: Bank,
    *,
    n_absent: int,
) -> dict[str, Any]:
    """What the page shows of an example: a heat map as SVG, its sound, and words."""
    scene = splits.scene(part, score, example.clip, n_absent=n_absent)
    waveform = recipes.render(bank, part.mixtures[example.clip])
    figure = spectrograms.heat_map(waveform, bank.sample_rate, **scene)
    svg = inline_svg(figure, f"{example.part}-{example.clip}-")
    box = figure.axes[0].get_position()
    heard = list(dict.fromkeys(event.caption for event in scene["truth"]))
    return {
        "title": f"{example.part.replace('_', ' ')}, clip {example.clip}",
        "value": f"{example.auroc:.3f}",
        "kind": example.kind,
        "svg": svg,
        "left": f"{box.x0:.5f}",
        "right": f"{box.x1:.5f}",
        "audio": data_uri(waveform, bank.sample_rate),
        "caption": f"Sounding: {', '.join(heard)}. Also asked and nearest to being heard: "
        + (", ".join(c for c in scene["captions"] if c not in heard) or "nothing")
        + ".",
    }


def data_uri(waveform: Float[np.ndarray, "sample"], sample_rate: int) -> str:
    """The sound in the address itself, as FLAC: nothing is lost, every browser plays it."""
    content = io.BytesIO()
    soundfile.write(content, np.clip(waveform, -1, 1), sample_rate, format="FLAC")
    return "data:audio/flac;base64," + base64.b64encode(content.getvalue()).decode("ascii")


def inline_svg(figure: Figure | str, prefix: str) -> str:
    """A figure, or the text of an SVG file, to stand inside a page: without the head of a file, and
    with ids of its own, as those of all figures share the page."""
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
