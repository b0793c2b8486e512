"""Losses in tiles and over processes, against the plain losses of everything at once."""

import math
from functools import partial
from typing import NamedTuple

import pytest
import ranks
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from flamlib.losses import frame_wise, tiled
from flamlib.losses.tiled import Labels, caption_keys

N_FRAMES, DIM = 4, 6
STRINGS = ("rain", "a dog barks", "un été 犬", "bell", "wind", "steps", "a door", "noise")
EXACT = {"rtol": 1e-5, "atol": 1e-6}

each_number = pytest.mark.parametrize("n_ranks", [1, 2, 3, 4])
each_tile = pytest.mark.parametrize("tile", [1, 3, None])


class Share(NamedTuple):
    """What one process gives to the loss, in the order of its arguments."""

    frame_emb: torch.Tensor
    caption_emb: torch.Tensor
    logit_scale: torch.Tensor
    logit_bias: torch.Tensor
    captions: list[str]
    labels: Labels


LEARNT = Share._fields[:4]


def draw(seed, sizes, *, n_strings=8):
    """A share for each of `sizes`, (clips, captions), with labels of its own pairs.

    What a string is true of depends on the clip and the string alone.
    """
    g = torch.Generator().manual_seed(seed)
    shares = []
    for n_clips, n_captions in sizes:
        which = torch.randint(n_strings, (n_captions,), generator=g).tolist()
        truth = torch.rand(n_clips, n_strings, N_FRAMES, generator=g) < 0.4
        share = Share(
            F.normalize(torch.randn(n_clips, N_FRAMES, DIM, generator=g), dim=-1),
            F.normalize(torch.randn(n_captions, DIM, generator=g), dim=-1),
            10 * torch.rand(n_captions, generator=g),
            -4 * torch.rand(n_captions, generator=g),
            *labelled([STRINGS[i] for i in which], truth[:, which]),
        )
        shares.append(share)
    return shares


def labelled(captions, active):
    """The last two fields of a share that knows all of its own pairs."""
    return captions, Labels(caption_keys(captions, torch.device("cpu")), active, aligned=True)


def learning(share):
    return share._replace(**{k: getattr(share, k).clone().requires_grad_() for k in LEARNT})


def gradients(share):
    return {k: getattr(share, k).grad for k in LEARNT}


def slow(shares):
    """The definition: every clip with every caption of every process, one at a time."""
    nats = []
    for here in shares:
        labelled = {}
        for j, caption in enumerate(here.captions):
            labelled.setdefault(caption, here.labels.active[:, j])
        for i in range(len(here.frame_emb)):
            for there in shares:
                for j in range(len(there.captions)):
                    cosine = here.frame_emb[i] @ there.caption_emb[j]
                    logit = there.logit_scale[j] * cosine + there.logit_bias[j]
                    inactive = torch.zeros(N_FRAMES, dtype=torch.bool)
                    active = labelled.get(there.captions[j], inactive.expand(99, -1))[i]
                    z = torch.where(active, 1.0, -1.0)
                    nats.append(-F.logsigmoid(z * logit))
    return torch.stack(nats).mean() if nats else torch.zeros(())


def one_share(rank, shares, tile=None, weight=1.0):
    share = learning(shares[rank])
    loss = frame_wise.sharded_framewise_loss(*share, tile=tile)
    (weight * loss).backward()
    return loss.detach(), gradients(share)


def check(shares, found, weight=1.0):
    """The mean of the shares is the loss, and the mean of their gradients its gradient."""
    whole = [learning(share) for share in shares]
    loss = slow(whole)
    if loss.requires_grad:
        (weight * loss).backward()
    assert_close(sum(value for value, _ in found) / len(found), loss.detach(), **EXACT)
    for share, (_, gradient) in zip(whole, found, strict=True):
        for name, slope in gradients(share).items():
            # Each process moves its own inputs only; averaging divides by their number.
            slope = torch.zeros_like(gradient[name]) if slope is None else slope
            assert_close(gradient[name] / len(found), slope, **EXACT)


SIZES = [(3, 4), (2, 5), (4, 3), (1, 2)]  # of each process, clips and captions


@each_number
@each_tile
def test_any_number_of_processes_and_any_tile_is_the_dense_loss(n_ranks, tile):
    shares = draw(n_ranks, SIZES[:n_ranks])
    check(shares, ranks.together(n_ranks, one_share, shares, tile))


@settings(max_examples=15)
@given(
    st.integers(0, 2**16),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=4),
    st.integers(1, 5),
    st.integers(1, len(STRINGS)),
)
def test_it_is_so_for_any_sizes_and_repetitions(seed, sizes, tile, n_strings):
    """No clips, no captions, one string everywhere."""
    shares = draw(seed, sizes, n_strings=n_strings)
    check(shares, ranks.together(len(sizes), one_share, shares, tile))


@given(st.integers(0, 2**16), st.integers(1, 6), st.integers(1, 7), st.integers(1, 8))
def test_one_process_in_tiles_is_the_plain_loss(seed, n_clips, n_captions, tile):
    [share] = draw(seed, [(n_clips, n_captions)])
    plain = learning(share)
    known = torch.ones(n_clips, n_captions, dtype=torch.bool)
    loss = frame_wise.framewise_loss(
        frame_wise.frame_logits(*plain[:4]), share.labels.active, known
    )
    loss.backward()
    found, slopes = one_share(0, [share], tile)
    assert_close(found, loss.detach(), **EXACT)
    for name, slope in gradients(plain).items():
        assert_close(slopes[name], slope, **EXACT)


# What the authors' release gets wrong


def test_the_negatives_of_other_processes_weigh_as_much_as_ones_own():
    """There they are divided by the width of the embedding instead of by the frames."""
    shares = draw(0, [(2, 3), (2, 3)], n_strings=1)
    for share in shares:
        share.labels.active[:] = False
        for x in (share.logit_scale, share.logit_bias):
            x[:] = 0  # each pair costs log 2
    for value, gradient in ranks.together(2, one_share, shares):
        assert value.item() == pytest.approx(0.693147, abs=1e-6)
        slope = gradient["logit_bias"] / 2
        assert_close(slope, torch.full_like(slope, 0.5 / 6))  # 6 slots, sigmoid(0) each


def test_a_caption_travels_with_its_own_scale_and_bias():
    """There they stay behind, which shows from four processes on."""
    shares = draw(3, [(2, 2)] * 4)
    for rank, share in enumerate(shares):
        share.logit_scale[:], share.logit_bias[:] = 10.0**rank / 10, -2.0 * rank
    check(shares, ranks.together(4, one_share, shares))


@each_number
def test_the_loss_does_not_grow_with_the_number_of_processes(n_ranks):
    """It is one mean, where there the means of blocks are added up."""
    [share] = draw(0, [(2, 3)])
    alone, _ = one_share(0, [share])
    for value, _ in ranks.together(n_ranks, one_share, [share] * n_ranks):
        assert_close(value, alone)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_caption_is_never_a_false_negative_wherever_it_stands(place):
    """There only the slot of the same index is compared."""
    a, b = draw(0, [(1, 3), (1, 3)])
    others = ["wind", "steps"]
    names = ["rain", *others], [*others[:place], "rain", *others[place:]]
    a, b = (
        Share(*x[:4], *labelled(captions, torch.ones_like(x.labels.active)))
        for x, captions in zip((a, b), names, strict=True)
    )
    for x in (a, b):
        x.logit_bias[:] = 0
        x.logit_scale[:] = 1e4  # sure of everything
        x.caption_emb[:] = x.frame_emb[:] = F.one_hot(torch.tensor(0), DIM).float()
    values = [value for value, _ in ranks.together(2, one_share, [a, b])]
    assert values == [0, 0]


@pytest.mark.parametrize("n_ranks", [2, 4])
def test_an_even_number_of_processes_needs_no_way_of_its_own(n_ranks):
    """The last hop in one direction only is where the release stops with an error."""
    shares = draw(7, [(1, 1)] * n_ranks)
    check(shares, ranks.together(n_ranks, one_share, shares))


# Weights, precision, gradients


@each_number
def test_a_weight_of_the_loss_reaches_every_process(n_ranks):
    shares = draw(1, SIZES[:n_ranks])
    check(shares, ranks.together(n_ranks, one_share, shares, None, 200.0), weight=200.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_embeddings_in_low_precision_are_compared_in_full(dtype):
    [share] = draw(0, [(6, 7)])
    low = share._replace(
        frame_emb=share.frame_emb.to(dtype), caption_emb=share.caption_emb.to(dtype)
    )
    full = share._replace(frame_emb=low.frame_emb.float(), caption_emb=low.caption_emb.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, slopes = one_share(0, [low])
    expected, wanted = one_share(0, [full])
    assert value.dtype == torch.float32
    assert_close(value, expected)
    for name in LEARNT:
        assert slopes[name].dtype == getattr(low, name).dtype
        assert_close(slopes[name].float(), wanted[name], atol=1e-3, rtol=1e-2)


def test_it_agrees_with_its_gradient_by_differences():
    [share] = draw(2, [(2, 3)])
    inputs = [x.double().requires_grad_() for x in share[:4]]
    rest = {k: v for k, v in share._asdict().items() if k not in LEARNT}
    loss = partial(frame_wise.sharded_framewise_loss, **rest, tile=2)
    assert torch.autograd.gradcheck(loss, inputs)


def test_certainty_never_overflows():
    [share] = draw(0, [(2, 3)])
    share.logit_scale[:] = 1e6
    value, slopes = one_share(0, [share])
    assert value.isfinite()
    assert all(x.isfinite().all() for x in slopes.values())


def test_a_frozen_input_gets_no_gradient_and_costs_the_others_nothing():
    [share] = draw(0, [(2, 3)])
    half = learning(share)._replace(caption_emb=share.caption_emb, logit_bias=share.logit_bias)
    frame_wise.sharded_framewise_loss(*half).backward()
    _, whole = one_share(0, [share])
    assert torch.equal(half.frame_emb.grad, whole["frame_emb"])
    assert torch.equal(half.logit_scale.grad, whole["logit_scale"])


def without_gradients(rank, shares):
    with torch.no_grad():
        return frame_wise.sharded_framewise_loss(*shares[rank])


def test_without_gradients_it_is_the_same_value():
    shares = draw(0, SIZES)
    found = ranks.together(4, without_gradients, shares)
    assert_close(sum(found) / 4, slow(shares), **EXACT)


def test_its_gradient_can_be_taken_twice():
    [share] = draw(0, [(2, 3)])
    share = learning(share)
    loss = frame_wise.sharded_framewise_loss(*share)
    loss.backward(retain_graph=True)
    once = share.frame_emb.grad.clone()
    loss.backward()
    assert_close(share.frame_emb.grad, 2 * once)


@pytest.mark.parametrize(
    "wrong",
    [
        {"captions": ["one too few"]},
        {"labels": labelled(["a", "b", "c"], torch.zeros(2, 3, N_FRAMES + 1) > 0)[1]},
        {"labels": labelled(["a", "b", "c"], torch.zeros(3, 3, N_FRAMES) > 0)[1]},
    ],
)
def test_arguments_that_do_not_fit_each_other_are_refused(wrong):
    [share] = draw(0, [(2, 3)])
    # Without the tests' own check of shapes, which would speak first.
    loss = getattr(
        frame_wise.sharded_framewise_loss, "__wrapped__", frame_wise.sharded_framewise_loss
    )
    with pytest.raises(ValueError, match="2 clips of 4 frames and 3 caption embeddings need as"):
        loss(*share._replace(**wrong))


# Labels of all captions, some of them unknown: the training's form


def spread(seed, n_ranks, *, n_clips=5, n_captions=7):
    """A whole, which of its pairs are known, and what each process has of it."""
    [whole] = draw(seed, [(n_clips, n_captions)])
    names = [f"caption {j}" for j in range(n_captions)]
    known = torch.rand(n_clips, n_captions, generator=torch.Generator().manual_seed(seed)) < 0.7
    keys = caption_keys(names, torch.device("cpu"))
    shares = [
        Share(
            whole.frame_emb[r::n_ranks],
            *(x[r::n_ranks] for x in (whole.caption_emb, whole.logit_scale, whole.logit_bias)),
            names[r::n_ranks],
            Labels(keys, whole.labels.active[r::n_ranks], known[r::n_ranks]),
        )
        for r in range(n_ranks)
    ]
    return whole, known, shares


def known_share(rank, shares, tile):
    share = learning(shares[rank])
    loss = frame_wise.sharded_framewise_loss(*share, tile=tile)
    prior = frame_wise.sharded_prior_loss(share.logit_bias, share.captions, share.labels)
    loss.backward()
    slopes = gradients(share)
    share.logit_bias.grad = None
    prior.backward()
    return loss.detach(), slopes, prior.detach(), share.logit_bias.grad


@each_number
@each_tile
def test_unknown_pairs_are_left_out_whichever_process_has_clip_and_caption(n_ranks, tile):
    whole, known, shares = spread(n_ranks, n_ranks)
    dense = learning(whole)
    loss = frame_wise.framewise_loss(
        frame_wise.frame_logits(*dense[:4]), whole.labels.active, known
    )
    loss.backward()
    found = ranks.together(n_ranks, known_share, shares, tile)
    assert_close(sum(f[0] for f in found) / n_ranks, loss.detach(), **EXACT)
    for r, (_, slopes, _, _) in enumerate(found):
        for name, slope in gradients(dense).items():
            assert_close(slopes[name] / n_ranks, slope[r::n_ranks], **EXACT)


@each_number
def test_the_prior_is_that_of_the_clips_of_all_processes(n_ranks):
    whole, known, shares = spread(n_ranks, n_ranks)
    bias = whole.logit_bias.clone().requires_grad_()
    loss = frame_wise.prior_loss(bias, whole.labels.active, known)
    loss.backward()
    found = ranks.together(n_ranks, known_share, shares, None)
    assert_close(sum(f[2] for f in found) / n_ranks, loss.detach(), **EXACT)
    for r, (_, _, _, slope) in enumerate(found):
        assert_close(slope / n_ranks, bias.grad[r::n_ranks], **EXACT)


def test_a_caption_without_labels_is_inactive_and_known_to_be():
    whole, _, [share] = spread(0, 1)
    few = [0, 3]
    sparse = Labels(share.labels.keys[few], whole.labels.active[:, few])
    active = torch.zeros_like(whole.labels.active)
    active[:, few] = whole.labels.active[:, few]
    known = torch.ones(active.shape[:2], dtype=torch.bool)
    expected = frame_wise.framewise_loss(frame_wise.frame_logits(*whole[:4]), active, known)
    assert_close(frame_wise.sharded_framewise_loss(*share[:5], sparse), expected)
    prior = frame_wise.sharded_prior_loss(share.logit_bias, share.captions, sparse)
    assert_close(prior, frame_wise.prior_loss(whole.logit_bias, active, known))


def test_an_unknown_pair_changes_nothing():
    _, _, [share] = spread(0, 1)
    known = share.labels.known
    expected = frame_wise.sharded_framewise_loss(*share)
    flipped = torch.where(known[:, :, None], share.labels.active, ~share.labels.active)
    poisoned = share._replace(labels=Labels(share.labels.keys, flipped, known))
    assert torch.equal(frame_wise.sharded_framewise_loss(*poisoned), expected)


def test_equal_captions_have_equal_keys_and_others_do_not():
    cpu = torch.device("cpu")
    keys = caption_keys(["a", "b", "a", "", "犬"], cpu)
    same = (keys[:, None] == keys).all(dim=2)
    assert same.sum() == 5 + 2
    assert same[0, 2]
    assert len(caption_keys([], cpu)) == 0
    assert torch.equal(ranks.together(2, lambda rank: caption_keys(["a"], cpu))[1], keys[:1])


# The clip-wise loss

PAIRS = [4, 2, 0, 3]


def pair_share(rank, loss_of, clips, captions, texts, n_pairs, tile):
    place = slice(sum(n_pairs[:rank]), sum(n_pairs[: rank + 1]))
    inputs = [x[place].clone().requires_grad_() for x in (clips, captions)]
    log_temperature = torch.tensor(1.5, requires_grad=True)
    own = () if texts is None else (texts[place],)
    loss = loss_of(*inputs, log_temperature, *own, tile=tile)
    loss.backward()
    return loss.detach(), [x.grad for x in (*inputs, log_temperature)]


def check_pairs(found, loss, learnt):
    """As `check`, of a loss of clips, captions and a log-temperature."""
    loss.backward()
    assert_close(sum(value for value, _ in found) / len(found), loss.detach(), **EXACT)
    for i in range(2):
        slopes = torch.cat([gradient[i] for _, gradient in found]) / len(found)
        assert_close(slopes, learnt[i].grad, **EXACT)
    temperature = sum(gradient[2] for _, gradient in found) / len(found)
    assert_close(temperature, learnt[2].grad, **EXACT)


@each_number
@each_tile
def test_pairs_are_told_from_those_of_all_processes(n_ranks, tile):
    n_pairs = PAIRS[:n_ranks]
    g = torch.Generator().manual_seed(n_ranks)
    clips, captions = (
        F.normalize(torch.randn(sum(n_pairs), DIM, generator=g), dim=-1) for _ in range(2)
    )
    loss_of = frame_wise.sharded_clip_loss
    found = ranks.together(n_ranks, pair_share, loss_of, clips, captions, None, n_pairs, tile)
    dense = [x.clone().requires_grad_() for x in (clips, captions, torch.tensor(1.5))]
    check_pairs(found, frame_wise.clip_loss(*dense), dense)


@each_number
@each_tile
def test_each_pair_of_all_processes_by_itself(n_ranks, tile):
    n_pairs = PAIRS[:n_ranks]
    n = sum(n_pairs)
    g = torch.Generator().manual_seed(n_ranks)
    clips, captions = (F.normalize(torch.randn(n, DIM, generator=g), dim=-1) for _ in range(2))
    texts = [STRINGS[i % 3] for i in range(n)]  # some pairs have the same caption
    captions = captions[[i % 3 for i in range(n)]]
    loss_of = frame_wise.sharded_clip_sigmoid_loss
    found = ranks.together(n_ranks, pair_share, loss_of, clips, captions, texts, n_pairs, tile)
    learnt = [x.clone().requires_grad_() for x in (clips, captions, torch.tensor(1.5))]
    nats = []
    for i in range(n):
        for j in range(n):
            logit = learnt[2].exp() * (learnt[0][i] @ learnt[1][j]) - math.log(n - 1)
            nats.append(-F.logsigmoid(logit if texts[i] == texts[j] else -logit))
    loss = torch.stack(nats).sum() / n
    assert_close(frame_wise.clip_sigmoid_loss(*learnt, texts), loss)
    check_pairs(found, loss, learnt)


def test_no_pairs_at_all_cost_nothing():
    for loss_of, texts in (
        (frame_wise.sharded_clip_loss, ()),
        (frame_wise.sharded_clip_sigmoid_loss, ([],)),
    ):
        empty = torch.zeros(0, DIM, requires_grad=True)
        loss = loss_of(empty, empty, torch.tensor(0.0, requires_grad=True), *texts)
        loss.backward()
        assert loss == 0


def test_one_pair_alone_is_right_or_wrong_by_its_own_cosine():
    one = torch.eye(DIM)[:1]
    loss = frame_wise.sharded_clip_sigmoid_loss(one, one, torch.tensor(0.0), ["rain"])
    assert_close(loss, -F.logsigmoid(torch.tensor(1.0)))


def test_a_tile_is_all_the_memory_that_a_loss_takes(monkeypatch):
    """No matrix product of the forward pass is larger than a tile."""
    [share] = draw(0, [(20, 30)])
    largest, product = [], torch.addmm

    def noted(*args):
        largest.append(product(*args))
        return largest[-1]

    monkeypatch.setattr(tiled.torch, "addmm", noted)
    one_share(0, [share], 4)
    assert len(largest) == 5 * 8
    assert max(x.numel() for x in largest) == 4 * 4 * N_FRAMES
