"""Clips of ten seconds per CPU-second of a step through both audio towers: ours and plain.

    python benchmarks/train_step.py [--quick] [--json] [--float32]

*HTS-AT base and RoBERTa base*, a step on captioned clips. The plain way is `ClapFeatureExtractor`
and `ClapModel` in float32; ours is `FLAM` with the same weights, its log-mel in torch, in the
precision that `mixed_precision: auto` chooses on this machine, or --float32. With a caption tower
that learns, and with one that is frozen: then ours has its features already.

*YAMNet*, a step on its own, once where all of it learns and once as `params.yaml` has it, with tags
and what is frozen. The plain way is the same network as one would first write it: batch
normalisation as layers of their own in training mode, ReLU out of place, float32 in the default
memory layout. The other parts of a step are timed too, to see that they are small.

YAMNet also with activations computed twice (`checkpointing`). Unless --quick, so is HTS-AT, and the
default tower goes through `torch.compile`, which takes a minute or so before the first step.

Ours and the plain way run in processes of their own, since ours keeps freed memory
(`flamlib.compute.memory`); of ours the system's share of the CPU time is given, which is that of
page faults. On a GPU seconds are those of the clock.

Needs no data. Threads are torch's own; OMP_NUM_THREADS=1 asks for one.
"""

import argparse
import copy
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import infer
import torch
import yaml
from torch import nn

from flamlib import paths
from flamlib.compute import memory
from flamlib.losses import frame_wise
from flamlib.models import yamnet
from flamlib.training.distributed import precision

CLIP_S = 10.0
N_CAPTIONS, DIM = 150, 512
PRECISION = "auto"


def seconds(run: Callable[[], object], n_runs: int) -> float:
    """Median seconds of a call, after one that does not count: of CPU time, or with a GPU."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    times = []
    for _ in range(n_runs + 1):
        start = clock()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(clock() - start)
    return statistics.median(times[1:])


def rates_of(
    side: str, runs: dict[str, Callable[[], object]], n_clips: int, n_runs: int
) -> dict[str, float]:
    """Clips per second of those runs that are of one side, "ours" or "plain"."""
    return {
        name: n_clips / seconds(run, n_runs) for name, run in runs.items() if name.startswith(side)
    }


def system_share(before: os.times_result) -> float:
    """The system's share of the CPU time that this process has taken since."""
    system, user = (getattr(os.times(), n) - getattr(before, n) for n in ("system", "user"))
    return system / (system + user)


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


class PlainTagging(nn.Module):
    """The plain network below, which never learns, its classifier, and a branch that does."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = plain()
        self.classifier = nn.Linear(yamnet.WIDTH, yamnet.N_CLASSES)
        for part in (self.layers, self.classifier):
            part.requires_grad_(False)
        self.local = nn.Sequential(
            nn.LayerNorm(yamnet.WIDTH),
            nn.Linear(yamnet.WIDTH, yamnet.LOCAL_WIDTH),
            nn.ReLU(),
            nn.Linear(yamnet.LOCAL_WIDTH, yamnet.WIDTH),
        )

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        frames = self.layers(log_mel).mean(dim=3).mT
        return torch.cat([frames + self.local(frames), self.classifier(frames)], dim=2)


def default_tower() -> nn.Module:
    """The audio tower that `params.yaml` trains, frozen as far as it says. Raises ValueError for
    another than YAMNet with tags: there would be nothing to compare it with."""
    params = yaml.safe_load((paths.root() / "params.yaml").read_text(encoding="utf-8"))
    settings = dict(params["network"]["audio"])
    if settings.pop("tower") != "yamnet" or not settings.get("tags"):
        raise ValueError(f"params.yaml trains {params['network']['audio']}, not YAMNet with tags")
    tower = yamnet.YAMNet(**settings).train()
    convolutions = [m for m in tower.modules() if isinstance(m, nn.Conv2d)]
    for convolution in convolutions[: params["train"]["n_frozen"]]:
        convolution.requires_grad_(False)
    return tower


def autocast(device: torch.device) -> AbstractContextManager:
    low = precision(PRECISION) == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16) if low else nullcontext()


def htsat(side: str, n_clips: int, n_runs: int, *, thorough: bool) -> dict[str, float]:
    """Clips per second of steps on clips with a caption each, through the paper's towers."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ours, theirs, tokenizer, extractor = infer.pair()
    ours, theirs, texts = ours.to(device), theirs.to(device), infer.captions()[:n_clips]
    clips = 0.1 * torch.randn(n_clips, round(CLIP_S * infer.SAMPLE_RATE))

    def plain_loss() -> torch.Tensor:
        arrays = [clip.numpy() for clip in clips]
        features = extractor(arrays, sampling_rate=infer.SAMPLE_RATE, return_tensors="pt")
        tokens = tokenizer(texts, padding=True, return_tensors="pt").to(device)
        mel = features["input_features"].float().to(device)
        return theirs(**tokens, input_features=mel, return_loss=True).loss

    def our_loss(read: Callable[[], object]) -> torch.Tensor:
        with autocast(device):
            step = ours(None, read(), clips.to(device))
            return frame_wise.clip_loss(
                step.pair_audio.clip_emb, step.captions.caption_emb, step.log_temperature
            )

    def tokens() -> dict[str, torch.Tensor]:
        return {name: ids.to(device) for name, ids in ours.caption.tokenize(texts).items()}

    def step(net: nn.Module, loss: Callable[[], torch.Tensor]) -> None:
        net.zero_grad(set_to_none=True)
        loss().backward()

    def forward(loss: Callable[[], torch.Tensor]) -> None:
        with torch.no_grad():
            loss()

    assert abs(our_loss(tokens).item() - plain_loss().item()) < 0.02  # bf16
    runs = {
        "plain, forward": lambda: forward(plain_loss),
        "ours, forward": lambda: forward(lambda: our_loss(tokens)),
        "plain, step": lambda: step(theirs, plain_loss),
        "ours, step": lambda: step(ours, lambda: our_loss(tokens)),
    }
    before = os.times()
    rates = rates_of(side, runs, n_clips, n_runs)
    if side == "ours":
        rates["system's share"] = system_share(before)
    if thorough and side == "ours":
        once = ours.audio, ours.caption
        ours.audio, ours.caption = (copy.deepcopy(tower).train() for tower in once)
        ours.audio.enable_checkpointing()
        ours.caption.enable_checkpointing()
        rates["ours, step, activations twice"] = n_clips / seconds(runs["ours, step"], n_runs)
        ours.audio, ours.caption = once
    theirs.text_model.requires_grad_(False)
    ours.caption.requires_grad_(False)
    features = ours.caption.embed(texts)
    runs = {
        "plain, step, captions frozen": lambda: step(theirs, plain_loss),
        "ours, step, captions frozen": lambda: step(ours, lambda: our_loss(lambda: features)),
    }
    return rates | rates_of(side, runs, n_clips, n_runs)


def yamnet_step(side: str, n_clips: int, n_runs: int, *, thorough: bool) -> dict[str, float]:
    """Clips per second of each part."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tower, peer = yamnet.YAMNet().to(device), plain().to(device)
    default, tagging = default_tower().to(device), PlainTagging().to(device)
    waveform = 0.1 * torch.randn(n_clips, round(CLIP_S * tower.sample_rate), device=device)

    def ours(tower: nn.Module) -> None:
        with autocast(device):
            out = tower(tower.trunk(waveform))
        out.float().square().mean().backward()

    unit = torch.nn.functional.normalize
    frame_emb = unit(torch.randn(n_clips, 32, DIM, device=device), dim=-1).requires_grad_()
    caption_emb = unit(torch.randn(N_CAPTIONS, DIM, device=device), dim=-1)
    scale, bias = torch.full((N_CAPTIONS,), 10.0), torch.full((N_CAPTIONS,), -4.0)
    scale, bias = scale.to(device), bias.to(device)
    active = torch.rand(n_clips, N_CAPTIONS, 32, device=device) < 0.01
    known = torch.ones(n_clips, N_CAPTIONS, dtype=torch.bool, device=device)

    def loss() -> None:
        logits = frame_wise.frame_logits(frame_emb, caption_emb, scale, bias)
        frame_wise.framewise_loss(logits, active, known).backward()

    runs = {
        "plain, step": lambda: (
            peer(tower.log_mel(waveform).unsqueeze(1)).square().mean().backward()
        ),
        "ours, step": lambda: ours(tower),
        "plain, step, as params.yaml": lambda: (
            tagging(tower.log_mel(waveform).unsqueeze(1)).square().mean().backward()
        ),
        "ours, step, as params.yaml": lambda: ours(default),
    }
    before = os.times()
    rates = rates_of(side, runs, n_clips, n_runs)
    if side == "plain":
        return rates
    rates["system's share"] = system_share(before)
    for kind, net in ((", activations twice", tower), (", as params.yaml, twice", default)):
        net.enable_checkpointing()
        rates[f"ours, step{kind}"] = n_clips / seconds(lambda net=net: ours(net), n_runs)
    if thorough:
        fast = default_tower().to(device)
        fast.compile(dynamic=False)
        rates["ours, step, as params.yaml, compiled"] = n_clips / seconds(
            lambda: ours(fast), n_runs
        )
    rates["log-mel"] = n_clips / seconds(lambda: tower.log_mel(waveform), n_runs)
    rates[f"frame-wise loss of {N_CAPTIONS} captions"] = n_clips / seconds(loss, n_runs)
    return rates


def measure(tower: str, side: str, *, quick: bool, mixed: str) -> dict[str, float]:
    """What a process of its own measures."""
    global PRECISION
    PRECISION = mixed
    torch.manual_seed(0)
    if side == "ours":
        memory.keep_freed()
    n_runs = 2 if quick else 7
    if tower == "htsat":
        return htsat(side, 2 if quick else 8, n_runs, thorough=not quick)
    return yamnet_step(side, 16, n_runs, thorough=not quick)


def in_a_process(tower: str, side: str, **how: Any) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, tower, side, **how).result()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--clips", type=int, help="of a step through HTS-AT (default: 8), at most 50"
    )
    parser.add_argument("--float32", action="store_true", help="ours as on a CPU without fast bf16")
    arguments = parser.parse_args()
    how = {"quick": arguments.quick, "mixed": "no" if arguments.float32 else precision("auto")}
    rates = {
        tower: in_a_process(tower, "plain", **how) | in_a_process(tower, "ours", **how)
        for tower in ("htsat", "yamnet")
    }
    shares = {tower: parts.pop("system's share") for tower, parts in rates.items()}
    ratios = {
        f"{tower}{kind.removeprefix('ours')}": rate / parts[kind.replace("ours", "plain")]
        for tower, parts in rates.items()
        for kind, rate in parts.items()
        if kind.startswith("ours") and kind.replace("ours", "plain") in parts
    }
    if arguments.json:
        ours, peer = rates["htsat"]["ours, step"], rates["htsat"]["plain, step"]
        about = {"unit": "clips/CPU-s", "precision": how["mixed"], "ratios": ratios}
        about |= {"system_share": shares}
        about |= {"threads": torch.get_num_threads(), "parts": rates}
        print(json.dumps({"ours": ours, "peer": peer, "ratio": ours / peer, **about}))
    else:
        print(f"{torch.get_num_threads()} threads, mixed precision {how['mixed']}")
        for tower, parts in rates.items():
            for name, rate in parts.items():
                print(f"{tower:7} {name:40} {rate:9.2f} clips/CPU-s")
            print(f"{tower:7} {'system share of CPU time, ours':40} {shares[tower]:9.3f}")
        for name, ratio in ratios.items():
            print(f"ours / plain, {name}: {ratio:.2f}")
