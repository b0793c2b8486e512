"""Progress bars of commands that hear recordings."""

from collections.abc import Iterable

from tqdm import tqdm


def by_bytes(title: str, n_bytes: Iterable[int], *, shown: bool) -> tqdm:
    """Return a bar that is full after these bytes, as an hour takes longer than a second.

    Args:
        title: what it says before the bar.
        n_bytes: size of each recording's file.
        shown: whether it is to be seen.
    """
    return tqdm(total=sum(n_bytes), unit="B", unit_scale=True, desc=title, disable=not shown)
