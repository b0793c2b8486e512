"""What commands read more than once: a pipe, of which there is no second time, is copied."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flamlib.storage import files

STDIN = "-"


@contextmanager
def on_disk(given: str) -> Iterator[Path]:
    """Yield a file itself, or a copy of what comes from a pipe or, by the name -, standard input.

    Raises ValueError for one of the block, in which a copy is called as it was given.
    """
    if given != STDIN and not files.is_stream(given):
        yield Path(given)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stdin.tsv"
        with path.open("wb") as copy:
            if given == STDIN:
                shutil.copyfileobj(sys.stdin.buffer, copy)
            else:
                with open(given, "rb") as pipe:
                    shutil.copyfileobj(pipe, copy)
        try:
            yield path
        except ValueError as error:
            name = "standard input" if given == STDIN else given
            raise ValueError(str(error).replace(str(path), name)) from error
