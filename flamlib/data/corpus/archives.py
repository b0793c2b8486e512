"""Members of package files, read without unpacking them: nothing is ever written to disk.

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

_MAX_DEPTH = 3  # containers in containers, when listing: more is a trap, not a package


class BrokenArchive(Exception):
    """An archive that cannot be read, or lacks what it should hold: `path`, and `why`."""

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
        """Every file in it and, with `!`, in the containers in it, in the order of storage."""
        with _explained(self.path), open(self.path, "rb") as file:
            return list(_names(self.path.name, file, depth=_MAX_DEPTH))

    def read(self, name: str) -> bytes:
        """One member. Raises BrokenArchive if there is none of that name."""
        for _, content in self.read_many([name]):
            return content
        raise BrokenArchive(self.path, f"has no member {name}")

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """The named members as (name, content), each once, in the order of storage.

        The pass ends with the last of them. A name the archive does not hold is left out, which
        is for the caller to notice; a symbolic link holds nothing.
        """
        with _explained(self.path), open(self.path, "rb") as file:
            yield from _read(self.path.name, file, {containers.checked(name) for name in names})


def open_archive(path: str | Path) -> Archive:
    """The archive at `path`. Raises BrokenArchive unless it is a file of a known kind."""
    path = Path(path)
    with _explained(path), open(path, "rb") as file:
        containers.members(path.name, file)
    return Archive(path)


def _read(
    container: str, stream: containers.Stream, wanted: set[str]
) -> Iterator[tuple[str, bytes]]:
    """Depth first: a name without `!` is a member here, `a!b` is b in the container a."""
    inner: dict[str, set[str]] = {}
    for name in wanted:
        first, _, rest = name.partition("!")
        inner.setdefault(first, set()).add(rest)
    for name, member in containers.members(container, stream):
        rests = inner.pop(name, set())
        if "" in rests:
            content = containers.whole(name, member)
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
def _explained(path: Path) -> Iterator[None]:
    """Every way in which a parser stumbles, as one sentence that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise BrokenArchive(path, "there is no such file") from None
    except ValueError as error:
        raise BrokenArchive(path, str(error)) from error
    except containers.STUMBLES as error:
        why = f"{error or type(error).__name__} (truncated? delete it and fetch it again)"
        raise BrokenArchive(path, why) from error
