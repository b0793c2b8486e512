"""Which captions a model knows, and what it then makes of its own numbers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close
from towers import changing_noise as noise
from towers import sensitive_model, write_bert

from flamlib.models.familiarity import OTHER, SAME, Familiarity, Trust, weighted
from flamlib.models.flam import FLAM

CAPTIONS = ["a dog barks", "the bell rings", "rain"]
TRUST = Trust(known=(0.7, 0.5), novel=(0.4, 0.8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def net(folder):
    return sensitive_model(folder)


def towards(cosine):
    """A text feature of this cosine with the first unit vector of two."""
    return torch.tensor([[cosine, (1 - cosine**2) ** 0.5]])


def test_a_caption_is_known_by_its_nearest():
    familiarity = Familiarity.of(torch.tensor([[2.0, 0.0], [0.0, -3.0]]), torch.zeros(2), Trust())
    for cosine, known in ((1, 1), (SAME, 1), ((SAME + OTHER) / 2, 0.5), (OTHER, 0), (0.1, 0)):
        found = familiarity.known(5 * towards(cosine))
        assert found.item() == pytest.approx(known, abs=1e-5)


def test_a_novel_caption_has_the_mean_prior_of_those_that_are_known():
    bias = torch.tensor([-5.0, -1.0])
    familiarity = Familiarity.of(torch.eye(2), bias, TRUST)
    weights, found = familiarity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([-5.0, 3.0]))
    assert_close(weights, torch.tensor([TRUST.known, TRUST.novel]))
    assert found[0] == -5
    assert found[1].sigmoid().item() == pytest.approx(bias.sigmoid().mean().item())


@given(st.floats(0.01, 5), st.floats(0.01, 5), st.integers(0, 2**31))
def test_weights_are_those_of_the_halves(first, second, seed):
    draw = torch.Generator().manual_seed(seed)
    u, v, a, b = (
        torch.nn.functional.normalize(torch.randn(3, 4, generator=draw, dtype=torch.float64), dim=1)
        for _ in range(4)
    )
    scale = torch.rand(3, generator=draw, dtype=torch.float64) * 20
    weights = torch.tensor([[first, second]] * 3, dtype=torch.float64)
    caption, found = weighted([a, b], scale, weights)
    assert_close(caption.norm(dim=1), torch.ones(3, dtype=torch.float64))
    both = torch.cat([u, v], dim=1) * 0.5**0.5
    wanted = scale * (first * (u * a).sum(1) + second * (v * b).sum(1)) / 2
    assert_close(found * (both * caption).sum(1), wanted)


def test_trust_of_one_changes_known_captions_by_nothing(net):
    before = net.score(noise(2, 20_000), 16_000, CAPTIONS)
    net.set_known_captions(CAPTIONS, Trust())
    assert net.known(CAPTIONS).tolist() == [1, 1, 1]
    assert_close(net.score(noise(2, 20_000), 16_000, CAPTIONS), before)


def test_trust_multiplies_the_logits_of_known_captions(net):
    before = net.embed_captions(CAPTIONS)
    net.set_known_captions(CAPTIONS, TRUST)
    after = net.embed_captions(CAPTIONS)
    assert_close(after.caption_emb, before.caption_emb)  # this tower has no classes
    assert_close(after.logit_scale, before.logit_scale * 0.7)
    assert_close(after.logit_bias, before.logit_bias)


def test_in_training_nothing_is_trusted_less(net):
    net.train()
    features = net.caption.embed(CAPTIONS)
    net.caption_projection.eval()
    before = net.encode_captions(features)
    net.set_known_captions(CAPTIONS, TRUST)
    for one, other in zip(before, net.encode_captions(features), strict=True):
        assert torch.equal(one, other)


def test_what_is_known_is_saved_and_forgotten(net, tmp_path):
    net.set_known_captions(CAPTIONS[:2], TRUST)
    net.save_pretrained(tmp_path / "model")
    again = FLAM.from_pretrained(tmp_path / "model")
    assert_close(again.known(CAPTIONS), net.known(CAPTIONS))
    for one, other in zip(
        again.embed_captions(CAPTIONS), net.embed_captions(CAPTIONS), strict=True
    ):
        assert_close(one, other)
    again.set_known_captions([], Trust())
    assert again.known(["anything"]).tolist() == [1]
    assert again.config["n_known"] == 0
