"""Run the same function on many items: in threads, in processes, or on a cluster.

    for item, result in parallel.each(work, items, n_jobs=2): ...      as they are finished
    for result in parallel.in_order(work, items, n_jobs=2): ...        in the order of the items

`each` gives the items of a worker that died to the others, and can use a cluster: with `scheduler`
the address of a running dask scheduler ("tcp://10.0.0.7:8786") or the path of its scheduler file,
whose workers need this package and the same paths. On SLURM, with dask-jobqueue installed:

    from dask_jobqueue import SLURMCluster
    cluster = SLURMCluster(cores=1, memory="4GB", walltime="02:00:00")
    cluster.scale(jobs=64)
    shards.write(..., scheduler=cluster.scheduler_address)

An item may be worked on twice, after its first worker died; `work` has to be such that this does no
harm. `in_order` works a few items ahead of its reader, so that results need not fit into memory.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

Item, Result = TypeVar("Item"), TypeVar("Result")
AHEAD = 2  # results that wait for the reader of `in_order`, per job


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
    """Yield `(item, work(item))` as they are finished, in any order.

    Args:
        work: function of one item; pickled unless it runs in threads.
        items: what to work on.
        n_jobs: processes, or threads; 1: in order, in this process.
        scheduler: address or file of a dask scheduler, whose workers are used instead.
        threads: threads of this process, for work that waits for others rather than computes.
        progress: show a progress bar, of one step an item.
        what: title of the progress bar.

    Raises:
        Exception: the first error of an item; items that were not begun are given up.
        OSError: there is no scheduler at that address.
    """
    with ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=len(items), desc=what, disable=not progress))
        if scheduler is not None or (n_jobs > 1 and not threads):
            pairs = _on_dask(stack, work, items, n_jobs, scheduler)
        elif n_jobs > 1:
            pairs = _in_threads(stack, work, items, n_jobs)
        else:
            pairs = ((item, work(item)) for item in items)
        for pair in pairs:
            bar.update()
            yield pair


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, n_jobs: int, threads: bool = False
) -> Iterator[Result]:
    """Yield `work(item)` of every item, in the order of the items.

    Args:
        work: function of one item; pickled once for each process.
        items: what to work on; may be endless.
        n_jobs: processes, or threads; 1: in this process.
        threads: threads of this process instead of processes.

    Raises:
        Exception: the error of an item, in its turn; items that were not begun are given up.
    """
    if n_jobs <= 1:
        yield from map(work, items)
        return
    with _pool(work, n_jobs, threads) as pool:
        call = work if threads else _call_work
        waiting: deque = deque()
        for item in items:
            waiting.append(pool.submit(call, item))
            if len(waiting) > AHEAD * n_jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def _pool(work: Callable, n_jobs: int, threads: bool) -> Iterator[Executor]:
    if threads:
        pool: Executor = ThreadPoolExecutor(n_jobs)
    else:
        # Spawned, because the caller may hold threads, whose locks a fork would copy as they are.
        context = get_context("spawn")
        pool = ProcessPoolExecutor(n_jobs, context, initializer=_set_work, initargs=(work,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


# What a process of `in_order` does: sent once, as it may hold arrays, and not with every item.
_work: Callable[[Any], Any] | None = None


def _set_work(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work


def _call_work(item: Any) -> Any:
    return _work(item)


def _in_threads(stack, work, items, n_jobs):
    pool = stack.enter_context(_pool(work, n_jobs, threads=True))
    item_of = {pool.submit(work, item): item for item in items}
    for future in as_completed(item_of):
        yield item_of[future], future.result()


def _on_dask(stack, work, items, n_jobs, scheduler):
    from distributed import Client, LocalCluster, as_completed  # takes seconds to import

    if scheduler is None:
        local = LocalCluster(
            n_workers=min(n_jobs, max(len(items), 1)), threads_per_worker=1, dashboard_address=None
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
