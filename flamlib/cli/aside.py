"""What a command tells beside its result, on standard error: notes, and how far it is.

With `--quiet` neither is told. Errors are, and what a command prints or writes stays the same.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from flamlib.cli.errors import printable

_is_quiet = False


@contextmanager
def silenced(is_quiet: bool) -> Iterator[None]:
    """Tell nothing, if asked to, until the context is left."""
    global _is_quiet
    before, _is_quiet = _is_quiet, is_quiet
    try:
        yield
    finally:
        _is_quiet = before


def say(*notes: str) -> None:
    """Tell the user something, each on a line of its own."""
    if not _is_quiet:
        for text in notes:
            print(f"flam: {printable(text)}", file=sys.stderr)


def is_quiet() -> bool:
    """Return whether nothing but errors is to be told."""
    return _is_quiet


def shows_progress() -> bool:
    """Return whether a bar is to show how far a command is: in a terminal, if not quiet."""
    return not _is_quiet and sys.stderr.isatty()
