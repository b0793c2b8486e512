"""Every number of a test set, a row each, with its interval and its test against FLAM."""

from collections.abc import Mapping, Sequence
from typing import Any

from flamlib.data.datasets.annotations import Task
from flamlib.report.cells import Numbers, Results, best, cell, number, row, sizes, title

LOCATED = (
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
# Of a set without mixtures for validation.
ON_ITSELF = {"f1": "frame F1 at the best threshold on these clips"}
HELD_OUT: Sequence[tuple[str, str, Task]] = (
    ("seen_captions", "Seen captions", "sed"),
    ("unseen_captions", "Unseen captions", "sed"),
    ("held_out_recordings", "Search among the held-out recordings", "retrieval"),
    ("heldout_seen", "Zero-shot, seen classes", "classification"),
    ("heldout_unseen", "Zero-shot, unseen classes", "classification"),
)


def by_testset(evaluated: Mapping[str, Mapping], joined: Mapping[str, Mapping]) -> dict[str, dict]:
    """The numbers of `evaluation.evaluate` and of `evaluation.join`, which are by model, by test
    set instead. Of a model that is in both, those of `evaluate` are taken."""
    results: dict[str, dict] = {}
    for numbers in (evaluated, joined):
        for model, of_model in numbers.items():
            for part, of_part in of_model.items():
                name = "held_out_recordings" if part == "retrieval" else part
                of_set = results.setdefault(name, {})
                if model == "difference":  # with an entry for every model
                    of_set[model] = of_part | of_set.get(model, {})
                else:
                    of_set.setdefault(model, of_part)
    return results


def held_out_tables(results: Results, models: Sequence[str]) -> list[dict[str, Any]]:
    """The embedded corpus."""
    return [
        set_table(name, task, results[testset], models)
        for testset, name, task in HELD_OUT
        if results.get(testset)
    ]


def set_table(
    name: str,
    task: Task,
    of_set: Mapping[str, Numbers],
    models: Sequence[str],
    coverage: str | None = None,
) -> dict[str, Any]:
    """The table of a set that is called `name`; what no model has is no row of it. `coverage` says
    how many of the listed clips were found."""
    rows = []
    for key, words in measures(task, of_set):
        if all(of_set.get(model, {}).get(key) is None for model in models):
            continue
        first = best(of_set, key, models)
        cells = [
            number(
                of_set.get(model, {}),
                key,
                is_best=model in first,
                why="not defined here" if model in of_set else "not evaluated",
                test=of_set.get("difference", {}).get(model),
            )
            for model in models
        ]
        rows.append(row([cell(words), *cells]))
    clips, n_captions = coverage or sizes(of_set)["n_clips"], sizes(of_set)["n_captions"]
    return {
        "title": f"{name}: {clips} clips, {n_captions} captions",
        "columns": ["", *map(title, models)],
        "rows": rows,
        "notes": [],
        "left": False,
    }


def measures(task: Task, of_set: Mapping[str, Numbers]) -> list[tuple[str, str]]:
    """The numbers of a task and what they are called."""
    numbers = sizes(of_set)
    if task == "retrieval":
        return list(FOUND)
    if task == "sed":
        on_itself = ON_ITSELF if "f1_best" not in numbers else {}
        return [(key, on_itself.get(key, words)) for key, words in LOCATED]
    named = [
        (key, f"accuracy, template “{key[5:].replace('_', ' ')}”")
        for key in numbers
        if key.startswith("top1_") and not key.endswith(("_low", "_high"))
    ]
    folds = numbers.get("per_fold", {})
    by_fold = []
    if len(folds) > 1:
        by_fold = [("fold_mean", f"accuracy, mean over {len(folds)} folds")]
        by_fold += [(f"fold_{fold}", f"accuracy, fold {fold}") for fold in folds]
    return [
        *named,
        *by_fold,
        ("top5", "among the nearest five"),
        ("macro", "accuracy, mean over classes"),
    ]
