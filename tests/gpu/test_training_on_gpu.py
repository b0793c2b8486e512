"""Training on a GPU: the curves of the CPU, whatever of the ways to compute a step is chosen."""

from functools import partial

import gpu
import pytest
import tiny
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.testing import assert_close

from flamlib.models import dual_encoder
from flamlib.models.flam import FLAM
from flamlib.training import fit as training

pytestmark = gpu.needs_gpu
# The two devices draw other random numbers from the same seed.
CERTAIN = {"network": {"dropout": 0.0}, "caption_noise": 0.0}
MGA = {
    "objective": {"hard": 1.0, "even": 1.0},
    "codebook": {"n_codes": 32, "code_temperature": 1.0},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    tiny.write_corpus(folder)
    tiny.write_text_tower(folder / "weights/tiny_text")
    return folder


@pytest.fixture(autouse=True)
def ear(monkeypatch):
    """The tower of ten lines; and no Accelerator of an earlier test."""
    monkeypatch.setattr(dual_encoder, "audio_tower", lambda **settings: tiny.TinyAudioTower())
    tiny.forget_processes()
    yield
    tiny.forget_processes()


def run(corpus, folder, name="model", **changes):
    inputs = tiny.train_inputs(corpus)
    model = "mga_clap" if "codebook" in changes else "flam"
    folders = {"resume": folder / f"{name}.resume", "curves": folder / f"{name}.curves"}
    tiny.forget_processes()
    training.fit(tiny.config(**changes), model, inputs, folder / name, **folders)
    return folder / name


@pytest.fixture
def fit(corpus, tmp_path):
    return partial(run, corpus, tmp_path)


def on_cpu(fit, **changes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.accelerator, "is_available", lambda: False)
        patch.setattr(torch.cuda, "is_available", lambda: False)
        return curve(fit("on_cpu", **changes))


def curve(model):
    """The losses of all steps."""
    rows = training.read_history(model)
    return torch.tensor(
        [[v for k, v in row.items() if k.endswith(("loss", "nats"))] for row in rows]
    )


@pytest.mark.parametrize("kind", [{}, MGA])
def test_the_curves_of_the_cpu(fit, kind):
    changes = CERTAIN | kind
    expected = on_cpu(fit, **changes)
    assert_close(curve(fit(**changes)), expected, rtol=2e-3, atol=1e-3)
    low = curve(fit("low", **changes, mixed_precision="bf16"))
    assert_close(low, expected, rtol=0.05, atol=0.05)


def test_it_learns_on_the_gpu(fit, monkeypatch):
    devices = set()
    encode = FLAM.encode_audio

    def watched(self, waveform):
        devices.add(waveform.device.type)
        return encode(self, waveform)

    monkeypatch.setattr(FLAM, "encode_audio", watched)
    found = curve(fit(n_steps=40, n_warmup=5))
    assert devices == {gpu.DEVICE.type}
    assert found[-5:, 0].mean() < 0.8 * found[:5, 0].mean()


def test_half_precision_stays_finite(fit):
    assert curve(fit(mixed_precision="fp16", n_steps=12)).isfinite().all()


@pytest.mark.parametrize(
    "way",
    [{"micro_batch": 1}, {"micro_batch": 3}, {"checkpointing": True}, {"n_workers": 2}],
    ids=str,
)
def test_the_ways_to_compute_a_step(fit, way):
    expected = curve(fit("plain", **CERTAIN))
    assert_close(curve(fit(**CERTAIN, **way)), expected, rtol=2e-3, atol=1e-3)


def test_torch_compile(fit):
    torch.compiler.reset()
    expected = curve(fit("plain", **CERTAIN))
    assert_close(curve(fit(**CERTAIN, compile=True)), expected, rtol=5e-3, atol=2e-3)


@pytest.mark.parametrize("way", [{}, {"micro_batch": 2}], ids=str)
def test_as_the_only_process_of_a_launcher(fit, way, monkeypatch):
    """Wrapped for several GPUs, of which there is one."""
    expected = curve(fit("plain", **CERTAIN))
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517", "WORLD_SIZE": "1"}
    for name, value in (where | {"RANK": "0", "LOCAL_RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    wrapped = []
    prepare = training.Accelerator.prepare

    def watched(self, *given):
        found = prepare(self, *given)
        wrapped.append(type(found[0]).__name__)
        return found

    monkeypatch.setattr(training.Accelerator, "prepare", watched)
    try:
        found = curve(fit(**CERTAIN, **way))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    assert wrapped == ["DistributedDataParallel"]
    assert_close(found, expected, rtol=2e-3, atol=1e-3)


def test_it_goes_on_where_it_was_stopped(fit):
    whole = load_file(fit("whole") / "model.safetensors")
    schedule = training.schedule

    def stopping(step, **given):
        if step == 4:
            raise KeyboardInterrupt
        return schedule(step, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "schedule", stopping)
        with pytest.raises(KeyboardInterrupt):
            fit()
    resumed = load_file(fit() / "model.safetensors")
    for name, tensor in whole.items():
        assert_close(resumed[name], tensor, rtol=1e-5, atol=1e-6)


def test_the_best_model_is_kept(fit):
    model = FLAM.from_pretrained(fit(valid_every=2, select="best"))
    assert model.device.type == "cpu"
    model.to(gpu.DEVICE).embed_captions(["a low tone"])
