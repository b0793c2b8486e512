"""Functions that run in several processes, which are the ranks of a gloo group."""

import os
import socket
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


def launched(n_ranks, function, *arguments):
    """Call `function(*arguments)` in each of `n_ranks` forked processes, as a launcher would.

    Raises torch's ProcessExitedException or ProcessRaisedException if one does not end well.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = (n_ranks, port, function, arguments)
    mp.start_processes(_launched, given, n_ranks, start_method="fork")


def _launched(rank, n_ranks, port, function, arguments):
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": n_ranks}
    who = {"RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": n_ranks}
    if n_ranks > 1:
        os.environ.update({name: str(value) for name, value in (where | who).items()})
    function(*arguments)


def _rank(rank, n_ranks, folder, function, arguments):
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=n_ranks)
    try:
        torch.save(function(rank, *arguments), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
