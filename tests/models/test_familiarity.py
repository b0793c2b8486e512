"""Which captions a model knows, and what it then makes of its own numbers."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close
from towers import changing_noise as noise
from towers import sensitive_model, write_bert

from flamlib.models.class_features import concat_unit
from flamlib.models.familiarity import OTHER, SAME, Familiarity, Trust
from flamlib.models.flam import FLAM

CAPTIONS = ["a dog barks", "the bell rings", "rain"]
TRUST = Trust(known=(0.7, 0.5, -1.0), novel=(0.4, 0.8, -0.5))
AS_TRAINED = Trust(known=(1.0, 1.0, 0.0), novel=(1.0, 1.0, 0.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def net(folder):
    return sensitive_model(folder)


def unit(*shape, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=draw, dtype=torch.float64), dim=-1).float()


def learned(features, bias, trust, *, frames=None):
    """A familiarity of these captions; by default of frames that say nothing."""
    frames = [torch.zeros(2, 3)] if frames is None else frames
    n_tags = frames[1].shape[1] if len(frames) == 2 else 0
    familiarity = Familiarity(*features.shape, frames[0].shape[1], n_tags)
    familiarity.learn(features, bias, frames, trust)
    return familiarity


def know(net, captions, trust):
    """Tell a model its captions; ordinary frames are those of some noise."""
    frames = net.embed_audio(noise(3, 40_000), 16_000).frame_emb.flatten(0, 1)
    net.set_known_captions(captions, trust, frames)
    return frames


def towards(cosine):
    """A text feature of this cosine with the first unit vector of two."""
    return torch.tensor([[cosine, (1 - cosine**2) ** 0.5]])


def test_a_caption_is_known_by_its_nearest():
    familiarity = learned(torch.tensor([[2.0, 0.0], [0.0, -3.0]]), torch.zeros(2), TRUST)
    for cosine, known in ((1, 1), (SAME, 1), ((SAME + OTHER) / 2, 0.5), (OTHER, 0), (0.1, 0)):
        found = familiarity.known(5 * towards(cosine))
        assert found.item() == pytest.approx(known, abs=1e-5)


def test_a_novel_caption_has_the_mean_prior_of_those_that_are_known():
    bias = torch.tensor([-5.0, -1.0])
    familiarity = learned(torch.eye(2), bias, TRUST)
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    known = familiarity.known(features)
    *_, found = familiarity(known, [unit(2, 3)], torch.ones(2), torch.tensor([-5.0, 3.0]))
    assert found[0] == -5
    assert found[1].sigmoid().item() == pytest.approx(bias.sigmoid().mean().item())


@pytest.mark.parametrize("kind", ["known", "novel"])
@given(st.floats(0.01, 5), st.floats(0.01, 5), st.floats(-3, 3), st.integers(0, 2**31))
def test_the_logit_is_what_its_formula_says(kind, first, second, shift, seed):
    ordinary = [unit(50, 4, seed=seed), unit(50, 6, seed=seed + 1)]
    frames = [unit(7, 4, seed=seed + 2), unit(7, 6, seed=seed + 3)]
    captions = [unit(2, 4, seed=seed + 4), unit(2, 6, seed=seed + 5)]
    trust = Trust(
        **{"known": (9.0, 9.0, 9.0), "novel": (9.0, 9.0, 9.0), kind: (first, second, shift)}
    )
    texts = torch.eye(3)[:2] if kind == "known" else -torch.eye(3)[:2]
    scale, bias = torch.tensor([3.0, 20.0]), torch.tensor([-2.0, -4.0])
    familiarity = learned(torch.eye(3)[:2], bias, trust, frames=ordinary)
    caption, length, prior = familiarity(familiarity.known(texts), captions, scale, bias)
    assert_close(caption.norm(dim=1), torch.ones(2))
    one = torch.ones(7, 1)
    found = length * (concat_unit(*frames, one) @ caption.T) + prior
    for j in range(2):
        of_learned = ordinary[0] @ captions[0][j]
        of_classes = ordinary[1] @ captions[1][j]
        wanted = (
            first * scale[j] * (frames[0] @ captions[0][j] - of_learned.mean()) / 2
            + second
            * (frames[1] @ captions[1][j] - of_classes.mean())
            / of_classes.std(correction=0)
            + shift
        )
        assert_close(found[:, j] - prior[j], wanted, atol=2e-4, rtol=2e-4)


def test_on_ordinary_frames_a_logit_is_the_prior_and_the_shift_on_average(net):
    frames = know(net, CAPTIONS, TRUST)
    captions = net.embed_captions(CAPTIONS)
    with_constant = concat_unit(frames, torch.ones(len(frames), 1))
    evidence = captions.logit_scale * (with_constant @ captions.caption_emb.T)
    assert_close(evidence.mean(dim=0), torch.full((3,), -1.0), atol=1e-4, rtol=0)


def test_trust_of_one_changes_known_captions_by_a_constant(net):
    clip = noise(2, 20_000)
    before = net.score(clip, 16_000, CAPTIONS, "biased").logit()
    know(net, CAPTIONS, AS_TRAINED)
    assert net.known(CAPTIONS).tolist() == [1, 1, 1]
    change = net.score(clip, 16_000, CAPTIONS, "biased").logit() - before
    assert_close(change, change[:1, :, :1].expand_as(change), atol=1e-4, rtol=0)


def test_in_training_nothing_is_trusted_less(net):
    net.train()
    features, heard = net.caption.embed(CAPTIONS), noise(2, 20_000)
    for part in (net.caption_projection, net.audio_projection, net.audio):
        part.eval()
    before = [*net.encode_captions(features), *net.encode_audio(heard)]
    net.eval()
    know(net, CAPTIONS, TRUST)
    net.training = True
    after = [*net.encode_captions(features), *net.encode_audio(heard)]
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other)


def test_what_is_known_is_saved_and_forgotten(net, tmp_path):
    before = net.embed_captions(CAPTIONS)
    know(net, CAPTIONS[:2], TRUST)
    net.save_pretrained(tmp_path / "model")
    again = FLAM.from_pretrained(tmp_path / "model")
    assert_close(again.known(CAPTIONS), net.known(CAPTIONS))
    for one, other in zip(
        again.embed_captions(CAPTIONS), net.embed_captions(CAPTIONS), strict=True
    ):
        assert_close(one, other)
    again.forget_captions()
    assert again.known(["anything"]).tolist() == [1]
    assert again.config["n_known"] == 0
    for one, other in zip(again.embed_captions(CAPTIONS), before, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("trust", [None, TRUST])
def test_captions_are_read_once_for_their_embeddings_and_how_well_they_are_known(
    net, monkeypatch, trust
):
    if trust is not None:
        know(net, CAPTIONS[:2], trust)
    expected = *net.embed_captions(CAPTIONS), net.known(CAPTIONS)
    n_read, embed = [], net.caption.embed
    monkeypatch.setattr(net.caption, "embed", lambda texts: n_read.append(1) or embed(texts))
    found, known = net.read_captions(CAPTIONS)
    assert len(n_read) == 1
    for one, other in zip((*found, known), expected, strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="at least one text"):
        net.read_captions([])
