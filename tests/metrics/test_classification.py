import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from torchmetrics.functional.classification import multiclass_accuracy

from flamlib.metrics import classification


def test_accuracy_by_hand():
    """Clip 2 is nearest to class 0 although it is of class 1."""
    clip_emb = np.array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.2, 0.8]])
    found = classification.accuracy(
        clip_emb, np.eye(2), np.array([0, 1, 1, 1]), np.array([1, 1, 2, 2])
    )
    assert found["top1"] == 0.75
    assert found["per_fold"] == {1: 1.0, 2: 0.5}
    assert found["fold_mean"] == 0.75
    assert found["macro"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["rank"].tolist() == [1, 1, 2, 1]


@given(st.integers(0, 2**32 - 1))
def test_accuracy_is_scikit_learns_and_torchmetrics(seed):
    rng = np.random.default_rng(seed)
    n_classes = rng.integers(2, 9)
    clip_emb, class_emb = rng.normal(size=(30, 6)), rng.normal(size=(n_classes, 6))
    truth = rng.integers(0, n_classes, 30)
    similarity = clip_emb @ class_emb.T
    found = classification.accuracy(clip_emb, class_emb, truth)
    nearest = similarity.argmax(axis=1)
    assert found["top1"] == found["fold_mean"] == pytest.approx(accuracy_score(truth, nearest))
    assert found["macro"] == pytest.approx(balanced_accuracy_score(truth, nearest))
    k = min(5, int(n_classes))
    top5 = multiclass_accuracy(
        torch.tensor(similarity), torch.tensor(truth), int(n_classes), average="micro", top_k=k
    )
    assert found["top5"] == pytest.approx(float(top5), abs=1e-6)


def test_a_model_that_cannot_tell_classes_apart_is_never_right():
    found = classification.accuracy(np.ones((4, 3)), np.ones((2, 3)), np.array([0, 1, 0, 1]))
    assert found["top1"] == 0.0


def test_every_template_has_a_place_for_the_name():
    for name in classification.TEMPLATES:
        sentences = classification.prompts("car_horn", name)
        assert sentences
        assert all("car horn" in sentence for sentence in sentences)
    with pytest.raises(ValueError, match="no template 'nonsense'; there are name"):
        classification.prompts("dog", "nonsense")


def test_one_prompt_is_itself_and_several_meet_in_the_middle():
    one = np.array([[[3.0, 4.0]]])
    assert classification.class_emb(one) == pytest.approx(one[:, 0])
    two = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    assert classification.class_emb(two) == pytest.approx(np.full((1, 2), 2**-0.5))


def test_what_accuracy_cannot_mean_is_refused():
    with pytest.raises(ValueError, match="out of range: there are 2"):
        classification.accuracy(np.eye(2), np.eye(2), np.array([0, 2]))
    with pytest.raises(ValueError, match="clip_emb is not finite in row 1"):
        classification.accuracy(np.array([[0.0], [np.nan]]), np.ones((1, 1)), np.array([0, 0]))
    with pytest.raises(ValueError, match="0 clips for 0 classes"):
        classification.accuracy(np.empty((0, 2)), np.eye(2), np.array([], dtype=int))
