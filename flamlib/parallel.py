"""The same work in many processes: of this machine, or of a cluster, by dask.distributed.

    for item, result in cluster.each(work, items, n_jobs=2): ...

On one machine `n_jobs` processes are started and ended again, or threads for work that waits for
others rather than computes. With `scheduler` the address of a
running dask scheduler ("tcp://10.0.0.7:8786") or the path of its scheduler file is used; its
workers need this package and the same paths. On SLURM, with dask-jobqueue installed:

    from dask_jobqueue import SLURMCluster
    cluster = SLURMCluster(cores=1, memory="4GB", walltime="02:00:00")
    cluster.scale(jobs=64)
    shards.write(..., scheduler=cluster.scheduler_address)

A worker that dies gives its items to the others; so an item may be worked on twice, and `work` has
to be such that this does no harm.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

Item, Result = TypeVar("Item"), TypeVar("Result")


def each(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    n_jobs: int,
    scheduler: str | None = None,
    threads: bool = False,
    progress: bool = True,
    what: str = "",
) -> Iterator[tuple[Item, Result]]:
    """`(item, work(item))` as they are done, in any order; for one job in order, in this process.

    The first error of an item is raised, after which nothing is begun that was not yet. Raises
    OSError if there is no scheduler at that address.
    """
    shown = tqdm(total=len(items), desc=what, disable=not progress)
    with ExitStack() as stack:
        stack.enter_context(shown)
        if scheduler is None and n_jobs <= 1:
            pairs = ((item, work(item)) for item in items)
        else:
            pairs = _on_dask(stack, work, items, n_jobs, scheduler, threads)
        for pair in pairs:
            shown.update()
            yield pair


def _on_dask(stack, work, items, n_jobs, scheduler, threads):
    from distributed import Client, LocalCluster, as_completed  # seconds to import

    if scheduler is None:
        n = min(n_jobs, max(len(items), 1))
        n_workers, n_threads = (1, n) if threads else (n, 1)
        local = LocalCluster(
            n_workers=n_workers,
            threads_per_worker=n_threads,
            processes=not threads,
            dashboard_address=None,
        )
        client = Client(stack.enter_context(local))
    elif Path(scheduler).is_file():
        client = Client(scheduler_file=scheduler)
    else:
        client = Client(scheduler, timeout=30)
    stack.enter_context(client)
    # Impure: dask must not take an item of an earlier call for done because it looks alike.
    futures = client.map(work, items, pure=False)
    item_of = dict(zip((future.key for future in futures), items, strict=True))
    stack.callback(client.cancel, futures)
    for future in as_completed(futures):
        yield item_of[future.key], future.result()
        future.release()
