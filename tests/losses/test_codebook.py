import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize
from torch.testing import assert_close

from flamlib.losses import frame_wise
from flamlib.losses.codebook import aggregate, hard_negative_loss, l1_l2_loss, sparsemax


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradients(value, *inputs):
    return torch.autograd.grad(value, inputs)


def slow_sparsemax(row):
    """The definition: of every possible set of codes, the one whose projection is the nearest."""
    best, nearest = math.inf, None
    n = len(row)
    for chosen in range(1, 2**n):
        keep = torch.tensor([bool(chosen >> k & 1) for k in range(n)])
        tau = (row[keep].sum() - 1) / keep.sum()
        point = torch.where(keep, row - tau, torch.zeros_like(row))
        distance = float((point - row).detach().square().sum())
        if (point >= 0).all() and distance < best:
            best, nearest = distance, point
    return nearest


rows = st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=6)


@given(rows)
def test_sparsemax_is_the_nearest_point_of_the_simplex(row):
    row = torch.tensor(row, dtype=torch.float32)
    assert_close(sparsemax(row[None])[0], slow_sparsemax(row), atol=1e-5, rtol=0)


def test_sparsemax_of_a_few_rows_that_can_be_seen():
    assert_close(sparsemax(torch.tensor([[0.0, 0.0]])), torch.tensor([[0.5, 0.5]]))
    assert_close(sparsemax(torch.tensor([[2.0, 0.0]])), torch.tensor([[1.0, 0.0]]))
    assert_close(sparsemax(torch.tensor([[1.0, 0.5, 0.0]])), torch.tensor([[0.75, 0.25, 0.0]]))


@given(st.integers(0, 100), st.sampled_from([1e-4, 1.0, 1e4]), st.floats(-1e3, 1e3))
def test_shares_sum_to_one_keep_the_order_and_ignore_a_shift(seed, spread, shift):
    logits = spread * normal(3, 50, seed=seed)
    share = sparsemax(logits)
    assert_close(share.sum(dim=1), torch.ones(3), atol=1e-4, rtol=0)
    assert (share >= 0).all()
    order = logits.argsort(dim=1)
    assert (share.gather(1, order).diff(dim=1) >= 0).all()
    shifted = sparsemax((logits.double() + shift).float())
    assert_close(shifted, share, atol=1e-3, rtol=0)


def test_the_gradient_of_sparsemax_is_its_jacobian():
    """On the codes that are not zero: the identity minus their mean."""
    logits = normal(1, 12).requires_grad_()
    share = sparsemax(logits)
    positive = (share[0] > 0).float()
    assert 1 < positive.sum() < 12
    weight = normal(12, seed=1)
    [found] = gradients((share[0] * weight).sum(), logits)
    mean = (weight * positive).sum() / positive.sum()
    assert_close(found[0], positive * (weight - mean))


@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
def test_sparsemax_of_many_codes_is_that_of_sorted_ones(temperature):
    logits = normal(8, 4096) / temperature
    largest = logits.double().sort(dim=1, descending=True).values
    tau = (largest.cumsum(dim=1) - 1) / torch.arange(1, 4097)
    n_positive = (largest > tau).sum(dim=1, keepdim=True)
    expected = (logits.double() - tau.gather(1, n_positive - 1)).clamp(min=0)
    assert_close(sparsemax(logits).double(), expected, atol=1e-5, rtol=1e-3)


def test_what_is_no_number_stays_none():
    assert sparsemax(torch.tensor([[0.0, math.nan], [1.0, 0.0]])).isnan().all(dim=1).tolist() == [
        True,
        False,
    ]


def slow_aggregate(steps, known, codes, temperature):
    """One item and one code at a time, with the slow sparsemax."""
    vectors = []
    for item, there in zip(steps, known, strict=True):
        affinity = [
            max(
                (step @ code) / (math.sqrt(len(code)) * temperature)
                for step, is_there in zip(item, there, strict=True)
                if is_there
            )
            for code in codes
        ]
        share = slow_sparsemax(torch.stack(affinity))
        vectors.append(sum(p * code for p, code in zip(share, codes, strict=True)))
    return torch.stack(vectors)


def test_a_clip_is_the_mixture_of_codewords_that_its_best_frames_ask_for():
    steps, codes = normal(3, 4, 5).requires_grad_(), normal(6, 5, seed=1).requires_grad_()
    known = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 0, 0]], dtype=torch.bool)
    found = aggregate(steps, known, codes, temperature=0.7)
    expected = slow_aggregate(steps, known, codes, 0.7)
    assert_close(found, expected, atol=1e-5, rtol=1e-5)
    weight = normal(3, 5, seed=2)
    for one, other in zip(
        gradients((found * weight).sum(), steps, codes),
        gradients((expected * weight).sum(), steps, codes),
        strict=True,
    ):
        assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_padding_has_no_part_in_it():
    steps, codes = normal(2, 3, 8), normal(20, 8, seed=1)
    known = torch.ones(2, 3, dtype=torch.bool)
    padded = torch.cat([100 * normal(2, 2, 8, seed=2), steps], dim=1)
    there = torch.cat([torch.zeros(2, 2, dtype=torch.bool), known], dim=1)
    assert_close(
        aggregate(padded, there, codes, temperature=1.0),
        aggregate(steps, known, codes, temperature=1.0),
    )


def test_the_order_of_frames_is_no_matter_and_neither_is_a_frame_twice():
    steps, codes = normal(1, 4, 8), normal(20, 8, seed=1)
    mixed = steps[:, [2, 0, 3, 1, 1, 2]]
    vectors = [
        aggregate(x, torch.ones(x.shape[:2], dtype=torch.bool), codes, temperature=1.0)
        for x in (steps, mixed)
    ]
    assert_close(*vectors)


def test_with_a_floor_no_code_is_held_against_a_caption():
    """Far below zero every code is at the floor, and so all have the same share."""
    codes = normal(6, 4).abs()
    steps, known = -codes[None, :2] * 100, torch.ones(1, 2, dtype=torch.bool)
    found = aggregate(steps, known, codes, temperature=1.0, floor=0.0)
    assert_close(found[0], codes.mean(dim=0))
    assert not torch.allclose(found, aggregate(steps, known, codes, temperature=1.0))


def test_low_precision_elsewhere_does_not_reach_the_shares():
    steps, codes = normal(2, 3, 16), normal(64, 16, seed=1)
    known = torch.ones(2, 3, dtype=torch.bool)
    expected = aggregate(steps, known, codes, temperature=1000.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(aggregate(steps, known, codes, temperature=1000.0), expected)


def test_under_autocast_its_gradient_is_as_good_as_that_of_the_towers():
    steps, codes = normal(4, 3, 16).requires_grad_(), normal(64, 16, seed=1).requires_grad_()
    known, weight = torch.rand(4, 3) < 0.8, normal(4, 16, seed=2)
    known[:, 0] = True

    def slopes():
        return gradients((aggregate(steps, known, codes, temperature=1.0) * weight).sum(), *both)

    both = steps, codes
    exact = slopes()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = slopes()
    for one, other in zip(rough, exact, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.01 * other.norm()


def slow_hard_negatives(clip_emb, caption_emb, log_temperature, hardness):
    """The definition, pair by pair."""
    n, total = len(clip_emb), 0.0
    scale = log_temperature.exp()
    for some, others in ((clip_emb, caption_emb), (caption_emb, clip_emb)):
        for i in range(n):
            s = [scale * (some[i] @ others[j]) for j in range(n)]
            inside = s[i].exp()
            for j in range(n):
                if j != i:
                    rest = sum((hardness * s[k]).exp() for k in range(n) if k != j)
                    inside = inside + (n - 1) * (hardness * s[j]).exp() / rest * s[j].exp()
            total = total - s[i] + inside.log()
    return total / (2 * n)


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("hardness", [0.0, 0.15, 1.0])
def test_the_loss_is_its_definition_in_value_and_gradient(n, hardness):
    clip_emb = normalize(normal(n, 6, dtype=torch.float64), dim=1).requires_grad_()
    caption_emb = normalize(normal(n, 6, seed=1, dtype=torch.float64), dim=1).requires_grad_()
    log_temperature = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    inputs = (clip_emb, caption_emb, log_temperature)
    found = hard_negative_loss(*inputs, hardness=hardness)
    expected = slow_hard_negatives(*inputs, hardness)
    assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    for one, other in zip(gradients(found, *inputs), gradients(expected, *inputs), strict=True):
        assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_without_hardness_it_is_infonce():
    clip_emb, caption_emb = normalize(normal(7, 6), dim=1), normalize(normal(7, 6, seed=1), dim=1)
    log_temperature = torch.tensor(2.0)
    assert_close(
        hard_negative_loss(clip_emb, caption_emb, log_temperature, hardness=0.0),
        frame_wise.clip_loss(clip_emb, caption_emb, log_temperature),
    )


def test_the_harder_a_negative_the_more_it_counts():
    """Gradient on a near negative against one on a far negative, with and without hardness."""
    clip_emb = torch.eye(3)
    caption_emb = torch.tensor([[1.0, 0, 0], [0.9, 0, 0], [0.1, 0, 0]]).requires_grad_()
    log_temperature = torch.tensor(1.0)
    ratios = []
    for hardness in (0.0, 0.5):
        loss = hard_negative_loss(clip_emb, caption_emb, log_temperature, hardness=hardness)
        [g] = gradients(loss, caption_emb)
        ratios.append(float(g[1, 0] / g[2, 0]))
    assert ratios[1] > ratios[0] > 1


def test_a_caption_that_outweighs_all_others_breaks_nothing():
    """At a temperature that makes a difference of sums zero in single precision."""
    clip_emb = torch.eye(4).requires_grad_()
    log_temperature = torch.tensor(6.0)
    loss = hard_negative_loss(clip_emb, torch.eye(4), log_temperature, hardness=0.5)
    [g] = gradients(loss, clip_emb)
    assert loss.isfinite()
    assert g.isfinite().all()


def test_a_lone_pair_has_nothing_to_be_told_from():
    clip_emb = normal(1, 5).requires_grad_()
    loss = hard_negative_loss(clip_emb, normal(1, 5), torch.tensor(2.0), hardness=0.15)
    assert loss.item() == 0
    assert gradients(loss, clip_emb)[0].abs().sum() == 0


def test_evenness_is_what_it_says():
    emb = normal(3, 4)
    expected = sum(abs(float(x)) for x in emb.flatten()) / 12
    assert float(l1_l2_loss(emb)) == pytest.approx(expected / float(emb.square().sum().sqrt()))
    few, all_alike = torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 4), 0.5)
    assert l1_l2_loss(few) < l1_l2_loss(all_alike)


def test_without_any_pair_there_is_nothing_to_learn():
    none = torch.zeros(0, 4, requires_grad=True)
    loss = hard_negative_loss(none, none, torch.tensor(1.0), hardness=0.2)
    assert loss == 0
    assert l1_l2_loss(none) == 0
    (loss + l1_l2_loss(none)).backward()
