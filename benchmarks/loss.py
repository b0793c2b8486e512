"""The frame-wise loss of large batches, value and gradients: ours, plain, and with a gather.

    python benchmarks/loss.py [--quick] [--gpu] [--json]

*Ours* is `sharded_framewise_loss` of `flamlib.losses.frame_wise`. *Plain* is `framewise_loss` of
all logits at once, differentiated by autograd, in one process. *Gather* is what is commonly done in
several: every process collects all captions and then does as the plain one. Embeddings are random,
five captions to a clip, 32 frames, 512 dimensions, float32.

Peak memory is that of a process beyond its inputs, gradients of the inputs included. First, one
process and a growing batch; then, one batch shared by several processes; then, so many clips for
each of a growing number of processes, where the memory of ours should not grow. Each process has
one thread unless OMP_NUM_THREADS says otherwise. With --gpu ours and the plain way on this
machine's GPU instead. Needs no data.
"""

import argparse
import ctypes
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from flamlib.losses import frame_wise
from flamlib.losses.tiled import Labels, caption_keys

N_FRAMES, DIM, CAPTIONS_PER_CLIP = 32, 512, 5
TARGET = 512  # clips: the batch of the paper
M_MMAP_THRESHOLD = -3  # of glibc's mallopt
PLAIN_TENSORS = 7  # of the size of all logits, that the plain way holds at its worst moment


class Gather(torch.autograd.Function):
    """All processes' rows; their gradient is the sum over the processes."""

    @staticmethod
    def forward(ctx, x):
        ctx.place = dist.get_rank() * len(x), len(x)
        rows = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(rows, x)
        return torch.cat(rows)

    @staticmethod
    def backward(ctx, d_rows):
        d_rows = d_rows.contiguous()
        dist.all_reduce(d_rows)
        return d_rows.narrow(0, *ctx.place)


def inputs(rank: int, n_clips: int) -> dict:
    """One process's clips and captions; a caption sounds in its own clip, in a third of it."""
    g = torch.Generator().manual_seed(rank)
    n_captions = CAPTIONS_PER_CLIP * n_clips
    active = torch.zeros(n_clips, n_captions, N_FRAMES, dtype=torch.bool)
    for j in range(n_captions):
        active[j // CAPTIONS_PER_CLIP, j, 8:18] = True
    return {
        "frame_emb": F.normalize(torch.randn(n_clips, N_FRAMES, DIM, generator=g), dim=-1),
        "caption_emb": F.normalize(torch.randn(n_captions, DIM, generator=g), dim=-1),
        "logit_scale": torch.full((n_captions,), 10.0),
        "logit_bias": torch.full((n_captions,), -8.0),
        "active": active,
        "captions": [f"caption {rank} {j}" for j in range(n_captions)],
    }


def ours(given: dict) -> torch.Tensor:
    given = dict(given)
    keys = caption_keys(given["captions"], given["frame_emb"].device)
    labels = Labels(keys, given.pop("active"), aligned=True)
    return frame_wise.sharded_framewise_loss(**given, labels=labels)


def plain(given: dict) -> torch.Tensor:
    names = ("frame_emb", "caption_emb", "logit_scale", "logit_bias")
    logits = frame_wise.frame_logits(*(given[name] for name in names))
    known = torch.ones(given["active"].shape[:2], dtype=torch.bool, device=logits.device)
    return frame_wise.framewise_loss(logits, given["active"], known)


def gather(given: dict) -> torch.Tensor:
    names = ("caption_emb", "logit_scale", "logit_bias")
    everyone = {name: Gather.apply(given[name]) for name in names}
    n_own, place = len(given["captions"]), dist.get_rank()
    n_clips = len(given["frame_emb"])
    active = torch.zeros(n_clips, len(everyone["caption_emb"]), N_FRAMES, dtype=torch.bool)
    active[:, place * n_own : (place + 1) * n_own] = given["active"]
    known = torch.ones(active.shape[:2], dtype=torch.bool)
    logits = frame_wise.frame_logits(given["frame_emb"], *everyone.values())
    return frame_wise.framewise_loss(logits, active, known)


WAYS = {"ours": ours, "plain": plain, "gather": gather}


def resident(name: str) -> int:
    """Bytes of this process in memory now (VmRSS) or at most since the last reset (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def process(rank: int, n_ranks: int, way: str, n_clips: int, n_runs: int, folder: str) -> None:
    """Measure one process's share of the batch and write seconds and peak bytes to `folder`."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if n_ranks > 1:
        where = f"file://{folder}/rendezvous"
        dist.init_process_group("gloo", init_method=where, rank=rank, world_size=n_ranks)
    learnt = ("frame_emb", "caption_emb", "logit_scale", "logit_bias")
    few = inputs(rank, 8)  # what libraries set up at their first call is no part of the loss
    WAYS[way](few | {name: few[name].requires_grad_() for name in learnt}).backward()
    given = inputs(rank, n_clips // n_ranks)
    times, peak = [], 0
    for run in range(n_runs + 1):
        # The first run is for the memory: there, what is freed is given back at once, so that the
        # peak is of what is needed and not of how the allocator cut it up; and what was free before
        # is given back now, or it would hide what is taken. Pages that small pieces still hold back
        # remain: 1 to 2 MB where there are several processes, with what is held the same.
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 2**15 if run == 0 else 2**25)
        libc.malloc_trim(0)
        for name in learnt:
            given[name] = given[name].detach().requires_grad_()
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now what there is
        start = time.perf_counter()
        WAYS[way](given).backward()
        seconds = time.perf_counter() - start
        if run == 0:
            peak = resident("VmHWM") - before
        if run or not n_runs:
            times.append(seconds)
    found = {"seconds": statistics.median(times), "bytes": peak}
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    if n_ranks > 1:
        dist.destroy_process_group()


def measure(way: str, n_clips: int, n_ranks: int = 1, n_runs: int = 3) -> dict[str, float]:
    """Seconds of the slowest process, and the largest peak of one in MB."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = (n_ranks, way, n_clips, n_runs, folder)
        mp.start_processes(process, arguments, n_ranks, start_method="fork")
        found = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    return {
        "way": way,
        "clips": n_clips,
        "processes": n_ranks,
        "seconds": max(f["seconds"] for f in found),
        "peak_mb": max(f["bytes"] for f in found) / 2**20,
    }


def measure_on_gpu(way: str, n_clips: int, n_runs: int) -> dict[str, float]:
    """Median seconds, and the peak beyond the inputs in MB; infinite where the memory ends."""
    row = {"way": way, "clips": n_clips, "processes": 1}
    given = {k: v.cuda() if torch.is_tensor(v) else v for k, v in inputs(0, n_clips).items()}
    times = []
    try:
        for _ in range(n_runs + 1):
            for name in ("frame_emb", "caption_emb", "logit_scale", "logit_bias"):
                given[name] = given[name].detach().requires_grad_()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
            start = time.perf_counter()
            WAYS[way](given).backward()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    except torch.cuda.OutOfMemoryError:
        return row | {"seconds": float("inf"), "peak_mb": float("inf")}
    peak = torch.cuda.max_memory_allocated() - before
    return row | {"seconds": statistics.median(times[1:]), "peak_mb": peak / 2**20}


def fits(n_clips: int) -> bool:
    """Whether the plain way has the memory it takes."""
    logits = 4 * n_clips * n_clips * CAPTIONS_PER_CLIP * N_FRAMES
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return PLAIN_TENSORS * logits < free


def say(row: dict[str, float]) -> None:
    print(
        f"{row['way']:7} {row['clips']:5} clips {row['processes']} processes "
        f"{row['seconds']:8.3f} s {row['peak_mb']:8.0f} MB a process",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer sizes and runs")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--gpu", action="store_true", help="on this machine's GPU")
    arguments = parser.parse_args()
    if arguments.gpu:
        sizes = (128, 512) if arguments.quick else (128, 512, 1024, 2048, 4096)
        rows = [measure_on_gpu(way, n, n_runs=5) for n in sizes for way in ("plain", "ours")]
        print(json.dumps({"unit": "s, MB", "rows": rows})) if arguments.json else [*map(say, rows)]
        raise SystemExit
    n_runs = 1 if arguments.quick else 3
    told = (lambda row: None) if arguments.json else say

    def run(*given: object, n_runs: int = n_runs) -> dict[str, float]:
        row = measure(*given, n_runs=n_runs)
        told(row)
        return row

    sizes = [64, TARGET] if arguments.quick else [64, 256, TARGET, 1024, 2048, 4096]
    growing = [
        run(way, n_clips) for n_clips in sizes for way in ("ours", "plain")
        if way == "ours" or fits(n_clips)
    ]  # fmt: skip
    shared_size = 128 if arguments.quick else TARGET
    shared = [run(way, shared_size, n) for n in (2, 4) for way in ("ours", "gather")]
    flat = [run("ours", TARGET * n, n, n_runs=0) for n in (1, 2, 4)]

    at = {row["way"]: row for row in growing if row["clips"] == TARGET}
    result = {
        "unit": f"MB at its peak, {TARGET} clips x {TARGET * CAPTIONS_PER_CLIP} captions",
        "ours": at["ours"]["peak_mb"],
        "peer": at["plain"]["peak_mb"],
        "ratio": at["ours"]["peak_mb"] / at["plain"]["peak_mb"],
        "time_ratio": at["ours"]["seconds"] / at["plain"]["seconds"],
        "growth_with_processes": flat[-1]["peak_mb"] / flat[0]["peak_mb"],
        "rows": growing + shared + flat,
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        print(f"ours / plain at {TARGET} clips: memory {result['ratio']:.3f}, "
              f"time {result['time_ratio']:.2f}")  # fmt: skip
        print(f"memory of a process, 4 processes / 1: {result['growth_with_processes']:.3f}")
