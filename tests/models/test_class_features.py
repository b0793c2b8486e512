"""What a tagger's classes say: unit vectors whose product is the share of a caption's classes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamlib.models import class_features


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


@pytest.fixture
def names():
    return torch.randn(7, 5, generator=torch.Generator().manual_seed(0))


def test_evidence_tells_orders_of_magnitude_apart():
    evidence = class_features.evidence(torch.tensor([100.0, -100.0, -torch.inf]))
    assert evidence[0] == 1
    assert 0 < evidence[1] < 1e-5
    assert evidence[2] == 0


@given(st.floats(-30, 30))
def test_evidence_is_as_defined(logit):
    p = 1 / (1 + math.exp(-logit))
    found = class_features.evidence(torch.tensor([logit], dtype=torch.float64))
    assert found.item() == pytest.approx(p**class_features.POWER, rel=1e-5)
    assert class_features.probability(found).item() == pytest.approx(p, rel=1e-4)


@given(st.lists(st.floats(-25, 10), min_size=7, max_size=7))
def test_half_precision_of_the_evidence_hardly_moves_a_frame(logits):
    evidence = class_features.evidence(torch.tensor([logits]))
    exact = class_features.frame_class_vector(evidence)
    stored = class_features.frame_class_vector(evidence.half().float())
    assert (exact - stored).norm() < 1e-3


@pytest.mark.parametrize("frame_s", [0.32, 0.08])
@pytest.mark.parametrize("n_frames", [1, 3, 60])
def test_a_frame_has_the_highest_evidence_nearby_as_half_of_its_own(n_frames, frame_s):
    evidence = torch.rand(2, n_frames, 3, generator=torch.Generator().manual_seed(n_frames))
    found = class_features.with_context(evidence, frame_s)
    reach = round(1.28 / frame_s)
    for at in range(n_frames):
        highest = evidence[:, max(0, at - reach) : at + reach + 1].amax(dim=1)
        assert torch.allclose(found[:, at], (evidence[:, at] + highest) / 2)


def test_both_sides_are_unit_vectors_also_where_nothing_is_heard(names):
    heard = class_features.frame_class_vector(torch.stack([torch.zeros(7), torch.arange(7.0)]))
    asked = class_features.caption_class_vector(names[:2], names)
    assert heard.norm(dim=1).tolist() == pytest.approx([1, 1])
    assert asked.norm(dim=1).tolist() == pytest.approx([1, 1])
    assert (heard[0] @ asked.T).tolist() == [0, 0]


def test_a_caption_that_is_a_name_asks_for_that_class(names):
    asked = class_features.caption_class_vector(names, names)
    assert asked[:, :-1].argmax(dim=1).tolist() == list(range(7))


def test_the_length_of_text_features_does_not_matter(names):
    assert torch.allclose(
        class_features.caption_class_vector(3 * names[:2], names),
        class_features.caption_class_vector(names[:2], 0.1 * names),
    )


def test_more_evidence_for_the_asked_class_is_a_higher_product(names):
    asked = class_features.caption_class_vector(names[:1], names)[0]
    best = int(asked.argmax())
    evidence = torch.zeros(3, 7)
    evidence[:, best] = torch.tensor([0.0, 1.0, 5.0])
    products = class_features.frame_class_vector(evidence) @ asked
    assert products[0] < products[1] < products[2]


def test_beside_averages_the_two_cosines(names):
    generator = torch.Generator().manual_seed(1)
    u, v = unit(torch.randn(2, 3, generator=generator))
    t, s = unit(torch.randn(2, 4, generator=generator))
    together = class_features.concat_unit(u, t) @ class_features.concat_unit(v, s)
    assert together.item() == pytest.approx(((u @ v + t @ s) / 2).item(), abs=1e-6)
    assert class_features.concat_unit(u, t).norm().item() == pytest.approx(1)
