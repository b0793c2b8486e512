"""Events (onset, offset, caption), tables of them, and their conversion to frames.

Frame l spans [l, l + 1) * frame_s seconds.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from flamlib import texts
from flamlib.storage import tables

HEADER = ("filename", "onset", "offset", "event_label")


class Event(NamedTuple):
    """The time in which a caption sounds, in seconds from the start of the clip.

    >>> Event(0.5, 1.6, "a dog barks")
    Event(onset=0.5, offset=1.6, caption='a dog barks')
    """

    onset: float
    offset: float
    caption: str


def count_frames(duration_s: float, frame_s: float) -> int:
    """Return the number of frames that begin before a clip ends, at least one."""
    return max(1, math.ceil(duration_s / frame_s - 1e-6))


def frame_blocks(duration_s: float, frame_s: float, size: int) -> list[range]:
    """Cut the frames of a clip into blocks of `size` frames, the last one of what is left.

    Audio of less than half a frame is no block: it stays with the block before, which then has one
    frame more. Clips of ten seconds are often a few milliseconds longer.

    >>> frame_blocks(10.01, 0.5, 10)
    [range(0, 10), range(10, 21)]
    >>> frame_blocks(10.4, 0.5, 10)
    [range(0, 10), range(10, 20), range(20, 21)]
    """
    n_frames = count_frames(duration_s, frame_s)
    firsts = list(range(0, n_frames, size))
    if len(firsts) > 1 and duration_s / frame_s - firsts[-1] < 0.5:
        firsts.pop()
    return [range(first, end) for first, end in pairwise([*firsts, n_frames])]


def frame_edges(duration_s: float, frame_s: float) -> Float[np.ndarray, "edge"]:
    """Return the edges of a clip's frames in seconds: one more than there are frames.

    Edge l is l * frame_s, but for the last one: the last frame ends with the clip.

    >>> frame_edges(1.1, 0.5)
    array([0. , 0.5, 1. , 1.1])
    """
    edges = np.arange(count_frames(duration_s, frame_s) + 1) * frame_s
    # A clip without samples still has one frame, of a microsecond: edges always rise.
    edges[-1] = min(edges[-1], max(duration_s, edges[-2] + 1e-6))
    return edges


def active_frames(
    events: Sequence[Event],
    captions: Sequence[str],
    *,
    n_frames: int,
    frame_s: float,
    clip_s: float,
) -> Bool[np.ndarray, "caption frame"]:
    """Return which captions are active in which frames.

    A frame is active if an event of the caption covers at least half of it, or if at least half of
    the event lies in it:

        overlap(event, l) >= 1/2 * min(length of l, event.offset - event.onset)

    So an event within the clip has at least one active frame, however short it is. The last frame
    is as long as what lies of it in the clip, see `frame_edges`: a sound that lasts to the end is
    active to the end.

    Args:
        events: of one clip; those of other captions are ignored.
        captions: the rows of the result.
        n_frames: frames of the clip.
        frame_s: length of a frame in seconds.
        clip_s: length of the clip in seconds.

    >>> bark = Event(0.5, 1.6, "dog bark")
    >>> active_frames([bark], ["dog bark", "rain"], n_frames=4, frame_s=0.5, clip_s=2.0).astype(int)
    array([[0, 1, 1, 0],
           [0, 0, 0, 0]])
    """
    active = np.zeros((len(captions), n_frames), dtype=bool)
    starts = np.arange(n_frames) * frame_s
    ends = np.minimum(starts + frame_s, clip_s)
    rows = defaultdict(list)
    for row, caption in enumerate(captions):
        rows[caption].append(row)

    for onset, offset, caption in events:
        if caption not in rows:
            continue
        overlap = np.minimum(offset, ends) - np.maximum(onset, starts)
        # A tolerance of a nanosecond: three tenths add up to 0.30000000000000004.
        needed = 0.5 * np.minimum(ends - starts, offset - onset) - 1e-9
        active[rows[caption]] |= (overlap >= needed) & (overlap > 0)
    return active


def merge(events: Iterable[Event]) -> list[Event]:
    """Sort events and join those of one caption that overlap or touch.

    >>> merge([Event(1, 2, "rain"), Event(0, 1, "rain"), Event(1.5, 3, "wind")])
    [Event(onset=0, offset=2, caption='rain'), Event(onset=1.5, offset=3, caption='wind')]
    """
    merged = []
    last = {}  # caption -> index of its latest event in `merged`
    for event in sorted(events):
        i = last.get(event.caption)
        if i is not None and event.onset <= merged[i].offset:
            merged[i] = merged[i]._replace(offset=max(merged[i].offset, event.offset))
        else:
            last[event.caption] = len(merged)
            merged.append(event)
    return sorted(merged)  # of one onset, an event may have become the longer one


def read_events(path: str | Path) -> dict[str, list[Event]]:
    """Read an event table, see `HEADER`, as sed_scores_eval and DESED have it.

        filename    onset  offset  event_label
        00001.flac  2.3    4.3     a dog barks
        00007.flac

    A row of a file name alone is a file in which nothing sounds. Labels that read the same are one
    caption, in its first spelling; names that differ only in how they are composed are one file.
    Returns the events of each file. Raises ValueError naming file and line.
    """
    rows = tables.read(path, HEADER, optional=(), filled=("filename",), short_rows=True)
    spelled = texts.spellings(row["event_label"] for row in rows)
    names: dict[str, str] = {}
    events: dict[str, list[Event]] = {}
    for row in rows:
        name = names.setdefault(texts.composed(row["filename"]), row["filename"])
        in_file = events.setdefault(name, [])
        onset, offset, caption = (row[column] for column in HEADER[1:])
        if any(value.strip() for value in (onset, offset, caption)):
            in_file.append(_event(onset, offset, spelled[caption], where=row.where))
    return events


def write_events(path: str | Path, events: Mapping[str, Iterable[Event]]) -> None:
    """Write the table that `read_events` and sed_scores_eval read; times keep every digit.

    Raises ValueError for a name or an event that could not be read back.
    """
    rows = [HEADER]
    for filename, in_file in events.items():
        where = f"{path}, {filename!r}"
        if not filename.strip():
            raise ValueError(f"{where}: a file without a name")
        of_file = [_event(*event, where=where) for event in in_file]
        for onset, offset, caption in of_file:
            if texts.normal(caption) != caption:
                raise ValueError(
                    f"{where}: the caption {caption!r} would be read back as "
                    f"{texts.normal(caption)!r}"
                )
            rows.append((filename, repr(onset), repr(offset), caption))
        if not of_file:
            rows.append((filename, "", "", ""))
    tables.write(path, rows)


def _event(
    onset: str | float | int, offset: str | float | int, caption: str, *, where: str
) -> Event:
    try:
        onset, offset = float(onset), float(offset)
    except ValueError as error:
        raise ValueError(f"{where}: onset and offset must be seconds ({error})") from error
    if not 0 <= onset < offset < float("inf"):
        raise ValueError(f"{where}: expected 0 <= onset < offset, found {onset} and {offset}")
    if not caption.strip():
        raise ValueError(f"{where}: an event without a caption")
    return Event(onset, offset, caption)
