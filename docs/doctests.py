"""Examples in docstrings (`>>> ...`) as code blocks of the API pages; an extension of griffe."""

import re

import griffe

_EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\s*$).+)*", flags=re.MULTILINE)


class Doctests(griffe.Extension):
    """Fence every example: Markdown would read its marks as quotations."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(
                lambda found: f"```pycon\n{found[0]}\n```", obj.docstring.value
            )
