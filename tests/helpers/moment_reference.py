"""What lighthouse's evaluation says of predictions, one query and one threshold at a time.

After the behaviour of `training/standalone_eval/eval.py` (`eval_submission`) and `utils.py` of
line/lighthouse at commit 03ea7b4, the script that CASTELLA, Clotho-Moment and DCASE 2026 task 6 go
by; written anew in plain Python. Predictions are `{qid, pred_relevant_windows: [[onset, offset,
score], …]}`, ground truth is lines of the label files. Results are percentages with two decimals.
"""


def evaluate(predictions, ground_truth):
    true = {line["qid"]: line["relevant_windows"] for line in ground_truth}
    of = {line["qid"]: line["pred_relevant_windows"] for line in predictions}
    assert of.keys() == true.keys()
    thresholds = [i / 100 for i in range(50, 100, 5)]
    precision = {
        at: percent([average_precision(of[qid][:10], true[qid], at) for qid in of])
        for at in thresholds
    }
    every = [average_precision(of[qid][:10], true[qid], at) for qid in of for at in thresholds]
    surest = [best_overlap(of[qid][0], true[qid]) for qid in of]
    return {
        "mAP": percent(every),
        "mAP@0.5": precision[0.5],
        "mAP@0.75": precision[0.75],
        "R1@0.5": percent([overlap >= 0.5 for overlap in surest]),
        "R1@0.7": percent([overlap >= 0.7 for overlap in surest]),
    }


def percent(values):
    return round(100 * sum(values) / len(values), 2)


def shared_and_lengths(one, other):
    shared = max(min(one[1], other[1]) - max(one[0], other[0]), 0)
    return shared, one[1] - one[0], other[1] - other[0]


def overlap_of_all(window, true):
    """Of all windows: the union is both lengths without what they share."""
    shared, length, true_length = shared_and_lengths(window, true)
    return shared / (length + true_length - shared)


def best_overlap(window, windows):
    """Of the first window: the union is all between the first begin and the last end."""
    overlaps = [overlap_of_all(window, true) for true in windows]
    true = windows[overlaps.index(max(overlaps))]
    union = max(window[1], true[1]) - min(window[0], true[0])
    return shared_and_lengths(window, true)[0] / union


def average_precision(windows, true, threshold):
    windows = sorted(windows, key=lambda window: -window[2])  # what ties stays in order
    free = list(range(len(true)))
    hits = []
    for window in windows:
        overlaps = [(overlap_of_all(window, true[i]), i) for i in free]
        best, i = max(overlaps, default=(0, None))  # of equal ones the later
        hits.append(best >= threshold)
        if hits[-1]:
            free.remove(i)
    area = 0
    for rank in range(len(windows)):
        if hits[rank]:
            later = range(rank, len(windows))
            area += max(sum(hits[: k + 1]) / (k + 1) for k in later) / len(true)
    return area
