"""Files of JSON lines that are appended to, and outlive the kill of whoever writes."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Append = Callable[[Any], None]


def read(path: str | Path) -> Iterator[Any]:
    """Yield what the lines of a file say; none if there is no file.

    What is no JSON is left out: a process that was killed leaves half a line.
    """
    path = Path(path)
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue


@contextmanager
def appender(path: str | Path) -> Iterator[Append]:
    """Yield a function that appends a line, which is in the file when the function returns.

    The file is made with its first line. A full disk is an OSError with the file's name.
    """
    path, opened = Path(path), []

    def append(entry: Any) -> None:
        with _named(path):
            if not opened:
                opened.append(path.open("a+b"))
                if opened[0].tell():
                    opened[0].seek(-1, 2)
                    if opened[0].read(1) != b"\n":  # behind half a line
                        opened[0].write(b"\n")
            opened[0].write(json.dumps(entry).encode() + b"\n")
            opened[0].flush()

    try:
        yield append
    finally:
        with _named(path):
            for file in opened:
                file.close()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Give the errors of a file that is open its name, which they lack."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise
