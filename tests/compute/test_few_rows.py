import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from flamlib.compute import few_rows
from flamlib.compute.few_rows import Kept


@pytest.fixture
def layers():
    torch.manual_seed(0)
    return [nn.Linear(24, 40).eval() for _ in range(3)]


def products(kept, x, layers, *, training=False):
    """Two of the layers side by side, and one alone."""
    return kept.products(x, [layers[:2], layers[2:]], training=training)


def plain(x, layer):
    return F.linear(x.double(), layer.weight.double(), layer.bias.double())


def check(found, x, layers):
    """Products are what the layers make of x."""
    pair, alone = found
    first, second = pair(x).chunk(2, dim=-1)
    for rows, layer in zip((first, second, alone(x)), layers, strict=True):
        torch.testing.assert_close(rows.double(), plain(x, layer), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(24,), (1, 24), (2, 3, 24), (1, few_rows.MOST, 24)])
@torch.no_grad()
def test_products_of_few_rows_are_linear_layers(layers, shape):
    x = torch.randn(shape)
    found = products(Kept(), x, layers)
    check(found, x, layers)
    expected, plus = plain(x, layers[2]), torch.randn(*shape[:-1], 40)
    added = found[1](x, plus=plus).double()
    torch.testing.assert_close(added, expected + plus, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1].gelu(x).double(), F.gelu(expected), atol=1e-5, rtol=0)


def test_many_rows_none_and_what_may_learn_are_left_to_torch(layers):
    x, kept = torch.randn(2, 24), Kept()
    assert products(kept, x, layers) is None  # with gradients
    with torch.no_grad():
        assert products(kept, torch.randn(few_rows.MOST + 1, 24), layers) is None
        assert products(kept, x[:0], layers) is None
        assert products(kept, x.double(), layers) is None
        assert products(kept, x, layers, training=True) is None
        assert products(kept, x, layers) is not None


def change_in_place(layer):
    layer.weight.mul_(2)


def load(layer):
    layer.load_state_dict(nn.Linear(24, 40).state_dict())


def assign(layer):
    layer.load_state_dict(nn.Linear(24, 40).state_dict(), assign=True)


def round_to_half(layer):
    layer.half().float()


def learn(layer):
    with torch.enable_grad():
        layer(torch.randn(3, 24)).sum().backward()
    torch.optim.Adam(layer.parameters(), lr=0.1).step()


def change_bias(layer):
    layer.bias.add_(1)


@pytest.mark.parametrize(
    "change", [change_in_place, load, assign, round_to_half, learn, change_bias]
)
@torch.no_grad()
def test_changed_weights_are_seen(layers, change):
    kept, x = Kept(), torch.randn(1, 24)
    before = products(kept, x, layers)[0](x)
    change(layers[1])
    after = products(kept, x, layers)
    assert not torch.equal(after[0](x), before)
    check(after, x, layers)


@pytest.mark.parametrize("training", [False, True])
def test_weights_are_seen_that_a_fused_optimiser_changed(layers, training):
    """It leaves their version as it was."""
    kept, x = Kept(), torch.randn(1, 24)
    with torch.no_grad():
        products(kept, x, layers)
    assert products(kept, x, layers, training=training) is None
    layers[1](x).sum().backward()
    torch.optim.AdamW(layers[1].parameters(), lr=0.1, fused=True).step()
    with torch.no_grad():
        check(products(kept, x, layers), x, layers)


@torch.no_grad()
def test_weights_that_do_not_change_are_put_in_order_once(layers):
    kept, x = Kept(), torch.randn(1, 24)
    assert products(kept, x, layers) is products(kept, torch.randn(3, 24), layers)


@torch.no_grad()
def test_a_copy_keeps_nothing(layers):
    kept, x = Kept(), torch.randn(1, 24)
    before = products(kept, x, layers)
    for made in (copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))):
        others = copy.deepcopy(layers)
        others[0].weight.zero_()
        check(products(made, x, others), x, others)
    assert products(kept, x, layers) is before


def test_weights_made_in_inference_mode_are_left_to_torch():
    """torch does not say when they change."""
    with torch.inference_mode():
        layers = [nn.Linear(24, 40) for _ in range(3)]
        assert products(Kept(), torch.randn(1, 24), layers) is None


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
