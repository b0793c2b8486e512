"""The losses on a GPU are those of the CPU, value and gradients, in float32."""

import gpu
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.testing import assert_close

from flamlib.losses import codebook, frame_wise
from flamlib.losses.tiled import Labels, caption_keys

pytestmark = gpu.needs_gpu
N_CLIPS, N_CAPTIONS, N_FRAMES, DIM = 37, 83, 7, 48
NAMES = ("frame_emb", "caption_emb", "logit_scale", "logit_bias")
TEXTS = [f"caption {i}" for i in range(N_CAPTIONS)]


@pytest.fixture
def group(tmp_path):
    """A group of this process alone, by the library that GPUs talk through."""
    dist.init_process_group("nccl", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def tensors(device, dtype=torch.float32):
    g = torch.Generator().manual_seed(0)
    made = {
        "frame_emb": F.normalize(torch.randn(N_CLIPS, N_FRAMES, DIM, generator=g), dim=-1),
        "caption_emb": F.normalize(torch.randn(N_CAPTIONS, DIM, generator=g), dim=-1),
        "logit_scale": 5 + 10 * torch.rand(N_CAPTIONS, generator=g),
        "logit_bias": -8 * torch.rand(N_CAPTIONS, generator=g),
    }
    active = torch.rand(N_CLIPS, N_CAPTIONS, N_FRAMES, generator=g) < 0.1
    known = torch.rand(N_CLIPS, N_CAPTIONS, generator=g) < 0.8
    learnt = {k: v.to(device, dtype).requires_grad_() for k, v in made.items()}
    return learnt, active.to(device), known.to(device)


def gradients(loss, learnt):
    loss.backward()
    return [
        loss.detach().cpu(),
        *(x.grad.double().cpu() for x in learnt.values() if x.requires_grad),
    ]


def plain():
    """By the formula, in double precision."""
    learnt, active, known = tensors("cpu", torch.float64)
    logits = frame_wise.frame_logits(*learnt.values())
    return gradients(frame_wise.framewise_loss(logits, active, known), learnt)


def sharded(device, dtype=torch.float32, *, aligned=True, tile=None):
    learnt, active, known = tensors(device, dtype)
    labels = Labels(caption_keys(TEXTS, active.device), active, known, aligned=aligned)
    loss = frame_wise.sharded_framewise_loss(*learnt.values(), TEXTS, labels, tile=tile)
    return gradients(loss, learnt)


@pytest.mark.parametrize("tile", [8, None])
@pytest.mark.parametrize("aligned", [True, False])
def test_the_framewise_loss_is_the_formula(tile, aligned):
    found = sharded(gpu.DEVICE, aligned=aligned, tile=tile)
    for one, other in zip(found, plain(), strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-7, check_dtype=False)


def test_the_framewise_loss_in_a_group(group):
    for one, other in zip(sharded(gpu.DEVICE, tile=16), plain(), strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-7, check_dtype=False)


def test_autocast_does_not_reach_the_loss():
    """bf16 is for the towers: what they return, 8 bits of it, is summed in float32."""
    with torch.autocast(gpu.DEVICE.type, torch.bfloat16):
        found = sharded(gpu.DEVICE)
    for one, other in zip(found, plain(), strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-7, check_dtype=False)
    rounded = sharded(gpu.DEVICE, torch.bfloat16)
    assert_close(rounded[0], plain()[0], rtol=5e-3, atol=0, check_dtype=False)
    for one, other in zip(rounded[1:], plain()[1:], strict=True):
        assert (one - other).norm() < 0.02 * other.norm()


@pytest.mark.parametrize("in_a_group", [False, True])
def test_the_other_losses(in_a_group, request):
    if in_a_group:
        request.getfixturevalue("group")

    def run(device):
        learnt, active, known = tensors(device)
        labels = Labels(caption_keys(TEXTS, active.device), active, known, aligned=True)
        clips = learnt["frame_emb"].mean(dim=1)
        captions = learnt["caption_emb"][:N_CLIPS]
        temperature = torch.tensor(2.0, device=device)
        loss = frame_wise.sharded_prior_loss(learnt["logit_bias"], TEXTS, labels)
        loss = loss + frame_wise.sharded_clip_loss(clips, captions, temperature, tile=16)
        loss = loss + codebook.hard_negative_loss(clips, captions, temperature, hardness=0.15)
        loss = loss + codebook.l1_l2_loss(clips)
        learnt.pop("logit_scale")  # in none of them
        return gradients(loss, learnt)

    for one, other in zip(run(gpu.DEVICE), run("cpu"), strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-6)
