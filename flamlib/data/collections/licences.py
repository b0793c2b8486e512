"""Licences by one short name, whatever a collection calls them: an address, a title, a sign."""

import re
from collections.abc import Collection

_PARTS = {  # of a licence of Creative Commons beside "by", as addresses and titles have it
    "nc": r"\bnc\b|non-?\s?commercial",
    "sa": r"\bsa\b|share-?\s?alike",
    "nd": r"\bnd\b|no-?\s?deriv",
}
_OTHERS = {
    "gpl": r"\bl?gpl\b|general public licen",
    "mit": r"\bmit\b",
    "artistic": r"\bartistic\b",
    "academic": r"\bacademic\b",
}


def name(text: str) -> str:
    """Return the name, one of `config.Licence`, of the licence that a text states, or "unknown".

    A text that states several has the first that is found, of Creative Commons before others.

    >>> name("http://creativecommons.org/licenses/by-nc/3.0/"), name("CC BY-SA 3.0 (Media/*)")
    ('cc-by-nc', 'cc-by-sa')
    >>> name("Creative Commons 0"), name("Attribution NonCommercial"), name("ask me")
    ('cc0', 'cc-by-nc', 'unknown')
    """
    lower = text.lower().replace("_", "-")
    if re.search(r"publicdomain/zero|\bcc-?\s?0|\bcc-?\s?zero|creative commons (0|zero)", lower):
        return "cc0"
    if re.search(r"sampling\s?(\+|plus)", lower):
        return "sampling+"
    if re.search(r"\bby\b|attribution", lower):
        stated = [part for part, pattern in _PARTS.items() if re.search(pattern, lower)]
        if "nd" in stated:
            stated = [part for part in stated if part != "sa"]
        return "-".join(["cc-by", *stated])
    if re.search(r"public\s?domain", lower):
        return "public-domain"
    return next((kind for kind, pattern in _OTHERS.items() if re.search(pattern, lower)), "unknown")


def find_refusal(text: str, allowed: Collection[str]) -> str:
    """Return why a recording under a licence is left out, "" if it is not.

    `allowed` are names; none allows every licence. Of alternatives ("GPL-2+ or CC BY 3.0") one has
    to be allowed.
    """
    if not allowed or any(name(part) in allowed for part in re.split(r"\bor\b", text)):
        return ""
    named = name(text)
    stated = f"{text!r}, read as {named}," if named != text.lower() else repr(text)
    return f"its licence is {stated} and source.licences allows {', '.join(sorted(allowed))}"
