"""What a model hears on a GPU is what it hears on the CPU."""

import gpu
import numpy as np
import pytest
import soundfile
import tiny
import torch
import torch.distributed as dist
import towers
from sounds import RATE, noise, tone
from torch.testing import assert_close

from flamlib.inference import detector, embedding
from flamlib.losses import frame_wise
from flamlib.models.baselines import FLAMGlobal
from flamlib.models.flam import FLAM
from flamlib.models.htsat import HTSAT
from flamlib.models.mga_clap import MGACLAP
from flamlib.sound_events.smoothing import Smoothing
from flamlib.training import init

pytestmark = gpu.needs_gpu
CAPTIONS = ["a dog barks", "the bell rings", "rain falls"]
WIDE = towers.HTSAT | {"embed": 32, "depths": [2, 2, 2, 2]}


@pytest.fixture(autouse=True)
def _float32(monkeypatch):
    """Convolutions in float32: torch's default on a GPU is TF32, of ten bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(params=["yamnet", "htsat", "mga_clap", "flam_global"])
def pair(request, tmp_path):
    """A model on the CPU, and the same on the GPU."""
    folder = towers.write_bert(tmp_path / "reader")
    found = []
    for device in ("cpu", gpu.DEVICE):
        torch.manual_seed(0)
        if request.param == "mga_clap":
            model = MGACLAP(folder, **towers.MGA_CLAP).eval().to(device)
        elif request.param == "htsat":
            model = FLAM(folder, **towers.SETTINGS | {"audio": WIDE}).eval().to(device)
        else:
            model = towers.sensitive_model(folder).to(device)
        found.append(FLAMGlobal(model) if request.param == "flam_global" else model)
    return found


def recording():
    """Twelve seconds of tones and noises, each unlike the next."""
    parts = [tone(300 * (i + 1), 0.7) if i % 2 else noise(0.9, 0.1, seed=i) for i in range(15)]
    return np.concatenate(parts).astype(np.float32)


def test_embeddings_and_scores(pair):
    one, other = (
        [
            *model.embed_audio(recording(), RATE),
            *model.embed_captions(CAPTIONS),
            model.score(recording(), RATE, CAPTIONS),
        ]
        for model in pair
    )
    for x, y in zip(one, other, strict=True):
        assert_close(y.cpu(), x, rtol=1e-4, atol=1e-4)


def test_audio_that_is_on_the_gpu_already(pair):
    waveform = torch.from_numpy(recording())[None].to(gpu.DEVICE)
    found = pair[1].score(waveform, RATE, CAPTIONS)
    assert_close(found.cpu(), pair[0].score(recording(), RATE, CAPTIONS), rtol=1e-4, atol=1e-4)


def test_logits_of_all_that_a_model_returns(pair):
    model = pair[1]
    frames, captions = (
        model.embed_audio(recording(), RATE).frame_emb,
        model.embed_captions(CAPTIONS),
    )
    assert frame_wise.frame_logits(frames, *captions).device.type == gpu.DEVICE.type


def test_a_long_recording_in_pieces(pair):
    found = [
        detector.score(
            model, (recording(), RATE), CAPTIONS, method="unbiased", smoothing=Smoothing(3)
        ).scores
        for model in pair
    ]
    np.testing.assert_allclose(*found, atol=1e-4)


def test_bf16_is_near(pair):
    with torch.autocast(gpu.DEVICE.type, torch.bfloat16):
        low = pair[1].score(recording(), RATE, CAPTIONS)
    assert_close(low.float().cpu(), pair[0].score(recording(), RATE, CAPTIONS), rtol=0, atol=0.05)


def test_a_row_of_an_embedded_collection(pair, tmp_path):
    soundfile.write(tmp_path / "a.flac", recording(), RATE)
    (one, _), (other, _) = (embedding._row(model, tmp_path, "a.flac") for model in pair)
    np.testing.assert_allclose(other["clip_emb"][0], one["clip_emb"][0], atol=1e-4)
    np.testing.assert_allclose(other["frame_emb"][0], one["frame_emb"][0], atol=1e-3)  # halves


@pytest.mark.parametrize("bf16", [False, True])
def test_activations_twice_give_the_same_gradients(bf16):
    torch.manual_seed(0)
    dropping = {"drop_path": 0.2, "drop_hidden": 0.1, "drop_attention": 0.1}
    settings = {k: v for k, v in (WIDE | dropping).items() if k != "tower"}
    tower = HTSAT(**settings).to(gpu.DEVICE).train()
    log_mel = tower.log_mel(0.1 * torch.randn(3, 480_000).to(gpu.DEVICE))

    def run():
        with torch.autocast(gpu.DEVICE.type, torch.bfloat16, enabled=bf16):
            return tower(log_mel).float()

    learning = [p for n, p in tower.named_parameters() if ".norm." not in n]
    learning = [p for p in learning if p.requires_grad]
    expected, n_kept = towers.learnt(run, learning)
    tower.enable_checkpointing()
    found, n_fewer = towers.learnt(run, learning)
    assert n_fewer < n_kept / 2
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm() + 1e-7


def test_normalisation_over_a_group_of_one(tmp_path):
    net = FLAM(
        towers.write_bert(tmp_path / "reader"), **towers.SETTINGS | {"audio": WIDE, "dropout": 0.0}
    )
    net.to(gpu.DEVICE).train()
    waveform = (0.1 * torch.randn(2, 480_000)).to(gpu.DEVICE)
    expected = net.encode_audio(waveform).clip_emb
    address = f"file://{tmp_path}/meet"
    dist.init_process_group("nccl", init_method=address, rank=0, world_size=1)
    try:
        init.adapt(net, gpu.DEVICE, tiny.config(sync_batch_norm=True).train)
        assert any(isinstance(m, torch.nn.SyncBatchNorm) for m in net.modules())
        found = net.encode_audio(waveform).clip_emb
        found.sum().backward()
    finally:
        dist.destroy_process_group()
    assert_close(found, expected, rtol=1e-4, atol=1e-5)
