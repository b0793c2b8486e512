"""Every model on every test set: what it hears of the clips, and the numbers of the set's task.

    sed             frames of every clip, asked for every class of the set; see `localisation`.
                    The threshold of F1 is the best on the set itself, which flatters. Of a FLAM
                    also ece and brier: it alone says how probable a class is, and a set without
                    mixtures for validation has nothing to calibrate the others on
    retrieval       search of clips by caption and of captions by clip; see `metrics.retrieval`
    classification  the class whose prompts are nearest; see `metrics.accuracy`, for each template

*Long clips.* A recording is heard in windows of `window_s`, one after the other, each alone: as
many whole frames of the model as reach that far. Its frames are those of the windows; its embedding
is the middle of theirs.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from flamlib import audio
from flamlib.data.datasets.annotations import AnnotatedSet, Clip
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.events import active_frames, count_frames
from flamlib.losses import frame_wise
from flamlib.metrics import calibration, classification, metrics, sed
from flamlib.metrics.clip_scores import Located
from flamlib.metrics.outcomes import Outcome, classified, searched
from flamlib.metrics.sed import Criteria
from flamlib.models import baselines
from flamlib.models.flam import FLAM
from flamlib.models.interface import AudioTextModel

Waveform = Float[np.ndarray, "sample"]


class Settings(NamedTuple):
    """How sets are asked: the window in seconds, the templates of prompts (of
    `classification.TEMPLATES`), what detections are judged by, how many thresholds F1 is tried at
    and how many bins a reliability diagram has."""

    window_s: float
    templates: Sequence[str]
    sed_template: str
    criteria: Criteria
    n_thresholds: int
    n_bins: int


def settings(evaluate: Mapping[str, Any], testsets: Mapping[str, Any]) -> Settings:
    """From the sections of the parameters that have these names."""
    return Settings(
        testsets["window_s"],
        testsets["templates"],
        testsets["sed_template"],
        Criteria(
            evaluate["segment_s"],
            evaluate["max_fpr"],
            evaluate["collar_s"],
            evaluate["collar_rate"],
            evaluate["median_frames"],
        ),
        evaluate["n_thresholds"],
        evaluate["n_bins"],
    )


def supplied(
    models: Sequence[Mapping[str, str]], *, taken: Iterable[str], base: str | Path = ""
) -> dict[str, AudioTextModel]:
    """Models from checkpoints that a user has, each `{name: …, folder: …}` as `flam` saves them,
    the folder as from the folder `base`, or in full.

    Raises ValueError for other keys and for a name that is taken, and what `baselines.load` does.
    """
    found: dict[str, AudioTextModel] = {}
    for entry in models:
        if set(entry) != {"name", "folder"}:
            raise ValueError(f"a model of one's own has a name and a folder, found {dict(entry)}")
        if entry["name"] in (*taken, *found, "difference"):
            raise ValueError(f"there is a model {entry['name']!r} already")
        found[entry["name"]] = baselines.load(Path(base, Path(entry["folder"]).expanduser()))
    return found


def judge(
    model: AudioTextModel, found: AnnotatedSet, settings: Settings, *, progress: bool = False
) -> Outcome:
    """A model's numbers on the clips of a set whose audio is there."""
    clips = found.present
    if found.task == "sed":
        return _located(*hear(model, found, settings, progress=progress), settings)
    clip_emb = embed(model, map(_read, clips), settings.window_s, len(clips), progress=progress)
    if found.task == "retrieval":
        captions = [text for clip in clips for text in clip.captions]
        clip_of_caption = np.repeat(np.arange(len(clips)), [len(clip.captions) for clip in clips])
        return searched(clip_emb, _captions(model, captions), clip_of_caption)
    column = {label: i for i, label in enumerate(found.captions)}
    truth = np.array([column[clip.label] for clip in clips])
    folds = np.array([clip.fold for clip in clips])
    class_emb = _class_emb(model, found.captions, settings.templates)
    return classified(clip_emb, class_emb, truth, folds)


def held_out_classes(
    model: AudioTextModel, bank: Bank, lexicon: Lexicon, split: str, settings: Settings
) -> tuple[Outcome, int]:
    """Zero-shot classification of a split's recordings, and how many are left out.

    The classes are its captions, but for those that are true of recordings of another one too ("a
    door opens" where a car door does): those recordings are left out.
    """
    own = bank.recordings("foreground", split)
    wider = {parent for caption in own for parent in lexicon.parents[caption]}
    classes = sorted(set(own) - wider)
    rows, truth = [], []
    for i, caption in enumerate(classes):
        rows += [variants[0] for variants in own[caption]]
        truth += [i] * len(own[caption])
    heard = ((bank[row], bank.sample_rate) for row in rows)
    clip_emb = embed(model, heard, settings.window_s, len(rows))
    folds = np.ones(len(rows), dtype=int)
    class_emb = _class_emb(model, classes, settings.templates)
    outcome = classified(clip_emb, class_emb, np.array(truth), folds)
    return outcome, sum(len(recordings) for recordings in own.values()) - len(rows)


def hear(
    model: AudioTextModel, found: AnnotatedSet, settings: Settings, *, progress: bool = False
) -> tuple[Located, Float[np.ndarray, "clip 4 bin"] | None]:
    """The scores of every frame of every clip that can be heard, for every class of the set; and,
    of a FLAM, what it claims with its probabilities, see `calibration.claims`.

    Scores are unbiased, in single precision: a set of 17 000 clips and 400 classes is 0.9 GB.
    """
    asked = [
        classification.prompts(caption, settings.sed_template)[0] for caption in found.captions
    ]
    captions = model.embed_captions(asked)
    clips, scores, durations, claims = found.present, [], [], []
    for clip in tqdm(clips, found.name, unit="clip", disable=not progress):
        waveform, rate = _read(clip)
        duration_s = len(waveform) / rate
        logits = [
            frame_wise.frame_logits(model.embed_audio(window, rate).frame_emb[:, :n], *captions)[0]
            for window, n in _windows(waveform, rate, model, settings.window_s)
        ]
        n = count_frames(duration_s, model.frame_s)
        logit = torch.cat(logits, dim=1).double().cpu()[:, :n]
        score = frame_wise.unbiased_score(logit[None], captions.logit_bias.double().cpu())[0]
        scores.append(score.numpy().T.astype(np.float32))
        durations.append(duration_s)
        if isinstance(model, FLAM):
            active = active_frames(
                clip.events, list(found.captions), n_frames=n, frame_s=model.frame_s
            )
            one, sizes = np.zeros(active.shape, int), {"n_clips": 1, "n_bins": settings.n_bins}
            claims.append(calibration.claims(logit.sigmoid().numpy(), active, one, **sizes))
    located = Located(
        [clip.name for clip in clips],
        found.captions,
        model.frame_s,
        durations,
        [clip.events for clip in clips],
        scores,
        np.ones((len(clips), len(found.captions)), dtype=bool),
    )
    return located, np.concatenate(claims) if claims else None


def embed(
    model: AudioTextModel,
    recordings: Iterable[tuple[Waveform, int]],
    window_s: float,
    n: int,
    *,
    progress: bool = False,
) -> Float[np.ndarray, "clip dim"]:
    """One vector for each recording: the middle of its windows' vectors."""
    rows = []
    for waveform, rate in tqdm(recordings, "embed", total=n, unit="clip", disable=not progress):
        windows = [
            model.embed_audio(window, rate).clip_emb
            for window, _ in _windows(waveform, rate, model, window_s)
        ]
        rows.append(torch.cat(windows).numpy(force=True))
    return np.concatenate([classification.class_emb(of_clip[None]) for of_clip in rows])


def _windows(
    waveform: Waveform, rate: int, model: AudioTextModel, window_s: float
) -> Iterable[tuple[torch.Tensor, int]]:
    """Each window, [1, sample], and how many frames it has; the last may be short, but never
    shorter than a frame: silence is put behind it."""
    of_window = count_frames(window_s, model.frame_s)
    n_samples = round(of_window * model.frame_s * rate)
    at_least = int(np.ceil(model.frame_s * rate))
    for start in range(0, max(len(waveform), 1), n_samples):
        window = waveform[start : start + n_samples]
        reached = count_frames(len(window) / rate, model.frame_s)
        window = np.pad(window, (0, max(0, at_least - len(window))))
        yield torch.from_numpy(np.ascontiguousarray(window)[None]), min(of_window, reached)


def _read(clip: Clip) -> tuple[Waveform, int]:
    return audio.read(clip.path)


def _captions(model: AudioTextModel, texts: Sequence[str]) -> Float[np.ndarray, "caption dim"]:
    """Embeddings of captions, a few hundred at a time."""
    parts = [
        model.embed_captions(list(texts[i : i + 256])).caption_emb
        for i in range(0, len(texts), 256)
    ]
    return torch.cat(parts).numpy(force=True)


def _located(
    located: Located, claims: Float[np.ndarray, "clip 4 bin"] | None, settings: Settings
) -> Outcome:
    threshold, _ = sed.best_threshold(located, n_thresholds=settings.n_thresholds)
    given = located, settings.criteria
    numbers = sed.numbers(*given, threshold=threshold)
    makers = sed.statistics(*given, threshold=threshold)
    if claims is None:
        return Outcome(numbers, [(len(located.clips), makers)])
    whole = claims.sum(axis=0)
    for name, of in (("ece", calibration.ece_of), ("brier", calibration.brier_of)):
        numbers[name] = of(whole)
        makers[name] = partial(metrics.clip_sum, claims, of)
    drawn = [(len(located.clips), makers)]
    return Outcome(numbers, drawn, calibration.reliability_of(whole))


def _class_emb(
    model: AudioTextModel, classes: Sequence[str], templates: Sequence[str]
) -> dict[str, Float[np.ndarray, "class dim"]]:
    """The embeddings of classes, as each template puts them."""
    found = {}
    for template in templates:
        texts = [classification.prompts(name, template) for name in classes]
        flat = _captions(model, [text for of_class in texts for text in of_class])
        of_prompts = flat.reshape(len(classes), len(texts[0]), -1)
        found[template] = classification.class_emb(of_prompts)
    return found
