"""One worker, and a line before it: a model answers one request after the other."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import ParamSpec, TypeVar

from flamlib.serve.refusals import Refused

Given, Result = ParamSpec("Given"), TypeVar("Result")


class WorkQueue:
    """Work is done in the order in which it comes, by one thread."""

    def __init__(self, *, n_waiting: int, timeout_s: float | int) -> None:
        """Start without work.

        Args:
            n_waiting: How much may be waiting beside what is being done.
            timeout_s: How long somebody waits, in seconds.
        """
        self._thread = ThreadPoolExecutor(1, "model")
        self._lock = Lock()  # the thread counts, too
        self._n, self._n_most, self._timeout_s = 0, n_waiting + 1, timeout_s

    async def do(
        self, work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """Do some work when it is its turn, and return what it returns.

        Raises Refused if too much is waiting already, or it takes too long. Work that has not begun
        by then is dropped; what has begun is brought to its end, as nothing could stop it.
        """
        if self._n >= self._n_most:
            raise Refused(503, "busy", "Too many requests are waiting; try again in a minute.")
        with self._lock:
            self._n += 1
        future = self._thread.submit(work, *args, **kwargs)
        future.add_done_callback(self._leave)
        try:
            return await self._wait(future)
        except TimeoutError:
            raise Refused(
                504,
                "timeout",
                f"No answer within {self._timeout_s:g} s; a shorter recording takes less.",
            ) from None

    async def _wait(self, future: "Future[Result]") -> Result:
        async with asyncio.timeout(self._timeout_s):
            return await asyncio.wrap_future(future)

    def _leave(self, _: Future) -> None:
        with self._lock:
            self._n -= 1

    def close(self) -> None:
        """Drop what is waiting."""
        self._thread.shutdown(wait=False, cancel_futures=True)
