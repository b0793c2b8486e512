"""Retrieval by similarity, text-to-audio and audio-to-text, with any number of right answers."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from scipy.sparse import csr_array

from flamlib.metrics.ranking import mean_of_known

SIMILARITIES = 1 << 22  # in memory at once: 32 MB
TIE = 1e-9  # of a cosine: equal embeddings may differ by rounding in a matrix product


def retrieval(
    clip_emb: Float[np.ndarray, "clip dim"],
    caption_emb: Float[np.ndarray, "caption dim"],
    clip_of_caption: Int[np.ndarray, "caption"] | None = None,
    *,
    relevant: Bool[np.ndarray, "caption clip"] | None = None,
) -> dict[str, float]:
    """Return recall, median rank and mAP of retrieving clips by caption and captions by clip.

    Items are ranked by dot product. Ties count as errors: a wrong item that is just as similar
    ranks before the right one, so a model that gives every clip the same embedding retrieves
    nothing. (LAION-CLAP's script, which sorts, lets such a model win by chance; its logged a2t
    mAP@10 also leaves the ranks of a clip's captions unsorted and is higher than ours.)

    Args:
        clip_emb: embeddings of the clips.
        caption_emb: embeddings of the captions.
        clip_of_caption: the one clip that each caption describes; a clip may have any number.
        relevant: instead of it, which captions are true of which clips.

    Returns:
        Of text-to-audio (`t2a_`) and audio-to-text (`a2t_`), over the "n" queries that have a right
        answer:

        r1 r5 r10     recall@k: fraction whose first right answer is among the first 1, 5, 10
        median_rank   of the first right answer, counted from 1
        map10         mAP@10: mean of 1 / min(R, 10) * sum of i / rank of the i-th right answer,
                      over those among the first 10, where R is the number of right answers

    Raises:
        ValueError: for both or neither of the last two, and for embeddings that are not finite.
    """
    by_caption, by_clip = ranks(clip_emb, caption_emb, clip_of_caption, relevant=relevant)
    return {
        **{f"t2a_{name}": value for name, value in summary(by_caption).items()},
        **{f"a2t_{name}": value for name, value in summary(by_clip).items()},
    }


class Ranks(NamedTuple):
    """The results of the queries of one direction, those that have a right answer.

    Attributes:
        query: number of the query.
        first_rank: rank of the first right answer, from 1.
        precision10: average precision at 10, whose mean is mAP@10.
    """

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
    """Return the results of every query, which `retrieval` averages: of captions, and of clips.

    Args:
        clip_emb: see `retrieval`, as all others.
        caption_emb: embeddings of the captions.
        clip_of_caption: the one clip that each caption describes.
        relevant: instead of it, which captions are true of which clips.

    Raises:
        ValueError: see `retrieval`.
    """
    if (clip_of_caption is None) == (relevant is None):
        raise ValueError("give either clip_of_caption or relevant, not both")
    if relevant is None:
        n_captions, n_clips = len(caption_emb), len(clip_emb)
        if ((clip_of_caption < 0) | (clip_of_caption >= n_clips)).any():
            raise ValueError(f"clip_of_caption is out of range: there are {n_clips} clips")
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


def summary(ranks: Ranks) -> dict[str, float]:
    """Return the metrics of one direction, see `retrieval`."""
    first_rank = ranks.first_rank
    return {
        "r1": mean_of_known(first_rank <= 1),
        "r5": mean_of_known(first_rank <= 5),
        "r10": mean_of_known(first_rank <= 10),
        "map10": mean_of_known(ranks.precision10),
        "median_rank": float(np.median(first_rank)) if len(first_rank) else np.nan,
        "n": len(first_rank),
    }


def _search(
    query_emb: Float[np.ndarray, "query dim"],
    item_emb: Float[np.ndarray, "item dim"],
    is_right: csr_array,
) -> Ranks:
    """Rank all items for each query; `is_right` is [query, item]."""
    n_right = np.diff(is_right.indptr)
    queries, n_right = np.flatnonzero(n_right), n_right[n_right > 0]
    item_emb = item_emb.astype(np.float64)
    first_rank, average_precision = np.empty(len(queries)), np.empty(len(queries))
    n_at_once = max(1, SIMILARITIES // len(item_emb))
    for start in range(0, len(queries), n_at_once):
        block = slice(start, start + n_at_once)
        similarity = query_emb[queries[block]].astype(np.float64) @ item_emb.T
        query, item = is_right[queries[block]].nonzero()
        place = np.arange(len(query)) - np.searchsorted(query, query)
        right = np.full((len(similarity), n_right[block].max()), -np.inf)
        right[query, place] = similarity[query, item]
        similarity[query, item] = -np.inf  # which leaves the wrong answers

        # No right answer beyond the tenth can be among the first ten.
        right = np.sort(right, axis=1)[:, :-11:-1]
        precision = np.zeros(right.shape)
        for i, sims in enumerate(right.T):
            rank = i + 1 + np.count_nonzero(similarity >= sims[:, None] - TIE, axis=1)
            precision[:, i] = (i + 1) / rank * ((rank <= 10) & (i < n_right[block]))
            if i == 0:
                first_rank[block] = rank
        average_precision[block] = precision.sum(axis=1) / np.minimum(n_right[block], 10)
    return Ranks(queries, first_rank, average_precision)
