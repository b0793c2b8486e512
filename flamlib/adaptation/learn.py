"""Adapt the captions of labelled recordings to them, and say what that is worth on held-out files.

    thresholds   the model's scores, thresholds from the recordings
    scale        a scale and a shift of each caption's logit: two numbers
    heads        a vector of its own for each caption, in place of its text's: a linear classifier
                 of frames that begins at the caption's text

Each level begins at the one before and leaves it only for evidence (`logistic`). A caption without
events, or without anything that it is not, stays as it is. As in the model a score of one half
means that a frame is no evidence for or against the caption: active and other frames weigh the
same in the fit, whatever their number.

Whole recordings are held out in turn, so frames of one recording are never on both sides. Of those
not held out the thresholds are chosen, on scores by which they were held out in turn themselves.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score

from flamlib.adaptation import choose, logistic, own_labels
from flamlib.adaptation.choose import EPSILON, Choice, Criterion
from flamlib.adaptation.own_labels import Clips, Labelled, LabelledFrames
from flamlib.compute import parallel
from flamlib.inference import detector, pieces
from flamlib.losses import frame_wise
from flamlib.models.caption_thresholds import Chosen
from flamlib.models.flam import FLAM
from flamlib.models.interface import CaptionEmbeddings
from flamlib.sound_events.detection import frames_first
from flamlib.sound_events.events import active_frames
from flamlib.sound_events.smoothing import Smoothing

Level = Literal["thresholds", "scale", "heads"]
LEVELS: tuple[Level, ...] = ("thresholds", "scale", "heads")
SCALE_STRENGTH = 10.0  # events that the model's own scale and shift are worth
HEAD_STRENGTH = 4.0  # and the direction of its text
N_FOLDS = 5
N_THREADS = min(8, os.cpu_count() or 1)  # each needs 50 MB
MAX_ABSENT = 4000  # frames without a caption that a fit sees

Weights = Float[np.ndarray, "caption dim"]
CaptionWeights = Float[np.ndarray, "dim"]


@dataclass(frozen=True)
class Examples:
    """Labelled recordings, embedded by a model that is to be adapted to them.

    Attributes:
        recordings: with the embedding of each frame as values.
        captions: all captions of their labels.
        frame_s: seconds of a frame.
        smoothing: of scores.
        start: of each caption the model's weights, see `adapter`.
        bias: of each caption the log-odds of its prior.
        own: of each caption the model's threshold.
    """

    recordings: Sequence[LabelledFrames]
    captions: Sequence[str]
    frame_s: float
    smoothing: Smoothing
    start: Weights
    bias: Float[np.ndarray, "caption"]
    own: Sequence[Chosen]
    # By recordings and level: folds of folds ask for the same fits.
    fits: dict[tuple[tuple[int, ...], Level], Weights] = field(
        init=False, default_factory=dict, repr=False, compare=False
    )


class HeldOut(NamedTuple):
    """What a level is worth on recordings that were held out.

    Attributes:
        choices: of each caption, at thresholds chosen without the recording that was scored.
        average_precision: of each caption's frames; nan without an event.
    """

    choices: Sequence[Choice]
    average_precision: Float[np.ndarray, "caption"]

    def mean(self) -> dict[str, float]:
        """Return means over the captions that have events."""
        means = {"average_precision": float(np.nanmean(self.average_precision))}
        for name in ("f1", "recall", "false_per_hour"):
            values = [getattr(c, name) for c in self.choices if c.n_events]
            means[name] = float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
        return means


def examples_of(
    model: FLAM,
    found: Sequence[Labelled],
    captions: Sequence[str],
    *,
    smoothing: Smoothing,
    progress: bool = False,
) -> tuple[Examples, dict[str, str]]:
    """Embed labelled recordings.

    Args:
        model: to adapt.
        found: the recordings.
        captions: of their labels.
        smoothing: of scores.
        progress: whether to show a progress bar.

    Returns:
        The examples, and what cannot be read, with the reason.

    Raises:
        ValueError: none of the recordings can be used.
    """

    def embed(path: Path) -> tuple[Float[np.ndarray, "frame dim"], float]:
        with pieces.cut(path, model) as opened:
            blocks = [piece.frame_emb[0] for piece in pieces.embed(model, opened)]
            return torch.cat(blocks).numpy(force=True), opened.duration_s

    recordings, skipped = own_labels.read(found, captions, embed, progress=progress)
    start, bias = start_of(model.embed_captions(list(captions)))
    own = detector.choose_thresholds(model, captions, method="unbiased", smoothing=smoothing)
    made = Examples(recordings, captions, model.frame_s, smoothing, start, bias, own)
    return made, skipped


def start_of(captions: CaptionEmbeddings) -> tuple[Weights, Float[np.ndarray, "caption"]]:
    """Return the weights of captions as the model has them, and the log-odds of their priors."""
    emb, scale, bias = (part.numpy(force=True).astype(float) for part in captions)
    return np.pad(emb * scale[:, None], ((0, 0), (0, 1))), bias


def fit(examples: Examples, rows: Sequence[int], level: Level) -> Weights:
    """Return the captions' weights, fitted to some of the recordings; each fit is made once.

    Args:
        examples: the recordings.
        rows: which of them to use.
        level: how much of the weights may change.
    """
    if level == "thresholds":
        return examples.start
    key = tuple(rows), level
    if key not in examples.fits:
        begin = examples.start if level == "scale" else fit(examples, rows, "scale")
        of_caption = _fit_scale if level == "scale" else _fit_head

        def weights_of(j: int) -> CaptionWeights:
            known = _frames(examples, rows, examples.captions[j])
            is_fitted = 0 < known.active.sum() < len(known.active)
            return of_caption(known, begin[j]) if is_fitted else begin[j]

        # Threads, as the products of `logistic` are most of the work and leave others to run.
        each = range(len(examples.captions))
        weights = parallel.in_order(weights_of, each, n_jobs=N_THREADS, threads=True)
        examples.fits[key] = np.stack(list(weights))
    return examples.fits[key]


def _fit_scale(known: "_Frames", start: CaptionWeights) -> CaptionWeights:
    base = start[:-1]
    along = logistic.along(known.frames, base)[:, None]
    how = {"unit": 1.0, "strength": SCALE_STRENGTH}
    scale, shift = logistic.fit(along, known.active, known.importance, np.array([1.0, 0.0]), **how)
    # A caption of which others are more like than its own recordings would be turned round.
    return np.append(max(scale, 0.05) * base, shift)


def _fit_head(known: "_Frames", start: CaptionWeights) -> CaptionWeights:
    how = {"unit": float(np.linalg.norm(start[:-1])), "strength": HEAD_STRENGTH}
    return logistic.fit(known.frames, known.active, known.importance, start, **how)


def clips(examples: Examples, rows: Sequence[int], weights: Mapping[int, Weights]) -> Clips:
    """Return the smoothed unbiased scores of some of the recordings as clips.

    Args:
        examples: the recordings.
        rows: which of them.
        weights: of the captions, for each recording.
    """
    bias = torch.from_numpy(examples.bias)
    scored = []
    for row in rows:
        of = weights[row].astype(np.float32)
        logits = examples.recordings[row].values @ of[:, :-1].T + of[:, -1] + examples.bias
        by_caption = torch.from_numpy(frames_first(logits).copy())[None]
        [scores] = frame_wise.unbiased_score(by_caption, bias).numpy()
        smooth = examples.smoothing(scores)
        scored.append(
            examples.recordings[row]._replace(values=frames_first(smooth).astype(np.float32))
        )
    return own_labels.clips_of(scored, examples.captions, examples.frame_s)


def out_of_fold(examples: Examples, rows: Sequence[int], level: Level) -> dict[int, Weights]:
    """Return for each of some recordings the weights that were fitted to the others of them.

    A single one is fitted to itself.
    """
    folds = deal(examples, rows)
    if level == "thresholds" or len(folds) < 2:
        return dict.fromkeys(rows, fit(examples, rows, level))
    found = {}
    for held_out in folds:
        others = [row for row in rows if row not in held_out]
        found |= dict.fromkeys(held_out, fit(examples, others, level))
    return found


def deal(examples: Examples, rows: Sequence[int]) -> list[list[int]]:
    """Return folds of some recordings, at most `N_FOLDS`, each with one recording at least.

    What is known of one recording from two sources, labels and a review, is in one fold.
    """
    same: dict[Path, list[int]] = {}
    for row in rows:
        same.setdefault(examples.recordings[row].path, []).append(row)
    groups, n_folds = list(same.values()), min(N_FOLDS, len(same))
    mixed = np.random.default_rng(0).permutation(len(groups)).tolist()
    return [
        [row for place in mixed[fold::n_folds] for row in groups[place]] for fold in range(n_folds)
    ]


def thresholds_of(
    examples: Examples, rows: Sequence[int], level: Level, criterion: Criterion
) -> list[Choice]:
    """Return thresholds of a level, chosen on some of the recordings, each scored by the others.

    Args:
        examples: the recordings.
        rows: which of them to use.
        level: of the captions' weights.
        criterion: what is wanted.
    """
    scored = clips(examples, rows, out_of_fold(examples, rows, level))
    return choose.choose(scored, _carried(examples, fit(examples, rows, level)), criterion)


def held_out(
    examples: Examples,
    level: Level | None,
    criterion: Criterion,
    *,
    tick: Callable[[], object] = lambda: None,
) -> HeldOut:
    """Return what a level is worth: of each recording, by what others say alone.

    Args:
        examples: at least two recordings.
        level: the level; None: the model as it is, with its own thresholds.
        criterion: by which thresholds are chosen.
        tick: called when a fold is done.
    """
    every = list(range(len(examples.recordings)))
    own = np.array([chosen.threshold for chosen in examples.own])
    weights, thresholds = dict.fromkeys(every, examples.start), dict.fromkeys(every, own)
    for fold in deal(examples, every) if level else []:
        others = [row for row in every if row not in fold]
        weights |= dict.fromkeys(fold, fit(examples, others, level))
        try:
            chosen = thresholds_of(examples, others, level, criterion)
        except ValueError:  # no event in the others
            continue
        finally:
            tick()
        thresholds |= dict.fromkeys(fold, np.array([each.threshold for each in chosen]))
    scored = clips(examples, every, weights)
    frames = scored.scores.by_frame
    precision = np.full(len(examples.captions), np.nan)
    for j in range(len(examples.captions)):
        known = frames.known[:, j]
        if frames.active[known, j].any():
            precision[j] = average_precision_score(frames.active[known, j], frames.scores[known, j])
    # Moved so that all folds have one threshold, a half.
    of = scored.scores
    moved = [
        expit(_odds(scores) - _odds(thresholds[int(row)])).astype(np.float32)
        for scores, row in zip(of.scores, scored.of, strict=True)
    ]
    halves = choose.judge(
        scored._replace(scores=replace(of, scores=moved)), [0.5] * len(examples.captions)
    )
    return HeldOut(halves, precision)


def _carried(examples: Examples, weights: Weights) -> list[Chosen]:
    """The model's own thresholds where fitted weights put them, by their scale and shift."""
    base, prior = examples.start[:, :-1], expit(examples.bias)
    own = np.clip([chosen.threshold for chosen in examples.own], EPSILON, 1 - EPSILON)
    # Without the prior, the logit of which the unbiased score p / (p + prior) is the threshold.
    evidence = _odds(own * prior / (1 - own)) - examples.bias
    scale = (weights[:, :-1] * base).sum(axis=1) / np.square(base).sum(axis=1)
    p = expit(scale * evidence + weights[:, -1] + examples.bias)
    moved = np.where((weights == examples.start).all(axis=1), own, p / (p + prior))
    return [
        chosen._replace(threshold=float(threshold))
        for chosen, threshold in zip(examples.own, moved, strict=True)
    ]


def _odds(share: np.ndarray) -> np.ndarray:
    return logit(np.clip(share.astype(float), EPSILON, 1 - EPSILON))


class _Frames(NamedTuple):
    """The embeddings of the frames that are known for a caption, whether it is active in them, and
    their importance: 1 for an event, and as much in all for the other frames."""

    frames: Float[np.ndarray, "frame dim"]
    active: Bool[np.ndarray, "frame"]
    importance: Float[np.ndarray, "frame"]


def _frames(examples: Examples, rows: Sequence[int], caption: str) -> _Frames:
    frames, active, importance = [], [], []
    for row in rows:
        recording = examples.recordings[row]
        n_frames = len(recording.values)
        share, absent = np.zeros(n_frames), np.zeros(n_frames, dtype=bool)
        if recording.decisions is None:
            absent[:] = True
        for i, event in enumerate(recording.events):
            if event.caption != caption:
                continue
            [inside] = active_frames(
                [event],
                [caption],
                n_frames=n_frames,
                frame_s=examples.frame_s,
                clip_s=recording.duration_s,
            )
            if recording.decisions is None or recording.decisions[i]:
                share[inside] = 1 / max(1, inside.sum())
                absent[inside] = False
            else:
                absent[inside] = True
        absent &= share == 0
        used = np.flatnonzero((share > 0) | absent)
        frames.append(recording.values[used])
        active.append(share[used] > 0)
        importance.append(share[used])
    frames, active = np.concatenate(frames), np.concatenate(active)
    importance = np.concatenate(importance)
    others = np.flatnonzero(~active)
    if len(others) > MAX_ABSENT:
        others = np.sort(np.random.default_rng(0).choice(others, MAX_ABSENT, replace=False))
        kept = np.sort(np.concatenate([np.flatnonzero(active), others]))
        frames, active, importance = frames[kept], active[kept], importance[kept]
    importance[~active] = importance.sum() / max(1, int((~active).sum()))
    return _Frames(frames.astype(float), active, importance)
