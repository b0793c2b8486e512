"""How much may be asked of a server, and what a caption must be."""

from collections.abc import Sequence
from dataclasses import dataclass

from flamlib import texts
from flamlib.serve.refusals import Refused

MAX_CAPTIONS = 100  # of a request
MAX_LETTERS = 500  # of a caption
MAX_HITS = 200  # of a search
MAX_JSON = 2**20  # bytes of a request that is no recording


@dataclass(frozen=True)
class Limits:
    """How much a server takes.

    Attributes:
        max_bytes: Of a recording.
        max_s: Of a recording, in seconds.
        timeout_s: Until a request is given up, in seconds.
        n_kept: Recordings that are kept, to be asked again.
        n_waiting: Requests that may wait for the model.
    """

    max_bytes: int
    max_s: float
    timeout_s: float = 300.0
    n_kept: int = 8
    n_waiting: int = 16


def check_captions(given: Sequence[str]) -> list[str]:
    """Return captions in the form of `texts.normal`.

    Raises Refused, which says which of them cannot be used and why.
    """
    if not given:
        raise Refused(422, "no_captions", "No caption: say what to look for, such as a dog barks.")
    if len(given) > MAX_CAPTIONS:
        raise Refused(
            422,
            "too_many_captions",
            f"{len(given)} captions; at most {MAX_CAPTIONS} are taken at once.",
        )
    captions = [texts.normal(text) for text in given]
    seen: dict[str, int] = {}
    for number, caption in enumerate(captions, start=1):
        if not caption:
            raise Refused(422, "empty_caption", f"Caption {number} is empty.")
        if any("\ud800" <= letter <= "\udfff" for letter in caption):  # JSON may have one
            raise Refused(422, "half_letter", f"Caption {number} has half a letter; send it whole.")
        if len(caption) > MAX_LETTERS:
            raise Refused(
                422,
                "long_caption",
                f"Caption {number} has {len(caption)} letters; at most {MAX_LETTERS} are taken.",
            )
        first = seen.setdefault(texts.key(caption), number)
        if first != number:
            raise Refused(
                422, "same_caption", f"Captions {first} and {number} are the same: {caption}."
            )
    return captions
