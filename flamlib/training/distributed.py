"""Processes that share a training run: devices, precision, and agreement between them."""

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
# Values of ONEDNN_MAX_CPU_ISA below the first that multiplies bf16.
WITHOUT_BF16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"}


def accelerator(mixed_precision: str, n_processes: int) -> Accelerator:
    """Return this process's access to its device and to the other processes.

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
    """Resolve "auto" to "bf16" or "no"; return any other name as it is.

    bf16 is chosen where the hardware multiplies it faster than float32, as CUDA devices from Ampere
    on and CPUs with AMX or AVX512-BF16 do. On others, and where ONEDNN_MAX_CPU_ISA keeps oneDNN
    from using these units, autocasting is slower than float32.
    """
    if name != "auto":
        return name
    if torch.cuda.is_available():
        # By its own units: the generations before Ampere have none, and torch emulates them.
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in WITHOUT_BF16:
        return "no"
    can = torch.cpu.get_capabilities()
    return "bf16" if can.get("amx_bf16") or can.get("avx512_bf16") else "no"


def once(accelerator: Accelerator, compute: Callable[[], Any]) -> Any:
    """Call `compute` in the main process alone, and return its result in all processes."""
    told = [compute() if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        broadcast_object_list(told)
    return told[0]


def check_same(accelerator: Accelerator, number: int, what: str) -> None:
    """Raise RuntimeError in all processes, beginning with `what`, unless they have one number."""
    own = torch.tensor([number], device=accelerator.device)
    found = accelerator.gather(own).tolist()
    if len(set(found)) > 1:
        raise RuntimeError(f"{what} ({', '.join(map(str, found))})")


def means(accelerator: Accelerator, terms: Mapping[str, Tensor]) -> dict[str, float]:
    """Average losses over all processes; the result is the same in each."""
    shares = torch.stack([value.detach().float() for value in terms.values()])
    found = accelerator.reduce(shares, reduction="mean").tolist()
    return dict(zip(terms, found, strict=True))
