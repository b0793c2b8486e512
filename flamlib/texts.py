"""One form of a text: captions, labels and names that no reader tells apart are the same.

Whatever is read (a table, an argument, a list) goes through `normal`; whatever is compared goes
through `key`. Names of files are compared by `composed` alone, as a disk may hold both `a.wav` and
`A.wav`. Numbers that stand there as text have one form, too: that of `number`.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping

# Unicode's default ignorable characters, which nothing is drawn for, and control characters that
# are no white space. Joiners (U+200C, U+200D) and variation selectors shape what stands beside
# them: they stay in what is shown, and do not count in what is compared.
_HIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufff8]"
)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)
_SHAPING = re.compile("[\u200c\u200d\ufe00-\ufe0f\U000e0000-\U000e0fff]")


def composed(name: str) -> str:
    """Return a name in Unicode's composed form (NFC): file systems differ in which they keep."""
    return unicodedata.normalize("NFC", name)


def normal(text: str) -> str:
    """Return a text as it is shown: on one line, composed, without what nobody sees.

    White space of any kind and length, line breaks included, becomes one blank.

    >>> normal("  a dog\\u2028barks\\u200b ")
    'a dog barks'
    """
    return " ".join(composed(_HIDDEN.sub("", text)).split())


def key(text: str) -> str:
    """Return what two texts have in common if they read the same.

    That is `normal`, with case folded and characters of compatibility (full width, ligatures)
    replaced, as Unicode's NFKC_Casefold does it for names that people must not confuse.

    >>> key("A Dog\\tbarks") == key("a dog barks") == key("\\uff21 dog barks")
    True
    """
    folded = unicodedata.normalize("NFKC", _SHAPING.sub("", normal(text))).casefold()
    return normal(unicodedata.normalize("NFKC", folded))


def number(text: str) -> float:
    """Return the number that a text is: digits, and a decimal point and an exponent at most.

    Python reads more: `1_0` as 10, the digits of any script, `nan` and `infinity`.

    Raises ValueError for any other text, and for a number too large for a float.

    >>> number(" -2.5e3 ")
    -2500.0
    """
    text = text.strip()
    if not _NUMBER.fullmatch(text) or abs(float(text)) == float("inf"):
        raise ValueError(f"{text!r} is not a number")
    return float(text)


def count(text: str) -> int:
    """Return the whole number from 1 that a text is. Raises ValueError for any other text."""
    value = number(text)
    if value < 1 or value % 1:
        raise ValueError(f"{text!r} is not a whole number from 1")
    return int(value)


def spellings(texts: Iterable[str]) -> dict[str, str]:
    """Return, for each of some texts, the first of them that reads the same, in `normal` form.

    >>> spellings(["Rain", "wind", "rain"])
    {'Rain': 'Rain', 'wind': 'wind', 'rain': 'Rain'}
    """
    first: dict[str, str] = {}
    return {text: first.setdefault(key(text), normal(text)) for text in texts}


def number_texts(texts: Iterable[str]) -> list[int]:
    """Return a number for each text, the same for those that read the same, in order from 0.

    >>> number_texts(["Rain", "wind", "rain"])
    [0, 1, 0]
    """
    numbers: dict[str, int] = {}
    return [numbers.setdefault(key(text), len(numbers)) for text in texts]


def spelling_notes(spelled: Mapping[str, str]) -> list[str]:
    """Return a sentence on what `spellings` made one, or nothing if that was only white space."""
    others = sorted({(normal(text), first) for text, first in spelled.items()})
    pairs = [f"{text!r} as {first!r}" for text, first in others if text != first]
    if not pairs:
        return []
    more = f" and {len(pairs) - 3} more" if len(pairs) > 3 else ""
    return [f"counted as one because they read the same: {', '.join(pairs[:3])}{more}"]
