"""Mixtures drawn by rule, with labels that are true of their sound.

Nothing but the bank, the rules and the key (seed, split, index) decides what `draw` draws, so any
row of a table of mixtures can be made again without the others.

The rules are those of FLAM (arXiv:2505.05335): one background, up to ten events of which at most
three sound at once, some split and some repeated, labels from the level of the event alone.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise
from multiprocessing import get_context

import numpy as np
import pyarrow

from flamlib import audio
from flamlib.bank import HOP_S, Bank, generator
from flamlib.events import Event, merge
from flamlib.recipes import SCHEMA, Background, Placed, Recipe, Segment, table

# Peaks: three events and the background together never leave [-1, 1].
EVENTS_PEAK, BACKGROUND_PEAK = 0.9, 0.1
TRIES = 20  # to place an event, or to find a piece that is not silent, before giving it up
BLOCK = 500  # recipes that a worker process draws at a time

Number = int | float
Range = Sequence[Number]  # [lowest, highest], both possible


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What mixtures are like: the numbers of an experiment, `Rules(**params["mixtures"])`.

    Raises ValueError for what cannot be meant.
    """

    clip_s: Number
    n_events: Range  # per clip, drawn uniformly
    max_polyphony: int  # events that sound at once
    snr_db: Range  # an event's A-weighted level over the background's
    background_db: Range  # A-weighted level of the background, dBFS
    max_event_s: Number  # longer recordings are cut at a random place
    split_share: Number  # of events are cut into `n_fragments` with gaps between them
    n_fragments: Range
    repeat_share: Number  # of events sound `n_repeats` times
    n_repeats: Range
    short_event_s: Number  # events below this always repeat, `n_short_repeats` times: footsteps
    n_short_repeats: Range
    between_s: Range  # silence between fragments and between repeats
    fade_s: Number  # at both ends of every segment
    inactive_db: Number  # an event below this A-weighted level (dBFS) is not active
    audible_db: Number | None  # nor when this far below the background; None: whatever that is
    gap_s: Number  # shorter pauses in the activity of an event are filled
    spike_s: Number  # and shorter activity is dropped from events that have longer

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is Range:
                if len(value) != 2 or not value[0] <= value[1]:
                    raise ValueError(f"{field.name}: expected [lowest, highest], got {value}")
                object.__setattr__(self, field.name, (value[0], value[1]))
        for name in ("n_events", "n_fragments", "n_repeats", "n_short_repeats"):
            low, high = getattr(self, name)
            if low < 1 or low != int(low) or high != int(high):
                raise ValueError(f"{name}: expected whole numbers from 1, got {[low, high]}")
        for name in ("clip_s", "max_polyphony", "max_event_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")
        for name in ("fade_s", "short_event_s", "gap_s", "spike_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if self.between_s[0] < 0:
            raise ValueError(f"between_s: a pause cannot be negative, got {self.between_s}")
        if min(self.split_share, self.repeat_share, 1 - self.split_share - self.repeat_share) < 0:
            raise ValueError(
                "split_share and repeat_share are shares of all events and add up to at most 1, "
                f"got {self.split_share} and {self.repeat_share}"
            )


def background_split(split: str) -> str:
    """Where the backgrounds of a split's mixtures come from: all held-out parts share theirs."""
    return split if split in ("train", "valid") else "heldout"


def check(bank: Bank, rules: Rules, *, split: str) -> None:
    """Say what stands in the way of drawing mixtures of a split. Raises ValueError."""
    splits = sorted(set(bank.sources["split"]))
    for role, part in (("foreground", split), ("background", background_split(split))):
        if not bank.recordings(role, part):
            raise ValueError(
                f"{bank.folder}: no {role} of split {part!r}, which {split!r} needs; the bank "
                f"holds {splits}"
            )
    if rules.clip_s > bank.clip_s:
        raise ValueError(
            f"{bank.folder} was built for clips of {bank.clip_s} s, its backgrounds may be shorter "
            f"than the {rules.clip_s} s asked for: build it again"
        )


def draw(bank: Bank, rules: Rules, *, seed: int, split: str, index: int) -> Recipe:
    """The mixture `index` of a split.

    Captions are drawn evenly, whatever the number of their recordings: first a caption, then one
    of its recordings, then a variant. No two events of a clip come from one group of near
    duplicates, and none from a family that can be heard in the background. An event that finds no
    free place is given up, as is one that the limit on its peak would leave below `snr_db`.
    """
    rng = generator(seed, "mixture", split, index)
    n_samples = round(rules.clip_s * bank.sample_rate)
    background, row = _draw_background(bank, rules, rng, split, n_samples)
    refused = set(bank.of(row, "audible"))

    occupied = np.zeros(n_samples, np.uint8)  # how many events sound at each sample
    groups, events, labels = set(), [], []
    n_events = _whole(rng, rules.n_events)
    for attempt in range(n_events + TRIES):
        if attempt >= n_events and len(events) >= rules.n_events[0]:
            break
        row = _draw_foreground(bank, rng, split)
        if bank.of(row, "group") in groups or bank.of(row, "family") in refused:
            continue
        pieces = _draw_pieces(bank, rules, rng, row, n_samples)
        snr_db = rng.uniform(*rules.snr_db)
        segments = _place(rng, pieces, occupied, rules.max_polyphony)
        if segments is None:
            continue
        event, active = _event(bank, rules, row, segments, background.level_db, snr_db)
        if not active or event.snr_db < rules.snr_db[0]:
            continue
        for onset, _, length in segments:
            occupied[onset : onset + length] += 1
        groups.add(bank.of(row, "group"))
        events.append(event)
        labels += active

    return _recipe(bank, rules, split, index, background, events, labels)


def solo(
    bank: Bank,
    rules: Rules,
    *,
    seed: int,
    split: str,
    index: int,
    source: int | None = None,
    background: bool,
) -> Recipe:
    """A clip of one event, repeated as often as it fits: what a caption of a whole clip describes.

    `source` is a row of the bank, None draws one as evenly as `draw` does. Without a background
    the event has the level, and the labels, that it would have over one.
    """
    rng = generator(seed, "solo", split, index)
    n_samples = round(rules.clip_s * bank.sample_rate)
    behind, background_db = None, rng.uniform(*rules.background_db)
    if background:
        behind, _ = _draw_background(bank, rules, rng, split, n_samples)
        background_db = behind.level_db
    row = _draw_foreground(bank, rng, split) if source is None else source
    length = min(bank.of(row, "n_samples"), n_samples)
    piece = _crop(bank, rng, row, length)

    segments, onset = [], 0
    while onset + length <= n_samples:
        segments.append(Segment(onset, piece, length))
        onset += length + _draw_pause(bank, rules, rng)
    event, labels = _event(
        bank, rules, row, tuple(segments), background_db, rng.uniform(*rules.snr_db)
    )
    return _recipe(bank, rules, split, index, behind, [event], labels)


def draw_many(
    bank: Bank, rules: Rules, *, seed: int, split: str, n: int, n_jobs: int
) -> pyarrow.Table:
    """The mixtures 0 to n - 1 of a split as a table of `SCHEMA`, one recipe a row."""
    check(bank, rules, split=split)
    work = partial(_draw_table, bank, rules, seed, split)
    blocks = [range(first, min(first + BLOCK, n)) for first in range(0, n, BLOCK)]
    if n_jobs <= 1 or len(blocks) <= 1:
        tables = [work(block) for block in blocks]
    else:
        with ProcessPoolExecutor(n_jobs, mp_context=get_context("spawn")) as pool:
            tables = list(pool.map(work, blocks))
    return pyarrow.concat_tables(tables) if tables else SCHEMA.empty_table()


def _recipe(bank, rules, split, index, background, events, labels) -> Recipe:
    return Recipe(
        index=index,
        split=split,
        sample_rate=bank.sample_rate,
        n_samples=round(rules.clip_s * bank.sample_rate),
        n_fade=round(rules.fade_s * bank.sample_rate),
        background=background,
        events=tuple(events),
        labels=tuple(merge(labels)),
    )


def _draw_foreground(bank, rng, split) -> int:
    recordings = bank.recordings("foreground", split)
    return _pick(rng, _pick(rng, _pick(rng, list(recordings.values()))))


def _draw_background(bank, rules, rng, split, n_samples) -> tuple[Background, int]:
    """A random excerpt of a random background, brought to a random level; and its row."""
    recordings = bank.recordings("background", background_split(split))
    row = _pick(rng, _pick(rng, [clip for clips in recordings.values() for clip in clips]))
    for _ in range(TRIES):
        start = int(rng.integers(bank.of(row, "n_samples") - n_samples, endpoint=True))
        level_db = audio.mean_db(bank.levels(row, start, n_samples))
        if level_db > bank.of(row, "level_db") - 40:
            break  # not one of its silent stretches
    level_db = max(level_db, bank.of(row, "level_db") - 40)
    gain = 10 ** ((rng.uniform(*rules.background_db) - level_db) / 20)
    gain = min(gain, BACKGROUND_PEAK / bank.peak(row, start, n_samples))
    level_db += 20 * np.log10(gain)
    return Background(
        bank.of(row, "clip_id"), bank.of(row, "variant"), start, float(gain), float(level_db)
    ), row


def _draw_pieces(bank, rules, rng, row, n_clip) -> list[tuple[int, int, int]]:
    """What of a source sounds, in order: (source_start, n_samples, pause before it)."""
    rate = bank.sample_rate
    length = min(bank.of(row, "n_samples"), round(rules.max_event_s * rate), n_clip)
    start = _crop(bank, rng, row, length)
    active_s = min(bank.of(row, "offset") - bank.of(row, "onset"), length / rate)

    pieces = [(start, length)]
    kind = rng.random()
    if kind < rules.split_share:
        cuts = np.sort(rng.integers(length + 1, size=_whole(rng, rules.n_fragments) - 1)).tolist()
        edges = [0, *cuts, length]
        # Unless a fragment is shorter than a window of the level profile.
        if min(np.diff(edges)) >= 2 * HOP_S * rate:
            pieces = [(start + a, b - a) for a, b in pairwise(edges)]
    elif kind < rules.split_share + rules.repeat_share:
        pieces *= _whole(rng, rules.n_repeats)
    elif active_s < rules.short_event_s:
        pieces *= _whole(rng, rules.n_short_repeats)

    timed, used = [], 0
    for source_start, n in pieces:
        pause = _draw_pause(bank, rules, rng) if timed else 0
        if used + pause + n > n_clip:
            break  # the rest does not fit into the clip
        timed.append((source_start, n, pause))
        used += pause + n
    return timed


def _crop(bank, rng, row, length) -> int:
    """Where in a source to begin a piece of this length: anywhere that is not next to silent."""
    spare = bank.of(row, "n_samples") - length
    if spare <= 0:
        return 0
    levels_db = bank.levels(row)
    for _ in range(TRIES):
        start = int(rng.integers(spare, endpoint=True))
        if bank.levels(row, start, length).max() >= levels_db.max() - 20:
            return start
    loudest = round((levels_db.argmax() + 0.5) * HOP_S * bank.sample_rate)
    return min(max(loudest - length // 2, 0), spare)


def _draw_pause(bank, rules, rng) -> int:
    return round(rng.uniform(*rules.between_s) * bank.sample_rate)


def _place(rng, pieces, occupied, max_polyphony) -> tuple[Segment, ...] | None:
    """Put the pieces at a random time where there is room for one more; None if none was found."""
    total = sum(n + pause for _, n, pause in pieces)
    for _ in range(TRIES):
        onset = int(rng.integers(len(occupied) - total, endpoint=True))
        segments = []
        for source_start, n, pause in pieces:
            onset += pause
            segments.append(Segment(onset, source_start, n))
            onset += n
        if all(occupied[s.onset : s.onset + s.n_samples].max() < max_polyphony for s in segments):
            return tuple(segments)
    return None


def _event(bank, rules, row, segments, background_db, snr_db) -> tuple[Placed, list[Event]]:
    """The event at an SNR as near to `snr_db` as its peak allows, and when it is active."""
    pieces = {(s.source_start, s.n_samples) for s in segments}
    levels_db = np.concatenate([bank.levels(row, *piece) for piece in sorted(pieces)])
    level_db = audio.gated_db(levels_db)
    peak = max(bank.peak(row, *piece) for piece in pieces)
    gain_db = background_db + snr_db - level_db
    gain_db = min(gain_db, 20 * np.log10(EVENTS_PEAK / rules.max_polyphony / peak))

    event = Placed(
        clip_id=bank.of(row, "clip_id"),
        variant=bank.of(row, "variant"),
        caption=bank.of(row, "caption"),
        family=bank.of(row, "family"),
        snr_db=float(level_db + gain_db - background_db),
        gain=float(10 ** (gain_db / 20)),
        segments=segments,
    )
    floor_db = rules.inactive_db
    if rules.audible_db is not None:
        floor_db = max(floor_db, background_db - rules.audible_db)
    return event, _active(bank, rules, event, row, floor_db - gain_db)


def _active(bank, rules, event, row, floor_db) -> list[Event]:
    """When the segments of an event are louder than a level (dBFS of the source)."""
    hop = HOP_S * bank.sample_rate
    spans = []
    for segment in event.segments:
        start, stop = segment.source_start, segment.source_start + segment.n_samples
        loud = bank.levels(row, start, segment.n_samples) > floor_db
        edges = np.flatnonzero(np.diff(loud, prepend=False, append=False)) + int(start / hop)
        # The first and the last hop may reach out of the segment.
        in_clip = np.clip(edges * hop, start, stop) - start + segment.onset
        spans += (in_clip / bank.sample_rate).reshape(-1, 2).tolist()
    return [Event(a, b, event.caption) for a, b in _smooth(spans, rules.gap_s, rules.spike_s)]


def _smooth(spans: list[list[float]], gap_s: float, spike_s: float) -> list[list[float]]:
    """Spans in order, with short gaps filled and then short spans dropped, unless all are short."""
    joined = []
    for onset, offset in spans:
        if joined and onset - joined[-1][1] < gap_s:
            joined[-1][1] = offset
        else:
            joined.append([onset, offset])
    return [span for span in joined if span[1] - span[0] >= spike_s] or joined


def _pick(rng, items):
    return items[int(rng.integers(len(items)))]


def _whole(rng, bounds) -> int:
    return int(rng.integers(bounds[0], bounds[1], endpoint=True))


def _draw_table(bank, rules, seed, split, indices) -> pyarrow.Table:
    return table(draw(bank, rules, seed=seed, split=split, index=i) for i in indices)
