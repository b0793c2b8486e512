"""Of commands that are told to end, in processes of their own."""

import os
import signal
import subprocess
import sys
import time

import psutil
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
    # Also where the test suite itself runs under nohup.
    done = run(number, f"signal.signal({int(number)}, signal.SIG_DFL)")
    assert (done.returncode, done.stdout) == (128 + number, "tidied up\n")
    assert done.stderr == "flam: stopped\n"


def test_a_signal_that_is_ignored_stays_so():
    """As under nohup."""
    done = run(signal.SIGHUP, "signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "tidied up\n", "")


WORK = """
import os, signal, sys, time
from pathlib import Path
from flamlib.compute import parallel
from flamlib.cli import main, make

def work(place):
    place.with_suffix(".partial").write_text(str(os.getpid()))
    place.with_suffix(".partial").rename(place)
    time.sleep(60)

def run(args):
    folder = Path(args.folder)
    (folder / "begun").touch()
    if sys.argv[2] == "each":
        list(parallel.each(work, [folder / "0", folder / "1"], n_jobs=2, progress=False))
    list(parallel.in_order(work, [folder / "0", folder / "1"], n_jobs=2))

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    make._verify = run
    sys.exit(main.main(["verify", sys.argv[1]]))
"""


def wait_for(found, timeout_s=60):
    end = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < end
        time.sleep(0.02)


def lives(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def of_session(pid):
    """Its processes, but for the one with which Python keeps account of semaphores."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        try:
            if os.getsid(process.pid) == pid and lives(process.pid):
                found.append(process.pid)
        except ProcessLookupError:
            continue
    return found


@pytest.mark.parametrize(
    ("way", "number", "whom", "n_times", "when"),
    [
        ("each", signal.SIGINT, os.killpg, 1, "begun"),  # while the processes are made
        ("each", signal.SIGINT, os.killpg, 1, "0"),
        ("each", signal.SIGINT, os.killpg, 3, "0"),
        ("each", signal.SIGTERM, os.kill, 1, "0"),
        ("each", signal.SIGTERM, os.killpg, 1, "0"),
        ("in_order", signal.SIGINT, os.killpg, 1, "0"),
        ("in_order", signal.SIGTERM, os.kill, 1, "0"),
    ],
)
def test_the_processes_of_a_command_end_with_it_in_one_line(
    tmp_path, way, number, whom, n_times, when
):
    """Ctrl-C in a terminal goes to all of them, and its user may be in a hurry."""
    (tmp_path / "command.py").write_text(WORK)
    asked = [sys.executable, tmp_path / "command.py", tmp_path, way]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(asked, **how, start_new_session=True) as command:
        wait_for((tmp_path / when).exists)
        time.sleep(1.0 if when == "begun" else 0.1)
        for _ in range(n_times):
            whom(command.pid, number)
            time.sleep(0.05)
        out, told = command.communicate(timeout=30)
    assert (command.returncode, out, told) == (128 + number, "", "flam: stopped\n")
    wait_for(lambda: not of_session(command.pid), 10)


def test_what_goes_on_when_it_is_called_again_is_told(monkeypatch, capsys):
    def stop(_):
        raise KeyboardInterrupt

    asked = ["embed", "sounds", "out", "--model", "models/flam-small"]
    monkeypatch.setattr("flamlib.cli.ask._embed", stop)
    assert main.main(asked) == 130
    kept = "what was done is kept, and the same call goes on from there"
    assert capsys.readouterr().err == f"flam: stopped; {kept}\n"
