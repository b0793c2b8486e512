import pytest
import torch
from torch import nn

from flamlib.models import convolutions
from flamlib.models.convolutions import Chain
from flamlib.models.yamnet import HOPS_PER_FRAME, YAMNet

BINS = 64


@pytest.fixture(scope="module", params=[32, 8], ids=["32 hops", "8 hops"])
def chain(request):
    torch.manual_seed(0)
    layers = YAMNet(frame_hops=request.param).eval().layers
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
                layer.bias.normal_(std=0.1)
    return layers


def plain(chain, x):
    """Module by module."""
    for layer in chain:
        x = layer(x)
    return x


def spectrogram(n_clips, n_hops, seed=0):
    x = torch.randn(n_clips, 1, n_hops, BINS, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("n_hops", [HOPS_PER_FRAME, 2 * HOPS_PER_FRAME + 16, 333])
@pytest.mark.parametrize("n_clips", [1, 3])
@torch.no_grad()
def test_fused_is_module_by_module(chain, n_clips, n_hops):
    x = spectrogram(n_clips, n_hops)
    torch.testing.assert_close(chain(x), plain(chain, x), rtol=1e-4, atol=1e-5)
    assert not torch.equal(chain(x), torch.zeros_like(chain(x)))


@torch.no_grad()
def test_fused_silence(chain):
    x = torch.full((1, 1, 100, BINS), -6.9)
    torch.testing.assert_close(chain(x), plain(chain, x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_clips_in_pieces_are_the_clips_at_once(chain, monkeypatch):
    x = spectrogram(5, 64)
    whole = chain(x)
    monkeypatch.setattr(convolutions, "PIECE", 2 * 32 * 32 * 64)  # two clips, the widest layer's
    pieces = []
    fused = Chain._fused
    monkeypatch.setattr(Chain, "_fused", lambda self, x: pieces.append(len(x)) or fused(self, x))
    torch.testing.assert_close(chain(x), whole, rtol=1e-4, atol=1e-5)
    assert pieces == [2, 2, 1]


@torch.no_grad()
def test_a_slice_ends_where_it_ends(chain):
    x = spectrogram(2, 100)
    for stop in (2, 3, 5, 6):  # after a convolution, after its ReLU
        part = chain[:stop]
        torch.testing.assert_close(part(x), plain(part, x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_input_stays_as_it_is(chain):
    x = spectrogram(1, 64)
    before = x.clone()
    chain(x)
    assert torch.equal(x, before)


@torch.no_grad()
def test_weights_that_move_are_heard(chain):
    x = spectrogram(1, 64)
    before = chain(x)
    chain[1].bias += 1
    try:
        assert not torch.allclose(chain(x), before)
    finally:
        chain[1].bias -= 1


@pytest.mark.parametrize("clips", [0, 1])
@torch.no_grad()
def test_no_clips_are_no_error(chain, clips):
    assert len(chain(spectrogram(clips, 64))) == clips


def test_what_learns_has_gradients(chain):
    x = spectrogram(1, 64)
    chain(x).sum().backward()
    assert all(p.grad is not None for p in chain.parameters())
    chain.zero_grad()


def test_frozen_convolutions_are_fused_beside_those_that_learn(chain, monkeypatch):
    calls = []
    fused = Chain._fused
    monkeypatch.setattr(Chain, "_fused", lambda self, x: calls.append(1) or fused(self, x))
    frozen = chain[:7].requires_grad_(False)
    try:
        shared = frozen(spectrogram(1, 64))
        chain[7:](shared).sum().backward()
    finally:
        chain.requires_grad_(True).zero_grad()
    assert calls == [1] * torch.backends.mkldnn.is_available()


@torch.no_grad()
def test_low_precision_is_left_to_autocast(chain):
    x = spectrogram(1, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = chain(x), plain(chain, x)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)
