"""What a set of mixtures contains, as tables and numbers."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Float

from flamlib.events import Event
from flamlib.recipes import Recipe

EVENT_COLUMNS = ("index", "caption", "family", "clip_id", "snr_db", "n_segments")
LABEL_COLUMNS = ("index", "caption", "onset", "offset", "duration_s")


def events(recipes: Iterable[Recipe]) -> pd.DataFrame:
    """One row per event that was placed, columns `EVENT_COLUMNS`."""
    rows = [
        (r.index, e.caption, e.family, e.clip_id, e.snr_db, len(e.segments))
        for r in recipes
        for e in r.events
    ]
    return pd.DataFrame(rows, columns=EVENT_COLUMNS)


def labels(recipes: Iterable[Recipe]) -> pd.DataFrame:
    """One row per stretch in which a caption is true, columns `LABEL_COLUMNS`."""
    rows = [
        (r.index, e.caption, e.onset, e.offset, e.offset - e.onset)
        for r in recipes
        for e in r.labels
    ]
    return pd.DataFrame(rows, columns=LABEL_COLUMNS)


def polyphony(recipes: Iterable[Recipe]) -> Float[np.ndarray, "captions_at_once"]:
    """Share of the time in which 0, 1, 2, ... captions are true at once."""
    seconds = np.zeros(1)
    for recipe in recipes:
        clip = _seconds_by_count(recipe.labels, recipe.n_samples / recipe.sample_rate)
        seconds = np.pad(seconds, (0, max(0, len(clip) - len(seconds))))
        seconds[: len(clip)] += clip
    return seconds / max(seconds.sum(), 1e-9)


def summary(recipes: Iterable[Recipe]) -> dict[str, float | int]:
    """The mixtures in numbers; the mean polyphony is that of the time in which anything sounds."""
    recipes = list(recipes)
    placed, true, at_once = events(recipes), labels(recipes), polyphony(recipes)
    active = at_once[1:].sum()
    return {
        "n_mixtures": len(recipes),
        "n_events": len(placed),
        "n_captions": int(placed["caption"].nunique()),
        "events_per_mixture": len(placed) / max(len(recipes), 1),
        "label_s_median": float(true["duration_s"].median()) if len(true) else 0.0,
        "snr_db_median": float(placed["snr_db"].median()) if len(placed) else 0.0,
        "active_share": float(active),
        "polyphony": float(at_once @ np.arange(len(at_once)) / max(active, 1e-9)),
    }


def _seconds_by_count(events: Iterable[Event], duration_s: float) -> np.ndarray:
    """For how long no event sounds, one, two, ...: between two changes their number is constant."""
    changes = sorted([(e.onset, 1) for e in events] + [(e.offset, -1) for e in events])
    times = np.array([0.0, *(time for time, _ in changes), duration_s])
    count = np.cumsum([0, *(change for _, change in changes)])
    return np.bincount(count, weights=np.diff(times))
