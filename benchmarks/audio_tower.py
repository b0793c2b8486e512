"""Seconds of audio that are heard per CPU-second: the default audio tower, and its plain modules.

    python benchmarks/audio_tower.py [--quick] [--json]

*The tower* of `params.yaml` with random weights, without gradients, on a long recording (blocks of
128 frames and their context, as `embed_audio` cuts it) and on clips of ten seconds, 32 at a time.
The plain way is the same network as plain modules, one after the other, with a log-mel of windows,
their transform and its absolute value. Both are asked to agree before they are timed.

*A recording*, decoding included: FLAC at 48 kHz, two minutes, through `Recording`; the plain way is
what libsndfile takes to decode it, once.

Ours and the plain way take turns, each in a process of its own that is asked again and again, since
ours keeps freed memory (`flamlib.compute.memory`). Given are medians, and the highest resident
memory of either so far, torch and both towers included. Needs no data. Threads are torch's own;
OMP_NUM_THREADS=1 asks for one, and ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 for a CPU
without AVX-512 (MKL has no such switch on CPUs of AMD, where it uses AVX2 in any case).
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import nn

from flamlib.compute import memory
from flamlib.models import yamnet
from flamlib.waveforms import audio

CLIP_S, N_CLIPS = 10.24, 32
BLOCK = 128 + 2 * 5  # frames
FILE_S, FILE_HZ = 120, 48_000


class PlainLogMel(nn.Module):
    """All windows at once, their transform, its absolute value."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", yamnet.mel_matrix())
        self.register_buffer("window", torch.hann_window(yamnet.WINDOW))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        margin = (yamnet.WINDOW - yamnet.HOP) // 2
        windows = F.pad(waveform, (margin, margin)).unfold(1, yamnet.WINDOW, yamnet.HOP)
        magnitude = torch.fft.rfft(windows * self.window, n=yamnet.N_FFT).abs()
        return torch.log(magnitude @ self.filters + yamnet.LOG_OFFSET)


def towers() -> tuple[nn.Module, nn.Module]:
    """Ours, and the same weights as plain modules."""
    torch.manual_seed(0)
    ours = yamnet.YAMNet(tags=True).eval()
    plain = yamnet.YAMNet(tags=True).eval()
    plain.load_state_dict(ours.state_dict())
    plain.log_mel = PlainLogMel()
    plain.layers = nn.Sequential(*plain.layers)
    return ours, plain


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def serve(side: str, pipe, recording: Path) -> None:
    """Answer each name of a task with CPU seconds and the peak of memory, until told None."""
    if side == "ours":
        memory.keep_freed()
    tower = towers()[side == "plain"]
    block = 0.1 * torch.randn(1, BLOCK * yamnet.HOP * yamnet.HOPS_PER_FRAME)
    clips = 0.1 * torch.randn(N_CLIPS, round(CLIP_S * yamnet.SAMPLE_RATE))

    def decode() -> None:
        if side == "plain":
            soundfile.read(recording, dtype="float32")
            return
        with audio.Recording(recording) as opened:
            opened.read(0, opened.duration_s)

    tasks: dict[str, Callable[[], object]] = {
        "recording": lambda: tower(tower.trunk(block)),
        "clips": lambda: tower(tower.trunk(clips)),
        "decode": decode,
    }
    with torch.inference_mode():
        while (name := pipe.recv()) is not None:
            start = time.process_time()
            tasks[name]()
            pipe.send((time.process_time() - start, peak_mb()))


def measure(n_runs: int) -> dict:
    ours, plain = towers()
    with torch.inference_mode():
        waveform = 0.1 * torch.randn(2, 2 * yamnet.HOP * yamnet.HOPS_PER_FRAME)
        found = [tower(tower.trunk(waveform)) for tower in (ours, plain)]
    difference = float((found[0] - found[1]).abs().max())
    assert difference < 1e-4, f"the two differ by {difference}"

    context = multiprocessing.get_context("spawn")
    audio_s = {"recording": 128 * yamnet.FRAME_S, "clips": N_CLIPS * CLIP_S, "decode": FILE_S}
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "noise.flac"
        noise = 0.1 * np.random.default_rng(0).standard_normal(FILE_S * FILE_HZ)
        soundfile.write(recording, noise, FILE_HZ)
        processes, pipes = [], {}
        for side in ("ours", "plain"):
            pipes[side], theirs = context.Pipe()
            processes.append(context.Process(target=serve, args=(side, theirs, recording)))
            processes[-1].start()
        taken: dict[str, dict[str, list[float]]] = {}
        peaks: dict[str, float] = {}
        for name in audio_s:
            taken[name] = {"ours": [], "plain": []}
            for run in range(n_runs + 1):
                for side, pipe in pipes.items():
                    pipe.send(name)
                    seconds, peaks[f"{side}, {name}"] = pipe.recv()
                    if run:  # the first does not count
                        taken[name][side].append(seconds)
        for pipe in pipes.values():
            pipe.send(None)
        for process in processes:
            process.join()
    speeds = {
        f"{side}, {name}": audio_s[name] / statistics.median(seconds)
        for name, sides in taken.items()
        for side, seconds in sides.items()
    }
    ratios = {name: speeds[f"ours, {name}"] / speeds[f"plain, {name}"] for name in audio_s}
    return {
        "ours": speeds["ours, clips"],
        "peer": speeds["plain, clips"],
        "ratio": ratios["clips"],
        "unit": "s of audio per CPU-s, clips of ten seconds",
        "ratios": ratios,
        "speeds": speeds,
        "peak_mb": peaks,
        "difference": difference,
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    found = measure(3 if arguments.quick else 15)
    if arguments.json:
        print(json.dumps(found))
    else:
        for name in found["speeds"]:
            print(
                f"{name:20} {found['speeds'][name]:8.0f} s/CPU-s {found['peak_mb'][name]:6.0f} MB"
            )
        for name, ratio in found["ratios"].items():
            print(f"ours / plain, {name}: {ratio:.2f}")
