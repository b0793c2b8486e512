"""Where commands write: a file or standard output, or a folder.

The name - is standard output where one file is written, as /dev/stdout is; what a command prints
beside it then goes to standard error. Where a folder is written, - is refused.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence

from flamlib.cli import aside
from flamlib.cli.errors import UsageError, require
from flamlib.sound_events import event_tables
from flamlib.sound_events.event_tables import Found
from flamlib.storage import files

STDOUT = "/dev/stdout"


def file(text: str) -> str:
    """Parse the name of a file to write; - is standard output."""
    return STDOUT if text == "-" else text


def folder(text: str) -> str:
    """Parse the name of a folder to write to."""
    if text == "-":
        raise argparse.ArgumentTypeError(
            "- is standard output, and a folder is written; one of this name is ./-"
        )
    return text


def teller(path: str | None) -> Callable[[str], None]:
    """Return what prints what a command tells beside a file: not among what is printed itself."""
    if path is None or path == os.devnull or not files.is_stream(path):
        return print
    return (lambda text: None) if aside.is_quiet() else _to_stderr


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


def columns(names: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table for the screen: the first column and the last flush left, others right."""
    cells = [list(names), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        first, *others = (
            cell.ljust(w) if i in (0, len(row) - 1) else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)


def counted(n: int, noun: str) -> str:
    """Return a number and its noun, in the plural unless it is one.

    >>> [counted(n, "clip") for n in (0, 1, 2)]
    ['0 clips', '1 clip', '2 clips']
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def check_table(path: str | None, kind: str) -> None:
    """Refuse a table that cannot be written, before any work.

    Args:
        path: The file; None: it is printed.
        kind: Its format, of `event_tables.FORMATS`.

    Raises:
        ModuleNotFoundError: The format needs a package that is missing.
        OSError: No file can be written there.
        UsageError: The format is no text, and would be printed.
    """
    require(*event_tables.FORMATS[kind].packages)
    is_screen = path == STDOUT and sys.stdout.isatty()
    if not event_tables.FORMATS[kind].is_text and (path is None or is_screen):
        raise UsageError(f"{kind} is no text to be printed: name a file with -o")
    if path is not None:
        files.check_file(path)


def write_table(path: str | None, kind: str, found: Sequence[Found]) -> None:
    """Write a table of events to a file, or print it."""
    content = event_tables.FORMATS[kind].encode(found)
    if path is None:
        print(content.decode(), end="")
    else:
        files.atomic_write(path, content)
