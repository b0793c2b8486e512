"""Workers of dask: processes of this machine, or those of a scheduler that is running somewhere.

A cluster of this machine is given up when it has had no worker for five minutes, or for dask's own
`distributed.scheduler.no-workers-timeout`.
"""

import asyncio
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from flamlib.compute import interrupts

CONNECT_S = 5  # how long to look for a scheduler
NO_WORKERS = "300s"  # how long to wait for a worker of this machine to come back
END_S = 0.5  # how long a process has to end by itself, where what it is at work on is given up


@contextmanager
def on_this_machine(n_workers: int) -> Iterator[Any]:
    """Yield a client of `n_workers` new processes, which end with the block."""
    from distributed import Client  # takes seconds to import

    with ExitStack() as stack:
        with interrupts.signals_deferred():  # a cluster that is half made cannot be closed
            cluster = stack.enter_context(_local_cluster(n_workers))
            client = stack.enter_context(Client(cluster))
            stack.push(partial(_end, client, cluster))
        yield client


def connect(scheduler: str) -> Any:
    """Return a client of the scheduler at an address, or of which that is the file.

    Raises:
        FileNotFoundError: neither a file nor an address.
        ConnectionError: no scheduler of dask is there.
        ValueError: a file of something else.
    """
    from distributed import Client

    address = scheduler
    if Path(scheduler).is_file():  # read here: dask waits for ever for one that is damaged
        try:
            address = json.loads(Path(scheduler).read_text(encoding="utf-8"))["address"]
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f"{scheduler}: not the file of a dask scheduler (`dask scheduler --scheduler-file`)"
            ) from None
    elif ":" not in scheduler:
        raise FileNotFoundError(
            f"{scheduler!r}: no such scheduler file, and no address such as tcp://host:8786"
        )
    # Asked by ourselves first: a client of dask waits for ever for a server that is none of dask's.
    with ThreadPoolExecutor(1) as other_thread:  # here a notebook's event loop may be running
        try:
            about = other_thread.submit(asyncio.run, _identify(address)).result()
        except Exception as error:  # whatever dask makes of the words of another kind of server
            reason = str(error).strip().splitlines() or ["no answer"]
            raise ConnectionError(
                f"{address}: no dask scheduler is there ({reason[0][:200]})"
            ) from None
    if not about["workers"]:
        warnings.warn(f"{address}: no workers yet; waiting for them", stacklevel=2)
    return Client(address)


async def _identify(address: str) -> Mapping[str, Any]:
    from distributed import rpc
    from distributed.security import Security

    arguments = Security().get_connection_args("client")
    async with rpc(address, timeout=CONNECT_S, connection_args=arguments) as server:
        about = await asyncio.wait_for(server.identity(), CONNECT_S)
    if about["type"] != "Scheduler":
        raise ValueError(f"but a {about['type']}")
    return about


@contextmanager
def _local_cluster(n_workers: int) -> Iterator[Any]:
    import dask
    from distributed import LocalCluster

    patience = dask.config.get("distributed.scheduler.no-workers-timeout") or NO_WORKERS
    settings = {
        "distributed.scheduler.no-workers-timeout": patience,  # dask's default: wait for ever
        "distributed.deploy.lost-worker-timeout": patience,  # after it a worker is never replaced
        "distributed.scheduler.worker-saturation": 1.0,  # so that the item is named that does it
    }
    how = {
        "n_workers": n_workers,
        "threads_per_worker": 1,
        "dashboard_address": None,
        "silence_logs": logging.CRITICAL,  # what has to be known of them is an error of `each`
    }
    with dask.config.set(settings):
        # As is the thread that it makes, in which it makes the processes.
        with interrupts.interrupts_blocked(), warnings.catch_warnings():
            # Two may run at a time: that the usual port of a page is taken, which is not shown.
            warnings.filterwarnings("ignore", "Port .* is already in use", module="distributed")
            cluster = LocalCluster(**how)
        with cluster:
            yield cluster


def _end(client: Any, cluster: Any, error: type[BaseException] | None, *_: object) -> None:
    """End a cluster and its processes soon after an error; dask would wait for their work."""

    async def end_workers() -> None:
        ends = [worker.close(timeout=END_S) for worker in cluster.workers.values()]
        await asyncio.gather(*ends, return_exceptions=True)

    if error is not None:
        with interrupts.signals_deferred():  # who is in a hurry must not leave processes behind
            cluster.sync(end_workers)
            client.close()
            cluster.close()
