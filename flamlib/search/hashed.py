"""The checksums of files that were read by a call that is not done.

    index/hashed.jsonl    a line for each, as in recordings.jsonl, until the call is done

To read an archive once takes hours from a network, and only what is embedded stands in the table of
files. So whoever goes on with a call that was stopped need not read again what that had read.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flamlib.search.archive import File

NAME = "hashed.jsonl"
Note = Callable[[str, File], None]


@contextmanager
def kept(folder: Path) -> Iterator[tuple[dict[str, File], Note]]:
    """Yield what a stopped call had read, by path, and what notes that a file was read now.

    What is noted is forgotten if the block ends without an error.
    """
    path, opened = folder / NAME, []
    with ExitStack() as stack:

        def note(name: str, of: File) -> None:
            if not opened:
                opened.append(stack.enter_context(path.open("ab")))
                opened[0].write(b"\n")  # behind a line that was half written
            opened[0].write(json.dumps({"path": name, **of._asdict()}).encode() + b"\n")
            opened[0].flush()

        yield _read(path), note
    path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, File]:
    """The whole lines of a file, of which a kill may have left others."""
    found = {}
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
            found[entry["path"]] = File(*(entry[name] for name in File._fields))
        except (ValueError, KeyError, TypeError):
            continue
    return found
