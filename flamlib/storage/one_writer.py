"""One process at a time writes to a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from flamlib.storage import files

LOCK = ".lock"  # in the folder


@contextmanager
def lock(folder: Path, command: str) -> Iterator[None]:
    """Lock a folder for this process; the system's lock ends with it, however that ends.

    Args:
        folder: The folder; made if it is not there.
        command: What writes there, as the user called it.

    Raises:
        OSError: The folder cannot be written to.
        ValueError: Another process holds it.
    """
    files.make_folder(folder)
    held = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        held.acquire()
    except filelock.Timeout:
        raise ValueError(
            f"{folder}: another {command} is writing there; wait for it, or name another folder"
        ) from None
    try:
        yield
    finally:
        held.release()
