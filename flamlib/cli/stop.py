"""A command that is told to end, or whose terminal is closed, ends as after Ctrl-C.

Python ends at once at SIGTERM, which `kill`, `timeout`, schedulers of clusters and a system that
shuts down send, and at SIGHUP, which Windows does not have: what is in memory would be lost, and
temporary files left.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(KeyboardInterrupt):
    """A signal that ends the process has come.

    Attributes:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def raised() -> Iterator[None]:
    """Raise `Stopped` when the first signal of `SIGNALS` comes, until the context is left.

    One that is ignored, as SIGHUP is under `nohup`, or handled by others stays as it is.
    """
    if threading.current_thread() is not threading.main_thread():  # others cannot handle any
        yield
        return

    def stop(number: int, _frame: object) -> None:
        for each in usual:  # `timeout` sends it twice, and the second would end the tidying up
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    usual = [number for number in SIGNALS if signal.getsignal(number) == signal.SIG_DFL]
    for number in usual:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in usual:
            signal.signal(number, signal.SIG_DFL)
