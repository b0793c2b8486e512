"""What a command of `flam` says to its user when it cannot go on."""


class UsageError(Exception):
    """A command cannot be carried out; the message says why and what would help."""


def printable(text: str) -> str:
    """Return a text on one line, with letters only that a terminal can show."""
    text = " ".join(text.split())
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
