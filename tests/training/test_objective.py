import pytest
import tiny
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn
from torch.testing import assert_close

from flamlib.data.batches import Batch
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.losses import frame_wise
from flamlib.models.flam import FLAM
from flamlib.training.objective import (
    ANY,
    CaptionFeatures,
    Objective,
    StepInputs,
    check_sizes,
    encode_step,
    statistics_kept,
)

WEIGHTS = {"clip": 1.0, "frame": 20.0, "prior": 0.5}
TEXTS = ["a low tone", "a high tone sounds", "a tone"]
QUERIES = ["a low tone", "a high tone", "a tone"]
RATE, CLIP_S, PAIR_S = 16000, 1.28, 0.96


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    tiny.write_corpus(folder)
    tiny.write_text_tower(folder / "weights/tiny_text")
    return folder


@pytest.fixture(autouse=True)
def ear(monkeypatch):
    """The tower of ten lines; and no Accelerator of an earlier test."""
    monkeypatch.setattr(
        "flamlib.models.dual_encoder.audio_tower", lambda **settings: tiny.TinyAudioTower()
    )
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()


@pytest.fixture
def lexicon(corpus):
    return Lexicon.read(corpus / "data/captions.tsv")


@pytest.fixture
def net(corpus):
    torch.manual_seed(0)
    heads = {"dim": 8, "dropout": 0.2, "scale_init": 10.0, "bias_init": -2.0}
    towers = {"audio": {"tower": "yamnet"}, "caption": {"pooling": "mean"}}
    return FLAM(corpus / "weights/tiny_text", **towers, **heads, temperature_init=0.07).train()


def batch(n_clips=5, pair_batch_size=2):
    g = torch.Generator().manual_seed(1)
    known = torch.ones(n_clips, 3, dtype=torch.bool)
    known[:1, 2] = False
    return Batch(
        audio=0.1 * torch.randn(n_clips, round(CLIP_S * RATE), generator=g),
        queries=QUERIES,
        texts=TEXTS,
        own=slice(0, None, 1),
        active=torch.rand(n_clips, 3, 4, generator=g) < 0.3,
        known=known,
        pair_audio=0.1 * torch.randn(pair_batch_size, round(PAIR_S * RATE), generator=g),
        pair_captions=["a low tone", "a middle tone"][:pair_batch_size],
    )


def objective(net, lexicon, weights=WEIGHTS, noise=0.0):
    reader = CaptionFeatures(net, lexicon, torch.device("cpu"), noise=noise)
    return Objective(weights, reader, hardness=0.15)


@torch.no_grad()
def test_the_terms_are_the_papers_losses(net, lexicon):
    here, learning = batch(), objective(net.eval(), lexicon)
    inputs, texts = learning.inputs(here)
    found = learning.terms(encode_step(net, inputs), here, texts)
    frame_emb = net.encode_audio(here.audio).frame_emb
    emb, scale, bias = net.embed_captions(TEXTS)
    logits = frame_wise.frame_logits(frame_emb, emb, scale, bias)
    pairs = net.encode_audio(here.pair_audio).clip_emb, net.embed_captions(here.pair_captions)[0]
    expected = {
        "frame": frame_wise.framewise_loss(logits, here.active, here.known),
        "prior": frame_wise.prior_loss(bias, here.active, here.known),
        "clip": frame_wise.clip_loss(*pairs, net.log_temperature),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    total = sum(WEIGHTS[name] * value for name, value in expected.items())
    assert_close(learning.total(found), total, rtol=1e-5, atol=1e-5)


def test_the_frames_move_the_priors_where_nothing_else_does(net, lexicon):
    """Otherwise the prior's head gets the gradient of its own loss and no other."""

    def gradient(weights):
        net.zero_grad()
        learning = objective(net.eval(), lexicon, weights)
        learning.backward(Accelerator(cpu=True), net, batch(), micro_batch=None)
        return net.bias_head.layers[2].bias.grad.clone()

    alone, both = gradient({"prior": 1.0}), gradient({"prior": 1.0, "frame": 200.0})
    assert_close(both, alone)
    assert not torch.isclose(gradient({"frame": 200.0}), alone).any()


def moves(net, lexicon, weights):
    """Which parts of the model a loss alone moves."""
    learning = objective(net, lexicon, weights)
    net.zero_grad()
    learning.backward(Accelerator(cpu=True), net, batch(), micro_batch=None)
    moved = {n for n, p in net.named_parameters() if p.grad is not None and p.grad.any()}
    return {name.split(".")[0] for name in moved}


def test_each_loss_moves_its_own_parts(net, lexicon):
    """The prior loss reaches no more than captions."""
    towers = {"audio", "caption", "audio_projection", "caption_projection"}
    assert moves(net, lexicon, {"frame": 1.0}) == towers | {"scale_head", "bias_head"}
    assert moves(net, lexicon, {"prior": 1.0}) == {"caption", "bias_head"}
    for of_clips in ("clip", "clip_sigmoid"):
        assert moves(net, lexicon, {of_clips: 1.0}) == towers | {"log_temperature"}


def test_a_text_is_read_once_however_often_it_is_asked_for(net, lexicon):
    learning = objective(net, lexicon)
    inputs, texts = learning.inputs(batch())
    assert texts == [*TEXTS, "a middle tone"]  # "a low tone" is a query and a pair's caption
    assert len(inputs.captions["input_ids"]) == 4


@pytest.mark.parametrize("weights", [{"clip": 1.0}, {"frame": 1.0, "clip": 0.0}])
def test_what_no_loss_asks_for_is_not_computed(net, lexicon, weights):
    inputs, texts = objective(net, lexicon, weights).inputs(batch())
    assert (inputs.audio is None) == ("clip" in texts or "frame" not in weights)
    assert (inputs.pair_audio is None) == ("frame" in weights)
    assert set(texts) == set(batch().pair_captions if "frame" not in weights else TEXTS)


def gradients(net, lexicon, *, micro_batch, frozen=False, seed=0, **sizes):
    net.caption.requires_grad_(not frozen)
    net.zero_grad()
    learning = objective(net, lexicon, noise=0.5)
    torch.manual_seed(seed)
    learning.backward(Accelerator(cpu=True), net, batch(**sizes), micro_batch=micro_batch)
    return {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 5, 99])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("sizes", [{}, {"pair_batch_size": 0}, {"n_clips": 1}])
def test_parts_have_the_gradient_of_the_whole(corpus, net, lexicon, micro_batch, frozen, sizes):
    for layer in net.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    whole = gradients(net, lexicon, micro_batch=None, frozen=frozen, **sizes)
    parts = gradients(net, lexicon, micro_batch=micro_batch, frozen=frozen, **sizes)
    assert parts.keys() == whole.keys()
    for name, gradient in whole.items():
        assert_close(parts[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_a_part_meets_the_same_dropout_twice(net, lexicon, monkeypatch):
    """Else the gradient would be of embeddings that no loss has seen."""
    seen = []
    monkeypatch.setattr(
        "flamlib.training.objective.encode_step",
        lambda *given: seen.append(encode_step(*given)) or seen[-1],
    )
    gradients(net, lexicon, micro_batch=2)
    first, again = seen[:3], seen[3:][::-1]
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.frame_emb, other.frame_emb)
        assert not one.frame_emb.requires_grad
        assert other.frame_emb.requires_grad
    assert not torch.equal(first[0].frame_emb[0], encode_step(net, StepInputs(
        batch().audio, None, None)).frame_emb[0])  # fmt: skip


def test_less_is_held_in_memory(net, lexicon, monkeypatch):
    most = []
    monkeypatch.setattr(
        "flamlib.training.objective.encode_step",
        lambda net, inputs: most.append(len(inputs.audio)) or encode_step(net, inputs),
    )
    gradients(net, lexicon, micro_batch=2)
    assert most == [2, 2, 1, 1, 2, 2]


def test_running_statistics_are_not_updated_twice():
    norm = nn.BatchNorm1d(2, momentum=0.3)
    with statistics_kept(norm):
        norm(torch.randn(5, 2) + 7)
    assert not norm.running_mean.any()
    assert norm.momentum == 0.3
    norm(torch.randn(5, 2) + 7)
    assert norm.running_mean.all()


@pytest.mark.parametrize(
    ("weights", "sizes", "why"),
    [
        ({"frame": 1.0, "prior": 1.0}, {"batch_size": 0}, r"train.batch_size is 0.*frame, prior"),
        ({"hard": 1.0}, {"pair_batch_size": 0}, r"train.pair_batch_size is 0.*hard"),
        ({"clip": 0.0, "frame": 0.0}, {}, "no loss with a weight"),
    ],
)
def test_a_loss_of_what_no_step_holds_is_refused(weights, sizes, why):
    with pytest.raises(ValueError, match=why):
        check_sizes(weights, tiny.config(**sizes).train)


def test_what_no_loss_needs_may_be_absent():
    """The paper's FLAM-Global hears no mixtures, its FLAM without global loss no pairs."""
    check_sizes({"clip": 1.0, "frame": 0.0}, tiny.config(batch_size=0).train)
    check_sizes({"frame": 1.0, "prior": 1.0}, tiny.config(pair_batch_size=0).train)


def test_a_process_without_any_audio_says_so(net, lexicon):
    nothing = batch(n_clips=0, pair_batch_size=0)
    with pytest.raises(ValueError, match="process 0 has no audio in this step"):
        objective(net, lexicon).backward(Accelerator(cpu=True), net, nothing, micro_batch=None)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_process_without_captions_or_audio_takes_part_in_looking(net, lexicon, frozen):
    """As one of many, where there are few recordings to validate on: the losses are of all."""
    net.caption.requires_grad_(not frozen)
    nothing = batch(n_clips=0, pair_batch_size=0)._replace(
        queries=[], texts=[], active=torch.zeros(0, 0, 4, dtype=bool), known=torch.zeros(0, 0) > 0
    )
    learning, alone = objective(net, lexicon, {"clip": 1.0}), Accelerator(cpu=True)
    losses = learning.without_gradients(alone, net.eval(), nothing, micro_batch=None)
    assert losses == {"clip": 0.0}


@pytest.mark.parametrize("frozen", [False, True])
def test_a_text_that_is_too_long_is_refused_before_a_step_draws_it(net, lexicon, frozen):
    net.caption.requires_grad_(not frozen)
    net.caption.tokenize([ANY])
    wordings = [*lexicon.table["wordings"][1:], "a tone|" + "so low " * 200]
    longer = Lexicon(lexicon.table.assign(wordings=wordings))
    with pytest.raises(ValueError, match=r"caption of 1002 tokens.*'so low so"):
        objective(net, longer)


def test_a_frozen_tower_reads_every_wording_once_and_is_blurred_in_training_only(net, lexicon):
    net.caption.requires_grad_(False)
    features = CaptionFeatures(net, lexicon, torch.device("cpu"), noise=0.5)
    plain = features(TEXTS, noisy=False)
    assert torch.equal(plain, net.caption.embed(TEXTS)) or torch.allclose(
        plain, net.caption.embed(TEXTS), atol=1e-6
    )
    assert torch.equal(plain, features(TEXTS, noisy=False))
    blurred = features(TEXTS)
    spread = features.features.std()
    assert (blurred - plain).std() == pytest.approx(0.5 * spread.item(), rel=0.5)
