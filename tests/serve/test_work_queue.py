import asyncio
import threading

import pytest

from flamlib.serve.refusals import Refused
from flamlib.serve.work_queue import WorkQueue


def test_work_is_done_in_its_order_one_by_one():
    async def all_of_it():
        queue, done = WorkQueue(n_waiting=5, timeout_s=10), []
        await asyncio.gather(*(queue.do(done.append, k) for k in range(5)))
        return done

    assert asyncio.run(all_of_it()) == [0, 1, 2, 3, 4]


def test_whoever_waits_too_long_or_behind_too_many_is_told_and_the_next_is_served():
    async def all_of_it():
        queue, go = WorkQueue(n_waiting=0, timeout_s=0.05), threading.Event()
        codes = []
        for _ in range(2):  # the second while the first is still being done
            with pytest.raises(Refused) as refused:
                await queue.do(go.wait)
            codes.append(refused.value.code)
        go.set()
        while True:  # the first may still be leaving
            try:
                return codes, await queue.do(lambda: "done")
            except Refused:
                await asyncio.sleep(0.02)

    assert asyncio.run(all_of_it()) == (["timeout", "busy"], "done")


def test_what_goes_wrong_in_the_work_is_told():
    with pytest.raises(ZeroDivisionError):
        asyncio.run(WorkQueue(n_waiting=0, timeout_s=10).do(lambda: 1 / 0))
