"""Of commands that are told to end, in processes of their own."""

import signal
import subprocess
import sys

import pytest

from flamlib.cli import main

RUN = """
import os, signal, sys
from flamlib.cli import main, make

def run(args):
    try:
        os.kill(os.getpid(), {number})
    finally:
        os.kill(os.getpid(), {number})  # `timeout` sends it to the process and to its group
        print("tidied up")

make._verify = run
{before}
sys.exit(main.main(["verify", "folder"]))
"""


def run(number, before=""):
    code = RUN.format(number=int(number), before=before)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_is_as_an_interruption(number):
    done = run(number)
    assert (done.returncode, done.stdout) == (128 + number, "tidied up\n")
    assert done.stderr == "flam: stopped\n"


def test_a_signal_that_is_ignored_stays_so():
    """As under nohup."""
    done = run(signal.SIGHUP, "signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "tidied up\n", "")


def test_what_goes_on_when_it_is_called_again_is_told(monkeypatch, capsys):
    def stop(_):
        raise KeyboardInterrupt

    asked = ["embed", "sounds", "out", "--model", "models/flam-small"]
    monkeypatch.setattr("flamlib.cli.ask._embed", stop)
    assert main.main(asked) == 130
    kept = "what was done is kept, and the same call goes on from there"
    assert capsys.readouterr().err == f"flam: stopped; {kept}\n"
