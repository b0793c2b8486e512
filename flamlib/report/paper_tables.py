"""Tables in the paper's layout: what was published above, and below it what this run measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from flamlib.report.cells import Numbers, Results, best, cell, number, percent, row, sizes, title
from flamlib.report.published import PUBLISHED, RETRIEVAL, SED, ZERO_SHOT, Column

PAPERS_OWN = "held_out"  # the test set that only its authors have
TABLES = {"sed": SED, "retrieval": RETRIEVAL, "zero_shot": ZERO_SHOT}


def paper_tables(
    name: str, results: Results, models: Sequence[str], coverage: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return one of `TABLES`, published rows above ours; none if this run has nothing for it.

    Columns of sets that were not evaluated are left out, but for the paper's own recordings, which
    cannot be shared; and so are published rows without a value in any column that is left.

    Args:
        name: key of `TABLES`.
        results: metrics by test set and model.
        models: in the order of their rows.
        coverage: of each public set how many of its listed clips were found.
    """
    evaluated = {testset for testset, of_set in results.items() if of_set}
    if not any(column.testset in evaluated for column in TABLES[name]):
        return []
    columns = [c for c in TABLES[name] if c.testset in evaluated or c.testset == PAPERS_OWN]
    published = {
        model: [values.get((column.testset, column.key)) for column in columns]
        for model, values in PUBLISHED[name].items()
    }
    published = {
        model: values for model, values in published.items() if any(v is not None for v in values)
    }
    rows: list[dict] = []
    if published:
        rows.append({"group": "Published, in percent; not measured here"})
    for model, values in published.items():
        cells = [cell(None if value is None else percent(value)) for value in values]
        rows.append(row([cell(f"{model}, published"), *cells], "published"))
    rows.append({"group": "Ours, in percent; this run"})
    clips = [
        cell(None if c.testset == PAPERS_OWN else _n_clips(results, coverage, c.testset))
        for c in columns
    ]
    rows.append(row([cell("clips evaluated"), *clips], "published"))
    for model in models:
        cells = [_ours(results, column, model, models) for column in columns]
        rows.append(row([cell(title(model)), *cells], "first" if model == "flam" else ""))
    notes = []
    if published:
        notes.append(
            "Our models are trained on some hundred recordings from packages, the published ones "
            "on a million: results on public sets are comparable, the reasons for a difference "
            "are not."
        )
    if any(column.testset in ("maestro", "desed_public") for column in columns):
        notes.append(
            "MPAUC is shown with McClish's correction (chance 50); the published one does not say "
            "which it is. DESED is the public evaluation set unless it says validation."
        )
    for testset, title_of_set in {c.testset: c.title.rsplit(" ", 2)[0] for c in columns}.items():
        if sizes(results.get(testset) or {"": {}}).get("n_shared"):
            notes.append(_shared_note(title_of_set, results[testset], models))
    if len(columns) < len(TABLES[name]):
        notes.append(
            "Sets that were not evaluated are left out, with what is published of them; Coverage "
            "says why."
        )
    names = ["", *(column.title for column in columns)]
    return [{"title": "", "columns": names, "rows": rows, "notes": notes, "left": False}]


def _ours(results: Results, column: Column, model: str, models: Sequence[str]) -> dict[str, Any]:
    of_set = results.get(column.testset, {})
    is_best = model in best(of_set, column.key, models)
    why = "the paper's own recordings" if column.testset == PAPERS_OWN else "not evaluated"
    return number(of_set.get(model, {}), column.key, is_best=is_best, why=why)


def _shared_note(set_title: str, of_set: Mapping[str, Numbers], models: Sequence[str]) -> str:
    numbers = sizes(of_set)
    own = [
        f"{title(model)} {100 * of_set[model]['t2a_r1_own']:.1f} and "
        f"{100 * of_set[model]['a2t_r1_own']:.1f}"
        for model in models
        if model in of_set
    ]
    return (
        f"{set_title}: {numbers['n_shared']} of {numbers['n_captions']} captions have the words of "
        "another clip and are right for both here. Published scripts have a caption right for its "
        "own clip alone, and settle ties by their order of sorting; counted so, with ties lost, "
        f"R@1 from text to audio and from audio to text is: {'; '.join(own)}."
    )


def _n_clips(results: Results, coverage: Mapping[str, str], testset: str) -> str:
    return coverage.get(testset) or str(sizes(results[testset])["n_clips"])
