"""Levels of a piece of a source, as it is mixed: cut out anywhere and faded at both ends.

The bank holds the level of every hop of a source. At the two ends of a piece this is wrong, because
the windows of 50 ms and the filter of the A curve reach over the cut and into the fades; there the
level is measured again on the faded piece.
"""

import math
from functools import cache, lru_cache

import numpy as np
from jaxtyping import Float

from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.sources import HOP_S, WINDOW_S
from flamlib.waveforms import decibels, fir

Number = int | float
Spans = list[list[Number]]

# Hops away from which a sample is not heard in a hop: half of its window beyond it, and the filter.
_REACH_HOPS = math.ceil((WINDOW_S / 2 + fir.REACH_S) / HOP_S - 0.5)


@cache
def fade(n_samples: int) -> Float[np.ndarray, "sample"]:
    """Return a raised cosine from 0 to 1, whose value and slope do not jump, so it cannot click."""
    phase = (np.arange(n_samples) + 0.5) / max(n_samples, 1)
    return (0.5 - 0.5 * np.cos(np.pi * phase)).astype(np.float32)


@lru_cache(maxsize=20_000)  # most pieces are whole sources, which come again and again
def levels(bank: Bank, i: int, start: int, n_samples: int, n_fade: int) -> Float[np.ndarray, "hop"]:
    """Return the A-weighted levels (dBFS) of a faded piece of a source, on the source's hops.

    Args:
        bank: the recordings.
        i: row of the source in the bank.
        start: first sample of the piece in the source; the first level is that of its hop.
        n_samples: length of the piece.
        n_fade: samples of the fade at either end.
    """
    hop = HOP_S * bank.sample_rate
    first = int(start / hop)
    profile = bank.levels(i, start, n_samples)
    n_fade = min(n_fade, n_samples // 2)
    # The number of hops at either end which a fade touches, through window and filter.
    n_edge = math.ceil((n_fade / bank.sample_rate + WINDOW_S / 2 + fir.REACH_S) / HOP_S + 0.5)
    if len(profile) <= 2 * n_edge + 2:
        return _measure(bank, i, start, n_samples, n_fade, first, len(profile))
    profile = profile.copy()
    head = _measure(bank, i, start, n_samples, n_fade, first, n_edge)
    last = first + len(profile) - n_edge
    tail = _measure(bank, i, start, n_samples, n_fade, last, n_edge)
    profile[:n_edge], profile[-n_edge:] = head, tail
    return profile


@lru_cache(maxsize=20_000)
def level_db(bank: Bank, i: int, pieces: tuple[tuple[int, int], ...], n_fade: int) -> float:
    """Return the A-weighted level (dBFS, `decibels.gated_db`) of some faded pieces of a source.

    Args:
        bank: the recordings.
        i: row of the source in the bank.
        pieces: start and number of samples of each.
        n_fade: samples of the fade at either end of each.
    """
    return decibels.gated_db(np.concatenate([levels(bank, i, *piece, n_fade) for piece in pieces]))


def _measure(bank, i, start, n_samples, n_fade, first, n_hops):
    """The levels of `n_hops` hops from the source's hop `first` on, of the faded piece alone."""
    hop = HOP_S * bank.sample_rate
    # As far as windows and filter reach, but not beyond the ends of the source.
    before = min(first, _REACH_HOPS)
    begin = round((first - before) * hop)
    end = min(round((first + n_hops + _REACH_HOPS) * hop), bank.get(i, "n_samples"))
    samples = np.zeros(end - begin, np.float32)
    a, b = max(begin, start), min(end, start + n_samples)
    piece = bank.integers(i, a, b - a) * np.float32(bank.get(i, "scale"))
    ramp = fade(n_fade)
    for k, envelope in ((start, ramp), (start + n_samples - n_fade, ramp[::-1])):
        p, q = max(a, k), min(b, k + n_fade)
        if p < q:
            piece[p - a : q - a] *= envelope[p - k : q - k]
    samples[a - begin : b - begin] = piece
    return decibels.a_weighted_db(
        samples, bank.sample_rate, window_s=WINDOW_S, hop_s=HOP_S, first=before, n_hops=n_hops
    )


def loud_spans(
    bank: Bank, i: int, start: int, n_samples: int, n_fade: int, floor_db: Number
) -> list[tuple[Number, Number]]:
    """Return the spans (first sample, end) of a source in which a faded piece of it is loud.

    Args:
        bank: the recordings.
        i: row of the source in the bank.
        start: first sample of the piece in the source.
        n_samples: length of the piece.
        n_fade: samples of the fade at either end.
        floor_db: A-weighted level in dBFS above which a hop is loud.
    """
    over = levels(bank, i, start, n_samples, n_fade) > floor_db
    edges = (np.flatnonzero(over[1:] != over[:-1]) + 1).tolist()
    if over[0]:
        edges.insert(0, 0)
    if over[-1]:
        edges.append(len(over))
    hop, stop = HOP_S * bank.sample_rate, start + n_samples
    first = int(start / hop)
    # The first and the last hop may reach out of the piece.
    inside = [min(max((first + edge) * hop, start), stop) for edge in edges]
    return list(zip(inside[::2], inside[1::2], strict=True))


def smooth(spans: Spans, fill_gaps_below_s: Number, drop_activity_below_s: Number) -> Spans:
    """Fill short gaps between spans, in seconds; then drop short spans, unless all are short.

    >>> spans = [[0.0, 1.0], [1.1, 2.0], [3.0, 3.01]]
    >>> smooth(spans, fill_gaps_below_s=0.2, drop_activity_below_s=0.04)
    [[0.0, 2.0]]
    """
    joined = []
    for onset, offset in spans:
        if joined and onset - joined[-1][1] < fill_gaps_below_s:
            joined[-1][1] = offset
        else:
            joined.append([onset, offset])
    return [span for span in joined if span[1] - span[0] >= drop_activity_below_s] or joined
