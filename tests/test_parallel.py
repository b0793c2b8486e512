import itertools
import os
import signal
from functools import partial

import pytest

from flamlib import parallel


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
