"""What a command of `flam` says to its user when it cannot go on."""

from importlib.util import find_spec

SOME_SKIPPED = 1  # exit code of a command that could not use all of its input


class UsageError(Exception):
    """A command cannot be carried out; the message says why and what would help."""


def printable(text: str) -> str:
    """Return a text on one line, with letters only that a terminal can show."""
    text = " ".join(text.split())
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def require(*packages: str) -> None:
    """Raise ModuleNotFoundError for an optional package that is missing.

    Called before the work that needs it in the end.
    """
    for name in packages:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
