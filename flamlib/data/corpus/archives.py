"""Read members of package files without unpacking them to disk.

A member's name is its path in the archive, and `!` steps into a container that is itself a member:

    usr/share/sounds/freedesktop/stereo/bell.oga                a file of a .deb
    usr/share/games/ufoai/base/0snd.pk3!sound/misc/lighton.ogg  in a zip in a .deb
    usr/share/gcompris-qt/rcc/piano.rcc!/gcompris/piano/c.wav   in a Qt resource file in a .deb
    usr/share/games/openttd/opensfx.cat!18                      the sound numbered 18 of a cat file

`containers` knows the formats.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from flamlib.data.corpus import containers

_MAX_DEPTH = 3  # of containers in containers, when listing; more would be an archive bomb


class BrokenArchive(Exception):
    """An archive that cannot be read, or lacks a member: `path`, and `why`."""

    def __init__(self, path: str | Path, why: str):
        super().__init__(path, why)  # both as args, so that the error survives a process pool
        self.path, self.why = path, why

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"


@dataclass(frozen=True)
class Archive:
    """A package file on disk. Each method is one pass over it; nothing stays open in between."""

    path: Path

    def names(self) -> list[str]:
        """List every file in it and, with `!`, in its inner containers, in the order of storage."""
        with _archive_errors(self.path), open(self.path, "rb") as file:
            return list(_names(self.path.name, file, depth=_MAX_DEPTH))

    def read(self, name: str) -> bytes:
        """Return the content of one member. Raises BrokenArchive if there is none of that name."""
        for _, content in self.read_many([name]):
            return content
        raise BrokenArchive(self.path, f"has no member {name}")

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yield the named members as (name, content), each once, in the order of storage.

        Reading ends with the last of them. Names that the archive does not hold, and symbolic
        links, are left out.
        """
        with _archive_errors(self.path), open(self.path, "rb") as file:
            yield from _read(self.path.name, file, {containers.check_name(name) for name in names})


def open_archive(path: str | Path) -> Archive:
    """Open the archive at `path`. Raises BrokenArchive unless it is a file of a known kind."""
    path = Path(path)
    with _archive_errors(path), open(path, "rb") as file:
        containers.members(path.name, file)
    return Archive(path)


def _read(
    container: str, stream: containers.Stream, wanted: set[str]
) -> Iterator[tuple[str, bytes]]:
    """Members of a container, depth first: `a!b` is the member b of its member a."""
    inner: dict[str, set[str]] = {}
    for name in wanted:
        first, _, rest = name.partition("!")
        inner.setdefault(first, set()).add(rest)
    for name, member in containers.members(container, stream):
        rests = inner.pop(name, set())
        if "" in rests:
            content = containers.read_whole(name, member)
            yield name, content
            rests.discard("")
            member = BytesIO(content)
        if rests:
            for rest, content in _read(name, member, rests):
                yield f"{name}!{rest}", content
        if not inner:
            return


def _names(container: str, stream: containers.Stream, *, depth: int) -> Iterator[str]:
    for name, member in containers.members(container, stream):
        yield name
        member = containers.peekable(member)
        if depth > 0 and containers.is_container(name, member):
            for inner in _names(name, member, depth=depth - 1):
                yield f"{name}!{inner}"


@contextmanager
def _archive_errors(path: Path) -> Iterator[None]:
    """Turn whatever a parser raises into BrokenArchive, which names the file."""
    try:
        yield
    except FileNotFoundError:
        raise BrokenArchive(path, "there is no such file") from None
    except ValueError as error:
        raise BrokenArchive(path, str(error)) from error
    except containers.DAMAGE_ERRORS as error:
        why = f"{error or type(error).__name__} (truncated? delete it and fetch it again)"
        raise BrokenArchive(path, why) from error
