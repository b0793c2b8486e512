"""Tables of results that people go on to edit: what was changed by hand is not written over.

    out/written.jsonl    a line for each table that is written: its name in `out` and its SHA-256

A table is as it was written if its content is one of those listed with its name; else somebody has
corrected its events, or filled in a review, or it was there before anything was written. In a
folder of results without that list, as former versions left it, all tables are taken for unchanged.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flamlib.storage import files, json_lines

NAME = "written.jsonl"


class Tables:
    """The tables of a folder, while one process writes to it."""

    @classmethod
    @contextmanager
    def of(cls, folder: str | Path, *, is_known: bool) -> Iterator["Tables"]:
        """Yield the tables of a folder that is there.

        Args:
            folder: The folder.
            is_known: Whether it has results of a former call, perhaps of a former version.
        """
        path = Path(folder) / NAME
        if not is_known:
            path.touch()  # also for a call that goes on when this one is killed
        with json_lines.appender(path) as note:
            yield cls(Path(folder), note)

    def __init__(self, folder: Path, note: json_lines.Append) -> None:
        """Read what was written to a folder; `note` appends to the list of it."""
        self._folder, self._append = folder, note
        self._has_list = (folder / NAME).exists()
        self._listed: dict[str, set[str]] = defaultdict(set)
        for entry in json_lines.read(folder / NAME):
            match entry:
                case [str(name), str(sha256)]:
                    self._listed[name].add(sha256)

    def is_edited(self, name: str) -> bool:
        """Return whether a table is there and not as it was written."""
        path = self._folder / name
        if not (self._has_list and path.is_file()):
            return False
        return files.sha256(path) not in self._listed[name]

    def write(self, name: str, content: bytes) -> bool:
        """Write a table unless one is there that was edited; return whether none was.

        Raises OSError, naming the file, if it cannot be written.
        """
        path, sha256 = self._folder / name, hashlib.sha256(content).hexdigest()
        is_same = path.is_file() and files.sha256(path) == sha256
        if not is_same and self.is_edited(name):
            return False
        if sha256 not in self._listed[name]:  # first, as a process may be killed between the two
            self._append([name, sha256])
            self._listed[name].add(sha256)
        if not is_same:
            files.atomic_write(path, content)
        return True
