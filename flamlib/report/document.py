"""The results of an evaluation as a page, `reports/evaluation.html`, and as a table.

`results[testset][model]` are metrics of `outcomes.compare`, for the embedded mixtures those of
`set_tables.by_testset`; each may have `<name>_low` and `<name>_high` beside it. Our metrics and
published ones are in percent; the published ones are marked as such and were not measured here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from flamlib.data.datasets.annotations import AnnotatedSet
from flamlib.data.datasets.testsets import SETS
from flamlib.metrics.outcomes import Outcome
from flamlib.plots import figures
from flamlib.report import gallery, page
from flamlib.report.cells import Results, cell, row
from flamlib.report.paper_tables import paper_tables
from flamlib.report.set_tables import held_out_tables, set_table
from flamlib.storage import files

F1 = "Frame-wise F1, mean over captions, over one threshold for all of them; marks are the best."
RELIABILITY = (
    "The share of frames in which a caption is active over its predicted probability, and below "
    "how many frames have that probability. A calibrated model lies on the diagonal."
)
RECALL = (
    "The share of events that are found over how many detected spans fit no event, a minute of "
    "audio and for one caption, mean over captions, as one threshold for all of them falls."
)
AUROC = "Frame-wise AUROC of every caption with FLAM and FLAM-Global. Chance is 0.5, dotted."
FIGURES = {  # of notebook 04: title and explanation
    "f1_seen": ("Threshold, seen captions", F1),
    "f1_unseen": ("Threshold, unseen captions", F1),
    "recall_seen": ("Recall and false spans, seen captions", RECALL),
    "recall_unseen": ("Recall and false spans, unseen captions", RECALL),
    "reliability_seen": ("Reliability, seen captions", RELIABILITY),
    "reliability_unseen": ("Reliability, unseen captions", RELIABILITY),
    "priors": (
        "Priors",
        "The prior log-odds that FLAM predicts from a caption's text over the measured ones. Each "
        "mark is a caption, the larger the more clips it is in; ρ is Spearman's rank correlation.",
    ),
    "captions_seen": ("Every seen caption", AUROC),
    "captions_unseen": ("Every unseen caption", AUROC),
}

PROTOCOL = (
    "Every clip of a set has a score for every caption or class of the set. Most are absent from "
    "most clips, and every detection of an absent one is a false positive. Where the ground truth "
    "of a caption in a clip is unknown, the pair leaves every count. A caption without events has "
    "no recall: it is left out of means over captions, and counts in pooled metrics.",
    "A frame is active when an event covers half of it, or half of the event lies in it. PSDS and "
    "F1 of frames, segments and events are of scores that are smoothed, by the settings "
    "median_frames (1: by no filter) and hysteresis, unless marked otherwise; AUROC and mAP are of "
    "scores as they are. PSDS is exact over all thresholds, up to 100 false alarms "
    "per hour, and subtracts the standard deviation over captions unless it is called a mean.",
    "Brackets are 95 % confidence intervals (percentile bootstrap over clips); p is the p-value of "
    "a paired test against FLAM on the same draws. The captions of a clip are drawn together with "
    "it; a caption that is true of several recordings is drawn by itself. Thresholds of F1 are "
    "chosen on the mixtures for validation, FLAM's for unseen captions in folds of the training "
    "recordings (the setting novel_threshold, if there is one); on public sets on the set itself, "
    "which is too optimistic, for all models alike.",
    "A detected span is false if less than half of it lies in events of its caption; an event is "
    "found if spans that are not false cover at least half of it. Nats are the mean cross-entropy "
    "of all known frames; what one can claim without hearing anything is beside them: one prior "
    "for all captions and one for each, both fitted on the mixtures for validation, and, which "
    "nobody knows before, the captions' shares in the evaluated clips.",
    "FLAM predicts probabilities. The other models are calibrated by Platt scaling, one multiplier "
    "and one prior for all captions, on the mixtures for validation. A public set has no split for "
    "validation: there FLAM's probabilities are evaluated uncalibrated, with the priors that it "
    "learned from mixtures, and the others have no calibration error and no Brier score.",
    "External models are evaluated on the same mixtures and recordings, at their own sample rate "
    "and in frames of their own length, and calibrated like the others. Frame-wise AUROC, mAP and "
    "F1 are not quite comparable between frames of different lengths; PSDS and F1 of segments and "
    "events, which are in seconds, are.",
    "Retrieval counts any caption of a clip as right; ties count as errors. Zero-shot classes are "
    "put into the template that each table names, the first of those configured.",
)


MOMENTS = (
    "Moments: of each sentence that is true somewhere in a recording, the system gives at most ten "
    "windows, the surest first: runs of frames above the middle between the lowest and the highest "
    "score. R1 is the share of sentences whose first window has that IoU with one of the true "
    "windows; mAP is over all windows. Both are as lighthouse computes them. Windows of a set that "
    "end after their recording were shortened, which is counted under Coverage."
)


def write(
    path: str | Path,
    *,
    results: Results,
    read: Sequence[AnnotatedSet],
    skipped: Mapping[str, str],
    figures: Sequence[Mapping[str, str]],
    clips: Sequence[Mapping[str, str]],
    worst: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        results: see the module's docstring.
        read: test sets, of `testsets.read_all`.
        skipped: those that were not read, by name, and why.
        figures: of `load_figures` and `reliability_figure`.
        clips: examples, of `gallery.example_content`.
        worst: captions of each split, of `worst.worst_table`.
        settings: parameters, listed at the end.
    """
    models = list(dict.fromkeys(m for of in results.values() for m in of if m != "difference"))
    coverage = {one.name: f"{len(one.present)} of {len(one.clips)}" for one in read}
    paper = {
        name: paper_tables(name, results, models, coverage)
        for name in ("sed", "retrieval", "zero_shot")
    }
    in_full = [
        set_table(_title(one.name), one.task, results[one.name], models, coverage[one.name])
        for one in read
        if one.name in results
    ]
    has_moments = any(one.task == "moments" and one.name in results for one in read)
    protocol = [*PROTOCOL, MOMENTS] if has_moments else PROTOCOL
    sections = [
        _section("sed", "Sound event detection", [], *paper["sed"]),
        _section("retrieval", "Retrieval", [], *paper["retrieval"]),
        _section("zero-shot", "Zero-shot", [], *paper["zero_shot"]),
        _section("held-out", "Held-out mixtures", HELD_OUT, *held_out_tables(results, models)),
        _section("in-full", "Public sets in full", [], *in_full),
        _section("figures", "Figures", []) | {"figures": list(figures)},
        _section("captions", "Worst captions", [WORST] if worst else [], *worst),
        _section("clips", "Best and worst clips", [GALLERY]) | {"clips": list(clips)},
        _section("coverage", "Coverage", [COVERAGE], _coverage_table(read, skipped)),
        _section("protocol", "How it was measured", protocol, _settings_table(settings)),
    ]
    text = page.render(
        title="FLAM, evaluated",
        lead="Frame-wise language-audio models on held-out mixtures and public test sets: ours, "
        "those we compare them with, and what was published.",
        cards=_cards(results),
        sections=[s for s in sections if s["tables"] or s["figures"] or s["clips"] or s["texts"]],
        foot="All figures, sounds and numbers are in this file, made by 09_benchmarks.",
    )
    files.atomic_write(path, text)


HELD_OUT = (
    "Mixtures of the embedded corpus: seen captions are new recordings of captions of the training "
    "data; unseen captions are of families that are not in it, in any wording.",
    "Under speech and music: the same mixtures with a voice or a piece of music at the front, "
    "0 to 12 dB over the background, by speakers and composers that are in no training data. "
    "What is lost is measured on the clips and captions that are known in both.",
)
GALLERY = (
    "By FLAM's AUROC within the clip. Colour is its score, white boxes are events (ground truth); "
    "captions in grey are absent. While a clip plays, a line shows the position."
)
WORST = (
    "The captions of the lowest AUROC with FLAM, of those in at least five clips, each with two "
    "excerpts of mixtures: its event that FLAM is least sure of, and the moment that FLAM most "
    "surely takes for the caption though it is not active, with what is active there."
)
COVERAGE = (
    "Public sets lose recordings. Clips that are listed but whose audio is missing or damaged are "
    "not evaluated: all metrics of a set are of the clips found. A set without a folder is skipped."
)


def metrics_table(results: Results) -> pd.DataFrame:
    """Return all metrics, one per row: testset, model, metric, value, low, high."""
    rows = []
    for testset, of_set in results.items():
        for model, numbers in of_set.items():
            if model == "difference":
                continue
            for key, value in numbers.items():
                if key.endswith(("_low", "_high")) or not isinstance(value, int | float):
                    continue
                low, high = (numbers.get(f"{key}_{end}") for end in ("low", "high"))
                rows.append((testset, model, key, value, low, high))
    return pd.DataFrame(rows, columns=["testset", "model", "metric", "value", "low", "high"])


def load_figures(folder: str | Path) -> list[dict[str, Any]]:
    """Load the figures of notebook 04 that exist, as SVG for a page, with title and caption."""
    figures = []
    for name, (title, words) in FIGURES.items():
        path = Path(folder) / f"{name}.svg"
        if path.is_file():
            svg = gallery.inline_svg(path.read_text(encoding="utf-8"), f"{name}-")
            figures.append(_figure(svg, title, words, is_wide=words == AUROC))
    return figures


def reliability_figure(name: str, outcomes: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    """Draw the reliability diagram of a public set, in the form of `load_figures`.

    The list is empty if no model predicts probabilities.
    """
    bins = {model: of.reliability for model, of in outcomes.items() if of.reliability is not None}
    if not bins:
        return []
    svg = gallery.inline_svg(figures.reliability(bins), f"reliability-{name}-")
    return [_figure(svg, f"Reliability, {_title(name)}", f"{RELIABILITY} Here uncalibrated.")]


def _figure(svg: str, title: str, caption: str, *, is_wide: bool = False) -> dict[str, Any]:
    return {"svg": svg, "title": title, "caption": caption, "is_wide": is_wide}


def _section(
    id: str, title: str, texts: Sequence[str], *tables: Mapping[str, Any]
) -> dict[str, Any]:
    return dict(id=id, title=title, texts=list(texts), tables=list(tables), figures=[], clips=[])


def _coverage_table(read: Sequence[AnnotatedSet], skipped: Mapping[str, str]) -> dict[str, Any]:
    rows = []
    for dataset in read:
        repairs = ", ".join(f"{n} {what}" for what, n in dataset.repairs.items()) or "none"
        listed = f"{len(dataset.present)} of {len(dataset.clips)}"
        skipped_clips = [f"{name} ({why})" for name, why in dataset.skipped.items()]
        missing = ", ".join(skipped_clips[:8]) + (" …" if len(skipped_clips) > 8 else "")
        rows.append(
            row(
                [
                    cell(_title(dataset.name)),
                    cell(dataset.task, kind="left"),
                    cell(listed, share=round(100 * dataset.coverage, 1)),
                    cell(str(len(dataset.captions) or "–")),
                    cell(repairs, kind="left"),
                    cell("; ".join(dataset.notes) or "as the official lists", kind="wrap"),
                    cell(missing or "–", kind="wrap"),
                ]
            )
        )
    for name, why in skipped.items():
        cells = [
            cell(_title(name)),
            cell(SETS[name].task, kind="left"),
            cell("skipped", "none"),
        ]
        rows.append(row([*cells, *[cell(None)] * 2, cell(why, kind="wrap"), cell(None)]))
    names = ["set", "task", "clips found", "captions", "repairs", "notes", "missing"]
    return {"title": "", "columns": names, "rows": rows, "notes": [], "left": True}


def _settings_table(settings: Mapping[str, Any]) -> dict[str, Any]:
    rows = [row([cell(name), cell(str(value), kind="wrap")]) for name, value in settings.items()]
    return {"title": "Settings", "columns": ["", ""], "rows": rows, "notes": [], "left": True}


def _cards(results: Results) -> list[dict[str, str]]:
    """The most important metrics of FLAM, if it was evaluated."""
    cards = []
    for testset, key, title in (
        ("seen_captions", "auroc_macro", "AUROC, seen captions"),
        ("unseen_captions", "auroc_macro", "AUROC, unseen captions"),
        ("unseen_under_maskers", "auroc_macro", "AUROC, unseen, under speech and music"),
        ("seen_captions", "psds1_mean", "PSDS1, seen, mean"),
        ("held_out_recordings", "a2t_r1", "audio to text, R@1"),
        ("heldout_unseen", "top1", "zero-shot, unseen classes"),
    ):
        numbers = results.get(testset, {}).get("flam", {})
        if numbers.get(key) is None:
            continue
        other = results[testset].get("flam_global", {}).get(key)
        beside = "" if other is None else f"FLAM-Global {100 * other:.1f}"
        cards.append({"title": title, "value": f"{100 * numbers[key]:.1f}", "note": beside})
    return cards


def _title(testset: str) -> str:
    return SETS[testset].title if testset in SETS else testset
