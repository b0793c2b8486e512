import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from flamlib.losses import frame_wise

N_CLIPS, N_CAPTIONS, N_FRAMES, DIM = 3, 4, 5, 6

seeds = pytest.mark.parametrize("seed", range(5))
rates = pytest.mark.parametrize("rate", [1e-4, 0.03, 0.5, 0.9])
biases = pytest.mark.parametrize("bias", [-12.0, -8.0, -2.0, 0.0, 3.0])


def draw(seed, n_clips=N_CLIPS, n_captions=N_CAPTIONS, n_frames=N_FRAMES):
    """(logits, active, known) at random, in float64."""
    g = torch.Generator().manual_seed(seed)
    shape = (n_clips, n_captions, n_frames)
    logits = 3 * torch.randn(shape, generator=g, dtype=torch.float64)
    active = torch.rand(shape, generator=g) < 0.3
    known = torch.rand(shape[:2], generator=g) < 0.7
    return logits, active, known


def unit(*shape, seed=0):
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def gradient(loss, x):
    x = x.detach().clone().requires_grad_()
    loss(x).backward()
    return x.grad


def differences(loss, x, step=1e-3):
    """The gradient by its definition, one coordinate at a time."""
    x = x.detach().double()
    slopes = torch.zeros_like(x)
    for place in np.ndindex(*x.shape):
        above, below = x.clone(), x.clone()
        above[place] += step
        below[place] -= step
        slopes[place] = (loss(above) - loss(below)) / (2 * step)
    return slopes


# The definitions, one pair and one frame at a time, in Python's floats


def sigmoid(x):
    return 1 / (1 + math.exp(-float(x)))


def slow_logits(frame_emb, caption_emb, scale, bias):
    out = torch.zeros(len(frame_emb), len(caption_emb), frame_emb.shape[1])
    for i, j, frame in np.ndindex(*out.shape):
        cosine = sum(float(a * b) for a, b in zip(frame_emb[i, frame], caption_emb[j], strict=True))
        out[i, j, frame] = float(scale[j]) * cosine + float(bias[j])
    return out


def slow_framewise_loss(logits, active, known):
    nats = []
    for i, j, frame in np.ndindex(*logits.shape):
        if known[i, j]:
            z = 1 if active[i, j, frame] else -1
            nats.append(-math.log(sigmoid(z * logits[i, j, frame])))
    return sum(nats) / len(nats)


def slow_prior_loss(bias, active, known):
    nats = []
    for j in range(len(bias)):
        frames = [float(a) for i in range(len(active)) if known[i, j] for a in active[i, j]]
        if frames:
            rate = sum(frames) / len(frames)
            p = sigmoid(bias[j])
            nats.append(-rate * math.log(p) - (1 - rate) * math.log(1 - p))
    return sum(nats) / len(nats)


def slow_clip_loss(clip_emb, caption_emb, log_temperature):
    logits = [[math.exp(log_temperature) * float(a @ t) for t in caption_emb] for a in clip_emb]
    nats = 0.0
    for i in range(len(logits)):
        row, column = logits[i], [other[i] for other in logits]
        nats -= math.log(math.exp(row[i]) / sum(map(math.exp, row))) / 2
        nats -= math.log(math.exp(row[i]) / sum(map(math.exp, column))) / 2
    return nats / len(logits)


def slow_score(logit, bias):
    p, prior = sigmoid(logit), sigmoid(bias)
    return p / (p + prior)


# frame_logits


@seeds
def test_logits_agree_with_their_definition(seed):
    frame_emb, caption_emb = unit(2, 3, DIM, seed=seed), unit(N_CAPTIONS, DIM, seed=seed + 100)
    scale, bias = torch.rand(N_CAPTIONS) * 10, -8 * torch.rand(N_CAPTIONS)
    found = frame_wise.frame_logits(frame_emb, caption_emb, scale, bias)
    assert_close(found, slow_logits(frame_emb, caption_emb, scale, bias))


def test_a_frame_that_is_its_caption_has_the_scale_above_the_prior():
    emb = unit(3, DIM)
    scale, bias = torch.tensor([1.0, 10.0, 5.0]), torch.tensor([-8.0, 0.0, 2.0])
    logits = frame_wise.frame_logits(emb[None], emb, scale, bias)[0]
    assert_close(logits.diagonal(), scale + bias)


# framewise_loss


@seeds
def test_the_framewise_loss_agrees_with_its_definition(seed):
    logits, active, known = draw(seed)
    found = frame_wise.framewise_loss(logits, active, known)
    assert found.item() == pytest.approx(slow_framewise_loss(logits, active, known), rel=1e-5)


@seeds
def test_its_gradient_agrees_with_the_definition(seed):
    logits, active, known = draw(seed)
    found = gradient(lambda x: frame_wise.framewise_loss(x, active, known), logits)
    slow = differences(lambda x: slow_framewise_loss(x, active, known), logits)
    assert_close(found, slow, atol=1e-5, rtol=1e-3)


@seeds
def test_a_model_that_knows_nothing_pays_log_two(seed):
    logits, active, known = draw(seed)
    loss = frame_wise.framewise_loss(torch.zeros_like(logits), active, known)
    assert loss.item() == pytest.approx(math.log(2))


@seeds
@pytest.mark.parametrize("garbage", [-1e30, 1e4, 0.0])
def test_an_unknown_pair_changes_nothing(seed, garbage):
    logits, active, known = draw(seed)
    poisoned = torch.where(known[:, :, None], logits, garbage)
    flipped = torch.where(known[:, :, None], active, ~active)
    assert torch.equal(
        frame_wise.framewise_loss(poisoned, flipped, known),
        frame_wise.framewise_loss(logits, active, known),
    )
    moved = gradient(lambda x: frame_wise.framewise_loss(x, flipped, known), poisoned)
    assert not moved[~known].any()
    expected = gradient(lambda x: frame_wise.framewise_loss(x, active, known), logits)
    assert torch.equal(moved[known], expected[known])


def test_known_pairs_weigh_the_same_however_many_are_unknown():
    logits, active, known = draw(0)
    known[:] = False
    known[1, 2] = True
    loss = frame_wise.framewise_loss(logits, active, known)
    alone = frame_wise.framewise_loss(logits[1:2, 2:3], active[1:2, 2:3], known[1:2, 2:3])
    assert_close(loss, alone)


def test_without_a_known_pair_there_is_nothing_to_learn():
    logits, active, known = draw(0)
    known[:] = False
    assert frame_wise.framewise_loss(logits, active, known) == 0
    assert frame_wise.prior_loss(logits[0, :, 0], active, known) == 0
    assert not gradient(lambda x: frame_wise.framewise_loss(x, active, known), logits).any()


def test_no_captions_at_all_cost_nothing():
    logits, active, known = draw(0, n_captions=0)
    assert frame_wise.framewise_loss(logits, active, known) == 0
    assert frame_wise.prior_loss(torch.zeros(0), active, known) == 0


@pytest.mark.parametrize("sizes", [(1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1)])
def test_one_is_not_a_special_case(sizes):
    logits, active, known = draw(3, *sizes)
    known[:] = True
    assert frame_wise.framewise_loss(logits, active, known).item() == pytest.approx(
        slow_framewise_loss(logits, active, known), rel=1e-5
    )
    bias = logits[0, :, 0]
    assert frame_wise.prior_loss(bias, active, known).item() == pytest.approx(
        slow_prior_loss(bias, active, known), rel=1e-5
    )


def test_certainty_never_overflows():
    _, active, known = draw(0)
    sure = 1e5 * torch.where(active, 1.0, -1.0)
    assert frame_wise.framewise_loss(sure, active, known) == 0
    assert frame_wise.framewise_loss(-sure, active, known) == pytest.approx(1e5)


@seeds
def test_logits_in_low_precision_are_summed_in_full(seed):
    """The mean of many small terms: bf16 itself would keep three digits of it."""
    logits, active, known = draw(seed, n_clips=16, n_captions=40, n_frames=32)
    low = logits.bfloat16()
    found = frame_wise.framewise_loss(low, active, known)
    assert found.dtype == torch.float32
    assert_close(found, frame_wise.framewise_loss(low.float(), active, known), rtol=0, atol=0)
    assert (
        gradient(lambda x: frame_wise.framewise_loss(x, active, known), low).dtype == torch.bfloat16
    )


def test_clips_can_be_shared_by_processes_when_all_pairs_are_known():
    """The mean of equal shares is the mean of the whole."""
    logits, active, known = draw(0, n_clips=4)
    known[:] = True
    halves = [frame_wise.framewise_loss(logits[i::2], active[i::2], known[i::2]) for i in range(2)]
    assert_close(sum(halves) / 2, frame_wise.framewise_loss(logits, active, known))


# prior_loss


@seeds
def test_the_prior_loss_agrees_with_its_definition(seed):
    logits, active, known = draw(seed)
    bias = logits[0, :, 0]
    found = frame_wise.prior_loss(bias, active, known)
    assert found.item() == pytest.approx(slow_prior_loss(bias, active, known), rel=1e-5)
    slow = differences(lambda x: slow_prior_loss(x, active, known), bias)
    assert_close(
        gradient(lambda x: frame_wise.prior_loss(x, active, known), bias),
        slow,
        atol=1e-5,
        rtol=1e-3,
    )


@rates
def test_the_prior_is_fitted_at_the_log_odds(rate):
    n_frames = 10_000
    active = torch.zeros(1, 1, n_frames, dtype=torch.bool)
    active[:, :, : round(rate * n_frames)] = True
    known = torch.ones(1, 1, dtype=torch.bool)

    def slope(bias):
        return gradient(
            lambda x: frame_wise.prior_loss(x, active, known), torch.tensor([bias])
        ).item()

    best = math.log(rate / (1 - rate))
    assert slope(best) == pytest.approx(0, abs=1e-6)
    assert slope(best - 0.5) < 0 < slope(best + 0.5)


def test_training_finds_the_frequencies():
    active = torch.zeros(2, 3, 100, dtype=torch.bool)
    for j, n in enumerate((4, 40, 150)):
        active[:, j] = (torch.arange(200) < n).reshape(2, 100)
    bias = torch.full((3,), -8.0, requires_grad=True)
    optimizer = torch.optim.Adam([bias], lr=0.1)
    for _ in range(500):
        optimizer.zero_grad()
        frame_wise.prior_loss(bias, active, torch.ones(2, 3, dtype=torch.bool)).backward()
        optimizer.step()
    assert bias.sigmoid().tolist() == pytest.approx([0.02, 0.2, 0.75], rel=0.01)


@seeds
def test_an_unknown_pair_does_not_count_in_the_prior(seed):
    logits, active, known = draw(seed)
    flipped = torch.where(known[:, :, None], active, ~active)
    bias = logits[0, :, 0]
    assert torch.equal(
        frame_wise.prior_loss(bias, flipped, known), frame_wise.prior_loss(bias, active, known)
    )


def test_a_caption_of_which_nothing_is_known_is_left_alone():
    logits, active, known = draw(0)
    known[:, 2] = False
    moved = gradient(lambda x: frame_wise.prior_loss(x, active, known), logits[0, :, 0])
    assert moved[2] == 0


# clip_loss


@seeds
@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_clip_loss_agrees_with_its_definition(seed, n):
    clip_emb, caption_emb = unit(n, DIM, seed=seed), unit(n, DIM, seed=seed + 100)
    log_temperature = torch.tensor(math.log(1 / 0.07))
    found = frame_wise.clip_loss(clip_emb, caption_emb, log_temperature)
    slow = slow_clip_loss(clip_emb, caption_emb, float(log_temperature))
    assert found.item() == pytest.approx(slow, rel=1e-4, abs=1e-6)
    slopes = differences(
        lambda x: slow_clip_loss(x, caption_emb.double(), float(log_temperature)), clip_emb
    )
    assert_close(
        gradient(
            lambda x: frame_wise.clip_loss(x, caption_emb, log_temperature), clip_emb
        ).double(),
        slopes,
        atol=1e-4,
        rtol=1e-3,
    )


def test_the_temperature_learns():
    log_temperature = torch.tensor(1.0)
    clip_emb, caption_emb = unit(4, DIM), unit(4, DIM, seed=1)
    found = gradient(lambda x: frame_wise.clip_loss(clip_emb, caption_emb, x), log_temperature)
    slow = differences(lambda x: slow_clip_loss(clip_emb, caption_emb, float(x)), log_temperature)
    assert found.item() == pytest.approx(slow.item(), rel=1e-3)


def test_one_pair_alone_has_nothing_to_be_told_from():
    emb = unit(1, DIM)
    assert frame_wise.clip_loss(emb, -emb, torch.tensor(2.0)) == 0


def test_captions_that_say_nothing_cost_the_logarithm_of_their_number():
    same = unit(1, DIM).expand(7, DIM)
    assert frame_wise.clip_loss(same, same, torch.tensor(3.0)).item() == pytest.approx(math.log(7))


@seeds
def test_clips_and_captions_are_treated_alike(seed):
    a, b, t = unit(4, DIM, seed=seed), unit(4, DIM, seed=seed + 9), torch.tensor(1.0)
    assert_close(frame_wise.clip_loss(a, b, t), frame_wise.clip_loss(b, a, t))


# unbiased_score


@given(st.floats(-30, 30), st.floats(-30, 30))
def test_the_score_agrees_with_its_definition(logit, bias):
    found = frame_wise.unbiased_score(torch.tensor([[[logit]]]), torch.tensor([bias]))
    assert found.item() == pytest.approx(slow_score(logit, bias), rel=1e-4, abs=1e-7)


@biases
def test_no_evidence_scores_one_half(bias):
    logit = torch.full((1, 1, 1), bias)
    assert frame_wise.unbiased_score(logit, torch.tensor([bias])).item() == 0.5


@biases
def test_evidence_for_scores_above_one_half_and_against_below(bias):
    evidence = torch.tensor([-3.0, -1e-3, 1e-3, 3.0])
    score = frame_wise.unbiased_score(bias + evidence[None, None], torch.tensor([bias]))[0, 0]
    assert ((score > 0.5) == (evidence > 0)).all()
    assert (score.diff() > 0).all()


@pytest.mark.parametrize(
    ("bias", "distance"), [(-2.0, 0.106), (-4.0, 0.0176), (-8.0, 3.3e-4), (-12.0, 6.1e-6)]
)
def test_a_rare_caption_scores_the_sigmoid_of_its_evidence(bias, distance):
    """And how far from it a less rare one can be, over all cosines at a scale of ten."""
    evidence = 10 * torch.linspace(-1, 1, 2001, dtype=torch.float64)
    score = frame_wise.unbiased_score(
        bias + evidence[None, None], torch.tensor([bias], dtype=torch.float64)
    )
    apart = (score - evidence.sigmoid()).abs().max().item()
    assert apart == pytest.approx(distance, rel=0.05)


@biases
def test_the_score_has_the_upper_bound_that_its_prior_leaves(bias):
    score = frame_wise.unbiased_score(torch.full((1, 1, 1), 1e4), torch.tensor([bias]))
    assert score.item() == pytest.approx(1 / (1 + sigmoid(bias)))


def test_the_score_never_overflows():
    logits = torch.tensor([-1e4, 0.0, 1e4]).expand(3, 1, 3).transpose(0, 1).contiguous()
    score = frame_wise.unbiased_score(logits, torch.tensor([-1e4, 0.0, 1e4]))
    assert score.isfinite().all()
    assert ((score >= 0) & (score <= 1)).all()


@given(st.integers(0, 2**32 - 1))
def test_with_the_prior_in_the_bias_the_evidence_is_the_mutual_information(seed):
    """FLAM's section 2.6: the frame-wise loss is least where each logit is

        ln p(caption | frame) / p(caption) + log-odds of the negatives' model

    that is, where frames are x, captions y, and active ones have rate p(z | x, y), the log-odds of
    that rate; less the caption's own prior, what is left does not depend on how common it is.
    """
    g = torch.Generator().manual_seed(seed)
    rate = torch.rand(3, 4, generator=g, dtype=torch.float64) * 0.9 + 0.05  # [frame kind, caption]
    n = 1000  # active frames of n, for each kind and caption, in as exact a share as can be
    active = (torch.arange(n)[:, None, None] + 0.5) / n < rate  # [clip, kind, caption]
    share = active.double().mean(dim=0)
    odds = torch.log(share / (1 - share))
    prior = active.double().mean(dim=(0, 1))
    bias = torch.log(prior / (1 - prior))
    evidence = (odds - bias).requires_grad_()
    logits = (evidence + bias).T.expand(n, 4, 3)
    known = torch.ones(n, 4, dtype=torch.bool)
    frame_wise.framewise_loss(logits, active.transpose(1, 2), known).backward()
    torch.testing.assert_close(evidence.grad, torch.zeros_like(evidence), atol=1e-7, rtol=0)
    # The loss is convex in the logits: there is no other minimum.


def test_the_order_of_frames_depends_on_neither_scale_nor_prior():
    """So neither do areas under curves of one caption."""
    cosine = torch.rand(1, 1, 50, generator=torch.Generator().manual_seed(0)) * 2 - 1
    order = cosine.argsort(dim=2)
    for scale, bias in ((1.0, -8.0), (10.0, -2.0), (3.0, 0.0)):
        score = frame_wise.unbiased_score(scale * cosine + bias, torch.tensor([bias]))
        assert torch.equal(score.argsort(dim=2), order)
