import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamlib.storage import files


@given(content=st.binary() | st.text())
def test_what_is_written_is_what_is_read(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("write") / "new" / "file"
    files.atomic_write(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert os.listdir(path.parent) == ["file"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.atomic_write(path, "old")

    def fail(*paths):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        files.atomic_write(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_written_file_is_as_readable_as_any_other(tmp_path):
    files.atomic_write(tmp_path / "ours", "")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "mixtures"
    with files.atomic_folder(path) as folder:
        (folder / "a").touch()
        assert not path.exists()
    assert os.listdir(path) == ["a"]
    assert os.listdir(path.parent) == ["mixtures"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for name in ("first", "second"):
        with files.atomic_folder(tmp_path / "mixtures") as folder:
            (folder / name).touch()
    assert os.listdir(tmp_path / "mixtures") == ["second"]
    assert os.listdir(tmp_path) == ["mixtures"]


def test_a_folder_that_fails_leaves_the_old_one(tmp_path):
    with files.atomic_folder(tmp_path / "mixtures") as folder:
        (folder / "first").touch()
    with (
        pytest.raises(FileNotFoundError),
        files.atomic_folder(tmp_path / "mixtures") as folder,
    ):
        (folder / "absent" / "second").touch()
    assert os.listdir(tmp_path / "mixtures") == ["first"]
    assert os.listdir(tmp_path) == ["mixtures"]


def at_event(at, do, work):
    """Run `work` in a process, and `do` in it before its event number `at`: before it opens a file,
    makes a folder, renames, removes … Return the exit code: 0 if it came to that, 1 if the work
    was done before, 2 after an error."""
    child = os.fork()
    if child == 0:
        n_events, code = 0, 2

        def hook(event, arguments):
            nonlocal n_events
            if event.startswith(("os.", "open", "shutil.", "ctypes.", "fcntl.")):
                n_events += 1
                if n_events == at + 1:
                    do()

        sys.addaudithook(hook)
        try:
            work()
            code = 0 if n_events > at else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(work, at):
    """Return whether `work` came to its event number `at`, before which it is killed."""
    return at_event(at, lambda: os.kill(os.getpid(), signal.SIGKILL), work) == -signal.SIGKILL


def put_folder(path, name):
    with files.atomic_folder(path) as folder:
        (folder / name).write_text(name)


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_kill_at_any_moment_leaves_one_whole_folder_and_the_next_write_nothing_else(
    tmp_path, monkeypatch, can_exchange
):
    if not can_exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    path, at = tmp_path / "model", 0
    put_folder(path, "old")
    while killed(lambda: put_folder(path, "new"), at):
        if can_exchange:  # in one step: there is no moment without
            assert os.listdir(path) in (["old"], ["new"])
        with pytest.raises(ZeroDivisionError), files.atomic_folder(path):
            raise ZeroDivisionError  # a next writer that fails finds one as well
        [name] = os.listdir(path)
        assert (path / name).read_text() == name
        assert os.listdir(tmp_path) == ["model"]
        put_folder(path, "old")
        at += 1
    assert os.listdir(path) == ["new"]
    assert at > 10


def test_a_kill_at_any_moment_leaves_one_whole_file_and_the_next_write_nothing_else(tmp_path):
    path, at = tmp_path / "file", 0
    path.write_text("old")
    while killed(lambda: files.atomic_write(path, "new"), at):
        assert path.read_text() in ("old", "new")
        files.atomic_write(path, "old")
        assert os.listdir(tmp_path) == ["file"]
        at += 1
    assert path.read_text() == "new"
    assert at > 10


def test_two_writers_at_a_time_leave_each_other_alone(tmp_path):
    with files.atomic_file(tmp_path / "file") as first:
        first.write_text("first")
        with files.atomic_file(tmp_path / "file") as second:
            second.write_text("second")
            files.sweep(tmp_path)
        assert (tmp_path / "file").read_text() == "second"
        assert first.read_text() == "first"
    assert (tmp_path / "file").read_text() == "first"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("atomic", [files.atomic_file, files.atomic_folder])
def test_a_writer_that_begins_at_any_moment_of_another_is_left_alone(tmp_path, atomic):
    path = tmp_path / "x"

    def write(content, new):
        (new if atomic is files.atomic_file else new / "file").write_text(content)

    def read():
        return (path if atomic is files.atomic_file else path / "file").read_text()

    def both():
        with atomic(path) as new:
            write("first", new)
        if begun:
            assert read() == "first"
            write("second", begun[0])
            second.close()
            assert read() == "second"

    second, begun = ExitStack(), []  # each forked process fills its own
    at, code = 0, 0
    while code == 0:
        code = at_event(at, lambda: begun.append(second.enter_context(atomic(path))), both)
        at += 1
        assert os.listdir(tmp_path) == ["x"]
    assert code == 1
    assert at > 10


@pytest.mark.parametrize("write", [files.atomic_write, put_folder])
def test_many_writers_at_a_time_leave_one_whole_result(tmp_path, write):
    names = [f"{k}" for k in range(8)] * 9
    with ThreadPoolExecutor(8) as threads:
        for each in [threads.submit(write, tmp_path / "x", name) for name in names]:
            each.result()
    assert os.listdir(tmp_path) == ["x"]
    found = tmp_path / "x"
    assert (found.read_text() if found.is_file() else os.listdir(found)[0]) in names


def test_a_file_behind_a_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("second")
    (tmp_path / "second").symlink_to("a/file")  # which is not there yet
    for content in ("one", "two"):
        files.atomic_write(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "second").is_symlink()
        assert (tmp_path / "a/file").read_text() == content
    assert sorted(os.listdir(tmp_path)) == ["a", "link", "second"]
    assert os.listdir(tmp_path / "a") == ["file"]


def test_a_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "link").symlink_to("folder")
    for name in ("one", "two"):
        put_folder(tmp_path / "link", name)
        assert (tmp_path / "link").is_symlink()
        assert os.listdir(tmp_path / "folder") == [name]
    assert sorted(os.listdir(tmp_path)) == ["folder", "link"]


def test_what_a_link_protects_stays_as_it_was(tmp_path):
    """DVC can link a stage's files to its cache, where nobody may write them."""
    (tmp_path / "cached").write_text("cached")
    (tmp_path / "cached").chmod(0o444)
    (tmp_path / "file").symlink_to("cached")
    files.atomic_write(tmp_path / "file", "new")
    assert (tmp_path / "cached").read_text() == "cached"
    assert (tmp_path / "file").read_text() == "new"
    assert not (tmp_path / "file").is_symlink()


def test_links_in_a_ring_are_an_error(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links") as error:
        files.atomic_write(tmp_path / "a", "")
    assert error.value.errno == errno.ELOOP


def test_a_device_stays_a_device():
    before = os.stat("/dev/null")
    files.atomic_write("/dev/null", "content")
    after = os.stat("/dev/null")
    assert stat.S_ISCHR(after.st_mode)
    assert (before.st_rdev, before.st_ino) == (after.st_rdev, after.st_ino)


def test_a_link_to_a_device_stays_and_so_does_the_device(tmp_path):
    (tmp_path / "link").symlink_to("/dev/null")
    files.atomic_write(tmp_path / "link", "content")
    assert (tmp_path / "link").readlink() == Path("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_pipe_is_written_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    files.atomic_write(tmp_path / "pipe", "content")
    reader.join()
    assert read == ["content"]
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("to_file", [True, False])
def test_the_standard_output_gets_what_is_written_to_its_name(tmp_path, name, to_file):
    """Also one that a shell has redirected to a file, behind what that holds already."""
    script = "import sys; from flamlib.storage import files; files.atomic_write(sys.argv[1], 'new')"
    command = [sys.executable, "-c", script, name]
    if to_file:
        (tmp_path / "out").write_text("old ")
        with open(tmp_path / "out", "a") as out:
            subprocess.run(command, stdout=out, check=True)
        assert (tmp_path / "out").read_text() == "old new"
        assert os.listdir(tmp_path) == ["out"]
    else:
        assert subprocess.run(command, capture_output=True, check=True).stdout == b"new"


def test_a_folder_is_not_replaced_by_a_file_nor_a_file_by_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("content")
    with pytest.raises(IsADirectoryError, match=r"a folder, not a file.*folder"):
        files.atomic_write(tmp_path / "folder", "")
    with pytest.raises(NotADirectoryError, match=r"a file, not a folder.*file"):
        put_folder(tmp_path / "file", "name")
    for write in (files.atomic_write, put_folder):
        with pytest.raises(NotADirectoryError, match=r"a file, not a folder.*file'$"):
            write(tmp_path / "file/below/name", "name")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_a_file_has_the_mode_of_the_umask_whoever_made_it(tmp_path, umask):
    old = os.umask(umask)
    try:
        with files.atomic_folder(tmp_path / "folder") as folder:
            os.close(tempfile.mkstemp(dir=folder)[0])  # 600, as libraries make them
            (Path(tempfile.mkdtemp(dir=folder)) / "file").touch()  # 700
        with files.atomic_file(tmp_path / "file") as path:
            os.rename(tempfile.mkstemp(dir=path.parent)[1], path)
    finally:
        os.umask(old)
    found = [tmp_path / "file", *(tmp_path / "folder").rglob("*"), tmp_path / "folder"]
    for path in found:
        full = 0o777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.stat().st_mode) == full & ~umask, path
    assert len(found) == 5


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    """The system refuses to write beyond a size, as a full disk would."""
    files.atomic_write(tmp_path / "file", "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large; make room") as full:
            files.atomic_write(tmp_path / "file", "x" * 5000)
        with (
            pytest.raises(OSError, match="too large; make room") as inside,
            files.atomic_folder(tmp_path / "folder") as folder,
        ):
            files.atomic_write(folder / "file", "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (full.value.filename, inside.value.filename) == (
        str(tmp_path / "file"),
        str(tmp_path / "folder"),
    )
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_told_of_what_a_library_writes_and_of_a_device(tmp_path):
    full = torch.zeros(5000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with (
            pytest.raises(OSError, match="make room") as told,
            files.atomic_file(tmp_path / "a") as partial,
        ):
            safetensors.torch.save_file({"x": full}, partial)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert told.value.filename == str(tmp_path / "a")
    with pytest.raises(OSError, match="No space left on device; make room") as told:
        files.atomic_write("/dev/full", "x")
    assert told.value.filename == "/dev/full"
