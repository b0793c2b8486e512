"""The processes that share a run: on which devices, how precise, and of one mind."""

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list
from torch import Tensor

# While the main process reads all files once, the others wait; a terabyte takes most of an hour.
PATIENCE = timedelta(hours=2)


def accelerator(mixed_precision: str, n_processes: int) -> Accelerator:
    """This process's access to its device and to the others.

    Raises RuntimeError unless `n_processes` take part: one forgotten launcher, and each would train
    alone.
    """
    # Unless it is told that there is nothing but CPUs, accelerate leaves each process on its own.
    found = Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision=precision(mixed_precision),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )
    if found.num_processes != n_processes:
        raise RuntimeError(
            f"{n_processes} processes are to share the training, but {found.num_processes} "
            "take part: start it with notebook_launcher(fit, num_processes=n_processes)"
        )
    if found.device.type == "cpu" and n_processes > 1:
        # Processes that fight for the cores are slower than one alone.
        share = max(1, (os.cpu_count() or 1) // n_processes)
        torch.set_num_threads(min(torch.get_num_threads(), share))
    return found


def precision(name: str) -> str:
    """`auto`: bf16 where the hardware multiplies it faster than float32, which CUDA devices and
    CPUs with AMX or AVX512-BF16 do; without, autocasting on a CPU is slower than float32."""
    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    can = torch.cpu.get_capabilities()
    return "bf16" if can.get("amx_bf16") or can.get("avx512_bf16") else "no"


def once(accelerator: Accelerator, compute: Callable[[], Any]) -> Any:
    """What `compute` returns in the main process, the only one that calls it, told to all."""
    told = [compute() if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        broadcast_object_list(told)
    return told[0]


def means(accelerator: Accelerator, terms: Mapping[str, Tensor]) -> dict[str, float]:
    """The losses, of which each process has a share: the same numbers everywhere."""
    shares = torch.stack([value.detach().float() for value in terms.values()])
    found = accelerator.reduce(shares, reduction="mean").tolist()
    return dict(zip(terms, found, strict=True))
