"""Which recording a label file means by a path, of which it may have the end alone."""

from collections.abc import Sequence
from os.path import commonprefix
from pathlib import PurePosixPath

from flamlib import texts


def as_path(name: str) -> PurePosixPath:
    """Return a path as it is compared: composed letters, folders separated by `/`."""
    return PurePosixPath(texts.composed(name.replace("\\", "/")))


def matching(wanted: PurePosixPath, paths: Sequence[PurePosixPath]) -> list[PurePosixPath]:
    """Return the paths that are the wanted one, by the first way in which any is.

    The ways are: the same path as far as both go; that without suffixes; the name, or else the
    stem, and the most folders before it.
    """

    def n_shared(path: PurePosixPath, whole: bool) -> int:
        """How many parts of them are the same, if all that both have are; else 0."""
        one, other = ((*p.parts[:-1], p.name if whole else p.stem) for p in (path, wanted))
        n = min(len(one), len(other))
        return n if one[-n:] == other[-n:] else 0

    for whole in (True, False):
        shared = {path: (n_shared(path, whole), path == wanted) for path in paths}
        if (most := max(shared.values()))[0]:
            return [path for path, n in shared.items() if n == most]
    alike = [path for path in paths if path.name == wanted.name] or [
        path for path in paths if path.stem == wanted.stem
    ]
    pairs = [[p.with_suffix("").parts[::-1] for p in (path, wanted)] for path in alike]
    n_shared_end = [len(commonprefix(pair)) for pair in pairs]  # noqa: RUF071, of parts
    return [path for path, n in zip(alike, n_shared_end, strict=True) if n == max(n_shared_end)]
