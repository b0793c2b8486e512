import copy
import math
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from towers import learnt

from flamlib.models import class_features, yamnet
from flamlib.models.yamnet import HOP, HOPS_PER_FRAME, LOG_OFFSET, N_FFT, N_MELS, WINDOW, YAMNet

N_FRAMES = 14
FRAME_SAMPLES = HOP * HOPS_PER_FRAME


@pytest.fixture(scope="module")
def tower():
    """Positive weights of equal sums: what reaches a frame cannot cancel, nor explode."""
    torch.manual_seed(0)
    tower = YAMNet().eval()
    with torch.no_grad():
        for layer in tower.layers:
            if isinstance(layer, nn.Conv2d):
                layer.weight.uniform_(0.5, 1).div_(layer.weight.sum(dim=(1, 2, 3), keepdim=True))
                layer.bias.zero_()
    return tower


@pytest.fixture(scope="module")
def local():
    """A tower of which only the local branch says anything."""
    torch.manual_seed(0)
    tower = YAMNet().eval()
    with torch.no_grad():
        tower.layers[-2].weight.zero_()
        tower.layers[-2].bias.zero_()
        tower.local[-1].weight.normal_()
        for layer in tower.layers[:-2]:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
    return tower


def noise(*shape, seed=0):
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradient(tower, frame, n_frames=N_FRAMES):
    """How much each hop matters to a frame, [hop]."""
    log_mel = torch.rand(1, n_frames * HOPS_PER_FRAME, N_MELS).requires_grad_()
    tower(log_mel)[0, frame].sum().backward()
    return log_mel.grad.abs().sum(dim=(0, 2))


@cache
def slow_filters():
    """Triangles of equal width in mel, point by point, [mel][bin]."""

    def mel(hz):
        return 1127 * np.log(1 + hz / 700)

    edges = np.linspace(mel(125), mel(7500), N_MELS + 2)
    filters = np.zeros((N_MELS, N_FFT // 2 + 1))
    for m, (left, centre, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for k in range(1, N_FFT // 2 + 1):
            at = mel(k * 16000 / N_FFT)
            filters[m, k] = max(
                0, min((at - left) / (centre - left), (right - at) / (right - centre))
            )
    return filters


def slow_log_mel(waveform):
    """The definition, hop by hop and filter by filter, in float64."""
    n_hops = math.ceil(len(waveform) / FRAME_SAMPLES) * HOPS_PER_FRAME
    padded = np.zeros(n_hops * HOP + WINDOW)
    padded[(WINDOW - HOP) // 2 :][: len(waveform)] = waveform
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    rows = []
    for t in range(n_hops):
        spectrum = np.abs(np.fft.rfft(padded[t * HOP : t * HOP + WINDOW] * hann, N_FFT))
        row = [sum(spectrum * band) for band in slow_filters()]
        rows.append(np.log(np.array(row) + 0.001))
    return np.array(rows)


def slow_convolution(x, weight, bias, stride):
    """TensorFlow's SAME, element by element: n outputs of stride s need (n - 1) s + k inputs, and
    of the zeros that are missing the end gets the larger half."""
    n_out, n_per_group, size, _ = weight.shape
    shape = [math.ceil(n / stride) for n in x.shape[1:]]
    missing = [max((n - 1) * stride + size - m, 0) for n, m in zip(shape, x.shape[1:], strict=True)]
    padded = np.pad(x, [(0, 0), *((n // 2, n - n // 2) for n in missing)])
    out = np.zeros((n_out, *shape))
    for c in range(n_out):
        group = padded if n_per_group > 1 or len(x) == 1 else padded[c : c + 1]
        for t in range(shape[0]):
            for f in range(shape[1]):
                patch = group[:, t * stride : t * stride + size, f * stride : f * stride + size]
                out[c, t, f] = (patch * weight[c]).sum() + bias[c]
    return out


@pytest.mark.parametrize("n_samples", [1, 1000, FRAME_SAMPLES + 1])
def test_the_log_mel_agrees_with_its_definition(n_samples):
    waveform = noise(1, n_samples)
    found = yamnet.LogMel()(waveform)[0]
    np.testing.assert_allclose(found, slow_log_mel(waveform[0].numpy()), atol=2e-4)


def test_silence_is_the_logarithm_of_the_offset():
    assert (yamnet.LogMel()(torch.zeros(1, 5000)) == math.log(LOG_OFFSET)).all()


def test_hop_t_is_centred_on_its_ten_milliseconds():
    click = torch.zeros(1, FRAME_SAMPLES)
    click[0, 7 * HOP + HOP // 2] = 1
    loudness = yamnet.LogMel()(click)[0].mean(dim=1)
    assert loudness.argmax() == 7
    assert float(loudness[6]) == pytest.approx(float(loudness[8]), rel=1e-3)


def test_low_precision_elsewhere_does_not_reach_the_log_mel():
    log_mel, waveform = yamnet.LogMel(), noise(2, 6000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = log_mel(waveform)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, log_mel(waveform), rtol=0, atol=0)


def test_every_tone_falls_into_the_filter_of_its_pitch():
    matrix = yamnet.mel_matrix()
    assert matrix.shape == (N_FFT // 2 + 1, N_MELS)
    assert (matrix >= 0).all()
    assert (matrix[0] == 0).all()
    top = matrix.argmax(dim=0)
    assert (top.diff() >= 0).all()
    assert 125 <= top[0] * 16000 / N_FFT <= 200
    assert 7000 <= top[-1] * 16000 / N_FFT <= 7500


@given(st.integers(1, 10**6))
def test_frames_cover_the_samples_and_no_more(n_samples):
    n = yamnet.n_frames(n_samples)
    assert (n - 1) * FRAME_SAMPLES < n_samples <= n * FRAME_SAMPLES


@pytest.mark.parametrize("n_samples", [1, 1600, FRAME_SAMPLES, FRAME_SAMPLES + 1, 50_000])
def test_the_tower_makes_as_many_frames_as_it_says(tower, n_samples):
    features = tower(tower.log_mel(noise(2, n_samples)))
    assert features.shape == (2, tower.n_frames(n_samples), tower.width)
    assert features.isfinite().all()


@pytest.mark.parametrize("frame", [1, 2, 6, 12])  # the outermost have less around them
def test_a_change_within_a_frame_changes_that_frame_most(tower, frame):
    log_mel = torch.zeros(1, N_FRAMES * HOPS_PER_FRAME, N_MELS)
    changed = log_mel.clone()
    changed[0, frame * HOPS_PER_FRAME : (frame + 1) * HOPS_PER_FRAME] = 1
    change = (tower(changed) - tower(log_mel))[0].norm(dim=1)
    assert change.argmax() == frame


def test_what_matters_to_a_frame_is_centred_on_it(tower):
    matters = gradient(tower, 6)
    centre = (matters * torch.arange(len(matters))).sum() / matters.sum()
    assert centre == pytest.approx(6 * HOPS_PER_FRAME + 15.5, abs=1)


def test_a_frame_depends_on_its_context_and_on_nothing_beyond(tower):
    matters = gradient(tower, 6).reshape(N_FRAMES, HOPS_PER_FRAME).sum(dim=1).nonzero().flatten()
    assert matters.tolist() == [*range(6 - tower.context_frames, 6 + tower.context_frames + 1)]
    assert (gradient(tower, 6) > 0).sum() == 315


def test_the_last_instant_of_whole_frames_is_heard(tower):
    """The shift by half a frame must not push it out."""
    assert (gradient(tower, -1, n_frames=3)[-10:] > 0).all()


def test_features_of_the_past_do_not_wait_for_the_future(tower):
    """More audio after a frame's context changes nothing: clips of any length are alike."""
    log_mel = torch.rand(1, N_FRAMES * HOPS_PER_FRAME, N_MELS)
    longer = torch.cat([log_mel, torch.rand(1, 3 * HOPS_PER_FRAME, N_MELS)], dim=1)
    n = N_FRAMES - tower.context_frames
    torch.testing.assert_close(tower(longer)[:, :n], tower(log_mel)[:, :n], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "place", [0, 1, 2, 3, 4], ids=["first", "depth", "point", "depth2", "point2"]
)
def test_a_convolution_pads_as_tensorflow_does(place):
    torch.manual_seed(place)
    layers = YAMNet().layers
    convolutions = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    i = convolutions[place]
    first, layer = (0 if place == 0 else i), layers[i]
    x = torch.randn(layer.in_channels, 8, 6)
    stride = layer.stride[0]
    slow = slow_convolution(
        x.numpy(), layer.weight.detach().numpy(), layer.bias.detach().numpy(), stride
    )
    with torch.no_grad():
        found = layers[first : i + 1](x[None])[0]
    np.testing.assert_allclose(found, slow, atol=1e-5)


def unfolded(checkpoint, log_mel):
    """The published network: convolution, batch normalisation, ReLU, 27 times; then the mean over
    time and frequency, and the classifier. Kernels are TensorFlow's."""
    x = log_mel[:, None]
    strides = [2, *(s for stride, _ in yamnet.BLOCKS for s in (stride, 1))]
    for i, stride in enumerate(strides):
        kernel = checkpoint[f"{i}.kernel"]
        depthwise = i % 2 == 1
        weight = kernel.permute((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        if weight.shape[-1] == 3:
            x = F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        x = F.conv2d(x, weight, stride=stride, groups=x.shape[1] if depthwise else 1)
        x = F.batch_norm(
            x, checkpoint[f"{i}.mean"], checkpoint[f"{i}.variance"], None, None, False, 0.0, 1e-4
        )
        x = F.relu(x + checkpoint[f"{i}.beta"][:, None, None])
    return x.mean(dim=(2, 3)) @ checkpoint["classifier.kernel"] + checkpoint["classifier.bias"]


def test_folding_changes_nothing(tmp_path):
    """A patch of 96 hops, as YAMNet is published; ours sees the same hops after its shift."""
    g = torch.Generator().manual_seed(0)
    checkpoint, n_in = {}, 1
    shapes = [(3, 3, 1, 32)]
    for _, n_out in yamnet.BLOCKS:
        n_in = shapes[-1][3]
        shapes += [(3, 3, n_in, 1), (1, 1, n_in, n_out)]
    for i, shape in enumerate(shapes):
        n_out = shape[2] if i % 2 else shape[3]
        fan_in = shape[0] * shape[1] * (1 if i % 2 else shape[2])
        checkpoint[f"{i}.kernel"] = torch.randn(shape, generator=g) * math.sqrt(2 / fan_in)
        checkpoint[f"{i}.mean"] = torch.randn(n_out, generator=g)
        checkpoint[f"{i}.variance"] = 0.5 + torch.rand(n_out, generator=g)
        checkpoint[f"{i}.beta"] = torch.randn(n_out, generator=g)
    checkpoint["classifier.kernel"] = torch.randn(1024, 521, generator=g)
    checkpoint["classifier.bias"] = torch.randn(521, generator=g)

    state = yamnet.fold(checkpoint)
    save_file(state, tmp_path / "model.safetensors")
    tower = YAMNet()
    tower.load_weights(tmp_path / "model.safetensors")
    log_mel = torch.rand(2, 96, N_MELS, generator=g)
    with torch.no_grad():
        frames = tower.layers(log_mel[:, None]).mean(dim=3)
        found = frames.mean(dim=2) @ state["classifier.weight"].T + state["classifier.bias"]
        expected = unfolded(checkpoint, log_mel)
    assert expected.std() > 1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_at_first_the_local_branch_adds_nothing(tower):
    log_mel = tower.log_mel(noise(1, 5 * FRAME_SAMPLES))
    shifted = F.pad(log_mel, (0, 0, 16, 0), value=math.log(LOG_OFFSET))
    with torch.no_grad():
        as_trained = tower.layers(shifted[:, None]).mean(dim=3).transpose(1, 2)
        torch.testing.assert_close(tower(log_mel), as_trained)


def test_the_local_branch_hears_its_frame_and_its_edges(local):
    """Half a second, centred on the frame: 59 hops around its beginning, middle and end."""
    heard = gradient(local, 6).nonzero().flatten()
    begin, end = 6 * HOPS_PER_FRAME, 7 * HOPS_PER_FRAME
    assert begin - 30 <= heard.min() < begin
    assert end < heard.max() + 1 <= end + 30
    assert heard.min() + heard.max() == pytest.approx(begin + end - 1, abs=1)


@pytest.mark.parametrize("frame", [1, 6, 12])
def test_the_local_branch_has_an_own_part_of_every_frame(local, frame):
    log_mel = torch.zeros(1, N_FRAMES * HOPS_PER_FRAME, N_MELS)
    changed = log_mel.clone()
    changed[0, frame * HOPS_PER_FRAME : (frame + 1) * HOPS_PER_FRAME] = torch.rand(32, N_MELS)
    with torch.no_grad():
        change = (local(changed) - local(log_mel))[0].norm(dim=1)
    assert change.argmax() == frame


def test_every_weight_learns():
    tower = YAMNet()
    tower(tower.log_mel(noise(2, 2 * FRAME_SAMPLES))).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tower.parameters())


def test_activations_computed_twice_give_the_same_gradients():
    torch.manual_seed(0)
    tower = YAMNet(dropout=0.5).train()
    nn.init.normal_(tower.local[-1].weight, std=0.1)
    learning = [p for p in tower.parameters() if p.requires_grad]
    heard = tower.trunk(noise(2, 3 * FRAME_SAMPLES))
    expected, n_all = learnt(lambda: tower(heard), learning)
    tower.enable_checkpointing()
    found, n_few = learnt(lambda: tower(heard), learning)
    assert n_few < 0.7 * n_all
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_low_precision_is_close_to_full(tower):
    log_mel = tower.log_mel(noise(1, 3 * FRAME_SAMPLES))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        low = tower(log_mel)
    with torch.no_grad():
        torch.testing.assert_close(low.float(), tower(log_mel), rtol=0.05, atol=0.02)


@pytest.fixture(scope="module")
def tagging():
    torch.manual_seed(0)
    tower = YAMNet(tags=True)
    for layer in tower.layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return tower.eval()


def test_tags_are_the_evidence_of_the_classifier_as_it_was_trained(tagging):
    heard = tagging.trunk(noise(2, N_FRAMES * FRAME_SAMPLES))
    with torch.no_grad():
        found = tagging(heard)
        frames, evidence = found[..., : tagging.width], found[..., tagging.width :]
        # The local branch still adds nothing.
        expected = tagging.classifier(frames).sigmoid() ** class_features.POWER
    torch.testing.assert_close(evidence, expected)


def test_what_learns_does_not_move_the_tags(tagging):
    tower = copy.deepcopy(tagging).train()
    assert {n.split(".")[0] for n, p in tower.named_parameters() if p.requires_grad} == {"local"}
    heard = tagging.trunk(noise(2, N_FRAMES * FRAME_SAMPLES))
    before = tower(heard).detach()
    optimizer = torch.optim.SGD((p for p in tower.parameters() if p.requires_grad), lr=0.1)
    tower(heard).square().mean().backward()
    optimizer.step()
    after = tower(heard).detach()
    assert torch.equal(after[..., tower.width :], before[..., tower.width :])
    assert not torch.equal(after[..., : tower.width], before[..., : tower.width])


def test_a_tower_with_tags_takes_the_classifiers_weights(tagging, tmp_path):
    prefixed = {f"layers.{k}": v.contiguous() for k, v in tagging.layers.state_dict().items()}
    prefixed |= {f"classifier.{k}": v for k, v in tagging.classifier.state_dict().items()}
    save_file(prefixed, tmp_path / "model.safetensors")
    other = YAMNet(tags=True)
    other.load_weights(tmp_path / "model.safetensors")
    heard = tagging.trunk(noise(1, N_FRAMES * FRAME_SAMPLES))
    with torch.no_grad():
        assert torch.equal(other.eval()(heard), tagging(heard))


# Frames of 8 hops


@pytest.fixture(scope="module")
def fine(tagging):
    tower = YAMNet(tags=True, frame_hops=8)
    tower.load_state_dict(tagging.state_dict())
    return tower.eval()


@pytest.mark.parametrize("kind", ["tagging", "fine"])
def test_half_precision_of_the_trunk_hardly_changes_the_features(kind, request):
    tower = request.getfixturevalue(kind)
    with torch.no_grad():
        heard = tower.trunk(noise(2, 5 * FRAME_SAMPLES))
        exact, rounded = tower(heard), tower(heard.half())
    assert rounded.dtype == torch.float32
    assert (rounded - exact).norm() < 1e-3 * exact.norm()


def test_a_trunk_is_known_by_its_settings_and_weights(tagging, fine):
    same, other = copy.deepcopy(tagging), copy.deepcopy(tagging)
    with torch.no_grad():
        same.local[-1].weight.add_(1)  # of the top
        other.layers[-2].weight.add_(1e-3)
    assert same.trunk_id() == tagging.trunk_id() != other.trunk_id()
    assert fine.trunk_id() != tagging.trunk_id()
    assert YAMNet().trunk_id() is None


@pytest.mark.parametrize("i", [0, 1])
def test_short_frames_are_what_long_ones_hear_four_times_as_often(fine, tagging, i):
    """Frame 4 l + i is frame l of a recording with 12 - 8 i hops of silence before it, but for the
    edges, where nothing is heard of what would have been there."""
    waveform = noise(1, N_FRAMES * FRAME_SAMPLES)
    later = F.pad(waveform, ((12 - 8 * i) * HOP, 0))[:, : waveform.shape[1]]
    inner = slice(5, N_FRAMES - 5)
    with torch.no_grad():
        found = fine(fine.trunk(waveform))[:, i::4][:, inner]
        expected = tagging(tagging.trunk(later))[:, inner]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_what_matters_to_a_short_frame_is_centred_on_it_and_within_its_context():
    torch.manual_seed(0)
    tower = YAMNet(frame_hops=8).eval()
    with torch.no_grad():
        for layer in tower.layers:
            if isinstance(layer, nn.Conv2d):
                layer.weight.uniform_(0.5, 1).div_(layer.weight.sum(dim=(1, 2, 3), keepdim=True))
                layer.bias.zero_()
    matters = gradient(tower, 26)
    centre = (matters * torch.arange(len(matters))).sum() / matters.sum()
    assert centre == pytest.approx(26 * 8 + 3.5, abs=1)
    frames = matters.reshape(-1, 8).sum(dim=1).nonzero().flatten()
    assert 26 - tower.context_frames <= frames.min()
    assert frames.max() <= 26 + tower.context_frames


def test_the_local_branch_of_short_frames_is_centred_on_them():
    torch.manual_seed(0)
    tower = YAMNet(frame_hops=8).eval()
    with torch.no_grad():
        tower.layers[-2].weight.zero_()
        tower.layers[-2].bias.zero_()
        tower.local[-1].weight.normal_()
    heard = gradient(tower, 26).nonzero().flatten()
    assert heard.min() + heard.max() == pytest.approx(2 * (26 * 8 + 3.5), abs=2)


@pytest.mark.parametrize("n_samples", [1, 1280, 1281, 160_000])
def test_a_tower_of_short_frames_makes_as_many_as_it_says(fine, n_samples):
    assert fine.frame_s == 0.08
    with torch.no_grad():
        features = fine(fine.trunk(noise(2, n_samples)))
    assert features.shape[:2] == (2, fine.n_frames(n_samples)) == (2, math.ceil(n_samples / 1280))


def test_frames_of_another_length_are_refused():
    with pytest.raises(ValueError, match="frame_hops must be 32 or 8, not 16"):
        YAMNet(frame_hops=16)


def test_a_list_of_classes_that_is_cut_off_is_named(tmp_path):
    (tmp_path / yamnet.CLASSES).write_text("Speech\nDog\n")
    with pytest.raises(ValueError, match=r"classes.txt: 2 names of classes, expected 521"):
        yamnet.read_class_names(tmp_path)


@pytest.mark.parametrize("bins", [1, 2, 4])
def test_the_mean_over_frequency_is_that_of_its_axis(bins):
    x = torch.randn(3, 8, 5, bins).contiguous(memory_format=torch.channels_last).requires_grad_()
    slope = torch.randn(3, 5, 8)
    fast, plain = yamnet._over_time(x), x.mean(dim=3).transpose(1, 2)
    torch.testing.assert_close(fast, plain)
    gradients = [torch.autograd.grad(y, x, slope)[0] for y in (fast, plain)]
    torch.testing.assert_close(*gradients)
    assert gradients[0].is_contiguous(memory_format=torch.channels_last), "or it is copied"


@pytest.mark.parametrize("learns", [True, False])
def test_the_local_branch_is_its_layers_one_by_one(learns):
    torch.manual_seed(0)
    branch = YAMNet(tags=True).local
    with torch.no_grad():
        for parameter in branch.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = 3 + torch.randn(2, 5, branch[0].weight.numel(), requires_grad=learns)
    slope = torch.randn(2, 5, yamnet.WIDTH)
    wanted = [*branch.parameters(), *([x] if learns else [])]
    plain = x
    for layer in branch:
        plain = layer(plain)
    fast = branch(x)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)
    gradients = [torch.autograd.grad(y, wanted, slope) for y in (fast, plain)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
