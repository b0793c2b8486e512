"""Sources: recordings as they are mixed, cut to where they sound, augmented and measured.

Variant 0 of a recording is the recording itself, a foreground cut to its active part; training
recordings have further variants at another speed and with other augmentation. Each is scaled to the
full range of 16 bits by a factor of its own, and its A-weighted level and largest sample are
measured per hop of 25 ms.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int16, UInt16

from flamlib import texts
from flamlib.compute.distributions import generator
from flamlib.data.mixtures import augmentation
from flamlib.experiment.parameters import plain
from flamlib.experiment.params.sounds import VariantsConfig
from flamlib.storage import tables
from flamlib.storage.tables import Row
from flamlib.waveforms import audio, decibels

WINDOW_S, HOP_S = 0.05, 0.025  # of the level profiles
MARGIN_S = 0.05  # kept on either side of the part in which a foreground sounds
ROLES = ("foreground", "background", "masker")
ACTIVE_RANGE_DB = 40.0  # the active part: from the first to the last hop this close to the loudest

CLIP_COLUMNS = ("clip_id", "path", "role", "caption", "family", "split", "group", "onset", "offset")


class Source(NamedTuple):
    """A source: its row of `Bank.sources`, without its position there, and its arrays."""

    row: dict[str, Any]
    integers: Int16[np.ndarray, "sample"]
    levels_db: Float[np.ndarray, "hop"]
    peaks: UInt16[np.ndarray, "hop"]


def make_sources(
    clip: Mapping[str, Any],
    *,
    data: Path,
    seed: int,
    sample_rate: int,
    clip_s: float | int,
    variants: VariantsConfig,
    rooms: Sequence[Float[np.ndarray, "of_room"]],
) -> list[Source] | str:
    """Make all variants of a recording.

    Args:
        clip: a row of `read_clips`.
        data: folder of the corpus.
        seed: of the augmentation.
        sample_rate: of the bank, Hz.
        clip_s: length of the mixtures, to which backgrounds and maskers are looped.
        variants: see `bank.build`.
        rooms: impulse responses at the sample rate.

    Returns:
        The sources, or the reason why the recording cannot be used.
    """
    foreground = clip["role"] == "foreground"
    n_variants = {
        "foreground": variants.n_foreground,
        "background": variants.n_background,
        "masker": 0,
    }[clip["role"]]
    handled_here = {"n_foreground", "n_background", "speed", "rooms"}
    augment = {key: value for key, value in plain(variants).items() if key not in handled_here}
    augment["rooms"] = rooms
    if not foreground:
        augment["reverb_prob"] = augment["room_prob"] = 0.0  # it was recorded in a room
    try:
        span = {}
        if foreground:
            span = {
                "start_s": max(0.0, clip["onset"] - MARGIN_S),
                "stop_s": clip["offset"] and clip["offset"] + MARGIN_S,
            }
        original, native_rate = audio.read(data / clip["path"], **span)
        sources = []
        for variant in range(1 + n_variants * (clip["split"] == "train")):
            rng = generator(seed, clip["clip_id"], variant)
            speed = 1.0 if variant == 0 else rng.uniform(*variants.speed)
            waveform = audio.resample(original, native_rate * speed, sample_rate)
            if variant:
                waveform = augmentation.augment(waveform, sample_rate, rng, **augment)
            if not foreground:
                waveform = augmentation.loop(waveform, sample_rate, clip_s)
            sources.append(make_source(clip, variant, waveform, sample_rate))
    except audio.Unreadable as error:
        return str(error)
    return sources


def make_source(
    clip: Mapping[str, Any], variant: int, waveform: Float[np.ndarray, "sample"], sample_rate: int
) -> Source:
    """Make a source of a waveform: cut a foreground to its active part, quantise, measure.

    Args:
        clip: a row of `read_clips`.
        variant: its number; 0 is the recording as it is.
        waveform: the variant.
        sample_rate: of the waveform, Hz.

    Raises:
        audio.Unreadable: it is silent, less than 40 dB above the floor of -120 dB at its loudest.
    """
    profile = decibels.a_weighted_db(waveform, sample_rate, window_s=WINDOW_S, hop_s=HOP_S)
    if profile.max() <= decibels.FLOOR_DB + ACTIVE_RANGE_DB:
        raise audio.Unreadable(clip["path"], "silent")
    active = np.flatnonzero(profile >= profile.max() - ACTIVE_RANGE_DB)
    if clip["role"] == "foreground":
        # By level, not by the times in the table, because reverberation moves the end.
        first = max(0, round((active[0] * HOP_S - MARGIN_S) * sample_rate))
        waveform = waveform[first : round(((active[-1] + 1) * HOP_S + MARGIN_S) * sample_rate)]

    scale = float(np.float32(np.abs(waveform).max() / 32767))
    integers = np.round(waveform / np.float32(scale)).astype(np.int16)
    quantised = integers * np.float32(scale)
    profile = decibels.a_weighted_db(quantised, sample_rate, window_s=WINDOW_S, hop_s=HOP_S)
    active = np.flatnonzero(profile >= profile.max() - ACTIVE_RANGE_DB)
    row = {
        "clip_id": clip["clip_id"],
        "variant": variant,
        "role": clip["role"],
        "caption": clip["caption"],
        "family": clip["family"],
        "split": clip["split"],
        "group": clip["group"],
        "package": clip["package"],
        "audible": clip["audible"],
        "start": 0,
        "n_samples": len(integers),
        "scale": scale,
        "level_start": 0,
        "n_levels": len(profile),
        "onset": float(active[0] * HOP_S),
        "offset": float(min((active[-1] + 1) * HOP_S, len(integers) / sample_rate)),
        "level_db": decibels.gated_db(profile),
        "peak": float(np.abs(quantised).max()),
    }
    return Source(row, integers, profile, _peaks(integers, sample_rate, len(profile)))


def _peaks(integers, sample_rate, n_hops):
    """The largest sample of each hop, in steps."""
    first = (np.arange(n_hops) * HOP_S * sample_rate).astype(int)
    amplitude = np.abs(integers.astype(np.int32))
    return np.maximum.reduceat(amplitude, np.minimum(first, len(integers) - 1))


def read_clips(data: Path) -> list[dict[str, Any]]:
    """Read `data/clips.tsv`, and from `data/background_families.tsv` what is heard behind events.

    Returns, for each recording, its `CLIP_COLUMNS`, `package` ("" if the table has none), and
    `audible`, the families that can be heard in a background or a masker; onset and offset in
    seconds, an offset of None standing for the end.

    Raises FileNotFoundError without a table, and ValueError naming file and line of a row that
    cannot be used.
    """
    path = data / "clips.tsv"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no recordings yet; `make data` or 01_corpus makes them")
    rows = tables.read(path, CLIP_COLUMNS, unique="clip_id", short_rows=True)
    audible = defaultdict(list)
    families = data / "background_families.tsv"
    if families.is_file():
        for row in tables.read(families, ("clip_id", "family")):
            audible[row["clip_id"]].append(texts.normal(row["family"]))
    return [_read_clip(row, audible[row["clip_id"]]) for row in rows]


def _read_clip(row: Row, audible: list[str]) -> dict[str, Any]:
    if row["role"] not in ROLES:
        raise ValueError(f"{row.where}: role is {row['role']!r}, expected one of {list(ROLES)}")
    clip: dict[str, Any] = {column: row[column] for column in CLIP_COLUMNS}
    clip |= {column: texts.normal(row[column]) for column in ("caption", "family")}
    clip["package"] = row.fields.get("package", "")
    clip["audible"] = audible
    clip["onset"] = row.number("onset") if row["onset"] else 0.0
    clip["offset"] = row.number("offset") if row["offset"] else None
    return clip
