"""When a signal such as that of Ctrl-C is heard, and by which process of a command."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Let processes and threads that are made in the block never hear of Ctrl-C.

    It is the caller that ends them; each would tell of it, in many lines.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # which lets it through again in the thread that starts it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which they inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def signals_at_the_end() -> Iterator[None]:
    """Let signals that have a handler come at the end of the block, the first of them alone."""
    if threading.current_thread() is not threading.main_thread():  # where none comes
        yield
        return
    came: list[int] = []
    usual = {n: signal.getsignal(n) for n in signal.valid_signals()}
    usual = {n: handler for n, handler in usual.items() if callable(handler)}
    for number in usual:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
