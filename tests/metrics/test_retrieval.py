import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamlib.metrics import retrieval


def slow_retrieval(similarity, right):
    """The definition, one query at a time: every wrong answer that is as good goes first."""
    ranks, precisions = [], []
    for sims, is_right in zip(similarity, right, strict=True):
        if not is_right.any():
            continue
        order = np.lexsort((is_right, -sims))
        places = 1 + np.flatnonzero(is_right[order])
        ranks.append(places[0])
        hits = [(i + 1) / place for i, place in enumerate(places) if place <= 10]
        precisions.append(sum(hits) / min(10, is_right.sum()))
    ranks = np.array(ranks)
    return {
        **{f"r{k}": np.mean(ranks <= k) for k in (1, 5, 10)},
        "map10": np.mean(precisions),
        "median_rank": np.median(ranks),
        "n": len(ranks),
    }


@given(st.integers(0, 2**32 - 1))
def test_retrieval_agrees_with_the_definition(seed):
    rng = np.random.default_rng(seed)
    clips, captions = rng.integers(1, 16), rng.integers(1, 30)
    # Small whole numbers: similarities are exact, and many are equal.
    clip_emb, caption_emb = rng.integers(-1, 2, (clips, 3)) / 4, rng.integers(-1, 2, (captions, 3))
    relevant = rng.random((captions, clips)) < 0.3
    relevant[0, 0] = True
    caption_emb = caption_emb.astype(np.float32)
    ours = retrieval.retrieval(clip_emb.astype(np.float32), caption_emb, relevant=relevant)
    similarity = caption_emb @ clip_emb.T
    expected = {f"t2a_{k}": v for k, v in slow_retrieval(similarity, relevant).items()}
    expected |= {f"a2t_{k}": v for k, v in slow_retrieval(similarity.T, relevant.T).items()}
    assert ours == pytest.approx(expected)


def test_five_captions_a_clip_count_by_the_best_of_them():
    """Clip 0's captions rank 2 and 3 in its own search, behind one of clip 1's."""
    clip_emb = np.array([[1.0, 0.0], [0.0, 1.0]])
    caption_emb = np.array([[0.8, 0.0], [0.7, 0.0], [0.9, 1.0], [0.0, 0.5]])
    result = retrieval.retrieval(clip_emb, caption_emb, np.array([0, 0, 1, 1]))
    assert [result[f"t2a_{k}"] for k in ("r1", "map10", "median_rank")] == [1.0, 1.0, 1.0]
    assert [result[f"a2t_{k}"] for k in ("r1", "r5", "median_rank")] == [0.5, 1.0, 1.5]
    assert result["a2t_map10"] == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1.0) / 2)


def test_a_caption_true_of_several_clips_is_served_by_any():
    clip_emb, caption_emb = np.eye(3), np.array([[0.1, 0.9, 0.5]])
    relevant = np.array([[True, True, False]])
    result = retrieval.retrieval(clip_emb, caption_emb, relevant=relevant)
    assert result["t2a_r1"] == 1.0
    assert result["t2a_map10"] == pytest.approx((1 + 2 / 3) / 2)
    assert result["a2t_n"] == 2  # nothing is right for the third clip


def test_a_model_that_cannot_tell_clips_apart_finds_nothing():
    rng = np.random.default_rng(0)
    one_for_all = np.tile(rng.normal(size=(1, 64)), (50, 1)).astype(np.float32)
    caption_emb = rng.normal(size=(50, 64)).astype(np.float32)
    result = retrieval.retrieval(one_for_all, caption_emb, np.arange(50))
    assert (result["t2a_r10"], result["t2a_median_rank"]) == (0.0, 50.0)


def test_searching_in_blocks_changes_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    given = rng.normal(size=(20, 8)), rng.normal(size=(60, 8)), np.arange(60) // 3
    whole = retrieval.retrieval(*given)
    monkeypatch.setattr(retrieval, "SIMILARITIES", 100)
    assert retrieval.retrieval(*given) == pytest.approx(whole)


def test_what_retrieval_cannot_mean_is_refused():
    emb = np.eye(2)
    with pytest.raises(ValueError, match="either"):
        retrieval.retrieval(emb, emb)
    with pytest.raises(ValueError, match="out of range: there are 2 clips"):
        retrieval.retrieval(emb, emb, np.array([0, 2]))
    with pytest.raises(ValueError, match="caption_emb is not finite in row 1"):
        retrieval.retrieval(emb, np.array([[1.0, 0.0], [np.nan, 0.0]]), np.array([0, 1]))
