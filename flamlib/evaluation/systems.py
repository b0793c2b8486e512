"""Systems evaluated on the same clips by their score tables, and compared: `flam evaluate`.

All metrics are those of `metrics.sed`, `metrics.spans` and `metrics.moments`; each of them also by
caption where it is a mean over captions. `threshold` is the one of f1, segment_f1, event_f1,
event_recall and false_spans.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flamlib.compute import memory
from flamlib.evaluation import span_blocks
from flamlib.evaluation.score_tables import TableScores
from flamlib.metrics import moments, sed, spans
from flamlib.metrics.moments import Moments
from flamlib.metrics.sed import Criteria, Statistics
from flamlib.metrics.spans import SpanChanges
from flamlib.sound_events.smoothing import Smoothing

N_THRESHOLDS = 99  # evenly spaced candidates for the best threshold, and as many quantiles
BEST = "best on these clips, too optimistic"
SHOWN = {  # rows of the printed table: title, then metrics
    "PSDS1": "psds1",
    "PSDS2": "psds2",
    "PSDS1, no variance penalty": "psds1_mean",
    "PSDS2, no variance penalty": "psds2_mean",
    "frame F1": "f1",
    "segment F1": "segment_f1",
    "event F1": "event_f1",
    "AUROC, mean over captions": "auroc_macro",
    "AUROC, pooled": "auroc_pooled",
    "mAP": "map",
    "segment pAUROC": "mpauc",
    "recall at 1 false span/min": "recall_at_1",
    "recall at 10 false spans/min": "recall_at_10",
    "recall at the threshold": "event_recall",
    "false spans/min at the threshold": "false_spans",
    "moments R1@0.5": "moment_r1_50",
    "moments R1@0.7": "moment_r1_70",
    "moments mAP": "moment_map",
}
OF_CAPTIONS = {  # columns of the printed table by caption
    "PSDS1": "psds1_mean",
    "PSDS2": "psds2_mean",
    "segment F1": "segment_f1",
    "event F1": "event_f1",
    "AUROC": "auroc_macro",
    "AP": "map",
    "R1@0.5": "moment_r1_50",
}
MAX_NAME = 36  # letters of a caption in a printed table


def evaluate(
    systems: Mapping[str, TableScores],
    criteria: Criteria,
    *,
    threshold: float | None,
    n_resamples: int,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Return all metrics of all systems, with intervals, and how the first differs from the others.

    Args:
        systems: scores by system, of the same clips and captions.
        criteria: settings of the metrics.
        threshold: of detections; None: of each system its best by frame-wise F1, on these clips.
        n_resamples: number of bootstrap draws; 0: no intervals.
        seed: of the draws.
        progress: show a progress bar.

    Returns:
        "systems": of each its "metrics" with `<name>_low` and `<name>_high`, "threshold_chosen" and
        "captions", by caption its number of events and its metrics; "differences": of each pair
        "first - other" the paired tests of `sed.confidence_intervals`. What does not exist, such as
        the F1 of a caption without events, is None.
    """
    found, statistics = {}, {}
    for name, of in systems.items():
        memory.hand_back_freed()
        chosen, how = threshold, "given"
        if chosen is None:
            smooth = of.smoothed(criteria.smoothing)
            with np.errstate(invalid="ignore"):  # quantiles of -inf: no threshold
                chosen, how = sed.best_threshold(smooth, n_thresholds=N_THRESHOLDS)[0], BEST
        found[name], statistics[name] = _one(of, criteria, chosen, intervals=n_resamples > 0)
        found[name]["threshold_chosen"] = how
    first, *others = systems
    tests: dict[str, dict[str, float]] = {}
    if n_resamples:
        bounds, tests = sed.confidence_intervals(
            statistics,
            len(systems[first].clips),
            against=[(first, other) for other in others],
            n_resamples=n_resamples,
            seed=seed,
            progress="intervals" if progress else None,
        )
        for name, of_system in bounds.items():
            found[name]["metrics"] |= of_system
    return _without_nan({"systems": found, "differences": tests})


def format_table(result: Mapping[str, Any]) -> str:
    """Return the metrics of all systems as a table to be printed, and paired differences."""
    systems = result["systems"]
    rows = [["", *systems]]
    for title, name in SHOWN.items():
        rows.append([title, *(_value(of["metrics"], name) for of in systems.values())])
    rows.append(["threshold", *(f"{of['metrics']['threshold']:.4g}" for of in systems.values())])
    text = _columns(rows)
    if any(of["threshold_chosen"] == BEST for of in systems.values()):
        text += f"threshold: {BEST}; give another with --threshold\n"
    for pair, tests in result["differences"].items():
        rows = [[pair, "", "p"]]
        for title, name in SHOWN.items():
            if name in tests:
                p = tests[f"{name}_p"]
                rows.append([title, _value(tests, name, sign="+"), "" if p is None else f"{p:.3f}"])
        text += "\n" + _columns(rows)
    return text


def format_captions(of_system: Mapping[str, Any]) -> str:
    """Return the metrics of a system by caption as a table to be printed."""
    rows = [["caption", "events", *OF_CAPTIONS]]
    for caption, of in of_system["captions"].items():
        name = caption if len(caption) <= MAX_NAME else caption[: MAX_NAME - 1] + "…"
        values = [_value(of, metric) for metric in OF_CAPTIONS.values()]
        rows.append([name, str(of["n_events"]), *values])
    return _columns(rows)


def _one(
    of: TableScores, criteria: Criteria, threshold: float, *, intervals: bool
) -> tuple[dict[str, Any], Statistics]:
    """Return the metrics of a system and, if there will be intervals, the statistics of them."""
    smooth, n_captions = of.smoothed(criteria.smoothing), len(of.captions)
    blocks, recall = span_blocks.find(smooth, threshold=threshold)
    of_spans, n_events = span_blocks.compute(blocks, threshold=threshold), np.zeros(n_captions, int)
    for changes in blocks:
        n_events[changes.columns] = changes.n_events.sum(axis=1)
    found = Moments.of(smooth)
    statistics: Statistics = {}
    if intervals:
        statistics = (
            sed.statistics(of, criteria, threshold=threshold)
            | spans.statistics(SpanChanges.merged(blocks), threshold=threshold)
            | moments.statistics(found)
        )
    del blocks, changes  # of a large set hundreds of megabytes
    memory.hand_back_freed()
    metrics, by_caption = sed.compute_with_captions(of, criteria, threshold=threshold)
    metrics |= of_spans | moments.compute(found)
    by_caption |= {"recall_at_1": recall, **found.by_caption(n_captions)}
    captions = {
        caption: {"n_events": int(n_events[j]), **{k: float(v[j]) for k, v in by_caption.items()}}
        for j, caption in enumerate(of.captions)
    }
    raw = [f"{name}_raw" for name in sed.PSDS]
    if criteria.smoothing == Smoothing():  # the same numbers under two names
        for name in raw:
            del metrics[name]
            statistics.pop(name, None)
    metrics["n_events"] = int(n_events.sum())
    return {"metrics": metrics, "captions": captions}, statistics


def _value(metrics: Mapping[str, Any], name: str, sign: str = "") -> str:
    value, low, high = (metrics.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return "–"
    text = f"{value:{sign}.3f}"
    return text if low is None or high is None else f"{text} [{low:{sign}.3f}, {high:{sign}.3f}]"


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """Lay out texts in columns, the first one to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip() + "\n")
    return "".join(lines)


def _without_nan(value: Any) -> Any:
    """Replace what is no number by None, which JSON has a word for."""
    if isinstance(value, dict):
        return {key: _without_nan(of) for key, of in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value
