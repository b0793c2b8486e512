from dataclasses import replace

import numpy as np
import pytest
from heldouts import read_split, write_artifacts
from sklearn.metrics import roc_auc_score

from flamlib.data.mixtures import recipes
from flamlib.evaluation import evaluate, masking
from flamlib.evaluation.splits import SplitLogits

DRAWS = {"n_resamples": 50, "seed": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_artifacts(tmp_path_factory.mktemp("masking"), n=20)


@pytest.fixture(scope="module")
def splits(folder):
    return [read_split(folder, name)[0] for name in ("seen_captions", "seen_under_maskers")]


def noisy(split, noise):
    rng = np.random.default_rng(0)
    logits = split.active + noise * rng.normal(size=split.active.shape)
    return SplitLogits(split, logits.astype(np.float32), np.zeros(logits.shape[1], np.float32))


def test_the_same_mixtures_are_asked_the_same_captions(splits):
    plain, masked = splits
    assert plain.captions == masked.captions
    assert np.array_equal(plain.active, masked.active)
    assert all(recipe.masker for recipe in masked.mixtures)


def test_what_is_heard_as_well_costs_nothing(splits):
    found = masking.auroc_loss(*(noisy(split, 1.0) for split in splits), **DRAWS)
    assert found["auroc_loss"] == found["auroc_loss_low"] == found["auroc_loss_high"] == 0


def test_the_loss_is_that_of_what_is_known_in_both(splits):
    plain, masked = splits
    known = masked.known.copy()
    known[::2, 0] = False
    masked = replace(masked, known=known)
    models = noisy(plain, 0.5), noisy(masked, 2.0)
    found = masking.auroc_loss(*models, **DRAWS)
    both = plain.known & known
    aurocs = [
        np.mean(
            [
                roc_auc_score(plain.active[both[:, j], j].ravel(), of.logits[both[:, j], j].ravel())
                for j in range(len(plain.captions))
            ]
        )
        for of in models
    ]
    assert found["auroc_loss"] == pytest.approx(aurocs[0] - aurocs[1])
    assert found["auroc_loss_low"] < found["auroc_loss"] < found["auroc_loss_high"]


def test_other_mixtures_cannot_be_compared(splits):
    plain, masked = splits
    fewer = noisy(replace(masked, mixtures=masked.mixtures[1:]), 1.0)
    with pytest.raises(
        ValueError, match="seen_under_maskers is not of the same mixtures as seen_c"
    ):
        masking.auroc_loss(noisy(plain, 1.0), fewer, **DRAWS)


def test_a_corpus_without_maskers_has_the_plain_parts(folder, splits, tmp_path):
    for name in ("valid", *evaluate.TEST_SPLITS):
        drawn = recipes.read(folder / f"artifacts/mixtures/{name}.parquet")
        recipes.write(tmp_path / f"{name}.parquet", drawn.table)
    _, bank, lexicon = read_split(folder)
    found = evaluate.read_splits(tmp_path, bank, lexicon, n_clips=5, frame_s=0.32)
    assert list(found) == ["valid", *evaluate.TEST_SPLITS]
