"""Models on test sets, public ones or of one's own, for the four tasks a set can have.

    sed             scores of every frame of every clip for every class of the set, see
                    `metrics.sed`. The threshold of F1 is the best one on the set itself, which is
                    too optimistic. For a FLAM also ece and brier: it alone predicts probabilities,
                    and a set without mixtures for validation cannot calibrate the others
    retrieval       of clips by caption and of captions by clip, see `metrics.retrieval`; captions
                    that read the same are right for each other's clips
    classification  zero-shot, for each template of prompts, see `metrics.classification`
    moments         where in a recording is what a sentence describes, see `metrics.moments`: its
                    windows are of smoothed scores

*Long clips.* A recording is processed in windows of `window_s`, one after the other and each on its
own: as many whole frames of the model as begin within that time. Its frames are those of all
windows; its embedding is the mean of theirs.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from flamlib.data.datasets.annotations import AnnotatedSet, Clip
from flamlib.data.mixtures.bank import Bank
from flamlib.data.mixtures.lexicon import Lexicon
from flamlib.evaluation import split_metrics
from flamlib.experiment import parameters
from flamlib.experiment.params.trials import EvaluationConfig, SavedModel, TestsetsConfig
from flamlib.losses import frame_wise
from flamlib.metrics import calibration, classification, moments, sed
from flamlib.metrics.bootstrap import clip_sum
from flamlib.metrics.clip_scores import ClipScores
from flamlib.metrics.moments import Answer, Moments
from flamlib.metrics.outcomes import (
    Outcome,
    Resampling,
    classification_outcome,
    retrieval_outcome,
)
from flamlib.metrics.sed import Criteria
from flamlib.models import baselines
from flamlib.models.flam import FLAM
from flamlib.models.interface import AudioTextModel, CaptionEmbeddings
from flamlib.sound_events.detection import frames_first
from flamlib.sound_events.events import active_frames, count_frames, frame_blocks, frame_edges
from flamlib.texts import number_texts
from flamlib.waveforms import audio

Waveform = Float[np.ndarray, "sample"]


class BenchmarkSettings(NamedTuple):
    """How models are evaluated on test sets.

    Attributes:
        window_s: seconds of a recording that are processed at a time.
        templates: prompts of classes, keys of `classification.TEMPLATES`; for zero-shot
            classification.
        sed_template: the one for sound event detection.
        criteria: settings of the metrics of sound event detection.
        n_thresholds: how many thresholds F1 is computed at, see `sed.candidate_thresholds`.
        n_bins: bins of a reliability diagram.
    """

    window_s: float
    templates: Sequence[str]
    sed_template: str
    criteria: Criteria
    n_thresholds: int
    n_bins: int


def settings(config: EvaluationConfig, testsets: TestsetsConfig) -> BenchmarkSettings:
    """Return the settings that two sections of the parameters give."""
    return BenchmarkSettings(
        window_s=testsets.window_s,
        templates=testsets.templates,
        sed_template=testsets.sed_template,
        criteria=split_metrics.criteria(config),
        n_thresholds=config.n_thresholds,
        n_bins=config.n_bins,
    )


def load_external_models(
    models: Sequence[SavedModel], *, taken: Iterable[str], base: str | Path = ""
) -> dict[str, AudioTextModel]:
    """Load models of the user's own, by name, from folders that `save_pretrained` wrote.

    Args:
        models: each {"name": …, "folder": …}.
        taken: names that are not free.
        base: folder that relative folders start from.

    Raises:
        ValueError: for other keys and for a name that is taken; and what `baselines.load` raises.
    """
    parameters.check(list[SavedModel], models, name="testsets.models")
    loaded: dict[str, AudioTextModel] = {}
    for entry in models:
        if entry["name"] in (*taken, *loaded, "difference"):
            raise ValueError(
                f"testsets.models: the name {entry['name']!r} is taken already, choose another"
            )
        loaded[entry["name"]] = baselines.load(Path(base, Path(entry["folder"]).expanduser()))
    return loaded


def evaluate_set(
    model: AudioTextModel,
    dataset: AnnotatedSet,
    settings: BenchmarkSettings,
    *,
    progress: bool = False,
) -> Outcome:
    """Evaluate a model on the clips of a test set whose audio was found.

    Args:
        model: any that embeds audio and captions.
        dataset: clips and annotations; its task decides on the metrics.
        settings: how models are evaluated.
        progress: show a progress bar.
    """
    clips = dataset.present
    if dataset.task == "sed":
        return _sed_outcome(*score_clips(model, dataset, settings, progress=progress), settings)
    if dataset.task == "moments":
        return _moments_outcome(model, dataset, settings, progress=progress)
    recordings = partial(
        embed_recordings, model, map(_read, clips), settings.window_s, len(clips), progress=progress
    )
    # Texts first: a model may refuse one that is too long for it, and recordings take hours.
    if dataset.task == "retrieval":
        captions = [text for clip in clips for text in clip.captions]
        caption_emb = _embed_texts(model, captions)
        return retrieval_outcome(
            recordings(),
            caption_emb,
            np.repeat(np.arange(len(clips)), [len(clip.captions) for clip in clips]),
            text_of_caption=np.array(number_texts(captions)),
        )
    column = {label: i for i, label in enumerate(dataset.captions)}
    class_of_clip = np.array([column[clip.label] for clip in clips])
    folds = np.array([clip.fold for clip in clips])
    class_emb = _class_emb(model, dataset.captions, settings.templates)
    return classification_outcome(recordings(), class_emb, class_of_clip, folds)


def classify_held_out(
    model: AudioTextModel, bank: Bank, lexicon: Lexicon, split: str, settings: BenchmarkSettings
) -> tuple[Outcome, int]:
    """Classify the recordings of a split zero-shot.

    The classes are its captions, without those that others imply ("a door opens" is true where a
    car door opens, too); the recordings of these are left out.

    Args:
        model: any that embeds audio and captions.
        bank: the recordings.
        lexicon: which captions imply others.
        split: "seen_captions" or "unseen_captions".
        settings: how models are evaluated.

    Returns:
        The outcome, and how many recordings are left out.
    """
    recordings = bank.recordings("foreground", split)
    implied = {parent for caption in recordings for parent in lexicon.parents[caption]}
    classes = sorted(set(recordings) - implied)
    rows, class_of_clip = [], []
    for i, caption in enumerate(classes):
        rows += [variants[0] for variants in recordings[caption]]
        class_of_clip += [i] * len(recordings[caption])
    waveforms = ((bank[row], bank.sample_rate) for row in rows)
    clip_emb = embed_recordings(model, waveforms, settings.window_s, len(rows))
    folds = np.ones(len(rows), dtype=int)
    class_emb = _class_emb(model, classes, settings.templates)
    outcome = classification_outcome(clip_emb, class_emb, np.array(class_of_clip), folds)
    return outcome, sum(len(of_caption) for of_caption in recordings.values()) - len(rows)


def score_clips(
    model: AudioTextModel,
    dataset: AnnotatedSet,
    settings: BenchmarkSettings,
    *,
    progress: bool = False,
) -> tuple[ClipScores, Float[np.ndarray, "clip 4 bin"] | None]:
    """Compute unbiased scores of all clips whose audio was found, for every class of the set.

    Scores are in single precision: a set of 17 000 clips and 400 classes takes 0.9 GB.

    Args:
        model: any that embeds audio and captions.
        dataset: clips with events.
        settings: how models are evaluated.
        progress: show a progress bar.

    Returns:
        The scores; and, of a FLAM, the sums of `calibration.bin_sums` of its probabilities.
    """
    prompts = [
        classification.prompts(caption, settings.sed_template)[0] for caption in dataset.captions
    ]
    captions = model.embed_captions(prompts)
    clips, scores, durations, sums = dataset.present, [], [], []
    for clip in tqdm(clips, dataset.name, unit="clip", disable=not progress):
        logit, score, duration_s = _score_clip(model, clip, captions, settings.window_s)
        scores.append(frames_first(score).astype(np.float32))
        durations.append(duration_s)
        if isinstance(model, FLAM):
            active = active_frames(
                clip.events,
                list(dataset.captions),
                n_frames=logit.shape[1],
                frame_s=model.frame_s,
                clip_s=duration_s,
            )
            one, sizes = np.zeros(active.shape, int), {"n_clips": 1, "n_bins": settings.n_bins}
            sums.append(calibration.bin_sums(logit.sigmoid().numpy(), active, one, **sizes))
    clip_scores = ClipScores(
        clips=[clip.name for clip in clips],
        captions=dataset.captions,
        frame_s=model.frame_s,
        durations=durations,
        scores=scores,
        ground_truth=[clip.events for clip in clips],
        known=np.ones((len(clips), len(dataset.captions)), dtype=bool),
    )
    return clip_scores, np.concatenate(sums) if sums else None


def embed_recordings(
    model: AudioTextModel,
    recordings: Iterable[tuple[Waveform, int]],
    window_s: float,
    n: int,
    *,
    progress: bool = False,
) -> Float[np.ndarray, "clip dim"]:
    """Embed recordings, each as the mean of its windows' embeddings.

    Args:
        model: any that embeds audio.
        recordings: mono samples and their rate in Hz.
        window_s: seconds of a window.
        n: how many recordings there are, for the progress bar.
        progress: show it.
    """
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
    """Yield each window, [1, sample], and how many frames it has.

    The last one may be short, but is padded to a whole frame; or have a frame more, of which less
    than half is left: see `frame_blocks`.
    """
    n_frames = count_frames(window_s, model.frame_s)
    at_least = int(np.ceil(model.frame_s * rate))
    parts = frame_blocks(len(waveform) / rate, model.frame_s, n_frames)
    edges = [round(part.start * model.frame_s * rate) for part in parts] + [len(waveform)]
    for part, (start, stop) in zip(parts, pairwise(edges), strict=True):
        window = waveform[start:stop]
        window = np.pad(window, (0, max(0, at_least - len(window))))
        yield torch.from_numpy(np.ascontiguousarray(window)[None]), len(part)


def _read(clip: Clip) -> tuple[Waveform, int]:
    return audio.read(clip.path)


def _embed_texts(model: AudioTextModel, texts: Sequence[str]) -> Float[np.ndarray, "text dim"]:
    """Embed texts, a few hundred at a time."""
    batches = [
        model.embed_captions(list(texts[i : i + 256])).caption_emb
        for i in range(0, len(texts), 256)
    ]
    return torch.cat(batches).numpy(force=True)


def _score_clip(
    model: AudioTextModel, clip: Clip, captions: CaptionEmbeddings, window_s: float
) -> tuple[torch.Tensor, Float[np.ndarray, "caption frame"], float]:
    """Return logits and unbiased scores of a clip's frames, and its duration in seconds."""
    waveform, rate = _read(clip)
    duration_s = len(waveform) / rate
    logits = [
        frame_wise.frame_logits(model.embed_audio(window, rate).frame_emb[:, :n], *captions)[0]
        for window, n in _windows(waveform, rate, model, window_s)
    ]
    logit = torch.cat(logits, dim=1).double().cpu()[:, : count_frames(duration_s, model.frame_s)]
    score = frame_wise.unbiased_score(logit[None], captions.logit_bias.double().cpu())[0]
    return logit, score.numpy(), duration_s


def _moments_outcome(
    model: AudioTextModel, dataset: AnnotatedSet, settings: BenchmarkSettings, *, progress: bool
) -> Outcome:
    """Ask each recording for its own queries alone."""
    clips = [clip for clip in dataset.present if clip.queries]
    names = [query.caption for clip in clips for query in clip.queries]
    numbers, answers = number_texts(names), []
    column = dict(zip(names, numbers, strict=True))
    for i, clip in enumerate(tqdm(clips, dataset.name, unit="clip", disable=not progress)):
        captions = model.embed_captions([query.caption for query in clip.queries])
        _, scores, duration_s = _score_clip(model, clip, captions, settings.window_s)
        smooth = settings.criteria.smoothing(scores)
        edges = frame_edges(duration_s, model.frame_s)
        for query, score in zip(clip.queries, smooth, strict=True):
            found = moments.windows(score, edges)
            answers.append(Answer(i, column[query.caption], found, np.array(query.windows)))
    found = Moments.of_answers(answers, len(clips))
    sizes = {"n_clips": len(clips), "n_captions": len(set(numbers))}
    statistics = moments.statistics(found)
    return Outcome(moments.compute(found) | sizes, [Resampling(len(clips), statistics)])


def _sed_outcome(
    clip_scores: ClipScores,
    sums: Float[np.ndarray, "clip 4 bin"] | None,
    settings: BenchmarkSettings,
) -> Outcome:
    smooth = clip_scores.smoothed(settings.criteria.smoothing)
    threshold, _ = sed.best_threshold(smooth, n_thresholds=settings.n_thresholds)
    metrics = sed.compute(clip_scores, settings.criteria, threshold=threshold)
    statistics = sed.statistics(clip_scores, settings.criteria, threshold=threshold)
    resampling = Resampling(len(clip_scores.clips), statistics)
    if sums is None:
        return Outcome(metrics, [resampling])
    total = sums.sum(axis=0)
    for name, metric in (("ece", calibration.ece_of), ("brier", calibration.brier_of)):
        metrics[name] = metric(total)
        statistics[name] = partial(clip_sum, sums, metric)
    return Outcome(metrics, [resampling], calibration.reliability_of(total))


def _class_emb(
    model: AudioTextModel, classes: Sequence[str], templates: Sequence[str]
) -> dict[str, Float[np.ndarray, "class dim"]]:
    """Return embeddings of the classes, by template."""
    class_emb = {}
    for template in templates:
        texts = [classification.prompts(name, template) for name in classes]
        flat = _embed_texts(model, [text for of_class in texts for text in of_class])
        of_prompts = flat.reshape(len(classes), len(texts[0]), -1)
        class_emb[template] = classification.class_emb(of_prompts)
    return class_emb
