"""Clips of ten seconds per second through YAMNet, forward and backward: ours against the plain way.

    python benchmarks/train_step.py [--quick] [--json]

The plain way is the same network as one would first write it: batch normalisation as layers of
their own in training mode, ReLU out of place, float32 in the default memory layout. Ours is
`flamlib.yamnet` in the precision that `mixed_precision: auto` chooses on this machine, its first
three blocks frozen or not. The other parts of a step are timed too, to see that they are small.
Needs no data. Threads are torch's own; OMP_NUM_THREADS=1 asks for one.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn

from flamlib import losses, yamnet
from flamlib.training import precision

CLIP_S = 10.0
N_CAPTIONS, DIM = 150, 512
N_FROZEN = 7


def seconds(run: Callable[[], object], n_runs: int) -> float:
    """Median wall-clock seconds of a call, after one that does not count."""
    times = []
    for _ in range(n_runs + 1):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def plain() -> nn.Module:
    """MobileNet v1 as in the paper, from log-mel [clip, 1, hop, mel]."""
    layers, n_in = [], 1
    for stride, n_out, kernel in [(2, 32, 3), *((s, n, 0) for s, n in yamnet.BLOCKS)]:
        if kernel:
            convolutions = [nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)]
        else:
            convolutions = [
                nn.Conv2d(n_in, n_in, 3, stride, 1, groups=n_in, bias=False),
                nn.Conv2d(n_in, n_out, 1, bias=False),
            ]
        for convolution in convolutions:
            layers += [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU()]
        n_in = n_out
    return nn.Sequential(*layers)


def measure(n_clips: int, n_runs: int) -> dict[str, float]:
    """Clips per second of each part."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tower, peer = yamnet.YAMNet().to(device), plain().to(device)
    waveform = 0.1 * torch.randn(n_clips, round(CLIP_S * tower.sample_rate), device=device)
    log_mel = tower.log_mel(waveform)
    bf16 = precision("auto") == "bf16"

    def ours() -> None:
        autocast = torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else nullcontext()
        with autocast:
            out = tower(log_mel)
        out.float().square().mean().backward()

    unit = torch.nn.functional.normalize
    frame_emb = unit(torch.randn(n_clips, 32, DIM, device=device), dim=-1).requires_grad_()
    caption_emb = unit(torch.randn(N_CAPTIONS, DIM, device=device), dim=-1)
    scale, bias = torch.full((N_CAPTIONS,), 10.0), torch.full((N_CAPTIONS,), -4.0)
    scale, bias = scale.to(device), bias.to(device)
    active = torch.rand(n_clips, N_CAPTIONS, 32, device=device) < 0.01
    known = torch.ones(n_clips, N_CAPTIONS, dtype=torch.bool, device=device)

    def loss() -> None:
        logits = losses.frame_logits(frame_emb, caption_emb, scale, bias)
        losses.framewise_loss(logits, active, known).backward()

    runs = {
        "plain, forward and backward": lambda: (
            peer(log_mel.unsqueeze(1)).square().mean().backward()
        ),
        "ours, forward and backward": ours,
    }
    rates = {name: n_clips / seconds(run, n_runs) for name, run in runs.items()}
    for convolution in [m for m in tower.modules() if isinstance(m, nn.Conv2d)][:N_FROZEN]:
        convolution.requires_grad_(False)
    rates[f"ours, {N_FROZEN} convolutions frozen"] = n_clips / seconds(ours, n_runs)
    rates["log-mel"] = n_clips / seconds(lambda: tower.log_mel(waveform), n_runs)
    rates[f"frame-wise loss of {N_CAPTIONS} captions"] = n_clips / seconds(loss, n_runs)
    return rates


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rates = measure(n_clips=16, n_runs=3 if arguments.quick else 9)
    ours, peer = rates["ours, forward and backward"], rates["plain, forward and backward"]
    if arguments.json:
        about = {"unit": "clips/s", "precision": precision("auto"), "parts": rates}
        print(json.dumps({"ours": ours, "peer": peer, "ratio": ours / peer, **about}))
    else:
        print(f"{torch.get_num_threads()} threads, mixed precision {precision('auto')}")
        for name, rate in rates.items():
            print(f"{name:40} {rate:9.1f} clips/s")
        print(f"ours / plain: {ours / peer:.2f}")
