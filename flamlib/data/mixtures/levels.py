"""A piece of a source, as it is mixed: cut anywhere, faded at both ends; and when it is loud.

The bank knows the level of every hop of a source. Of a piece this is wrong at its two ends, where
the windows of 50 ms reach over the cut and into the fades, so there the level is measured anew on
what is left of the sound.
"""

import math
from functools import cache, lru_cache

import numpy as np
from jaxtyping import Float

from flamlib import audio
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.sources import HOP_S, WINDOW_S

Number = int | float
Spans = list[list[Number]]


@cache
def fade(n_samples: int) -> Float[np.ndarray, "sample"]:
    """A raised cosine from 0 to 1: neither it nor its slope jumps, so it cannot click."""
    phase = (np.arange(n_samples) + 0.5) / max(n_samples, 1)
    return (0.5 - 0.5 * np.cos(np.pi * phase)).astype(np.float32)


@lru_cache(maxsize=20_000)  # most pieces are whole sources, which come again and again
def levels(bank: Bank, i: int, start: int, n_samples: int, n_fade: int) -> Float[np.ndarray, "hop"]:
    """A-weighted levels (dBFS) of a faded piece of source i, on the hops of the source.

    The first is the hop in which `start` lies. Where a window lies wholly between the fades the
    level is the bank's; the others are measured.
    """
    hop = HOP_S * bank.sample_rate
    first = int(start / hop)
    known = bank.levels(i, start, n_samples)
    n_fade = min(n_fade, n_samples // 2)
    # So many hops at an end have a window that a fade touches.
    n_edge = math.ceil((n_fade / bank.sample_rate + WINDOW_S / 2) / HOP_S + 0.5)
    if len(known) <= 2 * n_edge + 2:
        return _measured(bank, i, start, n_samples, n_fade, first, len(known))
    known = known.copy()
    head = _measured(bank, i, start, n_samples, n_fade, first, n_edge)
    last = first + len(known) - n_edge
    tail = _measured(bank, i, start, n_samples, n_fade, last, n_edge)
    known[:n_edge], known[-n_edge:] = head, tail
    return known


@lru_cache(maxsize=20_000)
def level_db(bank: Bank, i: int, heard: tuple[tuple[int, int], ...], n_fade: int) -> float:
    """The level of the loud part (`audio.gated_db`) of some pieces, (start, n_samples) each."""
    return audio.gated_db(np.concatenate([levels(bank, i, *piece, n_fade) for piece in heard]))


def _measured(bank, i, start, n_samples, n_fade, first, n_hops):
    """The levels of `n_hops` hops from the source's hop `first` on, of the faded piece alone."""
    hop = HOP_S * bank.sample_rate
    # From a hop before to a hop after, which the outermost windows reach into.
    begin, end = round((first - 1) * hop), round((first + n_hops + 1) * hop)
    heard = np.zeros(end - begin, np.float32)
    a, b = max(begin, start), min(end, start + n_samples)
    part = bank.integers(i, a, b - a) * np.float32(bank.get(i, "scale"))
    ramp = fade(n_fade)
    for k, envelope in ((start, ramp), (start + n_samples - n_fade, ramp[::-1])):
        p, q = max(a, k), min(b, k + n_fade)
        if p < q:
            part[p - a : q - a] *= envelope[p - k : q - k]
    heard[a - begin : b - begin] = part
    profile = audio.a_weighted_db(
        heard, bank.sample_rate, window_s=WINDOW_S, hop_s=HOP_S, n_skipped=1
    )
    return profile[1 : 1 + n_hops]


def loud_spans(
    bank: Bank, i: int, start: int, n_samples: int, n_fade: int, floor_db: Number
) -> list[tuple[Number, Number]]:
    """From which to which sample of source i a faded piece of it is louder than a floor (dBFS)."""
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
    """Spans in order, with short gaps filled and then short spans dropped, unless all are short.

    >>> smooth([[0.0, 1.0], [1.1, 2.0], [3.0, 3.01]], fill_gaps_below_s=0.2, drop_activity_below_s=0.04)
    [[0.0, 2.0]]
    """
    joined = []
    for onset, offset in spans:
        if joined and onset - joined[-1][1] < fill_gaps_below_s:
            joined[-1][1] = offset
        else:
            joined.append([onset, offset])
    return [span for span in joined if span[1] - span[0] >= drop_activity_below_s] or joined
