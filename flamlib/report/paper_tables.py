"""Tables in the paper's layout: what was published above, and below it what this run measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from flamlib.report.cells import Numbers, Results, best, cell, number, percent, row, sizes, title
from flamlib.report.published import PUBLISHED, RETRIEVAL, SED, ZERO_SHOT, Column

TABLES = {"sed": SED, "retrieval": RETRIEVAL, "zero_shot": ZERO_SHOT}


def paper_table(
    name: str,
    results: Results,
    models: Sequence[str],
    skipped: Mapping[str, str],
    coverage: Mapping[str, str],
) -> dict[str, Any]:
    """Return one of `TABLES`, published rows above ours.

    Args:
        name: key of `TABLES`.
        results: metrics by test set and model.
        models: in the order of their rows.
        skipped: test sets that were not evaluated, and why.
        coverage: of each public set how many of its listed clips were found.
    """
    columns, published = TABLES[name], PUBLISHED[name]
    rows: list[dict] = [{"group": "Published, in percent; not measured here"}]
    for model, values in published.items():
        cells = [
            cell(None if (value := values.get((c.testset, c.key))) is None else percent(value))
            for c in columns
        ]
        rows.append(row([cell(model), *cells], "published"))
    rows.append({"group": "Ours, in percent; this run"})
    clips = [cell(_clips(results.get(c.testset), coverage.get(c.testset))) for c in columns]
    rows.append(row([cell("clips evaluated"), *clips], "published"))
    for model in models:
        cells = [_ours(results, column, model, models, skipped) for column in columns]
        rows.append(row([cell(title(model)), *cells], "first" if model == "flam" else ""))
    notes = [
        "Our models are trained on some hundred recordings from packages, the published ones on a "
        "million: results on public sets are comparable, the reasons for a difference are not."
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


def _ours(
    results: Results,
    column: Column,
    model: str,
    models: Sequence[str],
    skipped: Mapping[str, str],
) -> dict[str, Any]:
    of_set = results.get(column.testset, {})
    why = skipped.get(column.testset, "not evaluated")
    if column.testset == "held_out":
        why = "the paper's own recordings: they cannot be shared"
    is_best = model in best(of_set, column.key, models)
    return number(of_set.get(model, {}), column.key, is_best=is_best, why=why)


def _clips(of_set: Mapping[str, Numbers] | None, coverage: str | None) -> str | None:
    if not of_set:
        return None
    return coverage or str(sizes(of_set)["n_clips"])
