"""Draw mixtures at random, with exact labels of when each event is loud enough.

The rules are those of FLAM (arXiv:2505.05335): one background, up to ten events of which at most
three sound at once, some cut into fragments and some repeated; the label of an event is the time in
which its own level is high enough.

What is drawn depends on the bank, the rules and the key (seed, split, index) alone, so any mixture
can be drawn again without the others.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from math import log10

import pyarrow
from tqdm import tqdm

from flamlib.compute import parallel
from flamlib.compute.distributions import KeyedRandom
from flamlib.data.mixtures import backgrounds, levels, recipes
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.recipes import PlacedEvent, Recipe, Segment
from flamlib.data.mixtures.sources import HOP_S
from flamlib.experiment.params.sounds import MixtureConfig
from flamlib.sound_events.events import Event, merge

EVENTS_PEAK = 0.9  # of as many as sound at once; the rest is the background's
TRIES = 20  # attempts to place an event
BLOCK = 2000  # recipes of a table: as many are in memory at once


def check(bank: Bank, rules: MixtureConfig, *, split: str) -> None:
    """Raise ValueError if the bank does not hold what mixtures of a split need."""
    splits = sorted(bank.distinct("split"))
    needed = [("foreground", split, package) for package in _packages(rules, split) or [None]]
    behind = {"background": rules.background_prob, "masker": _masker_prob(bank, rules, split)}
    needed += [
        (role, backgrounds.split_of(split), None) for role, prob in behind.items() if prob > 0
    ]
    for role, needed_split, package in needed:
        if not bank.recordings(role, needed_split, package):
            source = f" of package {package!r}" if package else ""
            helps = ["the column split of data/clips.tsv says which recordings are for what"]
            if package:
                helps = [f"give {package!r} some, or take it out of mixture.package_weights"]
            elif role in behind:
                helps.append(f"mixture.{role}_prob: 0 does without")
            if lost := [*bank.skipped().values()]:
                helps.append(f"{len(lost)} recordings cannot be used, such as {lost[0]}")
            raise ValueError(
                f"{bank.folder}: no {role} of split {needed_split!r}{source}, which {split!r} "
                f"needs; the bank holds {splits}; {'; '.join(helps)}"
            )
    if rules.clip_s > bank.clip_s:
        raise ValueError(
            f"{bank.folder} was built for clips of {bank.clip_s} s, its backgrounds may be shorter "
            f"than the {rules.clip_s} s asked for: build it again"
        )


def draw(bank: Bank, rules: MixtureConfig, *, seed: int, split: str, index: int) -> Recipe:
    """Draw the mixture `index` of a split.

    Captions are drawn with equal probability, however many recordings they have: first a caption,
    then one of its recordings, then a variant of it; in training, first a package by its weight, if
    packages have any: what is held out is of other packages. No two events of a clip come from the
    same group of near duplicates, and none is of a family that can be heard in the background. An
    event is given up if no place is found for it, or if its peak would have to be limited so much
    that it falls below the lowest `snr_db`. A masker, in training, lies over the same mixture as
    without.

    Args:
        bank: the recordings.
        rules: how mixtures are made.
        seed: of the experiment.
        split: "train", "valid", "seen_captions" or "unseen_captions".
        index: of the mixture, from 0.
    """
    rng = KeyedRandom(seed, "mixture", split, index)
    n_samples = round(rules.clip_s * bank.sample_rate)
    background, background_db, refused = None, 0.0, ()
    if rules.background_prob >= 1 or rng.random() < rules.background_prob:
        background, row = backgrounds.draw(bank, rules, rng, split=split, n_samples=n_samples)
        background_db, refused = background.level_db, bank.get(row, "audible")
    else:
        background_db = rules.background_db.draw(rng)

    occupied: list[tuple[int, int]] = []  # from which to which sample something sounds
    groups, events, labels = set(), [], []
    n_events = rules.n_events.draw(rng)
    for attempt in range(n_events + TRIES):
        if attempt >= n_events and len(events) >= rules.n_events.lowest:
            break
        row = _draw_foreground(bank, rules, rng, split)
        if bank.get(row, "group") in groups or bank.get(row, "family") in refused:
            continue
        parts = _draw_pieces(bank, rules, rng, row, n_samples)
        snr_db = rules.snr_db.draw(rng)
        segments = _place(rules, rng, parts, occupied, n_samples)
        if segments is None:
            continue
        event, active = _event(bank, rules, row, segments, background_db, snr_db)
        if not active or event.snr_db < rules.snr_db.lowest - 1e-9:
            continue
        occupied += [(onset, onset + length) for onset, _, length in segments]
        groups.add(bank.get(row, "group"))
        events.append(event)
        labels += active

    recipe = _recipe(bank, rules, split, index, background, events, labels)
    return backgrounds.mask(bank, rules, recipe, seed=seed, prob=_masker_prob(bank, rules, split))


def draw_single_event(
    bank: Bank,
    rules: MixtureConfig,
    *,
    seed: int,
    split: str,
    index: int,
    source: int,
    background: bool,
) -> Recipe:
    """Draw a clip of one event, repeated as often as it fits, so that a caption describes it whole.

    Args:
        bank: the recordings.
        rules: how mixtures are made; `clip_s` is the length of the clip.
        seed: of the experiment.
        split: of the recordings.
        index: of the clip; with seed and split it decides everything that is drawn.
        source: row of the bank.
        background: put it on a random background. Without one, the event has the level and the
            labels that it would have on one.
    """
    rng = KeyedRandom(seed, "solo", split, index)
    n_samples = round(rules.clip_s * bank.sample_rate)
    excerpt, background_db = None, rules.background_db.draw(rng)
    if background:
        excerpt, _ = backgrounds.draw(bank, rules, rng, split=split, n_samples=n_samples)
        background_db = excerpt.level_db
    length = min(bank.get(source, "n_samples"), n_samples)
    piece = _crop(bank, rng, source, length)

    segments, onset = [], 0
    while onset + length <= n_samples:
        segments.append(Segment(onset, piece, length))
        onset += length + _draw_pause(bank, rules, rng)
    snr_db = rules.snr_db.draw(rng)
    event, labels = _event(bank, rules, source, tuple(segments), background_db, snr_db)
    return _recipe(bank, rules, split, index, excerpt, [event], labels)


def add_background(
    bank: Bank,
    rules: MixtureConfig,
    placed: Sequence[tuple[int, Sequence[Segment]]],
    *,
    seed: int,
    split: str,
    index: int,
) -> Recipe:
    """Put given events on a random background, for controlled experiments.

    Only the background and the SNRs are drawn.

    Args:
        bank: the recordings.
        rules: how mixtures are made.
        placed: of each event its row in the bank and its segments.
        seed: of the experiment.
        split: of the backgrounds.
        index: of the clip; with seed and split it decides everything that is drawn.
    """
    rng = KeyedRandom(seed, "over", split, index)
    n_samples = round(rules.clip_s * bank.sample_rate)
    background, _ = backgrounds.draw(bank, rules, rng, split=split, n_samples=n_samples)
    events, labels = [], []
    for row, segments in placed:
        snr_db = rules.snr_db.draw(rng)
        event, active = _event(bank, rules, row, tuple(segments), background.level_db, snr_db)
        events.append(event)
        labels += active
    return _recipe(bank, rules, split, index, background, events, labels)


def draw_many(
    bank: Bank,
    rules: MixtureConfig,
    *,
    seed: int,
    split: str,
    n: int,
    n_jobs: int,
    progress: bool = True,
) -> Iterator[pyarrow.Table]:
    """Draw the mixtures 0 to `n - 1` of a split, as tables of `recipes.SCHEMA`.

    `recipes.write` takes the tables one by one, so a million mixtures need no more memory than a
    few thousand.

    Args:
        bank: the recordings.
        rules: how mixtures are made.
        seed: of the experiment.
        split: of the recordings.
        n: how many.
        n_jobs: processes.
        progress: show a progress bar.

    Raises:
        ValueError: see `check`; before anything is drawn.
    """
    check(bank, rules, split=split)
    blocks = [range(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]
    work = partial(_draw_table, bank, rules, seed, split)
    tables = parallel.in_order(work, blocks, n_jobs=n_jobs if len(blocks) > 1 else 1)
    return _counted(tables, tqdm(total=n, desc=f"draw {split}", unit="clip", disable=not progress))


def _counted(tables: Iterable[pyarrow.Table], bar: tqdm) -> Iterator[pyarrow.Table]:
    with bar:
        for table in tables:
            bar.update(table.num_rows)
            yield table


def _masker_prob(bank, rules, split) -> float:
    """Of training alone, and of a bank that has such recordings at all: few corpora do."""
    has_maskers = split == "train" and "masker" in bank.distinct("role")
    return rules.masker_prob if has_maskers else 0.0


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


def _packages(rules, split) -> tuple[str, ...]:
    """Those that have a weight: of training alone, as what is held out is of other packages."""
    return rules.packages if split == "train" else ()


def _draw_foreground(bank, rules, rng, split) -> int:
    package = None
    if packages := _packages(rules, split):
        package = rng.weighted_choice(packages, rules.cumulative_weights)
    return rng.choice(rng.choice(rng.choice(bank.nested("foreground", split, package))))


def _draw_pieces(bank, rules, rng, row, n_clip) -> list[tuple[int, int, int]]:
    """The pieces of a source that sound, in order: (source_start, n_samples, pause before it)."""
    rate = bank.sample_rate
    length = min(bank.get(row, "n_samples"), round(rules.max_event_s * rate), n_clip)
    start = _crop(bank, rng, row, length)
    active_s = min(bank.get(row, "offset") - bank.get(row, "onset"), length / rate)

    parts = [(start, length)]
    kind = rng.random()
    if kind < rules.fragment_prob:
        cuts = sorted(rng.integer(length) for _ in range(rules.n_fragments.draw(rng) - 1))
        fragments = [(start + a, b - a) for a, b in pairwise([0, *cuts, length])]
        # Unless a fragment is shorter than a window of the level profile.
        if min(n for _, n in fragments) >= 2 * HOP_S * rate:
            parts = fragments
    elif kind < rules.fragment_prob + rules.repeat_prob:
        parts *= rules.n_repeats.draw(rng)
    elif active_s < rules.short_event_s:
        parts *= rules.n_short_repeats.draw(rng)

    timed, used = [], 0
    for source_start, n in parts:
        pause = _draw_pause(bank, rules, rng) if timed else 0
        if used + pause + n > n_clip:
            break  # the rest does not fit into the clip
        timed.append((source_start, n, pause))
        used += pause + n
    return timed


def _crop(bank, rng, row, length) -> int:
    """A random start of an excerpt of this length in a source, so that it is not nearly silent."""
    spare = bank.get(row, "n_samples") - length
    if spare <= 0:
        return 0
    levels_db = bank.levels(row)
    for _ in range(TRIES):
        start = rng.integer(spare)
        if bank.levels(row, start, length).max() >= levels_db.max() - 20:
            return start
    loudest = round((float(levels_db.argmax()) + 0.5) * HOP_S * bank.sample_rate)
    return min(max(loudest - length // 2, 0), spare)


def _draw_pause(bank, rules, rng) -> int:
    return round(rules.pause_s.draw(rng) * bank.sample_rate)


def _place(rules, rng, parts, occupied, n_clip) -> tuple[Segment, ...] | None:
    """Put the pieces at a random time where polyphony allows one more; None if none is found."""
    spare = n_clip - sum(n + pause for _, n, pause in parts)
    for _ in range(TRIES):
        onset = min(int(rules.event_position.draw(rng) * (spare + 1)), spare)
        segments = []
        for source_start, n, pause in parts:
            onset += pause
            segments.append(Segment(onset, source_start, n))
            onset += n
        if not any(
            _full(occupied, s.onset, s.onset + s.n_samples, rules.max_polyphony) for s in segments
        ):
            return tuple(segments)
    return None


def _full(occupied, start, stop, limit) -> bool:
    """Whether `limit` of the occupied spans sound at once anywhere from `start` to `stop`."""
    inside = [span for span in occupied if span[0] < stop and span[1] > start]
    if len(inside) < limit:
        return False
    # Their number only grows where one begins.
    moments = [start, *(a for a, _ in inside if a > start)]
    return any(sum(a <= moment < b for a, b in inside) >= limit for moment in moments)


def _event(bank, rules, row, segments, background_db, snr_db) -> tuple[PlacedEvent, list[Event]]:
    """The event at an SNR as near to `snr_db` as its peak allows, and when it is active."""
    n_fade = round(rules.fade_s * bank.sample_rate)
    pieces = tuple(sorted({(s.source_start, s.n_samples) for s in segments}))
    level_db = levels.level_db(bank, row, pieces, n_fade)
    peak = max(bank.peak(row, *piece) for piece in pieces)
    gain_db = background_db + snr_db - level_db
    gain_db = min(gain_db, 20 * log10(EVENTS_PEAK / rules.max_polyphony / peak))

    event = PlacedEvent(
        clip_id=bank.get(row, "clip_id"),
        variant=bank.get(row, "variant"),
        caption=bank.get(row, "caption"),
        family=bank.get(row, "family"),
        snr_db=level_db + gain_db - background_db,
        gain=10 ** (gain_db / 20),
        segments=segments,
    )
    floor_db = rules.silence_dbfs
    if rules.min_snr_db is not None:
        floor_db = max(floor_db, background_db + rules.min_snr_db)
    loud = {
        piece: levels.loud_spans(bank, row, *piece, n_fade, floor_db - gain_db) for piece in pieces
    }
    return event, _active(bank, rules, event, loud)


def _active(bank, rules, event, loud) -> list[Event]:
    """When an event is active, in seconds, from the samples at which each piece of it is loud."""
    rate, spans = bank.sample_rate, []
    for onset, start, n in event.segments:
        shift = onset - start
        spans += [[(a + shift) / rate, (b + shift) / rate] for a, b in loud[start, n]]
    smoothed = levels.smooth(spans, rules.fill_gaps_below_s, rules.drop_activity_below_s)
    return [Event(a, b, event.caption) for a, b in smoothed]


def _draw_table(bank, rules, seed, split, indices) -> pyarrow.Table:
    schema = recipes.MASKED if _masker_prob(bank, rules, split) > 0 else recipes.SCHEMA
    drawn = (draw(bank, rules, seed=seed, split=split, index=i) for i in indices)
    return recipes.to_table(drawn, schema)
