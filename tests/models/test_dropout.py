import pytest
import torch
import torch.nn.functional as F

from flamlib.models.dropout import Dropout


def drawn(x, p=0.2, seed=0):
    torch.manual_seed(seed)
    return Dropout(p)(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3,), (5, 7), (200, 3, 500)])
def test_what_is_kept_is_scaled_in_value_and_gradient(shape, dtype):
    x = torch.randn(shape).to(dtype).requires_grad_()
    y = drawn(x)
    kept = y != 0
    torch.testing.assert_close(y, torch.where(kept, x / 0.8, 0), rtol=1e-2, atol=0)
    assert y.dtype == dtype
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.where(kept, 1 / 0.8, 0.0).to(dtype), rtol=1e-2, atol=0)


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_as_many_as_asked_for_and_independent(p):
    n = 400_000
    kept = (drawn(torch.ones(n), p) != 0).float()
    spread = (p * (1 - p) / n) ** 0.5
    assert abs(kept.mean() - (1 - p)) < 5 * spread
    for step in (1, 2, 3, 4):  # four numbers share a draw
        together = (kept[:-step] * kept[step:]).mean() - kept.mean() ** 2
        assert abs(together) < 5 * p * (1 - p) / n**0.5
    by_place = kept.view(-1, 4).mean(dim=0)
    assert (by_place - (1 - p)).abs().max() < 10 * spread


def test_a_seed_decides_what_is_kept():
    x = torch.ones(1000)
    assert torch.equal(drawn(x), drawn(x))
    assert not torch.equal(drawn(x), drawn(x, seed=1))


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_nothing_and_everything_are_as_torch_has_them(p):
    x = torch.randn(10)
    assert torch.equal(drawn(x, p), F.dropout(x, p))


def test_without_training_nothing_is_dropped():
    x = torch.randn(10)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert drawn(torch.zeros(0, 4)).shape == (0, 4)
