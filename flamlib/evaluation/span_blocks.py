"""Spans of a large set of clips, found in blocks of captions and kept down to what metrics need.

`SpanChanges.of` holds ten bytes a score, for the spans of all thresholds. The metrics of `spans`
need none below the threshold at which there are too many false spans, or below that of the
detections; the recall of each caption needs one caption at a time. So a few clips say how far down
the thresholds must go, then blocks of captions are kept down to there. What comes out is what
`SpanChanges.of` gives, to the bit: if the few clips were wrong, all is kept.
"""

import numpy as np
from jaxtyping import Float

from flamlib.metrics import spans
from flamlib.metrics.clip_scores import ClipScores
from flamlib.metrics.spans import SpanChanges

BLOCK = 1 << 22  # scores whose spans are in memory at once: about 200 MB
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
    passed = ((piece.false_spans > ENOUGH).any() for piece in changes.pieces())
    if lowest > -np.inf and not any(passed):
        del changes  # before there are more
        changes, recall = _down_to(of, -np.inf, block)
    return changes, recall


def _lowest_needed(of: ClipScores, threshold: float, n_few: int) -> float:
    """Where a few clips have half as many false spans again as matter, at most `threshold`."""
    few = np.unique(np.linspace(0, len(of.clips) - 1, n_few).round().astype(int))
    curve = SpanChanges.of(of.of_clips(few)).curve()
    too_many = np.flatnonzero(curve.false_spans > 1.5 * ENOUGH)
    return min(threshold, float(curve.threshold[too_many[0]])) if len(too_many) else -np.inf


def _down_to(
    of: ClipScores, lowest: float, block: int
) -> tuple[SpanChanges, Float[np.ndarray, "caption"]]:
    """Return the changes down to a threshold, and the recall_at_1 of each caption."""
    recall, kept = np.full(len(of.captions), np.nan), []
    for part in SpanChanges.blocks(of, block=block):
        columns = part.columns
        recall[columns] = spans.recall_of_each(part, len(of.captions), 1)[columns]
        needed = part.down_to(lowest)
        # Copies, so that the rest of the block is not held by them.
        kept.append(SpanChanges(*(field.copy() for field in needed)))
    return SpanChanges.merged(kept), recall
