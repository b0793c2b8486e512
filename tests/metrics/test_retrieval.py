import tracemalloc

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


@given(st.integers(0, 2**32 - 1))
def test_the_same_text_is_the_same_answer(seed):
    """As the definition, with every caption right for every clip that has its text."""
    rng = np.random.default_rng(seed)
    clips, captions = rng.integers(1, 12), rng.integers(1, 40)
    clip_emb, caption_emb = rng.integers(-1, 2, (clips, 3)) / 4, rng.integers(-1, 2, (captions, 3))
    clip_of = rng.integers(0, clips, captions)
    text_of = rng.integers(0, rng.integers(1, 40), captions)
    right = np.zeros((captions, clips), bool)
    for i in range(captions):
        for j in range(captions):
            right[i, clip_of[j]] |= text_of[i] == text_of[j]
    similarity = caption_emb @ clip_emb.T
    expected = {f"t2a_{k}": v for k, v in slow_retrieval(similarity, right).items()}
    expected |= {f"a2t_{k}": v for k, v in slow_retrieval(similarity.T, right.T).items()}
    given = clip_emb, caption_emb.astype(float), clip_of
    assert retrieval.retrieval(*given, text_of_caption=text_of) == pytest.approx(expected)
    each = retrieval.retrieval(*given, text_of_caption=rng.permutation(captions))
    assert each == pytest.approx(retrieval.retrieval(*given))


def test_words_of_another_clip_are_right_where_it_is_said_that_they_are_the_same():
    v = np.eye(3)
    clips = np.stack([v[0] + 0.01 * v[1], v[0] + 0.01 * v[2], v[2]])  # two of a woman, one of rain
    captions = np.stack([v[0], v[0], v[2]])
    own = retrieval.retrieval(clips, captions, np.arange(3))
    assert own["a2t_r1"] == pytest.approx(1 / 3)
    same = retrieval.retrieval(clips, captions, np.arange(3), text_of_caption=np.array([5, 5, 2]))
    for way in ("t2a", "a2t"):
        assert [same[f"{way}_{name}"] for name in ("r1", "map10", "median_rank", "n")] == [
            1,
            1,
            1,
            3,
        ]


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
    texts = {"text_of_caption": rng.integers(0, 50, 60)}
    whole = retrieval.retrieval(*given), retrieval.retrieval(*given, **texts)
    monkeypatch.setattr(retrieval, "SIMILARITIES", 100)
    assert retrieval.retrieval(*given) == pytest.approx(whole[0])
    assert retrieval.retrieval(*given, **texts) == pytest.approx(whole[1])


def test_one_text_for_all_captions_takes_no_more_memory_than_its_blocks(monkeypatch):
    """Every caption is right for every clip: 4 000 000 pairs, some of them at a time."""
    monkeypatch.setattr(retrieval, "SIMILARITIES", 1 << 15)
    emb = np.random.default_rng(0).normal(size=(2000, 2))
    given = emb, emb, np.arange(2000)
    tracemalloc.start()
    result = retrieval.retrieval(*given, text_of_caption=np.zeros(2000, int))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result["t2a_map10"] == result["a2t_map10"] == 1.0
    assert peak < 8e6


def test_what_retrieval_cannot_mean_is_refused():
    emb = np.eye(2)
    with pytest.raises(ValueError, match="either"):
        retrieval.retrieval(emb, emb)
    with pytest.raises(ValueError, match="out of range: there are 2 clips"):
        retrieval.retrieval(emb, emb, np.array([0, 2]))
    with pytest.raises(ValueError, match="caption_emb is not finite in row 1"):
        retrieval.retrieval(emb, np.array([[1.0, 0.0], [np.nan, 0.0]]), np.array([0, 1]))
