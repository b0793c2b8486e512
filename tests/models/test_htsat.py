import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.testing import assert_close
from towers import learnt
from transformers import ClapAudioConfig, ClapConfig, ClapModel, ClapTextConfig

from flamlib.inference import pieces
from flamlib.models import dual_encoder, htsat
from flamlib.models.htsat import HOPS, HTSAT, N_MELS, SAMPLE_RATE

N_FRAMES = 32
WINDOW_SAMPLES = 10 * SAMPLE_RATE
TINY = {
    "embed": 8,
    "depths": [1, 1, 1, 1],
    "heads": [1, 2, 2, 4],
    "drop_path": 0.0,
    "drop_hidden": 0.0,
    "drop_attention": 0.0,
}


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(0)
    return HTSAT(**TINY).eval()


def noise(*shape, seed=0):
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def features(tower, waveform):
    with torch.no_grad():
        return tower(tower.log_mel(waveform))


def slaney_mel(hz):
    """Linear to 1 kHz, then 27 steps for every factor of 6.4."""
    return np.where(
        hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1) / 1000) / np.log(6.4)
    )


def slow_log_mel(waveform, sample_rate, n_fft, low_hz, high_hz):
    """The definition in float64: reflected ends, Slaney's triangles of unit area, decibels."""
    padded, hop = np.pad(waveform, n_fft // 2, mode="reflect"), sample_rate // 100
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    windows = np.stack([padded[hop * t :][:n_fft] * hann for t in range(len(waveform) // hop + 1)])
    power = np.abs(np.fft.rfft(windows)) ** 2

    hz = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    pitch = np.geomspace(20, 20_000, 10**6)  # to invert it by looking up
    edges = np.interp(
        np.linspace(*slaney_mel(np.array([low_hz, high_hz])), 66), slaney_mel(pitch), pitch
    )
    bands = []
    for left, centre, right in zip(edges, edges[1:], edges[2:], strict=False):
        triangle = np.minimum((hz - left) / (centre - left), (right - hz) / (right - centre))
        bands.append(2 / (right - left) * (power @ triangle.clip(0)))
    return 10 * np.log10(np.maximum(np.stack(bands, axis=1), 1e-10))


@pytest.mark.parametrize(
    ("sample_rate", "n_fft", "high_hz"),
    [(48_000, 1024, 14_000), (32_000, 1024, 14_000), (16_000, 512, 8000)],
)
def test_the_log_mel_agrees_with_its_definition(sample_rate, n_fft, high_hz):
    n_samples = 10 * sample_rate
    waveform = noise(1, n_samples) * torch.linspace(0, 1, n_samples)
    found = htsat.LogMel(sample_rate)(waveform)
    assert found.shape == (1, 1001, 64)
    expected = slow_log_mel(waveform[0].double().numpy(), sample_rate, n_fft, 50, high_hz)
    np.testing.assert_allclose(found[0], expected, atol=1e-3)


def test_filters_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"filters must be .slaney. or .htk., not 'mel'"):
        htsat.LogMel(filters="mel")


def test_silence_is_the_floor():
    assert (htsat.LogMel()(torch.zeros(1, 1000)) == -100).all()


def test_low_precision_elsewhere_does_not_reach_the_log_mel():
    log_mel, waveform = htsat.LogMel(), noise(1, 6000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(log_mel(waveform), log_mel(waveform.float()))
        assert log_mel(waveform).dtype == torch.float32


def test_constants_are_not_among_the_weights():
    assert htsat.LogMel().state_dict() == {}


@given(st.integers(1, 3 * WINDOW_SAMPLES))
def test_frames_cover_the_samples_and_no_more(tower, n_samples):
    n, per_frame = tower.n_frames(n_samples), WINDOW_SAMPLES // N_FRAMES
    assert per_frame == tower.frame_s * tower.sample_rate
    assert (n - 1) * per_frame < n_samples <= n * per_frame


def test_ten_seconds_are_a_window_of_32_frames(tower):
    assert tower.n_frames(WINDOW_SAMPLES) == 32
    assert features(tower, noise(2, WINDOW_SAMPLES)).shape == (2, 32, tower.width)
    assert tower.width == 8 * TINY["embed"]


@pytest.mark.parametrize("seconds", [9.9, 0.1])
def test_short_audio_is_padded_and_not_stretched(tower, seconds):
    waveform = noise(1, round(seconds * SAMPLE_RATE))
    by_hand = torch.zeros(1, WINDOW_SAMPLES)
    by_hand[:, : waveform.shape[1]] = waveform
    assert torch.equal(features(tower, waveform), features(tower, by_hand))


def test_one_sample_is_enough(tower):
    assert features(tower, torch.ones(1, 1)).isfinite().all()


def test_long_audio_is_windows_that_do_not_know_of_each_other(tower):
    waveform = noise(2, WINDOW_SAMPLES + 9000)
    found = features(tower, waveform)
    assert found.shape == (2, 2 * N_FRAMES, tower.width)
    assert_close(found[:, :N_FRAMES], features(tower, waveform[:, :WINDOW_SAMPLES]))
    assert_close(found[:, N_FRAMES:], features(tower, waveform[:, WINDOW_SAMPLES:]))


@pytest.mark.parametrize("n_more", [1, 480, 7499])
def test_a_few_milliseconds_are_no_window(tower, n_more):
    """Recordings of ten seconds are often a little longer."""
    waveform = noise(1, WINDOW_SAMPLES + n_more)
    assert torch.equal(features(tower, waveform), features(tower, waveform[:, :WINDOW_SAMPLES]))
    assert tower.n_frames(waveform.shape[1]) == N_FRAMES + 1


def test_half_a_frame_is_a_window_and_so_is_whatever_there_is_of_a_clip(tower):
    assert features(tower, noise(1, WINDOW_SAMPLES + 7500)).shape[1] == 2 * N_FRAMES
    assert features(tower, noise(1, 1)).shape[1] == N_FRAMES


@pytest.mark.parametrize("n_samples", [1, 100_000, 200_000, 250_000, 480_000, 700_000])
def test_audio_is_repeated_as_often_as_it_fits(n_samples):
    waveform = noise(1, n_samples)
    n_rest = n_samples % WINDOW_SAMPLES
    filled = torch.zeros(1, -(-n_samples // WINDOW_SAMPLES) * WINDOW_SAMPLES)
    filled[:, : n_samples - n_rest] = waveform[:, : n_samples - n_rest]
    for i in range(WINDOW_SAMPLES // n_rest if n_rest else 0):
        at = n_samples - n_rest + i * n_rest
        filled[:, at : at + n_rest] = waveform[:, n_samples - n_rest :]
    assert torch.equal(htsat.LogMel(repeats=True)(waveform), htsat.LogMel()(filled))


def test_another_padding_is_refused():
    with pytest.raises(ValueError, match="padding must be"):
        HTSAT(**TINY, padding="reflected")


@pytest.mark.parametrize("frame", [1, 9, 17, 30])
def test_frames_are_in_the_order_of_time(tower, frame):
    """The image is folded in four; attention reaches everywhere, but nowhere as much as here."""
    hops = torch.full((1, HOPS, N_MELS), -80.0)
    changed = hops.clone()
    changed[:, round(frame * 31.25) : round((frame + 1) * 31.25)] = -20.0
    with torch.no_grad():
        change = (tower(changed) - tower(hops))[0].norm(dim=1)
    assert change.argmax() == frame


def test_a_frame_is_the_mean_of_its_two_frequencies(tower):
    log_mel = tower.log_mel(noise(1, WINDOW_SAMPLES))
    with torch.no_grad():
        cells = tower.encoder(log_mel[:, None]).last_hidden_state[0]
        assert cells.shape == (tower.width, 2, N_FRAMES)
        expected = torch.stack([(cells[:, 0, t] + cells[:, 1, t]) / 2 for t in range(N_FRAMES)])
        assert_close(tower(log_mel)[0], expected)


def test_every_weight_learns():
    """None is left out: data-parallel training waits for all of them."""
    tower = HTSAT(**TINY).train()
    tower(tower.log_mel(noise(2, 50_000))).square().mean().backward()
    unmoved = [name for name, p in tower.named_parameters() if p.grad is None]
    assert unmoved == []
    assert all(p.grad.isfinite().all() for p in tower.parameters())


def test_activations_computed_twice_give_the_same_gradients():
    """With the same blocks left out by stochastic depth, and the same statistics of the batch."""
    torch.manual_seed(0)
    tower = HTSAT(**TINY | {"drop_path": 0.5, "drop_hidden": 0.2}).train()
    names, statistics = tower.state_dict().keys(), tower.encoder.audio_encoder.batch_norm
    log_mel = tower.log_mel(noise(2, 480_000))
    expected, n_all = learnt(lambda: tower(log_mel), tower.parameters())
    statistics.reset_running_stats()
    tower(log_mel)
    once = statistics.running_mean.clone()
    statistics.reset_running_stats()
    tower.enable_checkpointing()
    found, n_few = learnt(lambda: tower(log_mel), tower.parameters())
    assert n_few < 0.5 * n_all
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert torch.equal(statistics.running_mean, once)
    assert tower.state_dict().keys() == names


def test_the_papers_tower_has_as_many_parameters_as_the_papers():
    tower = HTSAT(**TINY | {"embed": 128, "depths": [2, 2, 12, 2], "heads": [4, 8, 16, 32]})
    assert tower.width == 1024
    assert sum(p.numel() for p in tower.parameters()) == pytest.approx(67.82e6, rel=1e-3)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"heads": [1, 2, 4]}, r"of widths \[8, 16, 32, 64\] needs one number of heads"),
        ({"heads": [1, 3, 4, 8]}, "that divides its width"),
        ({"depths": [1, 1], "heads": [1, 1], "patch": 2}, "give 256 frames per window"),
        ({"depths": [1] * 6, "heads": [1] * 6}, "give 8 frames per window"),
        ({"depths": [], "heads": []}, "give 256 frames per window"),
        ({"patch": 8}, "with patch 4 or 2"),
        ({"sample_rate": 44_100}, r"one of \[16000, 32000, 48000\] Hz, not 44100"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong, why):
    with pytest.raises(ValueError, match=why):
        HTSAT(**TINY | wrong)


FINE = TINY | {"depths": [1, 1, 1], "heads": [1, 2, 2], "patch": 2}


def test_the_encoder_of_128_frames_has_as_many_parameters_as_the_papers():
    tower = HTSAT(**FINE | {"embed": 192, "depths": [2, 12, 2], "heads": [8, 16, 32]})
    assert tower.width == 768
    assert sum(p.numel() for p in tower.parameters()) == pytest.approx(37.9e6, rel=2e-3)


@pytest.fixture(scope="module")
def fine():
    torch.manual_seed(1)
    return HTSAT(**FINE).eval()


def test_smaller_patches_and_a_stage_less_give_128_frames(fine):
    found = features(fine, noise(1, WINDOW_SAMPLES + 1875))
    assert found.shape == (1, 256, fine.width)
    assert fine.width == 4 * FINE["embed"]
    assert fine.frame_s == 10 / 128
    assert fine.n_frames(3750) == 1
    assert fine.n_frames(3751) == 2


@pytest.mark.parametrize("frame", [3, 40, 77, 120])
def test_fine_frames_are_in_the_order_of_time(fine, frame):
    hops = torch.full((1, HOPS, N_MELS), -80.0)
    changed = hops.clone()
    changed[:, round(frame * 7.8125) : round((frame + 1) * 7.8125)] = -20.0
    with torch.no_grad():
        change = (fine(changed) - fine(hops))[0].norm(dim=1)
    assert abs(int(change.argmax()) - frame) <= 1


@pytest.mark.parametrize("sample_rate", [16_000, 32_000])
@pytest.mark.parametrize("settings", [TINY, FINE])
def test_other_sample_rates_have_the_same_frames(sample_rate, settings):
    torch.manual_seed(0)
    tower = HTSAT(**settings, sample_rate=sample_rate).eval()
    assert tower.sample_rate == sample_rate
    n_frames = tower.n_frames(7 * sample_rate)
    assert n_frames == int(np.ceil(7 / tower.frame_s))
    found = features(tower, noise(1, 7 * sample_rate))
    assert found.shape[1] == tower.n_frames(10 * sample_rate)


@pytest.mark.parametrize("settings", [TINY, FINE])
def test_blocks_of_long_audio_are_whole_windows(settings):
    assert dual_encoder.BLOCK_FRAMES % HTSAT(**settings).frames_per_window == 0
    assert pieces.READ_FRAMES % HTSAT(**settings).frames_per_window == 0


def test_a_clap_checkpoint_fits(tmp_path, tower):
    audio = ClapAudioConfig(
        patch_embeds_hidden_size=8,
        hidden_size=64,
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 4],
    )
    text = ClapTextConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    clap = ClapModel(ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict())).eval()
    clap.save_pretrained(tmp_path)
    ours = HTSAT(**TINY).eval()
    ours.load_weights(tmp_path / "model.safetensors")
    log_mel = ours.log_mel(noise(1, WINDOW_SAMPLES))
    with torch.no_grad():
        theirs = clap.audio_model(log_mel[:, None]).pooler_output
        assert_close(ours(log_mel).mean(dim=1), theirs)


def test_a_checkpoint_of_another_size_is_refused(tmp_path, tower):
    weights = {f"audio_model.{k}": v for k, v in tower.encoder.state_dict().items()}
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"audio_model.*: \S+ has shape \["):
        HTSAT(**TINY | {"embed": 16}).load_weights(tmp_path / "model.safetensors")


@pytest.mark.parametrize("frozen_stages", range(1, 5))
def test_a_trunk_and_a_top_are_the_whole_tower(tower, frozen_stages):
    """In training mode too: what is frozen has no dropout and no statistics of a batch."""
    split = HTSAT(**TINY | {"drop_path": 0.5}, frozen_stages=frozen_stages)
    split.load_state_dict(tower.state_dict())
    before = split.trunk_id()
    waveform = noise(2, WINDOW_SAMPLES + 9000)
    heard = split.train().trunk(waveform)
    assert torch.equal(heard, split.eval().trunk(waveform))
    assert not heard.requires_grad
    with torch.no_grad():
        assert_close(split(heard), features(tower, waveform))
    assert split.trunk_id() == before
    learning = {name for name, p in split.named_parameters() if p.requires_grad}
    assert all(f"layers.{k}." not in name for name in learning for k in range(frozen_stages))
    assert (learning == set()) == (frozen_stages == 4)


def test_other_weights_and_another_front_end_are_another_trunk(tower):
    split = HTSAT(**TINY, frozen_stages=3)
    assert tower.trunk_id() is None, "a log-mel is not worth storing"
    first = split.trunk_id()
    with torch.no_grad():
        next(split.encoder.audio_encoder.layers[3].parameters()).add_(1)
    assert split.trunk_id() == first, "the top is no part of it"
    with torch.no_grad():
        next(split.encoder.audio_encoder.layers[2].parameters()).add_(1)
    assert split.trunk_id()["sha256"] != first["sha256"]
    repeats = HTSAT(**TINY, frozen_stages=3, padding="repeated").trunk_id()
    assert repeats["padding"] == "repeated"


def test_more_frozen_stages_than_there_are_are_refused():
    with pytest.raises(ValueError, match=r"frozen_stages = 5: HTS-AT has 4 stages"):
        HTSAT(**TINY, frozen_stages=5)
