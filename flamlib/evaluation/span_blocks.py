"""Spans of a large set of clips, found in blocks of captions and kept down to what metrics need.

`SpanChanges.of` holds about fifty bytes a score, for the spans of all thresholds. The metrics of
`spans` need none below the threshold at which there are too many false spans, or below that of the
detections; the recall of each caption needs one caption at a time. So a few clips say how far down
the thresholds must go, then blocks of captions are kept down to there. What comes out is what
`SpanChanges.of` gives, to the bit: if the few clips were wrong, all is kept.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from flamlib.metrics import spans
from flamlib.metrics.clip_scores import ClipScores
from flamlib.metrics.spans import SpanChanges

BLOCK = 1 << 23  # scores whose spans are in memory at once: about 400 MB
FEW = 500  # clips that say how far down the thresholds must go
ENOUGH = max(spans.RATES)  # false spans a minute; lower thresholds change no metric


def find(
    of: ClipScores, *, threshold: float, n_few: int = FEW, block: int = BLOCK
) -> tuple[SpanChanges, Float[np.ndarray, "caption"]]:
    """Return the changes that `spans.compute` and `spans.statistics` need, and each recall_at_1.

    Args:
        of: Of all clips.
        threshold: Of detections.
        n_few: How many clips say how far down the thresholds must go.
        block: Scores whose spans are in memory at once.
    """
    lowest = _lowest_needed(of, threshold, n_few)
    changes, recall = _down_to(of, lowest, block)
    if lowest > -np.inf and not (changes.curve().false_spans > ENOUGH).any():
        del changes  # before there are more
        changes, recall = _down_to(of, -np.inf, block)
    return changes, recall


def _lowest_needed(of: ClipScores, threshold: float, n_few: int) -> float:
    """Where a few clips have twice as many false spans as matter, at most `threshold`."""
    few = np.unique(np.linspace(0, len(of.clips) - 1, n_few).round().astype(int))
    curve = SpanChanges.of(of.of_clips(few)).curve()
    too_many = np.flatnonzero(curve.false_spans > 2 * ENOUGH)
    return min(threshold, float(curve.threshold[too_many[0]])) if len(too_many) else -np.inf


def _down_to(
    of: ClipScores, lowest: float, block: int
) -> tuple[SpanChanges, Float[np.ndarray, "caption"]]:
    """Return the changes down to a threshold, and the recall_at_1 of each caption."""
    recall = np.full(len(of.captions), np.nan)
    kept = []
    for columns in _blocks(of, block):
        part = SpanChanges.of(of.of_captions(columns))
        recall[columns] = spans.recall_of_each(part, len(columns), 1)
        needed = part.down_to(lowest)
        # Copies, so that the rest of the block is not held by them.
        needed = [getattr(needed, name).copy() for name in SpanChanges._fields[:5]]
        kept.append(part._replace(**dict(zip(SpanChanges._fields[:5], needed, strict=True)),
                                  columns=columns[part.columns]))  # fmt: skip
    return _merged(kept), recall


def _merged(parts: list[SpanChanges]) -> SpanChanges:
    """Merge the changes of blocks of captions; equal thresholds stay in the order of captions."""
    parts = [part for part in parts if len(part.columns)] or parts[:1]
    first = np.cumsum([0, *(len(part.columns) for part in parts)])
    order = np.argsort(-np.concatenate([part.threshold for part in parts]), kind="stable")
    return SpanChanges(
        np.concatenate([part.threshold for part in parts])[order],
        np.concatenate([part.clip for part in parts])[order],
        np.concatenate(
            [part.caption + n for part, n in zip(parts, first[:-1].tolist(), strict=True)]
        )[order],
        np.concatenate([part.false_spans for part in parts])[order],
        np.concatenate([part.found for part in parts])[order],
        np.concatenate([part.n_events for part in parts]),
        np.concatenate([part.columns for part in parts]),
        parts[0].minutes,
    )


def _blocks(of: ClipScores, block: int) -> Iterator[np.ndarray]:
    """Yield the numbers of some captions after the others."""
    longest = max(len(score) for score in of.scores)
    step = max(1, block // (longest * len(of.clips)))
    for first in range(0, len(of.captions), step):
        yield np.arange(first, min(first + step, len(of.captions)))
