"""An evaluation as a page to look at, `reports/evaluation.html`, and as a table for other tools.

`results[testset][model]` are the numbers of `outcomes.compare`, of `set_tables.by_testset` for the
embedded mixtures; each may have `<name>_low` and `<name>_high` beside it. Our numbers and published
ones are in percent; the published ones are marked as such and were not measured here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from flamlib import files
from flamlib.data.datasets.annotations import AnnotatedSet
from flamlib.data.datasets.testsets import SETS
from flamlib.metrics.outcomes import Outcome
from flamlib.plots import figures
from flamlib.report import gallery, page
from flamlib.report.cells import Results, cell, row
from flamlib.report.paper_tables import paper_table
from flamlib.report.set_tables import held_out_tables, set_table

FIGURES = {
    "f1_seen": "Seen captions: frame F1 over a threshold that all captions share.",
    "f1_unseen": "Unseen captions: the same.",
    "reliability_seen": "Reliability: how often a claim was true over the probability claimed. On "
    "the diagonal a model means what it says.",
    "priors": "The prior log-odds that FLAM reads out of a caption over what they are.",
    "captions_seen": "Every seen caption: AUROC with FLAM and with FLAM-Global.",
    "captions_unseen": "Every unseen caption: the same.",
}

PROTOCOL = (
    "Every clip of a set is asked for every caption or class of the set, so most are absent from "
    "most clips, and all that is claimed of an absent one is false. Pairs of which nobody can say "
    "whether they are true leave every count. A caption that sounds nowhere has no recall: it is "
    "left out of means over captions and counts in pooled figures.",
    "A frame is active when an event covers half of it, or half of the event lies in it. "
    "Detections (PSDS, segment and event F1) are of scores through a median filter, unless they "
    "are marked as without; rankings (AUROC, mAP) are of scores as they are. PSDS is exact over "
    "all thresholds, at most 100 false alarms an hour, and punishes spread over captions unless it "
    "is called a mean.",
    "Brackets hold 95 % of what other draws of as many clips would give (percentile bootstrap over "
    "clips); p is that of a paired test against FLAM on the same draws. The captions of a clip are "
    "drawn with it; a caption that is true of several recordings is drawn as itself. Thresholds of "
    "F1 are chosen on the mixtures for validation; on public sets on the set itself, which "
    "flatters all models alike.",
    "FLAM says how probable a caption is. The others get one multiplier and one prior for all "
    "captions, fitted to the mixtures for validation (Platt's scaling). A public set has no part "
    "for validation: there the probabilities of a FLAM are judged as they come, its priors those "
    "that it learned from mixtures, and the others have no calibration error and no Brier score.",
    "A model that was supplied hears the same mixtures and recordings, at its own sample rate and "
    "in frames of its own length, and is calibrated like the others. AUROC, mAP and F1 of frames "
    "ask a somewhat other question where frames are shorter or longer; PSDS and F1 of segments "
    "and events, which are in seconds, do not.",
    "Retrieval counts any caption of a clip as right; a tie is lost. Zero-shot classes are set "
    "into the template that each table names, the first of those configured.",
)


def write(
    path: str | Path,
    *,
    results: Results,
    read: Sequence[AnnotatedSet],
    skipped: Mapping[str, str],
    figures: Sequence[tuple[str, str]],
    clips: Sequence[Mapping[str, str]],
    settings: Mapping[str, Any],
) -> None:
    """Write the page. `read` and `skipped` are those of `testsets.read_all`, `figures` are SVGs and
    what to see in them, `clips` those of `gallery.shown`; `settings` are told at the end."""
    models = list(dict.fromkeys(m for of in results.values() for m in of if m != "difference"))
    found = {one.name: f"{len(one.present)} of {len(one.clips)}" for one in read}
    paper = {
        name: paper_table(name, results, models, skipped, found)
        for name in ("sed", "retrieval", "zero_shot")
    }
    in_full = [
        set_table(_title(one.name), one.task, results[one.name], models, found[one.name])
        for one in read
        if one.name in results
    ]
    sections = [
        _section("localisation", "Localisation", [], paper["sed"]),
        _section("retrieval", "Retrieval", [], paper["retrieval"]),
        _section("zero-shot", "Zero-shot", [], paper["zero_shot"]),
        _section("held-out", "Held-out mixtures", HELD_OUT, *held_out_tables(results, models)),
        _section("in-full", "Public sets in full", [], *in_full),
        _section("figures", "Figures", []) | {"figures": _figures(figures)},
        _section("clips", "Best and worst clips", [GALLERY]) | {"clips": list(clips)},
        _section("coverage", "Coverage", [COVERAGE], _coverage(read, skipped)),
        _section("protocol", "How it was measured", PROTOCOL, _told(settings)),
    ]
    text = page.render(
        title="FLAM, evaluated",
        lead="What frame-wise language-audio models hear: ours and those we compare them with, "
        "beside what was published.",
        cards=_cards(results, models),
        sections=[s for s in sections if s["tables"] or s["figures"] or s["clips"] or s["texts"]],
        foot="All figures, sounds and numbers are in this file, made by 09_benchmarks.",
    )
    files.atomic_write(path, text)


HELD_OUT = (
    "Mixtures of the embedded corpus: seen captions are new recordings of captions that training "
    "had, unseen captions are of families it never had, in any wording.",
)
GALLERY = (
    "By the AUROC within the clip, of FLAM. Colour is its score, white boxes are when the caption "
    "sounds; captions in grey do not sound. While a clip plays, a line shows where it is."
)
COVERAGE = (
    "Public sets lose recordings. What is listed and cannot be heard is not scored; every score of "
    "a set is of the share that is found. A set that was not given is skipped."
)


def table(results: Results) -> pd.DataFrame:
    """All numbers, one a row: testset, model, metric, value, low, high."""
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


def drawn(folder: str | Path) -> list[tuple[str, str]]:
    """The figures of 04, to stand in a page, with what to see in each of those there are."""
    found = []
    for name, words in FIGURES.items():
        path = Path(folder) / f"{name}.svg"
        if path.is_file():
            svg = gallery.inline_svg(path.read_text(encoding="utf-8"), f"{name}-")
            found.append((svg, words))
    return found


def reliability(name: str, outcomes: Mapping[str, Outcome]) -> list[tuple[str, str]]:
    """The reliability diagram of a public set, as `drawn` gives figures; none if no model says how
    probable its classes are."""
    bins = {model: of.reliability for model, of in outcomes.items() if of.reliability is not None}
    if not bins:
        return []
    svg = gallery.inline_svg(figures.reliability(bins), f"reliability-{name}-")
    return [(svg, f"{_title(name)}: reliability, as it comes.")]


def _section(
    id: str, title: str, texts: Sequence[str], *tables: Mapping[str, Any]
) -> dict[str, Any]:
    return dict(id=id, title=title, texts=list(texts), tables=list(tables), figures=[], clips=[])


def _coverage(read: Sequence[AnnotatedSet], skipped: Mapping[str, str]) -> dict[str, Any]:
    rows = []
    for found in read:
        repairs = ", ".join(f"{n} {what}" for what, n in found.repairs.items()) or "none"
        listed = f"{len(found.present)} of {len(found.clips)}"
        missing = ", ".join(found.missing[:8]) + (" …" if len(found.missing) > 8 else "")
        rows.append(
            row(
                [
                    cell(_title(found.name)),
                    cell(found.task, kind="left"),
                    cell(listed, share=round(100 * found.coverage, 1)),
                    cell(str(len(found.captions) or "–")),
                    cell(repairs, kind="left"),
                    cell("; ".join(found.notes) or "as the official lists", kind="wrap"),
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


def _told(settings: Mapping[str, Any]) -> dict[str, Any]:
    rows = [row([cell(name), cell(str(value), kind="wrap")]) for name, value in settings.items()]
    return {"title": "Settings", "columns": ["", ""], "rows": rows, "notes": [], "left": True}


def _figures(figures: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [
        {"svg": svg, "caption": caption, "is_wide": caption.startswith("Every")}
        for svg, caption in figures
    ]


def _cards(results: Results, models: Sequence[str]) -> list[dict[str, str]]:
    """FLAM at a glance, as far as there is a FLAM."""
    cards = []
    for testset, key, title in (
        ("seen_captions", "auroc_macro", "AUROC, seen captions"),
        ("unseen_captions", "auroc_macro", "AUROC, unseen captions"),
        ("seen_captions", "psds1_mean", "PSDS1, seen, mean"),
        ("held_out_recordings", "a2t_r1", "clip → caption, R@1"),
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
