import os
import signal
import subprocess
import sys

import pytest

from flamlib.storage import one_writer


def test_another_writer_is_refused_until_the_first_is_done(tmp_path):
    with (
        one_writer.lock(tmp_path / "new", "flam cook"),
        pytest.raises(ValueError, match="new: another flam cook is writing there"),
        one_writer.lock(tmp_path / "new", "flam cook"),
    ):
        pass
    with one_writer.lock(tmp_path / "new", "flam cook"):
        pass


def test_the_lock_of_a_killed_process_is_gone(tmp_path):
    code = (
        "import pathlib, sys, time\n"
        "from flamlib.storage import one_writer\n"
        "with one_writer.lock(pathlib.Path(sys.argv[1]), 'it'):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="another it"), one_writer.lock(tmp_path, "it"):
            pass
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        with one_writer.lock(tmp_path, "it"):
            pass


def test_a_file_in_its_place_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as told, one_writer.lock(tmp_path / "file", "it"):
        pass
    assert told.value.filename == str(tmp_path / "file")
