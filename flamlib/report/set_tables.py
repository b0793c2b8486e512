"""Tables of all metrics of a test set, with confidence intervals and tests against FLAM."""

from collections.abc import Mapping, Sequence
from typing import Any

from flamlib.data.datasets.annotations import Task
from flamlib.report.cells import Numbers, Results, best, cell, number, row, sizes, title

SED_METRICS = (
    ("auroc_macro", "AUROC of frames, mean over captions"),
    ("auroc_loss", "AUROC lost under speech and music, lower is better"),
    ("auroc_pooled", "AUROC of frames, all captions together"),
    ("auroc_clip", "AUROC of frames within a clip, mean over clips"),
    ("map", "average precision, mean over captions (mAP)"),
    ("f1", "frame F1 at a threshold chosen beforehand"),
    ("f1_best", "frame F1 at the best threshold on these clips"),
    ("segment_f1", "segment F1 (1 s)"),
    ("event_f1", "event F1 (collars)"),
    ("psds1", "PSDS1"),
    ("psds2", "PSDS2"),
    ("psds1_mean", "PSDS1, mean over captions"),
    ("psds2_mean", "PSDS2, mean over captions"),
    ("psds1_raw", "PSDS1 of scores that are not smoothed"),
    ("psds2_raw", "PSDS2 of scores that are not smoothed"),
    ("mpauc", "partial AUROC of segments, area / max FPR (chance 5)"),
    ("mpauc_mcclish", "partial AUROC of segments, McClish (chance 50)"),
    ("recall_at_1", "recall of events at 1 false span a minute and caption"),
    ("recall_at_10", "recall of events at 10 false spans a minute and caption"),
    ("event_recall", "recall of events at the threshold chosen beforehand"),
    ("false_spans", "false spans a minute and caption at that threshold"),
    ("ece", "expected calibration error (ECE), lower is better"),
    ("brier", "Brier score, lower is better"),
    ("nats", "nats a frame (cross-entropy), lower is better"),
    ("nats_constant", "nats of one prior for all captions"),
    ("nats_caption", "nats of a prior for each caption"),
    ("nats_oracle", "nats of the captions' shares in these very clips"),
    ("nats_gain", "nats below one prior for all captions"),
)
RETRIEVAL_METRICS = (
    ("t2a_r1", "text to audio, R@1"),
    ("t2a_r5", "text to audio, R@5"),
    ("t2a_r10", "text to audio, R@10"),
    ("t2a_map10", "text to audio, mAP@10"),
    ("t2a_median_rank", "text to audio, median rank, lower is better"),
    ("a2t_r1", "audio to text, R@1"),
    ("a2t_r5", "audio to text, R@5"),
    ("a2t_r10", "audio to text, R@10"),
    ("a2t_map10", "audio to text, mAP@10"),
    ("a2t_median_rank", "audio to text, median rank, lower is better"),
)
MOMENT_METRICS = (
    ("moment_r1_50", "moments, R1 at an IoU of 0.5"),
    ("moment_r1_70", "moments, R1 at an IoU of 0.7"),
    ("moment_map", "moments, mAP over IoU 0.5 to 0.95"),
    ("moment_map_50", "moments, mAP at an IoU of 0.5"),
    ("moment_map_75", "moments, mAP at an IoU of 0.75"),
)
# Of a set in which clips share captions.
RETRIEVAL_METRICS += tuple(
    (f"{way}_r{k}_own", f"{words}, R@{k}, a caption right for its own clip alone")
    for way, words in (("t2a", "text to audio"), ("a2t", "audio to text"))
    for k in (1, 5, 10)
)
# On a set without mixtures for validation.
ON_ITSELF = {"f1": "frame F1 at the best threshold on these clips"}
HELD_OUT: Sequence[tuple[str, str, Task]] = (
    ("seen_captions", "Seen captions", "sed"),
    ("unseen_captions", "Unseen captions", "sed"),
    ("seen_under_maskers", "Seen captions under speech and music", "sed"),
    ("unseen_under_maskers", "Unseen captions under speech and music", "sed"),
    ("held_out_recordings", "Retrieval of held-out recordings", "retrieval"),
    ("heldout_seen", "Zero-shot, seen classes", "classification"),
    ("heldout_unseen", "Zero-shot, unseen classes", "classification"),
)


def by_testset(
    evaluated: Mapping[str, Mapping], external: Mapping[str, Mapping]
) -> dict[str, dict]:
    """Regroup the metrics of `evaluate` and of `evaluate_external` by test set, then by model.

    Of a model that is in both, those of `evaluate` are taken.
    """
    results: dict[str, dict] = {}
    for numbers in (evaluated, external):
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
    """Return the tables of the embedded corpus."""
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
    """Return the table of a test set; a metric that no model has is not in it.

    Args:
        name: title of the set.
        task: its task.
        of_set: metrics by model.
        models: in the order of the columns.
        coverage: how many of the listed clips were found.
    """
    rows = []
    for key, words in metric_titles(task, of_set):
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
    clips, asked = coverage or sizes(of_set)["n_clips"], f"{sizes(of_set)['n_captions']} captions"
    if task == "moments":
        asked = f"{sizes(of_set)['n_moment_queries']} sentences"
    return {
        "title": f"{name}: {clips} clips, {asked}",
        "columns": ["", *map(title, models)],
        "rows": rows,
        "notes": [],
        "left": False,
    }


def metric_titles(task: Task, of_set: Mapping[str, Numbers]) -> list[tuple[str, str]]:
    """Return the metrics of a task and their titles."""
    numbers = sizes(of_set)
    if task == "retrieval":
        return list(RETRIEVAL_METRICS)
    if task == "moments":
        return list(MOMENT_METRICS)
    if task == "sed":
        on_itself = ON_ITSELF if "f1_best" not in numbers else {}
        return [(key, on_itself.get(key, words)) for key, words in SED_METRICS]
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
        ("top5", "top-5 accuracy"),
        ("macro", "accuracy, mean over classes"),
    ]
