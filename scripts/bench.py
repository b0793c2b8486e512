"""How long the parts of a training step take on this machine; needs no data.

Prints the median of a few runs, after one that is not counted, and clips of ten seconds per second.
One thread each (OMP_NUM_THREADS=1) is what two processes on two cores get.
"""

import statistics
import time
from collections.abc import Callable

import torch

from flamlib import losses
from flamlib.yamnet import YAMNet

N_CLIPS, CLIP_S = 16, 10.0
N_CAPTIONS, DIM = 100, 512
N_RUNS = 5


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Median wall-clock seconds of a call, the work it left on a GPU included."""
    times = []
    for _ in range(N_RUNS + 1):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def parts(device: torch.device) -> dict[str, Callable[[], object]]:
    """The parts by name, ready to be called."""
    tower = YAMNet().to(device)
    waveform = 0.1 * torch.randn(N_CLIPS, round(CLIP_S * tower.sample_rate), device=device)
    log_mel = tower.log_mel(waveform)
    n_frames = tower.n_frames(waveform.shape[1])

    unit = torch.nn.functional.normalize
    frame_emb = unit(torch.randn(N_CLIPS, n_frames, DIM, device=device), dim=-1).requires_grad_()
    caption_emb = unit(torch.randn(N_CAPTIONS, DIM, device=device), dim=-1)
    scale = torch.full((N_CAPTIONS,), 10.0, device=device)
    bias = torch.full((N_CAPTIONS,), -8.0, device=device)
    active = torch.rand(N_CLIPS, N_CAPTIONS, n_frames, device=device) < 0.01
    known = torch.ones(N_CLIPS, N_CAPTIONS, dtype=torch.bool, device=device)

    def hear() -> None:
        with torch.inference_mode():
            tower(log_mel)

    def learn() -> None:
        tower(log_mel).square().mean().backward()

    def compare() -> None:
        logits = losses.frame_logits(frame_emb, caption_emb, scale, bias)
        losses.framewise_loss(logits, active, known).backward()

    return {
        "log-mel": lambda: tower.log_mel(waveform),
        "audio tower, forward": hear,
        "audio tower, forward and backward": learn,
        f"frame-wise loss, {N_CAPTIONS} captions": compare,
    }


if __name__ == "__main__":
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{N_CLIPS} clips of {CLIP_S:g} s on {device}, {torch.get_num_threads()} CPU threads")
    for name, run in parts(device).items():
        took = seconds(run, device)
        print(f"{name:36} {1000 * took:8.1f} ms {N_CLIPS / took:9.0f} clips/s")
