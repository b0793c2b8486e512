"""Functions that run in several processes, which are the ranks of a gloo group."""

import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def together(n_ranks, function, *arguments):
    """What `function(rank, *arguments)` returns in each of `n_ranks` forked processes."""
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(
            _rank, (n_ranks, folder, function, arguments), n_ranks, start_method="fork"
        )
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(n_ranks)]


def _rank(rank, n_ranks, folder, function, arguments):
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=n_ranks)
    try:
        torch.save(function(rank, *arguments), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
