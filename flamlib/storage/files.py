"""Files and folders that are never half written, and checksums.

A stage may be stopped, or the power lost, at any instant. A file or folder therefore gets
its final name only when it is complete and on the disk. Until then it is in a folder beside it,
`.NAME.<number>.partial`, which its writer locks. What a killed writer left is removed by the next
writer of the same name; what a living one is at work on is not.
"""

import ctypes
import errno
import hashlib
import itertools
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import filelock

_PARTIAL = re.compile(r"\.(?P<name>.+)\.\d+\.partial")
_NEW, _OLD, _LOCK = "new", "old", "lock"  # in such a folder
_MANY = 64  # files, from which on the disk is asked once and not for each
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux


def atomic_write(path: str | Path, content: bytes | str) -> None:
    """Write a file as a whole or not at all: an older file stays until the new one is complete.

    Text is written as UTF-8, its line ends as they are. Missing parent folders are made.
    """
    with atomic_file(path) as partial:
        partial.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which becomes `path` if the block ends without an error.

        with files.atomic_file(root / "artifacts/train.parquet") as partial:
            ...  # open `partial` and write to it

    A link stays, and the file that it leads to is replaced. What is no regular file (a pipe, a
    device, /dev/stdout) is never replaced: what was written is copied into it at the end.
    """
    check_file(path)
    path = _follow(Path(path))
    if _is_special(path):
        with tempfile.TemporaryDirectory() as folder:
            with _room(folder):
                yield Path(folder) / "content"
            with (
                _room(path),
                open(Path(folder) / "content", "rb") as content,
                _open_special(path) as out,
            ):
                shutil.copyfileobj(content, out)
    elif any(_PARTIAL.fullmatch(parent.name) for parent in path.parents):
        with _room(path), _inside_unfinished(path):
            yield path
    else:
        with _room(path), _workplace(path) as place:
            yield place / _NEW / path.name
            _settle(place / _NEW)
            os.replace(place / _NEW / path.name, path)
            _sync(path.parent)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new folder to fill, which replaces `path` if the block ends without an error.

    If the block raises, the new folder is removed and `path` is untouched. A link stays, and the
    folder that it leads to is replaced.

        with atomic_folder(root / "artifacts/mixtures") as folder:
            (folder / "events.tsv").write_text(...)
    """
    path = _folder_to_write(path)
    with _workplace(path) as place, _filled(place, path) as new:
        yield new


@contextmanager
def resumable_folder(path: str | Path) -> Iterator[Path]:
    """Yield a folder to fill as `atomic_folder` does, but which stays if the block is stopped.

    It is in `.NAME.unfinished` beside `path`, where the next call finds what is in it. Raises
    ValueError if another process is at work on it.
    """
    path = _folder_to_write(path)
    place = path.with_name(f".{path.name}.unfinished")
    make_folder(place)
    lock = _try_lock(place)
    if lock is None:
        raise ValueError(f"{place}: another run is writing here; wait for it or stop it")
    try:
        _restore(place, path)
        with _filled(place, path) as new:
            yield new
        _remove(place)
    finally:
        lock.release()


def _folder_to_write(path: str | Path) -> Path:
    path = _follow(Path(path))
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file, not a folder to write to", str(path))
    return path


@contextmanager
def _filled(place: Path, path: Path) -> Iterator[Path]:
    """Yield the new folder at a workplace, and put it in the place of `path`."""
    new = place / _NEW / path.name
    with _room(path):
        new.mkdir(parents=True, exist_ok=True)
        yield new
        _settle(place / _NEW)
        _put_in_place(new, path, place / _OLD)
        _sync(path.parent)


def check_file(path: str | Path) -> None:
    """Raise OSError if no file can be written there: to be asked before hours of work."""
    path = _follow(Path(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder, not a file to write to", str(path))
    there = next(p for p in path.absolute().parents if p.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file, not a folder to write to", str(there))
    if not os.access(path if _is_special(path) else there, os.W_OK):
        raise PermissionError(errno.EACCES, "may not be written to", str(path))


def is_stream(path: str | Path) -> bool:
    """Return whether what is written there goes to a pipe, a device or the screen."""
    return _is_special(_follow(Path(path)))


def make_folder(path: str | Path) -> None:
    """Make a folder, and those above it, unless it is there.

    Raises NotADirectoryError naming a file that is in the way.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        there = next(p for p in [path, *path.parents] if p.exists())
        raise NotADirectoryError(
            errno.ENOTDIR, "a file, not a folder to write to", str(there)
        ) from None


def sweep(folder: str | Path) -> None:
    """Remove what killed processes left unfinished in a folder; what is being written stays."""
    for place in Path(folder).glob(".*.partial"):
        if place.is_file():  # of an older version
            place.unlink(missing_ok=True)
        elif match := _PARTIAL.fullmatch(place.name):
            _sweep(place, place.with_name(match["name"]))


@contextmanager
def _room(path: str | Path) -> Iterator[None]:
    """Name in the error of a full disk what was written: the system names nothing."""
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None)
        if number is None and (told := re.search(r"\(os error (\d+)\)", str(error))):
            number = int(told[1])  # as libraries in Rust tell it
        if number not in _FULL:
            raise
        why = f"{os.strerror(number)}; make room there, or write to another place"
        raise OSError(number, why, str(path)) from error


def _follow(path: Path) -> Path:
    """Where a link leads; a path that is none as it is.

    A link to a file that nobody may write, as DVC can link its cache, is to be replaced itself.
    """
    target = path
    for _ in range(40):
        if _is_special(target):
            return target
        if not target.is_symlink():
            is_protected = target.is_file() and not target.stat().st_mode & 0o222
            return path if is_protected else target
        target = target.parent / target.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _is_special(path: Path) -> bool:
    """Whether a path is a pipe, a device, or one of the open files of a process."""
    if path.exists() and not path.is_file() and not path.is_dir():
        return True
    return os.path.realpath(path.parent).startswith("/proc/")


def _open_special(path: Path) -> BinaryIO:
    if os.path.realpath(path.parent) == os.path.realpath("/proc/self/fd"):
        # The one that is open, not the file opened anew: both would write at places of their own.
        sys.stdout.flush()
        return os.fdopen(os.dup(int(path.name)), "wb")
    return open(path, "ab")


@contextmanager
def _inside_unfinished(path: Path) -> Iterator[None]:
    """For a file of a folder that has not got its name yet: whole together with the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _workplace(path: Path) -> Iterator[Path]:
    """Make a folder beside `path` for this writer alone, with an empty folder `new` in it.

    The lock in it is the system's: it is gone with the process that held it, however that ended.
    So a writer takes the first number that no living process holds, and removes what dead ones left
    there and under the numbers that follow.
    """
    make_folder(path.parent)
    places = (path.with_name(f".{path.name}.{k}.partial") for k in itertools.count())
    for place in places:
        with suppress(FileExistsError):
            place.mkdir()
        if lock := _try_lock(place):
            break
    try:
        _restore(place, path)
        for left in (place / _NEW, place / _OLD):
            shutil.rmtree(left, ignore_errors=True)
        for other in itertools.takewhile(Path.exists, places):
            _sweep(other, path)
        (place / _NEW).mkdir()
        yield place
    finally:
        _remove(place)
        lock.release()


def _try_lock(place: Path) -> filelock.BaseFileLock | None:
    """Lock such a folder; None if a living process holds it, or if it is another user's."""
    try:
        if place.is_symlink() or place.stat().st_uid != os.geteuid():
            return None
        lock = filelock.FileLock(place / _LOCK, timeout=0)
        lock.acquire()
        return lock
    except (filelock.Timeout, FileNotFoundError, NotADirectoryError, FileExistsError):
        return None  # it may go at any time, also between filelock's making it and looking again


def _sweep(place: Path, path: Path) -> None:
    if lock := _try_lock(place):
        _restore(place, path)
        _remove(place)
        lock.release()


def _remove(place: Path) -> None:
    """Remove such a folder, the lock last: without it the next writer may be at work there."""
    for left in (place / _NEW, place / _OLD):
        shutil.rmtree(left, ignore_errors=True)
    with suppress(OSError):
        (place / _LOCK).unlink()
        place.rmdir()


def _restore(place: Path, path: Path) -> None:
    """Put back a folder that a killed process had moved aside."""
    if (place / _OLD).exists() and not path.exists():
        os.rename(place / _OLD, path)


def _settle(new: Path) -> None:
    """Give what is in a new folder the modes that the umask leaves, and put it on the disk.

    Some libraries write through a temporary file of their own, which nobody else may read. And a
    file that is not on the disk may be empty under its name after the power was lost.
    """
    umask_leaves = new.stat().st_mode
    found = [new, *new.rglob("*")]
    for path in found:
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            wanted = umask_leaves & (0o777 if path.is_dir() else 0o666)
            if wanted & ~mode:
                path.chmod(mode | wanted)
    if len(found) > _MANY:
        os.sync()
    else:
        for path in reversed(found):
            _sync(path)


def _sync(path: Path) -> None:
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # not every file system can do it with a folder
            raise
    finally:
        os.close(descriptor)


def _put_in_place(new: Path, path: Path, old: Path) -> None:
    """Rename the folder `new` to `path`; the folder that was there goes to `new` or to `old`."""
    try:
        os.rename(new, path)  # nothing there, or an empty folder
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    if _exchange(new, path):
        return
    # In two steps, where the system cannot do it in one. If it is killed in between, the next
    # writer puts the old one back.
    os.rename(path, old)
    try:
        os.rename(new, path)
    except BaseException:
        os.rename(old, path)
        raise


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False if system or file system (NFS, say) cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    names = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    return renameat2 is not None and renameat2(*names, _RENAME_EXCHANGE) == 0
