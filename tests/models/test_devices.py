"""Whatever the device of a model, all is computed there: shown with torch's device without data.

What a GPU computes is compared with the CPU in tests/gpu, where there is one.
"""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
import towers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flamlib.losses import codebook, frame_wise, tiled
from flamlib.losses.sharding import Ring
from flamlib.losses.tiled import Labels
from flamlib.models import baselines
from flamlib.models.flam import FLAM
from flamlib.models.mga_clap import MGACLAP

ELSEWHERE = torch.device("meta")
MODELS = {
    "htsat": (FLAM, towers.SETTINGS | {"audio": towers.HTSAT}),
    "yamnet": (FLAM, towers.SETTINGS),
    "tags": (FLAM, towers.SETTINGS | {"audio": {"tower": "yamnet", "tags": True}}),
    "mga_clap": (MGACLAP, towers.MGA_CLAP),
}


class OneDevice(TorchDispatchMode):
    """Refuse what a GPU would refuse: tensors of two devices in one operation.

    A number may be anywhere, as may an index, and copies are how tensors come to a device.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor) and x.ndim]
        devices = {x.device.type for x in given}
        if len(devices) > 1 and not any(kind in func.name() for kind in ("copy", "index")):
            raise RuntimeError(f"{func} of tensors on {devices}")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def one_device(monkeypatch):
    autocast = torch.autocast
    monkeypatch.setattr(  # autocast does not know the device
        torch,
        "autocast",
        lambda kind, *given, **named: (
            nullcontext() if kind == ELSEWHERE.type else autocast(kind, *given, **named)
        ),
    )
    return OneDevice()


def test_two_devices_are_noticed(one_device):
    with one_device, pytest.raises(RuntimeError, match="of tensors on"):
        torch.ones(3, 3, device=ELSEWHERE) @ torch.ones(3, 3)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_a_model(name, training, tmp_path, one_device):
    kind, settings = MODELS[name]
    model = kind(towers.write_bert(tmp_path), **settings).train(training).to(ELSEWHERE)
    waveform = torch.empty(2, 10 * model.sample_rate, device=ELSEWHERE)
    words = (5,) if kind is MGACLAP else ()
    features = torch.empty(3, *words, model.caption.width, device=ELSEWHERE)
    with one_device:
        out = model(waveform, features, waveform)
        tensors = [x for x in tree_leaves(tuple(out)) if x is not None]
        sum(x.float().sum() for x in tensors).backward()
        scores = model.score_embeddings(out.audio, out.captions)
    learnt = [p.grad for p in model.parameters() if p.grad is not None]
    assert {x.device for x in (*tensors, *learnt, scores)} == {ELSEWHERE}


def test_captions_without_scales(one_device):
    emb = torch.empty(3, 12, device=ELSEWHERE)
    with one_device:
        assert {x.device for x in baselines._unscaled(emb)} == {ELSEWHERE}


LOSSES = {
    "frame": lambda x: tiled.framewise_loss(
        *x["learnt"], x["labels"].keys, x["labels"], ring=Ring(), tile=16
    ),
    "frame, plain": lambda x: frame_wise.framewise_loss(
        frame_wise.frame_logits(*x["learnt"]), x["labels"].active, x["labels"].known
    ),
    "prior": lambda x: frame_wise.prior_loss(x["learnt"][3], x["labels"].active, x["labels"].known),
    "clip": lambda x: frame_wise.sharded_clip_loss(*x["pairs"], tile=16),
    "clip, by sigmoids": lambda x: frame_wise.sharded_clip_sigmoid_loss(
        *x["pairs"], [str(i) for i in range(37)], tile=16
    ),
    "hard": lambda x: codebook.hard_negative_loss(*x["pairs"], hardness=0.15),
    "even": lambda x: codebook.l1_l2_loss(x["pairs"][0]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss(name, one_device):
    def learnt(*shape):
        return torch.empty(shape, device=ELSEWHERE, requires_grad=True)

    labels = Labels(
        torch.empty(83, 2, dtype=torch.int64, device=ELSEWHERE),
        torch.empty(37, 83, 7, dtype=torch.bool, device=ELSEWHERE),
        torch.empty(37, 83, dtype=torch.bool, device=ELSEWHERE),
        aligned=True,
    )
    given = {
        "learnt": (learnt(37, 7, 12), learnt(83, 12), learnt(83), learnt(83)),
        "labels": labels,
        "pairs": (F.normalize(learnt(37, 12), dim=-1), learnt(37, 12), learnt()),
    }
    with one_device:
        loss = LOSSES[name](given)
        loss.backward()
    assert loss.device == ELSEWHERE
