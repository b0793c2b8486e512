import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from flamlib import few_rows
from flamlib.few_rows import Linear


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return Linear(24, 40).eval()


def plain(x, layer):
    return F.linear(x.double(), layer.weight.double(), layer.bias.double())


@pytest.mark.parametrize("shape", [(24,), (1, 24), (2, 3, 24), (few_rows.MOST, 24), (500, 24)])
def test_rows_are_those_of_a_linear_layer(layer, shape):
    x = torch.randn(shape)
    with torch.no_grad():
        torch.testing.assert_close(layer(x).double(), plain(x, layer), atol=1e-6, rtol=0)
    assert layer(x[..., :0, :] if len(shape) > 1 else x).shape[-1] == 40  # none, too


def test_many_rows_and_what_learns_are_torchs_own_to_the_last_digit(layer):
    many, few = torch.randn(few_rows.MOST + 1, 24), torch.randn(2, 24)
    with torch.no_grad():
        assert torch.equal(layer(many), F.linear(many, layer.weight, layer.bias))
        assert torch.equal(layer.train()(few), F.linear(few, layer.weight, layer.bias))
    out = layer(few)
    assert torch.equal(out, F.linear(few, layer.weight, layer.bias))
    out.sum().backward()
    assert layer.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_layers_side_by_side_are_each_of_them():
    layers, x = [Linear(24, 40).eval() for _ in range(3)], torch.randn(1, 5, 24)
    for found, layer in zip(few_rows.side_by_side(x, layers), layers, strict=True):
        torch.testing.assert_close(found.double(), plain(x, layer), atol=1e-6, rtol=0)


def change_in_place(layer):
    layer.weight.mul_(2)


def load(layer):
    layer.load_state_dict(Linear(24, 40).state_dict())


def assign(layer):
    layer.load_state_dict(Linear(24, 40).state_dict(), assign=True)


def round_to_half(layer):
    layer.half().float()


def learn(layer):
    with torch.enable_grad():
        layer(torch.randn(3, 24)).sum().backward()
    torch.optim.Adam(layer.parameters(), lr=0.1).step()


def train(layer):
    """As a training does it; a fused optimiser leaves the weights' version as it was."""
    layer.train()
    with torch.enable_grad():
        layer(torch.randn(3, 24)).sum().backward()
    torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True).step()
    layer.eval()


def change_bias(layer):
    layer.bias.add_(1)


@pytest.mark.parametrize(
    "change", [change_in_place, load, assign, round_to_half, learn, train, change_bias]
)
@torch.no_grad()
def test_changed_weights_are_seen(layer, change):
    other, x = Linear(24, 40).eval(), torch.randn(1, 24)
    before = few_rows.side_by_side(x, [layer, other])[0].clone()
    change(layer)
    found, of_other = few_rows.side_by_side(x, [layer, other])
    assert not torch.equal(found, before)
    torch.testing.assert_close(found.double(), plain(x, layer), atol=1e-5, rtol=0)
    torch.testing.assert_close(of_other.double(), plain(x, other), atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_copy_of_a_used_layer_is_a_layer_of_its_own(layer):
    x = torch.randn(1, 24)
    before = layer(x)
    for made in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(made(x), before)
        made.weight.zero_()
        assert torch.equal(made(x)[0], made.bias)
    assert torch.equal(layer(x), before)


def test_weights_made_in_inference_mode_can_be_used(layer):
    with torch.inference_mode():
        made, x = Linear(24, 40), torch.randn(1, 24)
        made(x)
        made.weight.zero_()
        assert torch.equal(made(x)[0], made.bias)


@pytest.mark.parametrize("shape", [(1, 7, 24), (3, 5, 24), (0, 5, 24), (2, 0, 24)])
@pytest.mark.parametrize("n_captions", [1, 2])
def test_cosines_are_inner_products(shape, n_captions):
    frames, captions = torch.randn(shape), torch.randn(n_captions, 24)
    expected = torch.einsum("ild,jd->ijl", frames.double(), captions.double())
    for is_grad in (False, True):
        with torch.set_grad_enabled(is_grad):
            found = few_rows.cosines(frames, captions)
        assert found.shape == (shape[0], n_captions, shape[1])
        torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)
