"""Thresholds of a model by caption, from its scores of the mixtures for validation.

The threshold of a caption is the one at which the F1 of its frames is highest, halfway between the
lowest score that is detected there and the next below. Scores are smoothed first, as `flam detect`
does. A caption of few events, or none, has a common threshold, of the highest mean F1 over
captions: one for those that the model was trained on, one for novel ones, which score lower. As
few captions for validation are novel, the latter is better chosen elsewhere, see
`EvaluationConfig.novel_threshold`.

Validation has few recordings of a caption, mixed again and again: a threshold is as good as those.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from flamlib.metrics import sed
from flamlib.metrics.clip_scores import ClipScores, FrameTable
from flamlib.metrics.f1 import f1_over_thresholds
from flamlib.models.caption_thresholds import FORMAT, CaptionThresholds, OwnThreshold
from flamlib.sound_events.events import count_frames, read_events
from flamlib.sound_events.smoothing import Smoothing

MIN_EVENTS = 10  # from which on a caption has a threshold of its own
MIN_CAPTIONS = 3  # from which on a common threshold is theirs, and not that of all captions
CRITERION = "highest F1 of the caption's frames in the mixtures for validation"
NOVEL_GIVEN = f"{CRITERION}; of novel captions, in folds of the recordings for training"
DIGITS = 6  # of a threshold


def compute(
    scores: ClipScores,
    known: Float[np.ndarray, "caption"],
    *,
    model: str,
    smoothing: Smoothing,
    n_thresholds: int,
    novel: float | None = None,
) -> CaptionThresholds:
    """Choose the thresholds.

    Args:
        scores: Unbiased scores of the mixtures for validation, not smoothed.
        known: How well the model knows each caption from training, 0 to 1.
        model: SHA-256 of the file of the model's weights.
        smoothing: Of the scores.
        n_thresholds: Candidates for a common threshold, see `sed.candidate_thresholds`.
        novel: Common threshold of novel captions; None: chosen as the others.

    Raises:
        ValueError: There is no event of any caption.
    """
    smooth = scores.smoothed(smoothing)
    frames = smooth.by_frame
    events = [event for of_clip in smooth.known_events().values() for event in of_clip]
    if not events:
        raise ValueError("no event in the mixtures for validation: there is nothing to choose by")
    captions = {}
    for j, caption in enumerate(scores.captions):
        rows = frames.known[:, j]
        if n_events := sum(event.caption == caption for event in events):
            threshold, f1 = best_f1(frames.scores[rows, j], frames.active[rows, j])
            captions[caption] = OwnThreshold(threshold=threshold, n_events=n_events, f1=f1)
    has_own = np.array([caption in captions for caption in scores.captions])
    groups = [has_own & (known >= 0.5), has_own & (known < 0.5)]
    fallback, of_novel = (
        _common(frames, group if group.sum() >= MIN_CAPTIONS else has_own, n_thresholds)
        for group in groups
    )
    return CaptionThresholds(
        format=FORMAT,
        model=model,
        method="unbiased",
        median_frames=smoothing.median_frames,
        hysteresis=smoothing.hysteresis,
        criterion=CRITERION if novel is None else NOVEL_GIVEN,
        min_events=MIN_EVENTS,
        fallback=fallback,
        novel=of_novel if novel is None else novel,
        captions=captions,
    )


def _common(frames: FrameTable, of: Bool[np.ndarray, "caption"], n_thresholds: int) -> float:
    """The threshold of the highest mean F1 over some captions."""
    scores, known = frames.scores[:, of], frames.known[:, of]
    candidates = sed.candidate_thresholds(scores[known], n_thresholds)
    found = f1_over_thresholds(scores, frames.active[:, of], candidates, known)
    return round(found["best_macro"], DIGITS)


def best_f1(
    scores: Float[np.ndarray, "frame"], active: Bool[np.ndarray, "frame"]
) -> tuple[float, float]:
    """Return the threshold of the highest F1 and this F1; of several the highest threshold.

    Without an active frame no F1 is defined: then nothing is detected, at a threshold of 1.

    >>> best_f1(np.array([0.9, 0.7, 0.3, 0.1]), np.array([True, True, False, False]))
    (0.5, 1.0)
    """
    if not active.any():
        return 1.0, 0.0
    order = np.argsort(-scores, kind="stable")
    falling = scores[order].astype(float)
    n_true = np.cumsum(active[order])
    f1 = 2 * n_true / (np.arange(1, len(falling) + 1) + active.sum())
    # Of frames of one score all are detected, or none.
    is_last = np.append(falling[1:] < falling[:-1], True)
    best = int(np.argmax(np.where(is_last, f1, -1.0)))
    below = falling[best + 1] if best + 1 < len(falling) else falling[best]
    return round(float(falling[best] + below) / 2, DIGITS), round(float(f1[best]), DIGITS)


def read_scores(folder: str | Path, model: str, split: str = "valid") -> ClipScores:
    """Read a model's scores of a split and their ground truth, as `splits.write_scores` wrote them.

    Raises FileNotFoundError for what is missing, and ValueError for scores of other clips than the
    ground truth.
    """
    path = Path(folder) / model / f"{split}.parquet"
    truth = Path(folder) / "ground_truth" / split
    table = pd.read_parquet(path)
    durations = pd.read_csv(truth / "durations.tsv", sep="\t")
    clips = [str(name) for name in durations["filename"]]
    captions = [name for name in table if name not in ("filename", "onset", "offset")]
    if list(dict.fromkeys(table["filename"])) != clips or not captions:
        raise ValueError(f"{path} holds scores of other clips than {truth}: evaluate again")
    frame_s = float(table["offset"].iloc[0] - table["onset"].iloc[0])
    events = read_events(truth / "events.tsv")
    # Captions such as "none" are texts, and no missing values.
    unknown = pd.read_csv(truth / "unknown.tsv", sep="\t", dtype=str, keep_default_na=False)
    known = np.ones((len(clips), len(captions)), bool)
    row, column = ({name: i for i, name in enumerate(names)} for names in (clips, captions))
    for clip, caption in zip(unknown["filename"], unknown["event_label"], strict=True):
        known[row[clip], column[caption]] = False
    n_frames = [count_frames(duration, frame_s) for duration in durations["duration"]]
    if sum(n_frames) != len(table):
        raise ValueError(f"{path}: {len(table)} frames, expected {sum(n_frames)}: evaluate again")
    by_clip = np.split(table[captions].to_numpy(), np.cumsum(n_frames)[:-1])
    return ClipScores(
        clips=clips,
        captions=captions,
        frame_s=frame_s,
        durations=list(durations["duration"]),
        scores=by_clip,
        ground_truth=[events.get(clip, []) for clip in clips],
        known=known,
    )
