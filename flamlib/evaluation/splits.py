"""Held-out mixtures, what is asked of them, and what a model hears in them.

*The question.* Every clip of a part is asked for every caption that sounds anywhere in the part, so
most captions are absent from most clips. A pair of clip and caption of which one cannot say whether
it is true (`Lexicon.label`) is unknown, and leaves every count.

*Score and probability.* A model's logit says how much a frame speaks for a caption. FLAM's becomes

    prob  = sigmoid(logit), the probability that the caption sounds
    score = prob / (prob + prior), see `losses.unbiased_score`; no probability, its prior is out

A baseline has neither a multiplier nor a prior of its own. It gets one of each, the same for all
captions, fitted to other mixtures (`calibrated`); then both formulas hold for it as well.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import logsigmoid
from tqdm import tqdm

from flamlib import files
from flamlib.data.mixtures import recipes
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.data.mixtures.recipes import Recipe
from flamlib.events import Event, count_frames, merge, write_events
from flamlib.losses import frame_wise
from flamlib.models.interface import AudioTextModel, Method


@dataclass(frozen=True, eq=False)
class Part:
    """Mixtures, the captions that each is asked for, and the truth: `events` by those captions.

    `by_frame(x)` lays the frames of all clips below one another, as `metrics` wants them.
    """

    name: str
    mixtures: Sequence[Recipe]
    captions: list[str]
    events: list[list[Event]]
    active: Bool[np.ndarray, "clip caption frame"]
    known: Bool[np.ndarray, "clip caption"]
    frame_s: float

    @classmethod
    def of(
        cls, name: str, mixtures: Sequence[Recipe], bank: Bank, lexicon: Lexicon, *, frame_s: float
    ) -> "Part":
        """Raises ValueError if nothing sounds in any of the mixtures."""
        captions = sorted({event.caption for recipe in mixtures for event in recipe.labels})
        if not captions:
            raise ValueError(f"{name}: {len(mixtures)} mixtures, and nothing sounds in any of them")
        active, known = lexicon.label(
            [recipe.labels for recipe in mixtures],
            [recipes.audible_families(bank, recipe) for recipe in mixtures],
            captions,
            n_frames=count_frames(_clip_s(mixtures), frame_s),
            frame_s=frame_s,
        )
        asked = set(captions)
        events = [
            merge(
                event._replace(caption=true)
                for event in recipe.labels
                for true in {event.caption, *lexicon.parents[event.caption]} & asked
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
        return _clip_s(self.mixtures)

    @property
    def frame_edges(self) -> Float[np.ndarray, "edge"]:
        """Seconds; the last frame ends with the clip."""
        return np.minimum(np.arange(self.active.shape[2] + 1) * self.frame_s, self.clip_s)

    def by_frame(
        self, values: Float[np.ndarray, "clip caption frame"] | Bool[np.ndarray, "..."]
    ) -> Float[np.ndarray, "row caption"] | Bool[np.ndarray, "row caption"]:
        return values.transpose(0, 2, 1).reshape(-1, len(self.captions))

    @cached_property
    def active_by_frame(self) -> Bool[np.ndarray, "row caption"]:
        return self.by_frame(self.active)

    @cached_property
    def known_by_frame(self) -> Bool[np.ndarray, "row caption"]:
        return np.repeat(self.known, self.active.shape[2], axis=0)

    @property
    def clip_by_frame(self) -> Int[np.ndarray, "row"]:
        return np.repeat(np.arange(len(self.mixtures)), self.active.shape[2])

    @property
    def active_share(self) -> Float[np.ndarray, "caption"]:
        """Share of a caption's known frames in which it sounds; nan where none is known."""
        n_known = self.known_by_frame.sum(axis=0)
        n_active = (self.active_by_frame & self.known_by_frame).sum(axis=0)
        return np.where(n_known > 0, n_active / np.maximum(n_known, 1), np.nan)


class Hearing(NamedTuple):
    """What a model says of a part: its logits, and each caption's prior log-odds.

    `method` is how the two make a score, see `FLAM.score`.
    """

    logits: Float[np.ndarray, "clip caption frame"]
    logit_bias: Float[np.ndarray, "caption"]
    method: Method = "unbiased"

    @property
    def score(self) -> Float[np.ndarray, "clip caption frame"]:
        """In [0, 1]; unbiased, one half where nothing is said. In double precision: near its ends
        a sigmoid in single would make equal what the logits tell apart."""
        logits, bias = (torch.from_numpy(x.astype(np.float64)) for x in self[:2])
        if self.method == "unbiased":
            return frame_wise.unbiased_score(logits, bias).numpy()
        return (logits if self.method == "biased" else logits - bias[:, None]).sigmoid().numpy()

    @property
    def prob(self) -> Float[np.ndarray, "clip caption frame"]:
        """The probability that the caption sounds, its prior included."""
        return logsigmoid(torch.from_numpy(self.logits.astype(np.float64))).exp().numpy()


def hear(
    model: AudioTextModel, part: Part, bank: Bank, *, batch_size: int, progress: bool
) -> Hearing:
    """Ask a model for every caption in every frame of every clip.

    Raises ValueError if its frames are not those that the part has labels for.
    """
    if not math.isclose(model.frame_s, part.frame_s):
        raise ValueError(
            f"{part.name} has labels for frames of {part.frame_s} s, but this model hears frames "
            f"of {model.frame_s} s: models of one frame are compared"
        )
    captions = model.embed_captions(part.captions)
    logits = np.empty(part.active.shape, np.float32)
    starts = range(0, len(part.mixtures), batch_size)
    for start in tqdm(starts, desc=part.name, unit="batch", disable=not progress):
        clips = slice(start, start + batch_size)
        waveform = np.stack([recipes.render(bank, recipe) for recipe in part.mixtures[clips]])
        frame_emb = model.embed_audio(torch.from_numpy(waveform), bank.sample_rate).frame_emb
        logits[clips] = frame_wise.frame_logits(frame_emb, *captions).numpy(force=True)
    return Hearing(logits, captions.logit_bias.numpy(force=True))


def calibrated(hearing: Hearing, reference: Hearing, part: Part) -> Hearing:
    """One multiplier and one shift for all captions, under which `reference` is most probable.

        logit = scale * logit + shift,  logit_bias = log-odds of the share of active frames

    Both are fitted to the known frames of `part`, which `reference` is of: Platt's scaling. It
    changes no order, not even where the evidence is worth nothing and the logits become tiny.
    """
    known = part.known_by_frame
    evidence = part.by_frame(reference.logits)[known].astype(np.float64)
    active = part.active_by_frame[known]
    spread = evidence.std() or 1.0
    # C is weak, but keeps the multiplier finite where evidence and truth agree everywhere.
    fit = LogisticRegression(C=1.0).fit((evidence / spread)[:, None], active)
    # A negative multiplier would turn the order round. A tiny one keeps it and says nothing.
    scale = max(float(fit.coef_[0, 0]) / spread, 1e-6)
    shift = float(fit.intercept_[0])
    rate = active.mean()
    return Hearing(
        scale * hearing.logits.astype(np.float64) + shift,
        np.full(len(hearing.logit_bias), math.log(rate / (1 - rate))),
    )


def scene(
    part: Part, scores: Float[np.ndarray, "clip caption frame"], clip: int, *, n_absent: int
) -> dict[str, Any]:
    """One clip as `scenes.detection_map` takes it: scores, frame_edges, captions, truth.

    Of the captions those that sound in it, in order of onset, and of the absent ones the
    `n_absent` that the model comes closest to hearing.
    """
    sounding = list(dict.fromkeys(event.caption for event in part.events[clip]))
    score = scores[clip]
    order = np.argsort(-score.max(axis=1))
    absent = [
        part.captions[j] for j in order if part.known[clip, j] and not part.active[clip, j].any()
    ]
    captions = [*sounding, *absent[:n_absent]]
    rows = [part.captions.index(caption) for caption in captions]
    return {
        "scores": score[rows].T,
        "frame_edges": part.frame_edges,
        "captions": captions,
        "truth": part.events[clip],
    }


def write_scores(
    folder: str | Path,
    parts: Mapping[str, Part],
    hearings: Mapping[str, Mapping[str, Hearing]],
) -> None:
    """What others need to judge the scores with tools of their own.

    <model>/<part>.parquet              filename onset offset <caption> …, one row per frame
    ground_truth/<part>/events.tsv      filename onset offset event_label
    ground_truth/<part>/durations.tsv   filename duration
    ground_truth/<part>/unknown.tsv     filename event_label, pairs to be left out
    """
    with files.atomic_folder(folder) as out:
        for name, part in parts.items():
            truth = out / "ground_truth" / name
            write_events(truth / "events.tsv", dict(zip(part.clips, part.events, strict=True)))
            durations = pd.DataFrame({"filename": part.clips, "duration": part.clip_s})
            durations.to_csv(truth / "durations.tsv", sep="\t", index=False)
            unknown = [
                (part.clips[i], part.captions[j]) for i, j in np.argwhere(~part.known).tolist()
            ]
            unknown = pd.DataFrame(unknown, columns=["filename", "event_label"])
            unknown.to_csv(truth / "unknown.tsv", sep="\t", index=False)

            frames = {
                "filename": np.array(part.clips)[part.clip_by_frame],
                "onset": np.tile(part.frame_edges[:-1], len(part.clips)),
                "offset": np.tile(part.frame_edges[1:], len(part.clips)),
            }
            for model, heard in hearings[name].items():
                scores = part.by_frame(heard.score).astype(np.float32)
                table = pd.DataFrame(frames | dict(zip(part.captions, scores.T, strict=True)))
                (out / model).mkdir(exist_ok=True)
                table.to_parquet(out / model / f"{name}.parquet", compression="zstd", index=False)


def read_scores(
    folder: str | Path, model: str, part: Part
) -> Float[np.ndarray, "clip caption frame"]:
    """A model's scores of a part, as `write_scores` wrote them.

    Raises ValueError for scores of other clips, captions or frames than the part's.
    """
    path = Path(folder) / model / f"{part.name}.parquet"
    table = pd.read_parquet(path)
    expected = np.array(part.clips)[part.clip_by_frame]
    if list(table) != ["filename", "onset", "offset", *part.captions] or (
        table["filename"].tolist() != expected.tolist()
    ):
        raise ValueError(f"{path} holds scores of other clips or captions: evaluate again")
    scores = table[part.captions].to_numpy().reshape(len(part.clips), -1, len(part.captions))
    return scores.transpose(0, 2, 1)


def _clip_s(mixtures: Sequence[Recipe]) -> float:
    return mixtures[0].n_samples / mixtures[0].sample_rate
