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
    text_of_caption: Int[np.ndarray, "caption"] | None = None,
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
        text_of_caption: with it, a number for the text of each caption: the same text is the same
            answer, so all captions of one number are true of all clips that one of them describes.
            None: of its own clip alone, even if another clip has the very same words.
        relevant: instead of both, which captions are true of which clips.

    Returns:
        Of text-to-audio (`t2a_`) and audio-to-text (`a2t_`), over the "n" queries that have a right
        answer:

        r1 r5 r10     recall@k: fraction whose first right answer is among the first 1, 5, 10
        median_rank   of the first right answer, counted from 1
        map10         mAP@10: mean of 1 / min(R, 10) * sum of i / rank of the i-th right answer,
                      over those among the first 10, where R is the number of right answers

    Raises:
        ValueError: for both or neither of `clip_of_caption` and `relevant`, and for embeddings that
            are not finite.
    """
    by_caption, by_clip = ranks(
        clip_emb,
        caption_emb,
        clip_of_caption,
        text_of_caption=text_of_caption,
        relevant=relevant,
    )
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


class _Right(NamedTuple):
    """Which items are right for which queries: those with a text that is true of the query.

    As two factors, because a text that all captions have would make their product as large as the
    matrix of similarities.
    """

    texts: csr_array  # [query, text]
    items: csr_array  # [text, item]

    def reversed(self) -> "_Right":
        return _Right(csr_array(self.items.T), csr_array(self.texts.T))

    def queries(self) -> Int[np.ndarray, "query"]:
        """The queries with a right answer."""
        has_item = np.diff(self.items.indptr) > 0
        return np.flatnonzero(self.texts @ has_item.astype(int))

    def pairs(self, queries: Int[np.ndarray, "some"]) -> tuple[np.ndarray, np.ndarray]:
        """The place in `queries` and the item of each right answer, in order of the queries."""
        return (self.texts[queries] @ self.items).nonzero()


def ranks(
    clip_emb: Float[np.ndarray, "clip dim"],
    caption_emb: Float[np.ndarray, "caption dim"],
    clip_of_caption: Int[np.ndarray, "caption"] | None = None,
    *,
    text_of_caption: Int[np.ndarray, "caption"] | None = None,
    relevant: Bool[np.ndarray, "caption clip"] | None = None,
) -> tuple[Ranks, Ranks]:
    """Return the results of every query, which `retrieval` averages: of captions, and of clips.

    Args:
        clip_emb: see `retrieval`, as all others.
        caption_emb: embeddings of the captions.
        clip_of_caption: the one clip that each caption describes.
        text_of_caption: with it, a number for the text of each caption.
        relevant: instead of both, which captions are true of which clips.

    Raises:
        ValueError: see `retrieval`.
    """
    if (clip_of_caption is None) == (relevant is None):
        raise ValueError("give either clip_of_caption or relevant, not both")
    if relevant is None:
        n_captions, n_clips = len(caption_emb), len(clip_emb)
        if ((clip_of_caption < 0) | (clip_of_caption >= n_clips)).any():
            raise ValueError(f"clip_of_caption is out of range: there are {n_clips} clips")
        if text_of_caption is None:
            text_of_caption = np.arange(n_captions)
        by_text = csr_array(_one_hot(text_of_caption).T @ _one_hot(clip_of_caption, n_clips))
        right = _Right(_one_hot(text_of_caption), by_text)
    else:
        right = _Right(csr_array(relevant), _one_hot(np.arange(len(clip_emb))))
    for name, emb in (("clip_emb", clip_emb), ("caption_emb", caption_emb)):
        if not np.isfinite(emb).all():
            raise ValueError(f"{name} is not finite in row {np.argwhere(~np.isfinite(emb))[0][0]}")
    return _search(caption_emb, clip_emb, right), _search(clip_emb, caption_emb, right.reversed())


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


def _one_hot(number: Int[np.ndarray, "row"], n: int | None = None) -> csr_array:
    """A matrix with a single 1 in each row, in the column of its number."""
    n = int(number.max(initial=-1)) + 1 if n is None else n
    return csr_array(
        (np.ones(len(number), int), number, np.arange(len(number) + 1)), (len(number), n)
    )


def _search(
    query_emb: Float[np.ndarray, "query dim"],
    item_emb: Float[np.ndarray, "item dim"],
    right: _Right,
) -> Ranks:
    """Rank all items for each query."""
    queries = right.queries()
    item_emb = item_emb.astype(np.float64)
    first_rank, average_precision = np.empty(len(queries)), np.empty(len(queries))
    n_at_once = max(1, SIMILARITIES // len(item_emb))
    for start in range(0, len(queries), n_at_once):
        block = slice(start, start + n_at_once)
        similarity = query_emb[queries[block]].astype(np.float64) @ item_emb.T
        query, item = right.pairs(queries[block])
        n_right = np.bincount(query)
        place = np.arange(len(query)) - np.searchsorted(query, query)
        of_right = np.full((len(similarity), n_right.max()), -np.inf)
        of_right[query, place] = similarity[query, item]
        similarity[query, item] = -np.inf  # which leaves the wrong answers

        # No right answer beyond the tenth can be among the first ten.
        of_right = np.sort(of_right, axis=1)[:, :-11:-1]
        precision = np.zeros(of_right.shape)
        for i, sims in enumerate(of_right.T):
            rank = i + 1 + np.count_nonzero(similarity >= sims[:, None] - TIE, axis=1)
            precision[:, i] = (i + 1) / rank * ((rank <= 10) & (i < n_right))
            if i == 0:
                first_rank[block] = rank
        average_precision[block] = precision.sum(axis=1) / np.minimum(n_right, 10)
    return Ranks(queries, first_rank, average_precision)
