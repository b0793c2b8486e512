"""Look at moments that were found, and hear them: for notebooks."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.figure import Figure

from flamlib.models.interface import AudioTextModel
from flamlib.plots import spectrograms
from flamlib.search.query import Hit
from flamlib.sound_events.detection import frames_first
from flamlib.sound_events.events import frame_edges
from flamlib.waveforms import audio

LONGEST_S = 8.0  # of a moment, in a picture or a player
DPI = 90  # a notebook holds several pictures


class Excerpt(NamedTuple):
    """The sound of a moment.

    Attributes:
        waveform: Mono samples.
        sample_rate: In hertz.
        start_s: Where it begins in the recording.
    """

    waveform: Float[np.ndarray, "sample"]
    sample_rate: int
    start_s: float


def table(hits: Iterable[Hit]) -> pd.DataFrame:
    """Return moments as a table, in their order."""
    rows = [
        (hit.path.name, *hit.detection[:2], hit.detection.caption, hit.detection.score)
        for hit in hits
    ]
    columns = ["recording", "onset", "offset", "looked for", "score"]
    return pd.DataFrame(rows, columns=columns).round(3)


def excerpt(hit: Hit, context_s: float = 2.0) -> Excerpt:
    """Read a moment, of a long one the begin, with some seconds before and after.

    Raises audio.Unreadable if its recording is gone.
    """
    start_s = max(0.0, hit.detection.onset - context_s)
    stop_s = min(hit.detection.offset, hit.detection.onset + LONGEST_S) + context_s
    waveform, rate = audio.read(hit.path, start_s=start_s, stop_s=stop_s)
    return Excerpt(waveform, rate, start_s)


def embed(model: AudioTextModel, found: Excerpt) -> Float[np.ndarray, "frame dim"]:
    """Return the frames of an excerpt, for `query.by_example`."""
    waveform = torch.from_numpy(found.waveform[None])
    return model.embed_audio(waveform, found.sample_rate).frame_emb[0].numpy(force=True)


def picture(model: AudioTextModel, hit: Hit, found: Excerpt, *, caption: str) -> Figure:
    """Draw the spectrogram of an excerpt, a caption's scores in it, and the moment as a bar.

    Scores are of the excerpt alone, without what is around it, so they may differ a little.

    Args:
        model: The one that found the moment.
        hit: The moment.
        found: Its `excerpt`.
        caption: What was looked for.
    """
    waveform = torch.from_numpy(found.waveform[None])
    scores = model.score(waveform, found.sample_rate, [caption])[0].numpy(force=True)
    duration_s = len(found.waveform) / found.sample_rate
    edges = frame_edges(duration_s, model.frame_s)
    figure = spectrograms.detection_map(
        found.waveform,
        found.sample_rate,
        frames_first(scores)[: len(edges) - 1],
        edges + found.start_s,
        [caption],
        detections=[hit.detection],
    )
    figure.set_dpi(DPI)
    return figure
