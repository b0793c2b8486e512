"""Held-out mixtures with their ground truth, and a model's scores of them.

*Queries.* Every clip of a split is scored for every caption that occurs anywhere in the split, so
most captions are absent from most clips. Where one cannot say whether a caption is true of a clip
(`Lexicon.label`), the pair of both is unknown, and leaves every count.

*Probability and score.* A model returns logits [clip, caption, frame]. For FLAM

    prob  = sigmoid(logit), the probability that the caption is active
    score = prob / (prob + prior), see `losses.unbiased_score`; not a probability: the caption's
            prior is divided out

A baseline has neither a multiplier nor a prior. It gets one of each, the same for all captions,
fitted to other mixtures (`platt_scale`); then both formulas hold for it as well.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import logsigmoid
from tqdm import tqdm

from flamlib.data.mixtures import recipes
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.data.mixtures.recipes import Recipe
from flamlib.data.trunk_features import ClipFeatures
from flamlib.losses import frame_wise
from flamlib.metrics.clip_scores import ClipScores, FrameTable
from flamlib.models.interface import AudioTextModel, Method
from flamlib.sound_events.detection import frames_first
from flamlib.sound_events.events import Event, count_frames, frame_edges, merge, write_events
from flamlib.storage import files


@dataclass(frozen=True, eq=False)
class EvalSplit:
    """Mixtures of one split, the captions that each is scored for, and the ground truth.

    Attributes:
        name: of the split, such as "seen_captions".
        mixtures: recipes of the clips.
        captions: all captions that occur in the split, in order.
        events: of each clip, those of `captions` that are true, parents included.
        active: the same, by frame.
        known: False where the ground truth of a caption in a clip is unknown.
        frame_s: seconds of a frame.
    """

    name: str
    mixtures: Sequence[Recipe]
    captions: list[str]
    events: list[list[Event]]
    active: Bool[np.ndarray, "clip caption frame"]
    known: Bool[np.ndarray, "clip caption"]
    frame_s: float

    @classmethod
    def from_mixtures(
        cls, name: str, mixtures: Sequence[Recipe], bank: Bank, lexicon: Lexicon, *, frame_s: float
    ) -> "EvalSplit":
        """Label mixtures by the frame.

        Args:
            name: of the split.
            mixtures: its recipes.
            bank: where their recordings are.
            lexicon: which captions imply or exclude each other.
            frame_s: seconds of a frame, that of the model to be evaluated.

        Raises:
            ValueError: if there is no event in any of the mixtures.
        """
        captions = sorted({event.caption for recipe in mixtures for event in recipe.labels})
        if not captions:
            raise ValueError(f"{name}: none of the {len(mixtures)} mixtures has an event")
        active, known = lexicon.label(
            [recipe.labels for recipe in mixtures],
            [recipes.audible_families(bank, recipe) for recipe in mixtures],
            captions,
            n_frames=count_frames(_clip_s(mixtures), frame_s),
            frame_s=frame_s,
            clip_s=_clip_s(mixtures),
        )
        listed = set(captions)
        events = [
            merge(
                event._replace(caption=true)
                for event in recipe.labels
                for true in {event.caption, *lexicon.parents[event.caption]} & listed
            )
            for recipe in mixtures
        ]
        return cls(name, mixtures, captions, events, active, known, frame_s)

    @property
    def clips(self) -> list[str]:
        """Names of the clips, those of their audio files."""
        return [f"{recipe.index:05d}.flac" for recipe in self.mixtures]

    @property
    def clip_s(self) -> float:
        """Seconds of a clip, the same for all."""
        return _clip_s(self.mixtures)

    @property
    def frame_edges(self) -> Float[np.ndarray, "edge"]:
        """See `events.frame_edges`; the same for all clips."""
        return frame_edges(self.clip_s, self.frame_s)

    def frame_table(self, scores: Float[np.ndarray, "clip caption frame"]) -> FrameTable:
        """Return scores and ground truth of the frames of all clips, one below the other."""
        n_clips, n_captions, n_frames = self.active.shape
        return FrameTable(
            frames_first(scores).reshape(-1, n_captions),
            self._active_by_frame,
            np.repeat(np.arange(n_clips), n_frames),
            np.repeat(self.known, n_frames, axis=0),
        )

    def active_share(self) -> Float[np.ndarray, "caption"]:
        """Return the share of each caption's known frames that are active; nan without any."""
        known = np.repeat(self.known, self.active.shape[2], axis=0)
        n_known = known.sum(axis=0)
        n_active = (self._active_by_frame & known).sum(axis=0)
        return np.where(n_known > 0, n_active / np.maximum(n_known, 1), np.nan)

    @cached_property
    def _active_by_frame(self) -> Bool[np.ndarray, "row caption"]:
        return frames_first(self.active).reshape(-1, len(self.captions))


@dataclass(frozen=True, eq=False)
class SplitLogits:
    """A model's logits of a split.

    Attributes:
        split: what they are of.
        logits: as the model returns them.
        logit_bias: prior log-odds of each caption.
        method: how both make a score, see `FLAM.score`.
    """

    split: EvalSplit
    logits: Float[np.ndarray, "clip caption frame"]
    logit_bias: Float[np.ndarray, "caption"]
    method: Method = "unbiased"

    def scores(self) -> Float[np.ndarray, "clip caption frame"]:
        """Compute the scores, in [0, 1]; with "unbiased", 0.5 is no evidence for or against.

        In double precision: near 0 and 1 a sigmoid in single would make equal what differs in the
        logits.
        """
        logits, bias = (
            torch.from_numpy(x.astype(np.float64)) for x in (self.logits, self.logit_bias)
        )
        if self.method == "unbiased":
            return frame_wise.unbiased_score(logits, bias).numpy()
        return (logits if self.method == "biased" else logits - bias[:, None]).sigmoid().numpy()

    def probs(self) -> Float[np.ndarray, "clip caption frame"]:
        """Compute the probabilities that captions are active, their priors included."""
        return logsigmoid(torch.from_numpy(self.logits.astype(np.float64))).exp().numpy()

    def score_table(self) -> FrameTable:
        """Return scores and ground truth by the frame."""
        return self.split.frame_table(self.scores())

    def prob_table(self) -> FrameTable:
        """Return probabilities, in place of scores, and ground truth by the frame."""
        return self.split.frame_table(self.probs())

    def clip_scores(self) -> ClipScores:
        """Return scores and ground truth by the clip, as `sed` takes them."""
        split = self.split
        return ClipScores(
            split.clips,
            split.captions,
            split.frame_s,
            [split.clip_s] * len(split.clips),
            list(frames_first(self.scores())),
            split.events,
            split.known,
        )


def predict_logits(
    model: AudioTextModel,
    split: EvalSplit,
    bank: Bank,
    *,
    batch_size: int,
    progress: bool,
    features: ClipFeatures | None = None,
) -> SplitLogits:
    """Compute a model's logits for every caption in every frame of every clip.

    Args:
        model: any that embeds audio and captions.
        split: the clips and captions.
        bank: where the recordings of the mixtures are.
        batch_size: clips rendered and embedded at once.
        progress: show a progress bar.
        features: what the model's trunk made of the clips, if that is stored.

    Raises:
        ValueError: if the model's frames are not as long as those that the split is labelled for.
    """
    if not math.isclose(model.frame_s, split.frame_s):
        raise ValueError(
            f"{split.name} is labelled for frames of {split.frame_s} s, but the model has frames "
            f"of {model.frame_s} s: label the split for this model"
        )
    captions = model.embed_captions(split.captions)
    logits = np.empty(split.active.shape, np.float32)
    starts = range(0, len(split.mixtures), batch_size)
    for start in tqdm(starts, desc=split.name, unit="batch", disable=not progress):
        clips = slice(start, min(start + batch_size, len(split.mixtures)))
        if features is None:
            waveform = np.stack([recipes.render(bank, recipe) for recipe in split.mixtures[clips]])
            audio = model.embed_audio(torch.from_numpy(waveform), bank.sample_rate)
        else:
            audio = model.embed_features(features.read(range(clips.start, clips.stop)))
        logits[clips] = frame_wise.frame_logits(audio.frame_emb, *captions).numpy(force=True)
    return SplitLogits(split, logits, captions.logit_bias.numpy(force=True))


def platt_scale(logits: SplitLogits, reference: SplitLogits) -> SplitLogits:
    """Calibrate logits by Platt scaling: one multiplier and one shift for all captions.

        logit = scale * logit + shift,  logit_bias = log-odds of the share of active frames

    Both are fitted to the known frames of `reference`, the same model's logits of another split.
    The order of the logits never changes, not even where they are uninformative and become tiny.
    """
    table = reference.split.frame_table(reference.logits)
    known = table.known
    evidence = table.scores[known].astype(np.float64)
    active = table.active[known]
    spread = evidence.std() or 1.0
    # C is weak, but keeps the multiplier finite where evidence and truth agree everywhere.
    fit = LogisticRegression(C=1.0).fit((evidence / spread)[:, None], active)
    # A negative multiplier would reverse the order. A tiny one keeps it and says nothing.
    scale = max(float(fit.coef_[0, 0]) / spread, 1e-6)
    shift = float(fit.intercept_[0])
    rate = active.mean()
    return SplitLogits(
        logits.split,
        scale * logits.logits.astype(np.float64) + shift,
        np.full(len(logits.logit_bias), math.log(rate / (1 - rate))),
    )


def plot_inputs(
    split: EvalSplit, scores: Float[np.ndarray, "clip caption frame"], clip: int, *, n_absent: int
) -> dict[str, Any]:
    """Return one clip as `spectrograms.detection_map` takes it.

    Args:
        split: what the scores are of.
        scores: of all of its clips.
        clip: number of the clip.
        n_absent: how many absent captions to show, those of the highest scores.

    Returns:
        "scores", "frame_edges", "captions" (those that are active, in order of onset, then the
        absent ones) and "ground_truth".
    """
    active = list(dict.fromkeys(event.caption for event in split.events[clip]))
    score = scores[clip]
    order = np.argsort(-score.max(axis=1))
    absent = [
        split.captions[j] for j in order if split.known[clip, j] and not split.active[clip, j].any()
    ]
    captions = [*active, *absent[:n_absent]]
    rows = [split.captions.index(caption) for caption in captions]
    return {
        "scores": frames_first(score[rows]),
        "frame_edges": split.frame_edges,
        "captions": captions,
        "ground_truth": split.events[clip],
    }


def write_scores(
    folder: str | Path,
    splits: Mapping[str, EvalSplit],
    logits: Mapping[str, Mapping[str, SplitLogits]],
) -> None:
    """Write scores and ground truth for other evaluation tools; `logits` are by split and model.

    <model>/<split>.parquet             filename onset offset <caption> …, one row per frame
    ground_truth/<split>/events.tsv     filename onset offset event_label
    ground_truth/<split>/durations.tsv  filename duration
    ground_truth/<split>/unknown.tsv    filename event_label, pairs to be left out
    """
    with files.atomic_folder(folder) as out:
        for name, split in splits.items():
            truth = out / "ground_truth" / name
            write_events(truth / "events.tsv", dict(zip(split.clips, split.events, strict=True)))
            durations = pd.DataFrame({"filename": split.clips, "duration": split.clip_s})
            durations.to_csv(truth / "durations.tsv", sep="\t", index=False)
            unknown = [
                (split.clips[i], split.captions[j]) for i, j in np.argwhere(~split.known).tolist()
            ]
            unknown = pd.DataFrame(unknown, columns=["filename", "event_label"])
            unknown.to_csv(truth / "unknown.tsv", sep="\t", index=False)

            for model, of_model in logits[name].items():
                table = of_model.score_table()
                frames = {
                    "filename": np.array(split.clips)[table.clip],
                    "onset": np.tile(split.frame_edges[:-1], len(split.clips)),
                    "offset": np.tile(split.frame_edges[1:], len(split.clips)),
                }
                scores = table.scores.astype(np.float32)
                written = pd.DataFrame(frames | dict(zip(split.captions, scores.T, strict=True)))
                (out / model).mkdir(exist_ok=True)
                written.to_parquet(out / model / f"{name}.parquet", compression="zstd", index=False)


def read_scores(
    folder: str | Path, model: str, split: EvalSplit
) -> Float[np.ndarray, "clip caption frame"]:
    """Read a model's scores of a split, as `write_scores` wrote them.

    Raises ValueError for scores of other clips, captions or frames than the split's.
    """
    path = Path(folder) / model / f"{split.name}.parquet"
    table = pd.read_parquet(path)
    expected = np.repeat(split.clips, split.active.shape[2])
    if list(table) != ["filename", "onset", "offset", *split.captions] or (
        table["filename"].tolist() != expected.tolist()
    ):
        raise ValueError(f"{path} holds scores of other clips or captions: evaluate again")
    scores = table[split.captions].to_numpy()
    return frames_first(scores.reshape(len(split.clips), -1, len(split.captions)))


def _clip_s(mixtures: Sequence[Recipe]) -> float:
    return mixtures[0].n_samples / mixtures[0].sample_rate
