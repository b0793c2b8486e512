import inspect
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close
from towers import SETTINGS, sensitive_model, write_bert
from towers import changing_noise as noise

from flamlib.losses import frame_wise
from flamlib.models import class_features
from flamlib.models.flam import FLAM

CAPTIONS = ["a dog barks", "the bell rings", "rain"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def net(folder):
    return sensitive_model(folder)


def test_embeddings_are_unit_vectors(net):
    heard, captions = net.embed_audio(noise(2, 20_000), 16_000), net.embed_captions(CAPTIONS)
    for emb in (*heard, captions.caption_emb):
        assert_close(emb.norm(dim=-1), torch.ones(emb.shape[:-1]))
    assert heard.frame_emb.shape == (2, 4, 12)
    assert heard.clip_emb.shape == (2, 12)
    assert captions.logit_scale.shape == captions.logit_bias.shape == (3,)


def test_frames_and_clips_go_through_one_projection(net):
    """A clip is the projection of its mean frame, which is not the mean of its projections."""
    waveform = noise(2, 20_000)
    with torch.no_grad():
        features = net.audio(net.audio.log_mel(waveform))
        frame_emb, clip_emb = net.encode_audio(waveform)
        for i in range(2):
            whole = net.audio_projection(features[i].mean(dim=0))
            assert_close(clip_emb[i], whole / whole.norm())
            for j in range(features.shape[1]):
                frame = net.audio_projection(features[i, j])
                assert_close(frame_emb[i, j], frame / frame.norm())


def test_clips_may_have_a_projection_of_their_own(folder):
    own = FLAM(folder, **SETTINGS | {"clip_projection": "own"}).eval()
    waveform = noise(2, 20_000)
    with torch.no_grad():
        features = own.audio(own.audio.log_mel(waveform))
        frame_emb, clip_emb = own.encode_audio(waveform)
        whole = own.clip_projection(features.mean(dim=1))
        assert_close(clip_emb, whole / whole.norm(dim=1, keepdim=True))
        frames = own.audio_projection(features)
        assert_close(frame_emb, frames / frames.norm(dim=2, keepdim=True))
    own.encode_audio(waveform).frame_emb.sum().backward()
    assert all(p.grad is None for p in own.clip_projection.parameters())


def test_heads_start_where_they_are_told(folder):
    torch.manual_seed(1)
    net = FLAM(folder, **SETTINGS | {"scale_init": 10.0, "bias_init": -8.0}).eval()
    _, scale, bias = net.embed_captions(CAPTIONS)
    assert bias.tolist() == pytest.approx([-8.0] * 3, abs=1.0)
    assert scale.log().tolist() == pytest.approx([math.log(10.0)] * 3, abs=1.0)
    assert math.exp(net.log_temperature.item()) == pytest.approx(1 / 0.07)


@pytest.mark.parametrize("kind", ["shared", "fixed"])
def test_without_heads_all_captions_have_one_number(folder, tmp_path, kind):
    net = FLAM(folder, **SETTINGS | {"scale_init": 10.0, "bias_init": -8.0}, scale=kind, bias=kind)
    _, scale, bias = net.embed_captions(CAPTIONS)
    assert_close(scale, torch.full((3,), 10.0))
    assert_close(bias, torch.full((3,), -8.0))
    heads = [*net.scale_head.parameters(), *net.bias_head.parameters()]
    assert {p.requires_grad for p in heads} == {kind == "shared"}
    net.save_pretrained(tmp_path / "model")
    assert FLAM.from_pretrained(tmp_path / "model").config == net.config


def test_another_kind_of_head_is_refused(folder):
    with pytest.raises(
        ValueError, match="bias = 'none': expected one of per_caption, shared, fixed"
    ):
        FLAM(folder, **SETTINGS, bias="none")


def test_one_caption_is_not_a_special_case(net):
    assert net.score(noise(9000), 16_000, ["rain"]).shape == (1, 1, 2)
    alone, among = net.embed_captions(["rain"]), net.embed_captions(CAPTIONS)
    for one, many in zip(alone, among, strict=True):
        assert_close(one[0], many[2])


def test_the_three_scores_are_what_they_are_called(net):
    waveform = noise(2, 20_000)
    frame_emb, _ = net.embed_audio(waveform, 16_000)
    caption_emb, scale, bias = net.embed_captions(CAPTIONS)
    scores = {
        m: net.score(waveform, 16_000, CAPTIONS, m) for m in ("unbiased", "biased", "approximate")
    }
    for i, j, frame in np.ndindex(2, 3, 4):
        evidence = float(scale[j] * (frame_emb[i, frame] @ caption_emb[j]))
        p, prior = sigmoid(evidence + float(bias[j])), sigmoid(float(bias[j]))
        place = (i, j, frame)
        assert scores["biased"][place] == pytest.approx(p, rel=1e-4)
        assert scores["unbiased"][place] == pytest.approx(p / (p + prior), rel=1e-4)
        assert scores["approximate"][place] == pytest.approx(sigmoid(evidence), rel=1e-4)
        assert (scores["unbiased"][place] >= 0.5) == (scores["approximate"][place] >= 0.5)


def test_the_unbiased_score_is_what_one_gets(net):
    assert torch.equal(
        net.score(noise(9000), 16_000, CAPTIONS),
        net.score(noise(9000), 16_000, CAPTIONS, method="unbiased"),
    )


def test_another_method_is_refused(net):
    with pytest.raises(ValueError, match="not 'cosine'"):
        inspect.unwrap(FLAM.score_embeddings)(
            net, net.embed_audio(noise(9000), 16_000), net.embed_captions(CAPTIONS), "cosine"
        )


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("term", "learning"),
    [
        ("frame", {"audio", "caption", "audio_projection", "caption_projection", "scale_head"}),
        ("prior", {"caption", "bias_head"}),
        ("clip", {"audio", "caption", "audio_projection", "caption_projection", "log_temperature"}),
    ],
)
def test_each_loss_teaches_its_own_parts(net, term, learning):
    """In the frame-wise loss the bias is detached: the prior's loss alone fits it."""
    net.zero_grad(set_to_none=True)
    tokens = net.caption.tokenize(CAPTIONS)
    step = net(noise(3, 6000), tokens, noise(3, 6000, seed=1))
    active = torch.rand(3, 3, 2, generator=torch.Generator().manual_seed(0)) < 0.5
    known = torch.ones(3, 3, dtype=torch.bool)
    caption_emb, scale, bias = step.captions
    if term == "frame":
        logits = frame_wise.frame_logits(step.audio.frame_emb, caption_emb, scale, bias.detach())
        frame_wise.framewise_loss(logits, active, known).backward()
    elif term == "prior":
        frame_wise.prior_loss(bias, active, known).backward()
    else:
        frame_wise.clip_loss(
            step.pair_audio.clip_emb, step.captions.caption_emb, step.log_temperature
        ).backward()
    taught = {
        n.split(".")[0] for n, p in net.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert taught == learning


@pytest.fixture(scope="module")
def tagging(folder):
    torch.manual_seed(0)
    net = FLAM(folder, **SETTINGS | {"audio": {"tower": "yamnet", "tags": True}}).eval()
    for layer in net.audio.layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    net.set_class_names(
        [f"{word} {i}" for i, word in enumerate(["Dog", "bell", "rain"] * 174)][:521]
    )
    return net


def test_with_tags_embeddings_are_still_unit_vectors_of_one_length(tagging):
    heard, asked = tagging.embed_audio(noise(2, 48_000), 16_000), tagging.embed_captions(CAPTIONS)
    for rows in (*heard, asked.caption_emb):
        assert_close(rows.norm(dim=-1), torch.ones(rows.shape[:-1]))
    assert heard.frame_emb.shape[2] == heard.clip_emb.shape[1] == asked.caption_emb.shape[1]


def test_with_tags_the_cosine_is_the_mean_of_what_was_learned_and_what_the_tagger_says(tagging):
    frames = torch.rand(1, 3, 1024 + 521)
    features = tagging.caption.embed(CAPTIONS)
    with torch.no_grad():
        found = (
            tagging._project(frames).frame_emb[0] @ tagging.encode_captions(features).caption_emb.T
        )
        learned = nn.functional.cosine_similarity(
            tagging.audio_projection(frames[0, :, None, :1024]),
            tagging.caption_projection(features)[None],
            dim=2,
        )
        said = (
            class_features.frame_class_vector(
                class_features.with_context(frames[..., 1024:], tagging.frame_s)[0]
            )
            @ class_features.caption_class_vector(features, tagging.tag_names).T
        )
    assert_close(found, (learned + said) / 2)


def test_names_of_tags_are_saved_with_the_model(tagging, tmp_path):
    tagging.save_pretrained(tmp_path / "model")
    again = FLAM.from_pretrained(tmp_path / "model")
    waveform = noise(1, 32_000)
    assert torch.equal(
        again.score(waveform, 16_000, CAPTIONS), tagging.score(waveform, 16_000, CAPTIONS)
    )


def test_a_model_can_be_told_to_ask_without_tags(tagging):
    features = tagging.caption.embed(CAPTIONS)
    with torch.no_grad():
        whole = tagging.encode_captions(features).caption_emb
        tagging.use_class_features = False
        without = tagging.encode_captions(features).caption_emb
        tagging.use_class_features = True
    n_tags = tagging.audio.n_tags + 1
    assert torch.equal(without[:, :-n_tags], whole[:, :-n_tags])
    assert not without[:, -n_tags:].any()
    assert whole[:, -n_tags:].any(dim=1).all()
