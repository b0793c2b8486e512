"""The checksums of files that were read by a call that is not done.

    index/hashed.jsonl    a line for each, as in recordings.jsonl, until the call is done

To read an archive once takes hours from a network, and only what is embedded stands in the table of
files. So whoever goes on with a call that was stopped need not read again what that had read.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flamlib.search.archive import File
from flamlib.storage import json_lines

NAME = "hashed.jsonl"
Note = Callable[[str, File], None]


@contextmanager
def kept(folder: Path) -> Iterator[tuple[dict[str, File], Note]]:
    """Yield what a stopped call had read, by path, and what notes that a file was read now.

    What is noted is forgotten if the block ends without an error.
    """
    path, found = folder / NAME, {}
    for entry in json_lines.read(path):
        if isinstance(entry, dict) and {"path", *File._fields} <= entry.keys():
            found[entry["path"]] = File(*(entry[name] for name in File._fields))
    with json_lines.appender(path) as append:
        yield found, lambda name, of: append({"path": name, **of._asdict()})
    path.unlink(missing_ok=True)
