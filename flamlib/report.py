"""An evaluation as a page to look at, `reports/evaluation.html`, and as a table for other tools.

`results[testset][model]` are the numbers of `benchmarking.compare`, of `judging` for the embedded
mixtures; each may have `<name>_low` and `<name>_high` beside it. Our numbers and published ones are
in percent; the published ones are marked as such and were not measured here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flamlib import gallery, page, project
from flamlib.annotations import AnnotatedSet
from flamlib.figures import MODELS
from flamlib.published import PUBLISHED, RETRIEVAL, SED, ZERO_SHOT, Column
from flamlib.testsets import SETS

Numbers = Mapping[str, Any]
Results = Mapping[str, Mapping[str, Numbers]]

MEASURES = (
    ("auroc_macro", "AUROC of frames, mean over captions"),
    ("auroc_pooled", "AUROC of frames, all captions together"),
    ("auroc_clip", "AUROC of frames within a clip, mean over clips"),
    ("map", "average precision, mean over captions (mAP)"),
    ("f1", "frame F1 at the threshold that validation chose"),
    ("f1_best", "frame F1 at the best threshold on these clips"),
    ("segment_f1", "segment F1 (1 s)"),
    ("event_f1", "event F1 (collars)"),
    ("psds1", "PSDS1"),
    ("psds2", "PSDS2"),
    ("psds1_mean", "PSDS1, mean over captions"),
    ("psds2_mean", "PSDS2, mean over captions"),
    ("psds1_raw", "PSDS1 without median filter"),
    ("psds2_raw", "PSDS2 without median filter"),
    ("mpauc", "partial AUROC of segments, area / max FPR (chance 5)"),
    ("mpauc_mcclish", "partial AUROC of segments, McClish (chance 50)"),
    ("ece", "calibration error (ECE), lower is better"),
    ("brier", "Brier score, lower is better"),
)
FOUND = (
    ("t2a_r1", "caption → clip, R@1"),
    ("t2a_r5", "caption → clip, R@5"),
    ("t2a_r10", "caption → clip, R@10"),
    ("t2a_map10", "caption → clip, mAP@10"),
    ("t2a_median_rank", "caption → clip, median rank, lower is better"),
    ("a2t_r1", "clip → caption, R@1"),
    ("a2t_r5", "clip → caption, R@5"),
    ("a2t_r10", "clip → caption, R@10"),
    ("a2t_map10", "clip → caption, mAP@10"),
    ("a2t_median_rank", "clip → caption, median rank, lower is better"),
)
LOWER = {"ece", "brier", "t2a_median_rank", "a2t_median_rank"}
RANKS = {"t2a_median_rank", "a2t_median_rank"}

IN_04 = ("seen_captions", "unseen_captions", "held_out_recordings")
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
    "clips); p is that of a paired test against FLAM on the same draws. Thresholds of F1 are "
    "chosen on the mixtures for validation; on public sets on the set itself, which flatters all "
    "models alike.",
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
    sections = [
        _section("localisation", "Localisation", [], _paper("sed", SED, results, models, skipped)),
        _section(
            "retrieval", "Retrieval", [], _paper("retrieval", RETRIEVAL, results, models, skipped)
        ),
        _section(
            "zero-shot", "Zero-shot", [], _paper("zero_shot", ZERO_SHOT, results, models, skipped)
        ),
        _section("held-out", "Held-out mixtures", HELD_OUT, *_held_out(results, models)),
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
    project.atomic_write(path, text)


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


def held_out(evaluated: Mapping[str, Mapping]) -> dict[str, dict]:
    """The numbers of `evaluation.evaluate`, which are by model, by test set instead."""
    results: dict[str, dict] = {}
    for model, of_model in evaluated.items():
        for part, numbers in of_model.items():
            name = "held_out_recordings" if part == "retrieval" else part
            results.setdefault(name, {})[model] = numbers
    return results


def drawn(folder: str | Path) -> list[tuple[str, str]]:
    """The figures of 04, to stand in a page, with what to see in each of those there are."""
    found = []
    for name, words in FIGURES.items():
        path = Path(folder) / f"{name}.svg"
        if path.is_file():
            svg = gallery.inline_svg(path.read_text(encoding="utf-8"), f"{name}-")
            found.append((svg, words))
    return found


def _section(
    id: str, title: str, texts: Sequence[str], *tables: Mapping[str, Any]
) -> dict[str, Any]:
    return dict(id=id, title=title, texts=list(texts), tables=list(tables), figures=[], clips=[])


def _paper(
    name: str,
    columns: Sequence[Column],
    results: Results,
    models: Sequence[str],
    skipped: Mapping[str, str],
) -> dict[str, Any]:
    """A table in the paper's layout: published rows above, ours below."""
    published = PUBLISHED[name]
    rows: list[dict] = [{"group": "Published, in percent; not measured here"}]
    for model, values in published.items():
        cells = [
            _cell(None if (value := values.get((c.testset, c.key))) is None else _percent(value))
            for c in columns
        ]
        rows.append(_row([_cell(model), *cells], "published"))
    rows.append({"group": "Ours, in percent; this run"})
    for model in models:
        cells = []
        for column in columns:
            numbers = results.get(column.testset, {}).get(model, {})
            why = skipped.get(column.testset, "not evaluated")
            if column.testset == "held_out":
                why = "the paper's own recordings: they cannot be shared"
            cells.append(_number(numbers, column.key, _best(results, column, models, model), why))
        rows.append(_row([_cell(_title(model)), *cells], "first" if model == "flam" else ""))
    notes = [
        "Ours learned from some hundred recordings out of packages, the published models from a "
        "million: the columns of public sets can be compared, the reasons for a difference cannot."
    ]
    if name == "sed":
        notes.append(
            "MPAUC is shown with McClish's correction (chance 50); the published one does not say "
            "which it is. DESED is the public evaluation set unless it says validation."
        )
    return {
        "title": "",
        "columns": ["", *(column.title for column in columns)],
        "rows": rows,
        "notes": notes,
        "left": False,
    }


def _held_out(results: Results, models: Sequence[str]) -> list[dict[str, Any]]:
    """Every number of the embedded corpus, a row each."""
    tables = []
    for testset, title, measures in (
        ("seen_captions", "Seen captions", MEASURES),
        ("unseen_captions", "Unseen captions", MEASURES),
        ("held_out_recordings", "Search among the held-out recordings", FOUND),
        ("heldout_seen", "Zero-shot, seen classes", ()),
        ("heldout_unseen", "Zero-shot, unseen classes", ()),
    ):
        of_set = results.get(testset)
        if not of_set:
            continue
        if not measures:
            measures = _templates(of_set)
        rows = []
        for key, words in measures:
            cells = [
                _number(
                    of_set.get(model, {}),
                    key,
                    _best(results, Column(testset, key, ""), models, model),
                    "not defined here",
                    test=of_set.get("difference", {}).get(model),
                )
                for model in models
            ]
            rows.append(_row([_cell(words), *cells]))
        first = of_set.get("flam") or next(iter(of_set.values()))
        sizes = f"{first['n_clips']} clips, {first['n_captions']} captions"
        tables.append(
            {
                "title": f"{title}: {sizes}",
                "columns": ["", *map(_title, models)],
                "rows": rows,
                "notes": [],
                "left": False,
            }
        )
    return tables


def _templates(of_set: Mapping[str, Numbers]) -> list[tuple[str, str]]:
    """The rows of a table of zero-shot accuracy: its templates, then what else there is."""
    keys = next(iter(of_set.values()))
    named = [
        (key, f"accuracy, template “{key[5:].replace('_', ' ')}”")
        for key in keys
        if key.startswith("top1_") and not key.endswith(("_low", "_high"))
    ]
    return [*named, ("top5", "among the nearest five"), ("macro", "accuracy, mean over classes")]


def _coverage(read: Sequence[AnnotatedSet], skipped: Mapping[str, str]) -> dict[str, Any]:
    rows = []
    for found in read:
        title = SETS[found.name].title if found.name in SETS else found.name
        repairs = ", ".join(f"{n} {what}" for what, n in found.repairs.items()) or "none"
        listed = f"{len(found.found)} of {len(found.clips)}"
        missing = ", ".join(found.missing[:8]) + (" …" if len(found.missing) > 8 else "")
        rows.append(
            _row(
                [
                    _cell(title),
                    _cell(found.task, kind="left"),
                    _cell(listed, share=round(100 * found.coverage, 1)),
                    _cell(str(len(found.captions) or "–")),
                    _cell(repairs, kind="left"),
                    _cell("; ".join(found.notes) or "as the official lists", kind="wrap"),
                    _cell(missing or "–", kind="wrap"),
                ]
            )
        )
    for name, why in skipped.items():
        cells = [
            _cell(SETS[name].title),
            _cell(SETS[name].task, kind="left"),
            _cell("skipped", "none"),
        ]
        rows.append(_row([*cells, *[_cell(None)] * 2, _cell(why, kind="wrap"), _cell(None)]))
    names = ["set", "task", "clips found", "captions", "repairs", "notes", "missing"]
    return {"title": "", "columns": names, "rows": rows, "notes": [], "left": True}


def _told(settings: Mapping[str, Any]) -> dict[str, Any]:
    rows = [_row([_cell(name), _cell(str(value), kind="wrap")]) for name, value in settings.items()]
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


def _number(
    numbers: Numbers, key: str, is_best: bool, why: str, test: Numbers | None = None
) -> dict[str, Any]:
    value = numbers.get(key)
    if value is None or np.isnan(value):
        return _cell(None, why=why)
    scale, digits = (1, 0) if key in RANKS else (100, 1)
    low, high = (numbers.get(f"{key}_{end}") for end in ("low", "high"))
    small = ""
    if low is not None and high is not None and not np.isnan(low + high):
        small = f"[{scale * low:.{digits}f}, {scale * high:.{digits}f}]"
    p = _p_value(test, key)
    if p is not None:
        small += f" p {'<' if p < 0.001 else '='} {max(p, 0.001):.3f}".replace(" 0.", " .")
    return _cell(f"{scale * value:.{digits}f}", kind="best" if is_best else "", small=small.strip())


def _p_value(test: Numbers | None, key: str) -> float | None:
    """From either form of a paired test: flat, as in `judging`, or one dict a number."""
    if not test:
        return None
    of = test.get(key)
    value = of.get("p_value") if isinstance(of, Mapping) else test.get(f"{key}_p")
    return None if value is None or np.isnan(value) else value


def _best(results: Results, column: Column, models: Sequence[str], model: str) -> bool:
    """Is this model's number the best of ours, of more than one?"""
    of_set = results.get(column.testset, {})
    values = {m: of_set.get(m, {}).get(column.key) for m in models}
    values = {m: v for m, v in values.items() if v is not None and not np.isnan(v)}
    if model not in values or len(set(values.values())) < 2:
        return False
    pick = min if column.key in LOWER else max
    return values[model] == pick(values.values())


def _percent(value: float) -> str:
    """With as many decimals as were published, at least one."""
    return f"{value:.1f}" if round(value, 1) == value else f"{value:g}"


def _row(cells: list[dict], kind: str = "") -> dict[str, Any]:
    return {"group": None, "kind": kind, "cells": cells}


def _cell(
    text: str | None,
    kind: str = "",
    *,
    small: str = "",
    why: str = "",
    share: float | None = None,
) -> dict[str, Any]:
    if text is None:
        return {"text": "–", "kind": "none", "small": "", "why": why, "share": None}
    return {"text": text, "kind": kind, "small": small, "why": why, "share": share}


def _title(model: str) -> str:
    return MODELS[model][0] if model in MODELS else model
