"""Memory that large arrays leave is kept for the next ones, or is not."""

import ctypes

# Options of glibc's mallopt, see malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE = 1 << 25  # from here on an array has memory of its own, which it hands back: 32 MB


def keep_freed() -> None:
    """Let this process keep the memory that it frees, where the C library is glibc.

    Otherwise what is larger than 32 MB is handed back to the system each time, and comes back as
    pages of zeros at the first touch of each: a fifth of the CPU time of a training step.
    """
    _set(mmap_threshold=2**30, trim_threshold=2**31 - 1)


def hand_back_freed() -> None:
    """Let this process hand back what it frees and has freed, where one array may be most of it."""
    _set(mmap_threshold=_LARGE, trim_threshold=_LARGE, trim=True)


def _set(*, mmap_threshold: int, trim_threshold: int, trim: bool = False) -> None:
    try:
        library = ctypes.CDLL(None)
        mallopt, malloc_trim = library.mallopt, library.malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library, another system
        return
    mallopt(_MMAP_THRESHOLD, mmap_threshold)
    mallopt(_TRIM_THRESHOLD, trim_threshold)
    if trim:
        malloc_trim(0)
