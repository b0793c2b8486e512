import subprocess
import sys

import pytest

from flamlib.storage import json_lines


def append(path, *entries):
    with json_lines.appender(path) as write:
        for entry in entries:
            write(entry)


def test_lines_are_read_in_the_order_in_which_they_were_appended(tmp_path):
    path = tmp_path / "log.jsonl"
    append(path, {"a": 1}, ["ü\n", None])
    append(path)
    append(path, 3)
    assert list(json_lines.read(path)) == [{"a": 1}, ["ü\n", None], 3]


def test_a_file_begins_with_its_first_line(tmp_path):
    append(tmp_path / "log.jsonl")
    assert not (tmp_path / "log.jsonl").exists()
    assert list(json_lines.read(tmp_path / "log.jsonl")) == []


def test_a_line_is_in_the_file_before_the_next_is_appended(tmp_path):
    with json_lines.appender(tmp_path / "log.jsonl") as write:
        write([1])
        assert list(json_lines.read(tmp_path / "log.jsonl")) == [[1]]


@pytest.mark.parametrize("left", range(9))
def test_half_a_line_spoils_no_other(tmp_path, left):
    path = tmp_path / "log.jsonl"
    append(path, {"a": 1}, {"b": 2})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 + left])
    append(path, {"c": 3})
    expected = [{"a": 1}, *([{"b": 2}] if left == 8 else []), {"c": 3}]
    assert list(json_lines.read(path)) == expected


def test_a_full_disk_is_told_with_the_file(tmp_path):
    """The limit on the size of a file stands for a full disk."""
    script = (
        "import resource, signal\n"
        "from flamlib.storage import json_lines\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        f"with json_lines.appender({str(tmp_path / 'log')!r}) as write: write('x' * 1000)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "OSError: [Errno 27] File too large: " in done.stderr
    assert str(tmp_path / "log") in done.stderr.splitlines()[-1]
