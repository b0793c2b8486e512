"""From scores to events: thresholds, joining, minimum duration; tables of both.

Scores are `[frame, caption]`; frame l spans `frame_edges[l]` to `frame_edges[l + 1]` seconds.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from flamlib import texts
from flamlib.sound_events.runs import runs_of
from flamlib.storage import files, tables

# Durations are sums of binary fractions: three frames of 0.32 s must be 0.96 s.
GRACE_S = 1e-6
COLUMNS = ("filename", "onset", "offset", "event_label", "score")


class Detection(NamedTuple):
    """A detected event, in seconds; `score` is the highest score of its frames.

    At a threshold above its score it would not be detected.
    """

    onset: float
    offset: float
    caption: str
    score: float


def frames_first(values: Shaped[np.ndarray, "*clip a b"]) -> Shaped[np.ndarray, "*clip b a"]:
    """Turn [caption, frame], as models return scores, into [frame, caption], or the reverse."""
    return np.swapaxes(values, -1, -2)


def events_from_scores(
    scores: Float[np.ndarray, "frame caption"],
    frame_edges: Float[np.ndarray, "edge"],
    captions: Sequence[str],
    *,
    threshold: float | Float[np.ndarray, "..."],
    min_duration_s: float | Float[np.ndarray, "..."],
    merge_gap_s: float,
    off_threshold: float | Float[np.ndarray, "..."] | None = None,
) -> list[Detection]:
    """Detect events: runs of frames whose score is at least a threshold, in order of onset.

    With an `off_threshold` below it there is hysteresis: an event goes on for as long as the score
    is at least that, and has a frame that reaches `threshold`.

    FLAM's unbiased score reaches 0.5 exactly where the cosine reaches 0, whatever the caption's
    prior.

    Args:
        scores: one row per frame, one column per caption.
        frame_edges: seconds, one more than there are frames; frame l spans `frame_edges[l]` to
            `frame_edges[l + 1]`.
        captions: names of the columns.
        threshold: one for all captions, or one for each.
        min_duration_s: shorter events are dropped, after those close together were joined; one
            for all captions, or one for each.
        merge_gap_s: events of one caption with at most this many seconds between them are joined.
        off_threshold: lowest score of the other frames of an event, likewise; None, or where it is
            above `threshold`: that one.

    Raises:
        ValueError: for scores or thresholds of another shape or that are NaN.

    >>> edges = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
    >>> scores = np.array([[0.9], [0.2], [0.7], [0.1]])
    >>> events_from_scores(
    ...     scores, edges, ["rain"], threshold=0.5, min_duration_s=0.0, merge_gap_s=0.5
    ... )
    [Detection(onset=0.0, offset=1.5, caption='rain', score=0.9)]
    """
    expected = (len(frame_edges) - 1, len(captions))
    if scores.shape != expected:
        raise ValueError(
            f"scores of shape {scores.shape}, expected {expected}, which is len(frame_edges) - 1 "
            "frames by len(captions)"
        )
    on = _for_each(threshold, captions, "thresholds").astype(scores.dtype)  # as the scores are
    off = on
    if off_threshold is not None:
        off = _for_each(off_threshold, captions, "thresholds").astype(scores.dtype)
    shortest_s = _for_each(min_duration_s, captions, "durations")
    if np.isnan(scores).any():
        frame, caption = np.argwhere(np.isnan(scores))[0]
        raise ValueError(f"the score of {captions[caption]!r} is NaN in frame {frame}")

    detections = []
    for k, (caption, score) in enumerate(zip(captions, scores.T, strict=True)):
        joined = []
        for start, stop in runs_of(score >= min(on[k], off[k])):
            if off[k] < on[k] and score[start:stop].max() < on[k]:
                continue
            gap_s = frame_edges[start] - frame_edges[joined[-1][1]] if joined else np.inf
            if gap_s <= merge_gap_s + GRACE_S:
                joined[-1] = (joined[-1][0], stop)
            else:
                joined.append((start, stop))
        for start, stop in joined:
            onset, offset = float(frame_edges[start]), float(frame_edges[stop])
            if offset - onset >= shortest_s[k] - GRACE_S:
                peak = float(score[start:stop].max())
                detections.append(Detection(onset, offset, caption, peak))
    return sorted(detections)


def _for_each(
    value: float | Float[np.ndarray, "..."], captions: Sequence[str], what: str
) -> Float[np.ndarray, "caption"]:
    """A number for each caption. Raises ValueError for NaN, or as many as there are not."""
    if np.shape(value) not in ((), (len(captions),)) or np.isnan(value).any():
        raise ValueError(
            f"{what} {value}: expected one number, or one for each of the {len(captions)} captions"
        )
    return np.broadcast_to(value, len(captions))


def threshold_of_top(score: Float[np.ndarray, "frame"], n: int) -> float:
    """Return the highest threshold at which at least `n` runs of frames reach it.

    If there is none, that at which the most do.

    >>> threshold_of_top(np.array([0.1, 0.9, 0.2, 0.7, 0.3]), 2)
    0.7
    """
    # Runs are frames less neighbours: a frame begins one unless the frame before is in it, too.
    levels = np.unique(score)[::-1]
    frames, pairs = np.sort(score), np.sort(np.minimum(score[1:], score[:-1]))
    n_frames = len(frames) - np.searchsorted(frames, levels)
    n_runs = n_frames - (len(pairs) - np.searchsorted(pairs, levels))
    return float(levels[np.argmax(n_runs >= min(n, n_runs.max()))])


def stretch_around(
    detections: Sequence[Detection], duration_s: float, *, length_s: float
) -> tuple[float, float]:
    """Choose the stretch of a recording around its surest event, in seconds.

    It is as long as asked for, or as the recording; without events it is its beginning.

    >>> stretch_around([Detection(60.0, 62.0, "rain", 0.9)], 3600.0, length_s=10.0)
    (56.0, 66.0)
    """
    if not detections:
        return 0.0, min(length_s, duration_s)
    surest = max(detections, key=lambda detection: detection.score)
    latest = max(0.0, duration_s - length_s)
    start = min(max(0.0, (surest.onset + surest.offset - length_s) / 2), latest)
    return start, min(start + length_s, duration_s)


def write_detections(path: str | Path, detections: Iterable[Detection], *, filename: str) -> None:
    """Write the detections of one recording as a table, see `table_rows`."""
    tables.write(path, [COLUMNS, *table_rows(detections, filename=filename)])


def table_rows(detections: Iterable[Detection], *, filename: str) -> list[tuple[str, ...]]:
    """Return the detections of one recording as rows of DCASE's table, with their scores.

    Columns are `COLUMNS`. Line breaks and tabs become blanks.
    """
    name = " ".join(re.split(r"[\t\r\n]", filename))
    return [
        (
            *(name, str(round(d.onset, 6)), str(round(d.offset, 6))),
            *(texts.normal(d.caption), f"{d.score:.6g}"),
        )
        for d in detections
    ]


def to_audacity_labels(detections: Iterable[Detection]) -> str:
    """Format detections as a label track, for Audacity's File > Import > Labels.

    >>> print(to_audacity_labels([Detection(0.5, 1.25, "a dog barks", 0.83)]), end="")
    0.500000	1.250000	a dog barks (0.83)
    """
    return "".join(
        f"{d.onset:.6f}\t{d.offset:.6f}\t{texts.normal(d.caption)} ({d.score:.2f})\n"
        for d in detections
    )


def write_scores(
    path: str | Path,
    scores: Float[np.ndarray, "frame caption"],
    frame_edges: Float[np.ndarray, "edge"],
    captions: Sequence[str],
) -> None:
    """Write the scores of one clip as the table that sed_scores_eval reads.

        onset  offset  <caption> …        one row per frame, gapless, every digit kept

    Args:
        path: <clip id>.tsv; sed_scores_eval takes every file of its folder for a clip.
        scores: one row per frame, one column per caption.
        frame_edges: seconds, one more than there are frames.
        captions: names of the columns.

    Raises:
        ValueError: for a caption that is given twice, or that the format cannot hold.
    """
    check_columns(path, captions)
    # str() gives the shortest text that reads back as the same number in the scores' own precision.
    rows = [
        [str(float(onset)), str(float(offset)), *map(str, row)]
        for onset, offset, row in zip(frame_edges[:-1], frame_edges[1:], scores, strict=True)
    ]
    files.atomic_write(path, _table(["onset", "offset", *captions], rows))


def check_columns(path: str | Path, captions: Sequence[str]) -> None:
    """Raise ValueError for a caption that is given twice, or that `write_scores` cannot write."""
    for caption in captions:
        if caption in ("onset", "offset") or "\\" in caption:
            raise ValueError(f"{path}: sed_scores_eval cannot take {caption!r} for a caption")
    if len(set(captions)) != len(captions):
        raise ValueError(f"{path}: a caption is listed twice in {list(captions)}")


def read_scores(
    path: str | Path,
) -> tuple[Float[np.ndarray, "frame caption"], Float[np.ndarray, "edge"], list[str]]:
    """Read scores, frame edges and captions from a table of `write_scores` or sed_scores_eval.

    Raises ValueError, naming the row, for a table of another form.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = list(csv.reader(file, delimiter="\t")) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a table of UTF-8 text ({error})") from error
    if header[:2] != ["onset", "offset"] or not rows:
        raise ValueError(f"{path}: expected columns onset, offset, captions and a row per frame")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ValueError(f"{path}, row {number}: {len(row)} columns, expected {len(header)}")
    try:
        table = np.array(rows, dtype=float)
    except ValueError:
        for number, row in enumerate(rows, start=2):
            for name, text in zip(header, row, strict=True):
                _as_number(text, f"{path}, row {number}: {name}")
        raise
    if (table[1:, 0] != table[:-1, 1]).any():
        row = 3 + int(np.flatnonzero(table[1:, 0] != table[:-1, 1])[0])
        raise ValueError(f"{path}, row {row}: does not start where the frame before ends")
    return table[:, 2:], np.append(table[:, 0], table[-1, 1]), header[2:]


def _as_number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{what} is {text!r}, expected a number") from None


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format tab-separated text; a field with a tab, a quote or a line break is quoted."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
