import inspect
import math

import pytest
import torch
from sounds import noise as sound
from torch import nn
from torch.nn.functional import normalize
from torch.testing import assert_close
from towers import MGA_CLAP, SETTINGS, write_bert, write_roberta

from flamlib.losses import codebook
from flamlib.models.flam import FLAM
from flamlib.models.interface import AudioTextModel
from flamlib.models.mga_clap import MGACLAP, LocalBlock

HTSAT = {
    "tower": "htsat",
    "embed": 8,
    "depths": [1, 1, 1, 2],
    "heads": [1, 2, 2, 4],
    "drop_path": 0.0,
    "drop_hidden": 0.0,
    "drop_attention": 0.0,
}
CAPTIONS = ["a dog barks", "the bell rings", "rain"]
RATE = 16_000


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """YAMNet and a tiny BERT, with weights that let the sound through to the last layer."""
    folder = write_bert(tmp_path_factory.mktemp("bert"))
    torch.manual_seed(0)
    net = MGACLAP(folder, **MGA_CLAP).eval()
    for layer in net.audio.layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return net


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """The towers of the papers, small: HTS-AT, whose last block keeps cells apart, and RoBERTa."""
    folder = write_roberta(tmp_path_factory.mktemp("roberta"))
    torch.manual_seed(0)
    return MGACLAP(folder, **MGA_CLAP | {"audio": HTSAT}).eval()


def noise(seconds, rate=RATE):
    return torch.from_numpy(sound(seconds, rate=rate)).float()[None]


def test_a_frame_is_compared_as_it_is_and_a_clip_by_its_codewords(net):
    waveform = noise(1.28)
    with torch.no_grad():
        steps = net.frame_projection(net.audio(net.audio.log_mel(waveform)))
        heard = net.encode_audio(waveform)
    known = torch.ones(1, 4, dtype=torch.bool)
    mixture = codebook.aggregate(steps, known, net.codes, temperature=0.3)
    assert_close(heard.frame_emb, normalize(steps, dim=2))
    assert_close(heard.clip_emb, normalize(mixture, dim=1))


def test_a_caption_is_the_codewords_of_its_words(net):
    """Not of the marks around them: word features one by one, through the tower by hand."""
    tokens = net.caption.tokenize(CAPTIONS)
    with torch.no_grad():
        hidden = net.caption.encoder(**tokens).last_hidden_state
        for i, (ids, emb) in enumerate(
            zip(tokens["input_ids"], net.embed_captions(CAPTIONS).caption_emb, strict=True)
        ):
            texts = net.caption.tokenizer.convert_ids_to_tokens(ids.tolist())
            places = [j for j, text in enumerate(texts) if not text.startswith("[")]
            words = net.word_projection(hidden[i, places])[None]
            known = torch.ones(1, len(places), dtype=torch.bool)
            mixture = codebook.aggregate(words, known, net.codes, temperature=0.3)
            assert_close(emb, normalize(mixture[0], dim=0))


def test_a_caption_does_not_know_which_others_are_asked(net):
    alone, among = net.embed_captions(["rain"]), net.embed_captions(CAPTIONS)
    for one, many in zip(alone, among, strict=True):
        assert_close(one[0], many[2])


def test_embeddings_are_unit_vectors_and_captions_carry_no_prior(net):
    heard, asked = net.embed_audio(noise(2.0), RATE), net.embed_captions(CAPTIONS)
    for emb in (*heard, asked.caption_emb):
        assert_close(emb.norm(dim=-1), torch.ones(emb.shape[:-1]))
    assert asked.logit_scale.tolist() == [1, 1, 1]
    assert asked.logit_bias.tolist() == [0, 0, 0]
    assert isinstance(net, AudioTextModel)


def test_the_score_is_the_cosine_between_zero_and_one(net):
    waveform = noise(1.28)
    heard, asked = net.embed_audio(waveform, RATE), net.embed_captions(CAPTIONS)
    score = net.score(waveform, RATE, CAPTIONS)
    assert score.shape == (1, 3, 4)
    for j in range(3):
        for frame in range(4):
            cosine = float(heard.frame_emb[0, frame] @ asked.caption_emb[j])
            assert float(score[0, j, frame]) == pytest.approx((1 + cosine) / 2, abs=1e-6)
    assert net.score(waveform, RATE, ["rain"]).shape == (1, 1, 4)


def test_there_is_no_prior_to_be_left_in(net):
    with pytest.raises(ValueError, match="without priors has unbiased scores only, no 'biased'"):
        inspect.unwrap(MGACLAP.score)(net, noise(0.32), RATE, CAPTIONS, "biased")


@pytest.mark.parametrize("which", ["net", "paper"])
def test_its_loss_teaches_every_part_that_is_used(which, request):
    """Padded words among them: NaN must not reach a gradient."""
    net = request.getfixturevalue(which)
    net.zero_grad(set_to_none=True)
    waveform = torch.cat([noise(0.64, net.sample_rate) * gain for gain in (1.0, 0.3, 0.1)])
    step = net(None, net.caption.tokenize(CAPTIONS), waveform)
    codebook.hard_negative_loss(
        step.pair_audio.clip_emb,
        step.captions.caption_emb,
        step.log_temperature,
        hardness=0.15,
    ).backward()
    learning = {name for name, p in net.named_parameters() if p.requires_grad}
    taught = {name for name, p in net.named_parameters() if p.grad is not None}
    assert taught == learning
    assert all(net.get_parameter(name).grad.isfinite().all() for name in taught)
    parts = {name.split(".")[0] for name in taught if net.get_parameter(name).grad.any()}
    parts_of_it = {"audio", "caption", "frame_projection", "word_projection", "codes"}
    assert parts == parts_of_it | {"log_temperature"}


def test_features_of_a_frozen_tower_are_read_as_tokens_are(net):
    features = net.caption.embed(CAPTIONS)
    assert features.isnan().any()
    with torch.no_grad():
        by_features = net(None, features, None).captions
        by_tokens = net(None, net.caption.tokenize(CAPTIONS), None).captions
    for one, other in zip(by_features, by_tokens, strict=True):
        assert_close(one, other)


# The block that keeps what is local


def test_the_local_block_is_its_formula(paper):
    block = paper.audio.encoder.audio_encoder.layers[-1].blocks[-1]
    assert isinstance(block, LocalBlock)
    x = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        [found] = block(x, (8, 8))
        value, out = block.attention.self.value, block.attention.output.dense
        for i in range(2):
            for cell in range(0, 64, 9):
                u = out(value(block.layernorm_before(x[i, cell])))
                v = x[i, cell] + u
                assert_close(found[i, cell], v + block.layernorm_after(v))


def test_a_cell_looks_at_itself_alone_in_the_last_block_only(paper, tmp_path):
    """What it hears is as FLAM's tower has it until then: same weights, other last block."""
    torch.manual_seed(1)
    layers = paper.audio.encoder.audio_encoder.layers
    x = torch.randn(1, 64, 64)
    changed = x.clone()
    changed[0, 5] += 1
    with torch.no_grad():
        moved = [
            (block(x, (8, 8))[0] != block(changed, (8, 8))[0]).any(dim=2)[0]
            for block in layers[-1].blocks
        ]
    assert moved[0].sum() > 1, "the block before attends"
    assert moved[1].nonzero().tolist() == [[5]]


def test_what_the_local_block_does_not_use_waits_for_no_gradient(paper):
    still = {name for name, p in paper.audio.named_parameters() if not p.requires_grad}
    prefix = "encoder.audio_encoder.layers.3.blocks.1."
    expected = {"attention.self.query", "attention.self.key", "intermediate.dense", "output.dense"}
    names = {f"{prefix}{name}.{kind}" for name in expected for kind in ("weight", "bias")}
    assert still == names | {f"{prefix}attention.self.relative_position_bias_table"}


def test_the_weights_of_a_tower_that_attends_fit(paper):
    from flamlib.models.htsat import HTSAT as Tower

    tower = Tower(**{k: v for k, v in HTSAT.items() if k != "tower"})
    assert tower.state_dict().keys() == paper.audio.state_dict().keys()


# Saved and read again


@pytest.mark.parametrize("which", ["net", "paper"])
def test_a_model_that_was_saved_is_the_same_exactly(which, request, tmp_path):
    net = request.getfixturevalue(which)
    net.save_pretrained(tmp_path / "model", provenance={"seed": 7})
    again = MGACLAP.from_pretrained(tmp_path / "model")
    assert again.config == net.config
    assert not again.training
    waveform = noise(0.64, net.sample_rate)
    found, expected = (m.score(waveform, m.sample_rate, CAPTIONS) for m in (again, net))
    assert torch.equal(found, expected)


def test_a_folder_says_which_kind_of_model_it_holds(net, tmp_path):
    net.save_pretrained(tmp_path / "mga")
    flam = FLAM(write_bert(tmp_path / "bert"), **SETTINGS)
    flam.save_pretrained(tmp_path / "flam")
    with pytest.raises(ValueError, match=r"config.json: the model is 'mga_clap', expected 'flam'"):
        FLAM.from_pretrained(tmp_path / "mga")
    with pytest.raises(ValueError, match=r"config.json: the model is 'flam', expected 'mga_clap'"):
        MGACLAP.from_pretrained(tmp_path / "flam")


def test_only_words_can_be_read(tmp_path):
    with pytest.raises(ValueError, match=r'caption.pooling "words", got'):
        MGACLAP(write_bert(tmp_path), **MGA_CLAP | {"caption": {"pooling": "mean"}})


def test_the_temperature_starts_where_it_is_told(net):
    assert math.exp(net.log_temperature.item()) == pytest.approx(1 / 0.07)
