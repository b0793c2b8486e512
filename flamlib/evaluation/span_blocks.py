"""Spans of a large set of clips, found in blocks of captions and kept down to what metrics need.

`SpanChanges.of` holds eleven bytes a score, for the spans of all thresholds. The metrics of `spans`
need none below the threshold at which there are too many false spans, or below that of the
detections; the recall of each caption needs one caption at a time. So a few clips say how far down
the thresholds must go, then blocks of captions are kept down to there; and what all captions share,
one threshold, is summed from the highest down in bands of all blocks. What comes out is what
`SpanChanges.of` gives, to the bit: if the few clips were wrong, all is kept.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from flamlib.metrics import spans
from flamlib.metrics.clip_scores import ClipScores
from flamlib.metrics.spans import SpanChanges, SpanCurve

BLOCK = 1 << 21  # scores whose spans are in memory at once: about 100 MB
BAND = 1 << 20  # changes of all blocks that are put in order at once
FEW = 500  # clips that say how far down the thresholds must go
ENOUGH = max(spans.RATES)  # false spans a minute; lower thresholds change no metric


def find(
    of: ClipScores, *, threshold: float, n_few: int = FEW, block: int = BLOCK
) -> tuple[list[SpanChanges], Float[np.ndarray, "caption"]]:
    """Return the changes that metrics and intervals need, by blocks of captions, and each
    recall_at_1.

    Args:
        of: Of all clips.
        threshold: Of detections.
        n_few: How many clips say how far down the thresholds must go.
        block: Scores whose spans are in memory at once.
    """
    lowest = _lowest_needed(of, threshold, n_few)
    blocks, recall = _down_to(of, lowest, block)
    passed = ((piece.false_spans > ENOUGH).any() for piece in _pieces(blocks))
    if lowest > -np.inf and not any(passed):
        del blocks  # before there are more
        blocks, recall = _down_to(of, -np.inf, block)
    return blocks, recall


def compute(blocks: Sequence[SpanChanges], *, threshold: float) -> dict[str, float]:
    """Return what `spans.compute` returns of all blocks of captions together."""
    chosen = SpanChanges.merged([of_block.down_to(threshold) for of_block in blocks])
    recall = spans.recall_at(_pieces(blocks), spans.RATES).tolist()
    at_rates = {f"recall_at_{rate}": of for rate, of in zip(spans.RATES, recall, strict=True)}
    return spans.compute(chosen, threshold=threshold) | at_rates


def _lowest_needed(of: ClipScores, threshold: float, n_few: int) -> float:
    """Where a few clips have half as many false spans again as matter, at most `threshold`."""
    few = np.unique(np.linspace(0, len(of.clips) - 1, n_few).round().astype(int))
    curve = SpanChanges.of(of.of_clips(few)).curve()
    too_many = np.flatnonzero(curve.false_spans > 1.5 * ENOUGH)
    return min(threshold, float(curve.threshold[too_many[0]])) if len(too_many) else -np.inf


def _down_to(
    of: ClipScores, lowest: float, block: int
) -> tuple[list[SpanChanges], Float[np.ndarray, "caption"]]:
    """Return the changes down to a threshold, and the recall_at_1 of each caption."""
    recall, kept = np.full(len(of.captions), np.nan), []
    for part in SpanChanges.blocks(of, block=block):
        columns = part.columns
        recall[columns] = spans.recall_of_each(part, len(of.captions), 1)[columns]
        needed = part.down_to(lowest)
        # Copies, so that the rest of the block is not held by them.
        kept.append(SpanChanges(*(field.copy() for field in needed)))
    return kept, recall


def _pieces(blocks: Sequence[SpanChanges]) -> Iterator[SpanCurve]:
    """Yield the curve of all blocks together in pieces, see `SpanChanges.pieces`."""
    before = None
    for band in _bands(blocks):
        for piece in band.pieces(before=before):
            yield piece
            before = piece


def _bands(blocks: Sequence[SpanChanges]) -> Iterator[SpanChanges]:
    """Yield the changes of all blocks together, the highest thresholds first, `BAND` at once."""
    every = max(1, BAND // 64)
    edges = np.sort(np.concatenate([of_block.threshold[::every] for of_block in blocks]))[::-1]
    rest = list(blocks)
    for edge in [*np.unique(edges[64::64])[::-1].tolist(), -np.inf]:
        above = [of_block.down_to(edge) for of_block in rest]
        sizes = [len(of.threshold) for of in above]
        rest = [_without(of_block, n) for of_block, n in zip(rest, sizes, strict=True)]
        yield SpanChanges.merged(above)


def _without(of_block: SpanChanges, n: int) -> SpanChanges:
    """Return the changes but for the first `n`."""
    of_changes = SpanChanges._fields[:5]
    return of_block._replace(**{name: getattr(of_block, name)[n:] for name in of_changes})
