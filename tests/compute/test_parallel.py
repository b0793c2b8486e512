import itertools
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import dask
import pytest
from distributed import LocalCluster

from flamlib.compute import parallel


def square(x):
    return x * x


def square_or_die(folder, x):
    """The worker that is given 3 is killed, once."""
    if x == 3:
        try:
            (folder / "died").touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        except FileExistsError:
            pass
    return x * x


def refuse(x):
    if x == 2:
        raise OSError(28, "No space left on device")
    return x


def test_one_job_works_in_order_and_here():
    assert list(parallel.each(square, [3, 1, 2], n_jobs=1, progress=False)) == [
        (3, 9),
        (1, 1),
        (2, 4),
    ]
    assert list(parallel.each(square, [], n_jobs=1, progress=False)) == []


@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize("threads", [False, True])
def test_results_come_in_the_order_of_the_items(n_jobs, threads):
    results = parallel.in_order(square, range(20), n_jobs=n_jobs, threads=threads)
    assert list(results) == [x * x for x in range(20)]


def test_no_more_is_begun_than_the_reader_can_follow():
    begun = []
    results = parallel.in_order(begun.append, itertools.count(), n_jobs=2, threads=True)
    for _ in range(3):
        next(results)
    results.close()
    assert len(begun) <= 3 + 2 * parallel.AHEAD


def test_threads_see_the_memory_of_the_caller():
    seen = []
    pairs = list(parallel.each(seen.append, range(9), n_jobs=3, threads=True, progress=False))
    assert sorted(seen) == list(range(9))
    assert sorted(pairs) == [(i, None) for i in range(9)]


def test_the_items_of_a_killed_worker_are_done_by_another(tmp_path):
    work = partial(square_or_die, tmp_path)
    found = dict(parallel.each(work, range(8), n_jobs=2, progress=False))
    assert (tmp_path / "died").exists()
    assert found == {x: x * x for x in range(8)}


@pytest.mark.parametrize(("n_jobs", "threads"), [(1, False), (2, False), (2, True)])
def test_an_error_of_an_item_is_that_of_the_whole(n_jobs, threads):
    with pytest.raises(OSError, match="No space left") as error:
        list(parallel.each(refuse, range(6), n_jobs=n_jobs, threads=threads, progress=False))
    assert error.value.errno == 28
    with pytest.raises(OSError, match="No space left"):
        list(parallel.in_order(refuse, range(6), n_jobs=n_jobs, threads=threads))


def die_of(name, job):
    if job["name"] == name:
        os.kill(os.getpid(), signal.SIGKILL)
    return job["name"]


def test_an_item_that_kills_every_worker_is_named():
    jobs = [{"name": f"train-{k:05d}.tar", "first": k} for k in range(9)]
    with pytest.raises(ChildProcessError, match=r"4 processes died .* train-00002\.tar"):
        list(parallel.each(partial(die_of, "train-00002.tar"), jobs, n_jobs=2, progress=False))


def test_a_process_that_dies_is_an_error_that_says_near_which_item():
    jobs = [{"name": f"{k}"} for k in range(9)]
    with pytest.raises(ChildProcessError, match=r"a process died while . or one of the next items"):
        list(parallel.in_order(partial(die_of, "4"), jobs, n_jobs=2))


@pytest.mark.parametrize("threads", [True, False])
def test_a_number_of_jobs_that_no_machine_has_use_for_is_refused_at_once(threads):
    with pytest.raises(ValueError, match="jobs: 1,000,000,000"):
        list(parallel.each(square, range(3), n_jobs=10**30, threads=threads, progress=False))
    with pytest.raises(ValueError, match="jobs: 1,000,000,000"):
        list(parallel.in_order(square, range(3), n_jobs=10**30, threads=threads))


def run_on(scheduler):
    return dict(parallel.each(square, range(4), n_jobs=1, scheduler=scheduler, progress=False))


def test_a_scheduler_without_workers_is_waited_for_as_long_as_it_is_configured():
    with (
        dask.config.set({"distributed.scheduler.no-workers-timeout": "500ms"}),
        LocalCluster(n_workers=0, dashboard_address=None) as cluster,
    ):
        with (
            pytest.warns(UserWarning, match="no workers yet"),
            pytest.raises(ChildProcessError, match=r"no process is left to work on [0-3]"),
        ):
            run_on(cluster.scheduler_address)
        cluster.scale(1)
        cluster.wait_for_workers(1, timeout=60)
        assert run_on(cluster.scheduler_address) == {x: x * x for x in range(4)}


def slow(x):
    time.sleep(0.2)
    return x


def test_a_scheduler_that_is_lost_is_named():
    start = (
        "import time; from distributed import LocalCluster\n"
        "if __name__ == '__main__':\n"
        "    how = dict(protocol='tcp', n_workers=1, threads_per_worker=1, processes=False)\n"
        "    with LocalCluster(**how, dashboard_address=None) as cluster:\n"
        "        print(cluster.scheduler_address, flush=True)\n"
        "        time.sleep(60)\n"
    )
    path = [str(Path(__file__).parent)]
    with subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path += {path}\n{start}"], stdout=subprocess.PIPE
    ) as server:
        try:
            address = server.stdout.readline().decode().strip()
            results = parallel.each(slow, range(50), n_jobs=1, scheduler=address, progress=False)
            next(results)
            server.kill()
            with pytest.raises(ConnectionError, match=f"{address}: the connection to it was lost"):
                list(results)
        finally:
            server.kill()
