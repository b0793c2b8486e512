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
harm. An item whose workers die again and again is named. If no worker is left, a cluster of this
machine is given up after five minutes, or dask's own `distributed.scheduler.no-workers-timeout`;
one of others waits for new ones as long as its scheduler is configured to. `in_order` works a few
items ahead of its reader, so that results need not fit into memory.

Ctrl-C, which a terminal sends to all processes of a command, is heard by the caller's alone; the
others end with it.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

from flamlib.compute import dask_clusters, interrupts

Item, Result = TypeVar("Item"), TypeVar("Result")
MOST_THREADS = 1000  # beyond that, and 16 processes a core, a number is taken for a slip
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
        OSError: there is no scheduler at that address, or the processes that worked on an item
            died (ChildProcessError).
        ValueError: more processes or threads than any machine has use for.
    """
    if scheduler is None:
        _check_number(n_jobs, threads)
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
        ChildProcessError: a process died.
        ValueError: more processes or threads than any machine has use for.
    """
    _check_number(n_jobs, threads)
    if n_jobs <= 1:
        yield from map(work, items)
        return
    with _pool(work, n_jobs, threads) as pool:
        call = work if threads else _call_work
        waiting: deque = deque()
        for item in items:
            with interrupts.interrupts_blocked():  # submitting it may make a process
                waiting.append((item, pool.submit(call, item)))
            if len(waiting) > AHEAD * n_jobs:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())


def _result(item, future):
    try:
        return future.result()
    except BrokenProcessPool:
        raise ChildProcessError(
            f"a process died while {_named(item)} or one of the next items was worked on; {_MEMORY}"
        ) from None


_MEMORY = "too little memory for so many jobs?"


def _named(item: Any) -> str:
    """How an item is called: the name that it has, or else the beginning of what it is."""
    text = str(item["name"]) if isinstance(item, Mapping) and "name" in item else repr(item)
    return text if len(text) <= 100 else f"{text[:99]}…"


def _check_number(n_jobs: int, threads: bool) -> None:
    n_cores = os.cpu_count() or 1
    most = MOST_THREADS if threads else 16 * n_cores
    if n_jobs > most:
        what = "threads" if threads else f"processes for {n_cores} processor cores"
        raise ValueError(f"jobs: {n_jobs:,} {what}; {most:,} at most")


@contextmanager
def _pool(work: Callable, n_jobs: int, threads: bool) -> Iterator[Executor]:
    if threads:
        pool: Executor = ThreadPoolExecutor(n_jobs)
    else:
        # Spawned, because the caller may hold threads, whose locks a fork would copy as they are.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(n_jobs, context, initializer=_set_work, initargs=(work,))
    others = multiprocessing.active_children()
    try:
        yield pool
    except KeyboardInterrupt:
        if not threads:  # nobody waits for what they are at work on
            for process in multiprocessing.active_children():
                if process not in others:
                    process.terminate()
        raise
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
    from concurrent.futures import CancelledError

    from distributed import KilledWorker, as_completed  # takes seconds to import
    from distributed.scheduler import NoWorkerError

    if scheduler is None:
        n_workers = min(n_jobs, max(len(items), 1))
        client = stack.enter_context(dask_clusters.on_this_machine(n_workers))
    else:
        client = stack.enter_context(dask_clusters.connect(scheduler))
    # Impure: dask must not take an item of an earlier call for done because it looks alike.
    futures = client.map(work, items, pure=False)
    item_of = dict(zip((future.key for future in futures), items, strict=True))
    if scheduler is not None:
        stack.callback(client.cancel, futures)
    for future in as_completed(futures):
        item = item_of[future.key]
        try:
            result = future.result()
        except KilledWorker as error:
            raise ChildProcessError(
                f"{error.allowed_failures + 1} processes died one after the other that were at "
                f"work on {_named(item)}, or had it before them; {_MEMORY}",
            ) from None
        except CancelledError:  # by dask, for want of a scheduler
            where = scheduler or "the scheduler of this machine"
            raise ConnectionError(
                f"{where}: the connection to it was lost at {_named(item)}; is it running still?"
            ) from None
        except NoWorkerError as error:
            raise ChildProcessError(
                f"no process is left to work on {_named(item)} ({error})"
            ) from None
        yield item, result
        future.release()
