"""Every model on every test set: what it hears of the clips, and the numbers of the set's task.

    sed             frames of every clip, asked for every class of the set; see `localisation`.
                    The threshold of F1 is the best on the set itself, which flatters
    retrieval       search of clips by caption and of captions by clip; see `metrics.retrieval`
    classification  the class whose prompts are nearest; see `metrics.accuracy`, for each template

*Long clips.* A recording is heard in windows of `window_s`, one after the other, each alone: as
many whole frames of the model as reach that far. Its frames are those of the windows; its embedding
is the middle of theirs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from flamlib import audio, baselines, classification, localisation, losses, metrics
from flamlib.annotations import AnnotatedSet, Clip
from flamlib.bank import Bank
from flamlib.baselines import Listener
from flamlib.lexicon import Lexicon
from flamlib.localisation import Criteria, Located
from flamlib.resampling import ClipStatistic
from flamlib.retrieval import Ranks, ranks, summary

Waveform = Float[np.ndarray, "sample"]
# What a draw draws from: how many there are, and the statistics over them.
Drawn = tuple[int, dict[str, Callable[[], ClipStatistic]]]


class Outcome(NamedTuple):
    """A model's numbers on a set, and what their intervals are drawn from."""

    numbers: dict[str, float | int | dict]
    drawn: list[Drawn]


class Settings(NamedTuple):
    """How sets are asked: the window in seconds, the templates of prompts (of
    `classification.TEMPLATES`), what detections are judged by, and the thresholds of F1."""

    window_s: float
    templates: Sequence[str]
    sed_template: str
    criteria: Criteria
    n_thresholds: int


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
    )


def supplied(models: Sequence[Mapping[str, str]], *, taken: Iterable[str]) -> dict[str, Listener]:
    """Models from checkpoints that a user has, each `{name: …, folder: …}` as `flam` saves them.

    Raises ValueError for other keys and for a name that is taken, and what `baselines.load` does.
    """
    found: dict[str, Listener] = {}
    for entry in models:
        if set(entry) != {"name", "folder"}:
            raise ValueError(f"a model of one's own has a name and a folder, found {dict(entry)}")
        if entry["name"] in (*taken, *found, "difference"):
            raise ValueError(f"there is a model {entry['name']!r} already")
        found[entry["name"]] = baselines.load(Path(entry["folder"]).expanduser())
    return found


def judge(
    model: Listener, found: AnnotatedSet, settings: Settings, *, progress: bool = False
) -> Outcome:
    """A model's numbers on the clips of a set whose audio is there."""
    clips = found.found
    if found.task == "sed":
        return _located(hear(model, found, settings, progress=progress), settings)
    clip_emb = embed(model, map(_read, clips), settings.window_s, len(clips), progress=progress)
    if found.task == "retrieval":
        captions = [text for clip in clips for text in clip.captions]
        clip_of_caption = np.repeat(np.arange(len(clips)), [len(clip.captions) for clip in clips])
        return _searched(clip_emb, _captions(model, captions), clip_of_caption)
    column = {label: i for i, label in enumerate(found.captions)}
    truth = np.array([column[clip.label] for clip in clips])
    folds = np.array([clip.fold for clip in clips])
    return _classified(model, clip_emb, found.captions, truth, folds, settings.templates)


def held_out_classes(
    model: Listener, bank: Bank, lexicon: Lexicon, split: str, settings: Settings
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
    outcome = _classified(model, clip_emb, classes, np.array(truth), folds, settings.templates)
    return outcome, sum(len(recordings) for recordings in own.values()) - len(rows)


def compare(
    outcomes: Mapping[str, Outcome], *, against: str, n_resamples: int, seed: int
) -> dict[str, dict]:
    """Each model's numbers with `<name>_low` and `<name>_high`, and under "difference", for each
    model but `against`, the paired tests of `against` - model."""
    found = {model: dict(outcome.numbers) for model, outcome in outcomes.items()}
    pairs = [(against, other) for other in outcomes if other != against and against in outcomes]
    tested: dict[str, dict] = {other: {} for _, other in pairs}
    for at, (n_units, _) in enumerate(next(iter(outcomes.values())).drawn):
        makers = {model: outcome.drawn[at][1] for model, outcome in outcomes.items()}
        bounds, tests = localisation.intervals(
            makers, n_units, against=pairs, n_resamples=n_resamples, seed=seed
        )
        for model, of_model in bounds.items():
            found[model] |= of_model
        for one, other in pairs:
            tested[other] |= tests[f"{one} - {other}"]
    return found | {"difference": tested}


def hear(
    model: Listener, found: AnnotatedSet, settings: Settings, *, progress: bool = False
) -> Located:
    """The scores of every frame of every clip that can be heard, for every class of the set.

    Scores are unbiased, in single precision: a set of 17 000 clips and 400 classes is 0.9 GB.
    """
    asked = [
        classification.prompts(caption, settings.sed_template)[0] for caption in found.captions
    ]
    captions = model.embed_captions(asked)
    clips, scores, durations = found.found, [], []
    for clip in tqdm(clips, found.name, unit="clip", disable=not progress):
        waveform, rate = _read(clip)
        duration_s = len(waveform) / rate
        logits = [
            losses.frame_logits(model.embed_audio(window, rate).frame_emb[:, :n], *captions)[0]
            for window, n in _windows(waveform, rate, model, settings.window_s)
        ]
        logit = torch.cat(logits, dim=1).double().cpu()
        score = losses.unbiased_score(logit[None], captions.logit_bias.double().cpu())[0]
        n_frames = localisation.n_frames(duration_s, model.frame_s)
        scores.append(score.numpy().T.astype(np.float32)[:n_frames])
        durations.append(duration_s)
    return Located(
        [clip.name for clip in clips],
        found.captions,
        model.frame_s,
        durations,
        [clip.events for clip in clips],
        scores,
        np.ones((len(clips), len(found.captions)), dtype=bool),
    )


def embed(
    model: Listener,
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
    waveform: Waveform, rate: int, model: Listener, window_s: float
) -> Iterable[tuple[torch.Tensor, int]]:
    """Each window, [1, sample], and how many frames it has; the last may be short, but never
    shorter than a frame: silence is put behind it."""
    n_frames = max(1, int(np.ceil(window_s / model.frame_s - 1e-6)))
    n_samples = round(n_frames * model.frame_s * rate)
    at_least = int(np.ceil(model.frame_s * rate))
    for start in range(0, max(len(waveform), 1), n_samples):
        window = waveform[start : start + n_samples]
        reached = localisation.n_frames(len(window) / rate, model.frame_s)
        window = np.pad(window, (0, max(0, at_least - len(window))))
        yield torch.from_numpy(np.ascontiguousarray(window)[None]), min(n_frames, reached)


def _read(clip: Clip) -> tuple[Waveform, int]:
    return audio.read(clip.path)


def _captions(model: Listener, texts: Sequence[str]) -> Float[np.ndarray, "caption dim"]:
    """Embeddings of captions, a few hundred at a time."""
    parts = [
        model.embed_captions(list(texts[i : i + 256])).caption_emb
        for i in range(0, len(texts), 256)
    ]
    return torch.cat(parts).numpy(force=True)


def _located(located: Located, settings: Settings) -> Outcome:
    threshold, _ = localisation.best_threshold(located, n_thresholds=settings.n_thresholds)
    given = located, settings.criteria
    numbers = localisation.numbers(*given, threshold=threshold)
    makers = localisation.statistics(*given, threshold=threshold)
    return Outcome(numbers, [(len(located.clips), makers)])


def _searched(
    clip_emb: Float[np.ndarray, "clip dim"],
    caption_emb: Float[np.ndarray, "caption dim"],
    clip_of_caption: Int[np.ndarray, "caption"],
) -> Outcome:
    """The captions of a clip are drawn with it: they are not independent."""
    by_caption, by_clip = ranks(clip_emb, caption_emb, clip_of_caption)
    numbers, makers = {}, {}
    for name, found, unit in (
        ("t2a", by_caption, clip_of_caption[by_caption.query]),
        ("a2t", by_clip, by_clip.query),
    ):
        numbers |= {f"{name}_{key}": value for key, value in summary(found).items()}
        makers |= _shares(name, found, unit, len(clip_emb))
    sizes = {"n_clips": len(clip_emb), "n_captions": len(caption_emb)}
    return Outcome(numbers | sizes, [(len(clip_emb), makers)])


def _shares(
    name: str, found: Ranks, unit: Int[np.ndarray, "query"], n_units: int
) -> dict[str, Callable[[], ClipStatistic]]:
    values = {f"r{k}": found.first_rank <= k for k in (1, 5, 10)} | {"map10": found.precision10}
    return {
        f"{name}_{key}": lambda value=value: _mean_by_unit(value, unit, n_units)
        for key, value in values.items()
    }


def _mean_by_unit(value: np.ndarray, unit: Int[np.ndarray, "query"], n_units: int) -> ClipStatistic:
    sums = np.stack(
        [np.bincount(unit, value, n_units), np.bincount(unit, minlength=n_units)], axis=1
    )
    return metrics.clip_sum(sums, lambda n: n[0] / n[1] if n[1] else np.nan)


def _classified(
    model: Listener,
    clip_emb: Float[np.ndarray, "clip dim"],
    classes: Sequence[str],
    class_of_clip: Int[np.ndarray, "clip"],
    folds: Int[np.ndarray, "clip"],
    templates: Sequence[str],
) -> Outcome:
    """Accuracy under each template; the first one gives the numbers without a template's name."""
    numbers: dict[str, float | int | dict] = {}
    makers: dict[str, Callable[[], ClipStatistic]] = {}
    for i, template in enumerate(templates):
        texts = [classification.prompts(name, template) for name in classes]
        flat = _captions(model, [text for of_class in texts for text in of_class])
        emb = classification.class_emb(flat.reshape(len(classes), len(texts[0]), -1))
        found = metrics.accuracy(clip_emb, emb, class_of_clip, folds)
        right = found.pop("rank") == 1
        if i == 0:
            found["per_fold"] = {str(fold): value for fold, value in found["per_fold"].items()}
            numbers |= found
            makers["top1"] = lambda right=right: metrics.clip_mean(right.astype(float))
        name = f"top1_{template}"
        numbers[name] = found["top1"]
        makers[name] = lambda right=right: metrics.clip_mean(right.astype(float))
    sizes = {"n_clips": len(clip_emb), "n_captions": len(classes)}
    return Outcome(numbers | sizes, [(len(clip_emb), makers)])
