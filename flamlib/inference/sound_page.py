"""A page that shows a recording, the scores of captions and their events, and on which they are
reviewed: one HTML file that asks no other machine for anything.

    web/page.html   the frame
    web/page.css    how it looks, in light and in dark
    web/spans.js    from scores to events and tables of them, as `detection` has it
    web/page.js     drawing, playing, review by keys
    web/ask.js      asking a server (`flam serve`), where there is one

A page holds its recording as MP3 and the scores of all frames, so its thresholds can be moved.
"""

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from flamlib import texts
from flamlib.inference import detector
from flamlib.inference.detector import Scores
from flamlib.inference.questions import Questions
from flamlib.plots import mel_levels, player
from flamlib.storage import files
from flamlib.waveforms import audio

MAX_S = 1800.0  # of sound in a page, some 20 MB
SUFFIX = ".html"


def write(
    path: str | Path,
    name: str,
    recording: str | Path,
    scores: Scores,
    asked: Questions,
    *,
    model: str = "",
) -> str | None:
    """Write the page of a recording.

    Args:
        path: Of the page.
        name: What tables call the recording.
        recording: The file.
        scores: Of all captions in it.
        asked: The questions they answer.
        model: Its name, which the page tells.

    Returns:
        What the page leaves out, to be told; None if it is whole.

    Raises:
        audio.Unreadable: A file without usable audio.
        ValueError: The questions ask for the surest events alone, which a threshold cannot give.
    """
    data = describe(name, recording, scores, asked, model=model)
    files.atomic_write(path, render(data))
    return data["note"]


def describe(
    name: str, recording: str | Path, scores: Scores, asked: Questions, *, model: str = ""
) -> dict[str, Any]:
    """Return what a page shows, in JSON's types.

    Args:
        name: See `write`.
        recording: See `write`.
        scores: See `write`.
        asked: See `write`.
        model: See `write`.

    Raises:
        audio.Unreadable: See `write`.
        ValueError: See `write`.
    """
    check(asked)
    with audio.Recording(recording, channel=asked.channel) as opened:
        duration_s, rate = opened.duration_s, opened.sample_rate
        shown_s = min(duration_s, MAX_S)
        waveform = opened.read(0.0, shown_s)
    note = None
    if duration_s > MAX_S:
        scores = detector.excerpt(scores, 0.0, shown_s)
        note = (
            f"This page holds the first {MAX_S / 60:g} of {duration_s / 60:.1f} minutes; the "
            "tables of flam detect hold all. Cut the recording to review the rest."
        )
    return {
        "name": name,
        "model": model,
        "note": note,
        "duration_s": duration_s,
        "start_s": 0.0,
        "end_s": min(float(scores.frame_edges[-1]), shown_s),
        "frame_s": float(scores.frame_edges[1]) if len(scores.scores) > 1 else shown_s,
        "merge_gap_s": asked.merge_gap_s,
        "sample_rate": rate,
        "channel": asked.channel or 1,
        "captions": captions(scores, asked),
        "spectrogram": spectrogram(waveform, rate),
        "audio": base64.b64encode(player.mp3(waveform, rate)).decode("ascii"),
    }


def check(asked: Questions) -> None:
    """Raise ValueError for questions that a page cannot show."""
    if asked.top is not None:
        raise ValueError(
            "a page has thresholds to be moved and cannot show the surest events alone: leave out "
            "--top, or the page"
        )


def captions(scores: Scores, asked: Questions) -> list[dict[str, Any]]:
    """Return the captions as a page has them, with their scores as float32 in base64."""
    return [
        {
            "label": texts.normal(each.label or each.caption),
            "threshold": each.threshold,
            "off_threshold": each.off_threshold,
            "min_duration_s": each.min_duration_s,
            "scores": _base64(column.astype("<f4")),
        }
        for each, column in zip(asked.captions, scores.scores.T, strict=True)
    ]


def spectrogram(waveform: Float[np.ndarray, "sample"], sample_rate: int) -> dict[str, Any]:
    """Return the loudest 70 dB as a page has them: bytes, column by column, in base64."""
    level_db = mel_levels.levels_db(waveform, sample_rate)
    darkest, brightest = mel_levels.shown_db(level_db)
    part = (level_db - darkest) / (brightest - darkest)
    low_hz, high_hz = mel_levels.limits(sample_rate)
    return {
        "columns": level_db.shape[0],
        "bands": level_db.shape[1],
        "low_hz": low_hz,
        "high_hz": high_hz,
        "levels": _base64(np.rint(255 * np.clip(part, 0, 1)).astype(np.uint8)),
    }


def render(data: Mapping[str, Any], *more: str) -> str:
    """Return the page as HTML. Without `captions` in the data it is empty; with `server` it asks
    one. `more` are rules of `policy`."""
    style, script = _part("page.css"), script_text()
    filled = {
        "policy": policy(*more),
        "title": html.escape(str(data.get("name", "FLAM"))),
        "style": style,
        # No text within may end the element.
        "data": json.dumps(data).replace("<", "\\u003c"),
        "script": script,
    }
    text = _part("page.html")
    # One by one from the frame: what is filled in may hold braces, too.
    pieces = []
    for part in text.split("{{"):
        key, end, rest = part.partition("}}")
        pieces.append(filled[key] + rest if end else part)
    return "".join(pieces)


def policy(*more: str) -> str:
    """Return the content security policy of the page: its own code alone, and no other host."""
    style, script = _part("page.css"), script_text()
    rules = (
        "default-src 'none'",
        f"script-src '{_digest(script)}'",
        f"style-src '{_digest(style)}'",
        "media-src blob:",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        *more,
    )
    return "; ".join(rules)


def script_text() -> str:
    """Return the code of the page."""
    return f"(() => {{\n{_part('spans.js')}\n{_part('page.js')}\n{_part('ask.js')}}})();\n"


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def _part(name: str) -> str:
    return resources.files("flamlib.inference").joinpath("web", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
