"""Events as label files have them, before they are repaired to events of a recording."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from flamlib.sound_events.events import Event, merge

GRACE_S = 1e-4  # an event that ends with its recording may seem to end half a sample later


class RawEvent(NamedTuple):
    """An event as a file has it, before `repair`; `where` is file and line, or file and number."""

    where: str
    onset: float
    offset: float
    caption: str


def repair(
    events: Iterable[RawEvent], duration_s: float | None
) -> tuple[list[Event], Counter[str]]:
    """Return events of a recording as frames and metrics can use them, and what was changed.

    They are joined and in order. `duration_s` is the length of the recording, None if that is not
    known. An event that ends by half a sample later than the recording ends with it, which is no
    repair. The repairs are counted by kind: `zero_length`, an event that ends where it begins, and
    `beyond`, one that begins after the end, are dropped; one that is `clipped` reached beyond the
    end; events that are `merged` overlapped or touched one of the same caption.

    Raises ValueError, naming file and line, for an event that `check` refuses.
    """
    end_s = float("inf") if duration_s is None else duration_s
    kept, repairs = [], Counter()
    for event in events:
        check(event)
        if event.onset == event.offset:
            repairs["zero_length"] += 1
        elif event.onset >= end_s:
            repairs["beyond"] += 1
        else:
            repairs["clipped"] += event.offset > end_s + GRACE_S
            kept.append(Event(event.onset, min(event.offset, end_s), event.caption))
    merged = merge(kept)
    repairs["merged"] += len(kept) - len(merged)
    return merged, +repairs


def check(event: RawEvent) -> RawEvent:
    """Return the event. Raises ValueError if it is not 0 <= onset <= offset, or has no label."""
    if not 0 <= event.onset <= event.offset < float("inf"):
        raise ValueError(
            f"{event.where}: an event from {event.onset} to {event.offset} s; expected "
            "0 <= onset <= offset"
        )
    if not event.caption.strip():
        raise ValueError(f"{event.where}: an event without a label")
    return event
