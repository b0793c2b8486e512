"""Statistics of a set of mixtures: tables of events, labels and captions, polyphony, a summary.

Everything is computed on the columns of a table of `recipes.SCHEMA`, such as
`recipes.read(path).table`: a million mixtures take about ten seconds.
"""

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute
from jaxtyping import Float

EVENT_COLUMNS = ("index", "caption", "family", "clip_id", "snr_db", "n_segments")
LABEL_COLUMNS = ("index", "caption", "onset", "offset", "duration_s")
CAPTION_COLUMNS = ("caption", "n_events", "seconds", "prior")


def events(mixtures: pyarrow.Table) -> pd.DataFrame:
    """Return one row per event of a recipe, with the columns `EVENT_COLUMNS`."""
    placed = _flat(mixtures, "events")
    columns = {name: _column(placed, name) for name in ("caption", "family", "clip_id", "snr_db")}
    n_segments = pyarrow.compute.list_value_length(placed.field("segments")).to_numpy()
    table = pd.DataFrame({"index": _index(mixtures, "events"), **columns})
    return table.assign(n_segments=n_segments)[list(EVENT_COLUMNS)]


def labels(mixtures: pyarrow.Table) -> pd.DataFrame:
    """Return one row per label, with the columns `LABEL_COLUMNS`; times in seconds."""
    true = _flat(mixtures, "labels")
    columns = {name: _column(true, name) for name in ("caption", "onset", "offset")}
    table = pd.DataFrame({"index": _index(mixtures, "labels"), **columns})
    return table.assign(duration_s=table["offset"] - table["onset"])[list(LABEL_COLUMNS)]


def captions(mixtures: pyarrow.Table) -> pd.DataFrame:
    """Return one row per caption, with the columns `CAPTION_COLUMNS`, the most frequent first.

    `prior` is the share of time in which the caption is true, p(z = 1 | y) of the paper; its
    log-odds are what FLAM's bias has to learn.
    """
    n_events = events(mixtures)["caption"].astype(str).value_counts()
    true = labels(mixtures)
    seconds = true["duration_s"].groupby(true["caption"].astype(str)).sum()
    table = pd.DataFrame({"n_events": n_events, "seconds": seconds}).fillna(0)
    table = table.astype({"n_events": int}).rename_axis("caption").reset_index()
    table["prior"] = table["seconds"] / max(_durations(mixtures).sum(), 1e-9)
    order = ["n_events", "caption"]
    table = table.sort_values(order, ascending=[False, True], ignore_index=True)
    return table[list(CAPTION_COLUMNS)]


def polyphony(mixtures: pyarrow.Table) -> Float[np.ndarray, "captions_at_once"]:
    """Return the share of time in which 0, 1, 2, ... captions are true at once."""
    durations = _durations(mixtures)
    rows = np.repeat(np.arange(len(mixtures)), _lengths(mixtures, "labels"))
    true = labels(mixtures)
    # Sweep over the onsets and offsets of all labels: between two of them the number is constant.
    row = np.concatenate([np.arange(len(mixtures)), rows, rows])
    time = np.concatenate([np.zeros(len(mixtures)), true["onset"], true["offset"]])
    change = np.repeat([0, 1, -1], [len(mixtures), len(true), len(true)])
    order = np.lexsort((time, row))
    row, time, count = row[order], time[order], np.cumsum(change[order])
    last = np.diff(row, append=-1) != 0
    until = np.where(last, durations[row], np.append(time[1:], 0.0))
    seconds = np.bincount(count, weights=until - time, minlength=1)
    return seconds / max(seconds.sum(), 1e-9)


def summary(mixtures: pyarrow.Table) -> dict[str, float | int]:
    """Return the numbers that describe a set of mixtures.

    `polyphony` is the mean over the time in which anything sounds. `rare_half` is the share of
    events whose caption is in the rarer half: 0.5 if all are equally frequent, near 0 for a long
    tail. `prior_*` are percentiles of `prior`, see `captions`.
    """
    placed, true, at_once = events(mixtures), labels(mixtures), polyphony(mixtures)
    by_caption = captions(mixtures)
    active, counts, prior = at_once[1:].sum(), by_caption["n_events"], by_caption["prior"]
    rare = counts[len(counts) - len(counts) // 2 :].sum() + 0.5 * (
        counts.iloc[len(counts) // 2] if len(counts) % 2 else 0
    )
    return {
        "n_mixtures": len(mixtures),
        "n_events": len(placed),
        "n_captions": len(by_caption),
        "events_per_mixture": len(placed) / max(len(mixtures), 1),
        "label_s_median": _quantile(true["duration_s"], 0.5),
        "snr_db_median": _quantile(placed["snr_db"], 0.5),
        "active_share": float(active),
        "polyphony": float(at_once @ np.arange(len(at_once)) / max(active, 1e-9)),
        "caption_events_min": int(counts.min()) if len(counts) else 0,
        "caption_events_max": int(counts.max()) if len(counts) else 0,
        "rare_half": float(rare / max(counts.sum(), 1)),
        "prior_p10": _quantile(prior, 0.1),
        "prior_median": _quantile(prior, 0.5),
        "prior_p90": _quantile(prior, 0.9),
    }


def _quantile(values, share) -> float:
    return float(values.quantile(share)) if len(values) else 0.0


def _durations(mixtures) -> np.ndarray:
    return mixtures["n_samples"].to_numpy() / np.maximum(mixtures["sample_rate"].to_numpy(), 1)


def _lengths(mixtures, column) -> np.ndarray:
    return pyarrow.compute.list_value_length(mixtures[column]).to_numpy().astype(int)


def _index(mixtures, column) -> np.ndarray:
    return np.repeat(mixtures["index"].to_numpy(), _lengths(mixtures, column))


def _flat(mixtures, column) -> pyarrow.StructArray:
    """The structs of all rows, one below another."""
    return pyarrow.compute.list_flatten(mixtures[column].combine_chunks())


def _column(structs, name):
    """A field; of texts, the few different ones once."""
    values = structs.field(name)
    if pyarrow.types.is_string(values.type):
        return values.dictionary_encode().to_pandas()
    return values.to_numpy(zero_copy_only=False)
