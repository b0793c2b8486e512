import os
import signal
import subprocess
import sys
import threading

import pytest

from flamlib.compute import interrupts


def child_ends_by_ctrl_c() -> bool:
    """Whether a process that is made now ends by the signal of Ctrl-C."""
    code = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('blocked')"
    # The handler of Python's own, also where the test suite runs in the background of a shell.
    child = subprocess.run(
        [sys.executable, "-c", f"import signal; signal.signal(2, signal.SIG_DFL); {code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (child.returncode == -signal.SIGINT) != (child.stdout == "blocked\n")
    return child.stdout == ""


def test_a_process_that_is_made_in_the_block_does_not_get_ctrl_c():
    assert child_ends_by_ctrl_c()
    with interrupts.interrupts_blocked():
        assert not child_ends_by_ctrl_c()
    assert child_ends_by_ctrl_c()


def test_signals_come_at_the_end_of_the_block_the_first_of_them_alone():
    heard = []
    usual = [
        signal.signal(n, lambda n, _: heard.append(n)) for n in (signal.SIGTERM, signal.SIGINT)
    ]
    try:
        with interrupts.signals_deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            assert heard == []
        assert heard == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGINT)
        assert heard == [signal.SIGTERM, signal.SIGINT]
    finally:
        signal.signal(signal.SIGTERM, usual[0])
        signal.signal(signal.SIGINT, usual[1])


def test_an_error_of_the_block_is_raised_as_it_is():
    with pytest.raises(ZeroDivisionError), interrupts.signals_deferred():
        raise ZeroDivisionError


def test_in_another_thread_where_no_signal_comes_nothing_is_set():
    done = []

    def work():
        with interrupts.signals_deferred():
            done.append(signal.getsignal(signal.SIGTERM))

    usual = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [usual]
