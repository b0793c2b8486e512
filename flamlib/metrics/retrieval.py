"""Search by similarity: clips by caption and captions by clip, with any number of right answers."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from scipy.sparse import csr_array

from flamlib.metrics.ranking import mean_of_known

SIMILARITIES = 1 << 22  # in memory at once while ranking: 32 MB
TIE = 1e-9  # of a cosine: equal embeddings may differ by rounding in a matrix product


def retrieval(
    clip_emb: Float[np.ndarray, "clip dim"],
    caption_emb: Float[np.ndarray, "caption dim"],
    clip_of_caption: Int[np.ndarray, "caption"] | None = None,
    *,
    relevant: Bool[np.ndarray, "caption clip"] | None = None,
) -> dict[str, float]:
    """Search of clips by caption (`t2a_`) and of captions by clip (`a2t_`), by dot product.

    What is right is given by `clip_of_caption`, the one clip that each caption describes, or by
    `relevant`, when a caption is true of several. A clip may have any number of captions. For each
    direction, over the queries that have a right answer ("n"):

        r1 r5 r10     fraction whose best-placed right answer is among the first 1, 5, 10
        median_rank   of the best-placed right answer, counted from 1
        map10         mean of 1 / min(R, 10) * sum of i / rank of the i-th right answer, over those
                      among the first 10, where R is the number of right answers

    Ties are lost: a wrong answer that is just as similar is placed before the right one, so a model
    that gives every clip one embedding finds nothing. (LAION-CLAP's script, which sorts, lets such
    a model win by chance; its logged a2t mAP@10 also leaves the ranks of a clip's captions unsorted
    and is higher than ours.)
    """
    by_caption, by_clip = ranks(clip_emb, caption_emb, clip_of_caption, relevant=relevant)
    return {
        **{f"t2a_{name}": value for name, value in summary(by_caption).items()},
        **{f"a2t_{name}": value for name, value in summary(by_clip).items()},
    }


class Ranks(NamedTuple):
    """How one direction's queries fared, those that have a right answer: which they are, the place
    of the best right answer from 1, and their share of `map10`."""

    query: Int[np.ndarray, "query"]
    first_rank: Num[np.ndarray, "query"]
    precision10: Float[np.ndarray, "query"]


def ranks(
    clip_emb: Float[np.ndarray, "clip dim"],
    caption_emb: Float[np.ndarray, "caption dim"],
    clip_of_caption: Int[np.ndarray, "caption"] | None = None,
    *,
    relevant: Bool[np.ndarray, "caption clip"] | None = None,
) -> tuple[Ranks, Ranks]:
    """What `retrieval` sums up, query by query: of the captions, and of the clips."""
    if (clip_of_caption is None) == (relevant is None):
        raise ValueError("give either clip_of_caption or relevant")
    if relevant is None:
        n_captions, n_clips = len(caption_emb), len(clip_emb)
        if ((clip_of_caption < 0) | (clip_of_caption >= n_clips)).any():
            raise ValueError(f"clip_of_caption points beyond the {n_clips} clips there are")
        one_each = np.ones(n_captions, dtype=bool)
        rows = np.arange(n_captions)
        is_right = csr_array((one_each, (rows, clip_of_caption)), shape=(n_captions, n_clips))
    else:
        is_right = csr_array(relevant)
    for name, emb in (("clip_emb", clip_emb), ("caption_emb", caption_emb)):
        if not np.isfinite(emb).all():
            raise ValueError(f"{name} is not finite in row {np.argwhere(~np.isfinite(emb))[0][0]}")
    return (
        _search(caption_emb, clip_emb, is_right),
        _search(clip_emb, caption_emb, csr_array(is_right.T)),
    )


def summary(found: Ranks) -> dict[str, float]:
    """The numbers of one direction, see `retrieval`."""
    _, first_rank, precision10 = found
    return {
        "r1": mean_of_known(first_rank <= 1),
        "r5": mean_of_known(first_rank <= 5),
        "r10": mean_of_known(first_rank <= 10),
        "map10": mean_of_known(precision10),
        "median_rank": float(np.median(first_rank)) if len(first_rank) else np.nan,
        "n": len(first_rank),
    }


def _search(
    query_emb: Float[np.ndarray, "query dim"],
    item_emb: Float[np.ndarray, "item dim"],
    is_right: csr_array,
) -> Ranks:
    """Retrieval of items by queries; `is_right` is [query, item]."""
    n_right = np.diff(is_right.indptr)
    asked, n_right = np.flatnonzero(n_right), n_right[n_right > 0]
    item_emb = item_emb.astype(np.float64)
    first_rank, average_precision = np.empty(len(asked)), np.empty(len(asked))
    n_at_once = max(1, SIMILARITIES // len(item_emb))
    for start in range(0, len(asked), n_at_once):
        at = slice(start, start + n_at_once)
        similarity = query_emb[asked[at]].astype(np.float64) @ item_emb.T
        query, item = is_right[asked[at]].nonzero()
        place = np.arange(len(query)) - np.searchsorted(query, query)
        right = np.full((len(similarity), n_right[at].max()), -np.inf)
        right[query, place] = similarity[query, item]
        similarity[query, item] = -np.inf  # which leaves the wrong answers

        # No right answer beyond the tenth can be among the first ten.
        right = np.sort(right, axis=1)[:, :-11:-1]
        precision = np.zeros(right.shape)
        for i, sims in enumerate(right.T):
            rank = i + 1 + np.count_nonzero(similarity >= sims[:, None] - TIE, axis=1)
            precision[:, i] = (i + 1) / rank * ((rank <= 10) & (i < n_right[at]))
            if i == 0:
                first_rank[at] = rank
        average_precision[at] = precision.sum(axis=1) / np.minimum(n_right[at], 10)
    return Ranks(asked, first_rank, average_precision)
