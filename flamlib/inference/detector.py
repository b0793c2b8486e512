"""Detection: when does each of some captions sound in a recording of any length and rate?

Of a long file only a few minutes are in memory at once, see `pieces`. Captions are encoded once.
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from flamlib import texts
from flamlib.experiment.params.trials import DetectConfig
from flamlib.inference import pieces
from flamlib.models.caption_thresholds import CaptionThresholds, Chosen
from flamlib.models.interface import AudioEmbeddings, AudioTextModel, CaptionEmbeddings, Method
from flamlib.sound_events import detection, labels, raw_events
from flamlib.sound_events.detection import Detection
from flamlib.sound_events.events import Event, frame_edges, read_events
from flamlib.sound_events.smoothing import Smoothing
from flamlib.waveforms import audio


class Scores(NamedTuple):
    """Scores of a recording.

    Attributes:
        scores: In [0, 1], for each frame and caption.
        frame_edges: In seconds; frame i spans `frame_edges[i]` to `frame_edges[i + 1]`, the last
            one ends with the recording.
        captions: In the order of the columns of `scores`.
    """

    scores: Float[np.ndarray, "frame caption"]
    frame_edges: Float[np.ndarray, "edge"]
    captions: list[str]


class Asked(NamedTuple):
    """Captions that were embedded once, to be asked of any number of recordings.

    Attributes:
        captions: In the form of `texts.normal`.
        embeddings: Of the model that is to score them.
        known: How well each is known from training, 0 to 1; None by a model that cannot tell.
    """

    captions: list[str]
    embeddings: CaptionEmbeddings
    known: list[float] | None = None


def select_captions(
    recording: str | Path, captions: Sequence[str], *, n_absent: int
) -> tuple[list[str], list[Event] | None]:
    """Choose the captions to look for in a recording, and find its ground truth if there is any.

    The ground truth is known if a table `events.tsv` beside the file lists the recording, or else
    if a label file beside it is named after the recording, see `labels.files_of`. Tables of
    detections, with their scores, are no ground truth. A warning says which events of a label file
    had to be changed.

    Args:
        recording: The audio file.
        captions: Captions to look for. If empty, those that sound according to the ground truth,
            and some that do not.
        n_absent: Number of captions that do not sound, the first of the table in alphabetical
            order; used if `captions` is empty.

    Returns:
        The captions, and the events of the ground truth or None; their captions are spelled as
        those asked for, where they read the same.

    Raises:
        audio.Unreadable: There are labels of a recording that cannot be read.
        ValueError: Neither captions nor a ground truth, or labels that cannot be read.
    """
    recording = Path(recording)
    table = recording.with_name("events.tsv")
    is_truth = table.is_file() and not labels.read(table).scored
    events = read_events(table) if is_truth else {}
    composed = {texts.composed(name): in_file for name, in_file in events.items()}
    ground_truth = composed.get(texts.composed(recording.name))
    if ground_truth is None:
        ground_truth = _labels_beside(recording)
    if ground_truth is not None:
        spelled = texts.spellings([*captions, *(event.caption for event in ground_truth)])
        captions = [spelled[caption] for caption in captions]
        ground_truth = [event._replace(caption=spelled[event.caption]) for event in ground_truth]
    if not captions and ground_truth is not None:
        sounding = list(dict.fromkeys(event.caption for event in ground_truth))
        others = {event.caption for listed in events.values() for event in listed}
        captions = sounding + sorted(others - set(sounding))[:n_absent]
    if not captions:
        raise ValueError(
            f"{recording}: captions are needed, as neither {table.name} nor a label file beside it "
            "lists its events"
        )
    return list(captions), ground_truth


def _labels_beside(recording: Path) -> list[Event] | None:
    file = labels.beside(recording) if recording.is_file() else None
    if file is None:
        return None
    with audio.Recording(recording) as opened:
        events, repairs = raw_events.repair(file.of(recording), opened.duration_s)
    if repairs:
        changed = ", ".join(f"{n} {kind}" for kind, n in repairs.items())
        warnings.warn(f"{file.path}: events changed: {changed}", stacklevel=3)
    return events


def detect(
    model: AudioTextModel,
    recording: pieces.Recording,
    captions: Sequence[str],
    *,
    method: Method = DetectConfig.method,
    smoothing: Smoothing | None = None,
    threshold: float | Sequence[float] | None = None,
    min_duration_s: float = DetectConfig.min_duration_s,
    merge_gap_s: float = DetectConfig.merge_gap_s,
    progress: bool = False,
) -> list[Detection]:
    """Find the events of a recording: `score`, then `events`.

    Args:
        model: See `score`.
        recording: See `score`.
        captions: See `score`.
        method: See `score`.
        smoothing: See `score`; None: `smoothing_of` the model.
        threshold: See `events`; None: those of `choose_thresholds`.
        min_duration_s: See `events`.
        merge_gap_s: See `events`.
        progress: Whether to show a progress bar.

    Returns:
        Events in order of onset.
    """
    asked = ask(model, captions)
    smoothing = smoothing_of(model) if smoothing is None else smoothing
    if threshold is None:
        chosen = choose_thresholds(model, asked, method=method, smoothing=smoothing)
        threshold = [each.threshold for each in chosen]
    scores = score(
        model,
        recording,
        asked,
        method=method,
        smoothing=smoothing,
        progress=progress,
    )
    return events(
        scores, threshold=threshold, min_duration_s=min_duration_s, merge_gap_s=merge_gap_s
    )


def smoothing_of(model: AudioTextModel) -> Smoothing:
    """Return how a model's scores are smoothed unless something else is said.

    As its thresholds were chosen; those of a model without any as by `DetectConfig`.
    """
    own = getattr(model, "thresholds", None)
    if own is not None:
        return own.smoothing
    return Smoothing(DetectConfig.median_frames, DetectConfig.hysteresis)


def thresholds_of(
    model: AudioTextModel, *, method: Method, smoothing: Smoothing
) -> CaptionThresholds | None:
    """Return the model's own thresholds; None if it has none, or of other scores than these."""
    own = getattr(model, "thresholds", None)
    return own if own and (own.method, own.smoothing) == (method, smoothing) else None


def choose_thresholds(
    model: AudioTextModel,
    captions: Sequence[str] | Asked,
    *,
    method: Method,
    smoothing: Smoothing,
) -> list[Chosen]:
    """Choose a threshold for each caption: the model's own (`caption_thresholds`).

    A model without any, and scores of another kind than its thresholds are for, have
    `DetectConfig.threshold` for every caption.

    Args:
        model: See `score`.
        captions: See `score`; those of `ask` are not read again.
        method: See `score`.
        smoothing: See `score`.
    """
    own = thresholds_of(model, method=method, smoothing=smoothing)
    names = captions.captions if isinstance(captions, Asked) else captions
    if own is None:
        return [Chosen(caption, DetectConfig.threshold, False, 0) for caption in names]
    if isinstance(captions, Asked):
        known = captions.known
    else:
        known = model.known(names).tolist() if hasattr(model, "known") else None
    return own.threshold_for(names, known)


def ask(model: AudioTextModel, captions: Sequence[str]) -> Asked:
    """Embed captions, to `score` many recordings with.

    Raises ValueError for captions that `score` refuses.
    """
    captions = [texts.normal(caption) for caption in captions]
    check_unique(captions)
    if not hasattr(model, "read_captions"):
        return Asked(captions, model.embed_captions(captions))
    embeddings, known = model.read_captions(captions)
    return Asked(captions, embeddings, known.tolist())


def check_unique(captions: Sequence[str], *, where: str = "") -> None:
    """Raise ValueError, beginning with `where`, for a caption that is given twice."""
    first: dict[str, str] = {}
    for caption in captions:
        if (key := texts.key(caption)) in first:
            raise ValueError(f"{where}a caption is given twice: {first[key]!r} and {caption!r}")
        first[key] = caption


def score(
    model: AudioTextModel,
    recording: pieces.Recording,
    captions: Sequence[str] | Asked,
    *,
    method: Method,
    smoothing: Smoothing,
    progress: bool = False,
) -> Scores:
    """Score every caption in every frame of a recording.

    Args:
        model: Any model that `baselines.load` returns.
        recording: A file, an opened one, or mono samples `[sample]` and their sample rate in
            hertz.
        captions: At least one; no two may read the same, see `texts.key`. Or what `ask` made of
            them.
        method: Kind of score, see `FLAM.score_embeddings`.
        smoothing: Of the scores of each caption.
        progress: Whether to show a progress bar.

    Raises:
        audio.Unreadable: A file without usable audio.
        ValueError: Samples that are empty or not mono; a caption that is empty, too long or given
            twice; or a method that the model does not have.
    """
    title = "detect" if progress else None
    with pieces.cut(recording, model, progress=title) as opened:
        asked = captions if isinstance(captions, Asked) else ask(model, captions)
        by_caption = score_embedded(
            model, pieces.embed(model, opened), asked, method=method, smoothing=smoothing
        )
    edges = frame_edges(opened.duration_s, model.frame_s)
    return Scores(detection.frames_first(by_caption), edges, asked.captions)


def score_embedded(
    model: AudioTextModel,
    embedded: Iterable[AudioEmbeddings],
    asked: Asked,
    *,
    method: Method,
    smoothing: Smoothing,
) -> Float[np.ndarray, "caption frame"]:
    """Score every caption in every frame of a recording that is embedded in pieces.

    Args:
        model: See `score`.
        embedded: Its pieces, of `pieces.embed`.
        asked: The captions.
        method: See `score`.
        smoothing: See `score`.
    """
    by_piece = (model.score_embeddings(piece, asked.embeddings, method) for piece in embedded)
    by_caption = np.concatenate([scores[0].numpy(force=True) for scores in by_piece], axis=1)
    return smoothing(by_caption)


def events(
    scores: Scores,
    *,
    threshold: float | Sequence[float],
    min_duration_s: float | Sequence[float],
    merge_gap_s: float,
    off_threshold: float | Sequence[float] | None = None,
    top: int | None = None,
) -> list[Detection]:
    """Turn scores into events: runs of frames that score at least `threshold`.

    Args:
        scores: From `score`.
        threshold: In [0, 1]; one for all captions, or one for each.
        min_duration_s: Shorter events are dropped, in seconds; 0: none. One, or one for each.
        merge_gap_s: Events of a caption with a gap of at most this are merged, in seconds; 0: none.
        off_threshold: Lowest score of the other frames of an event that reaches `threshold`; None:
            `threshold`.
        top: Of each caption the events of the highest scores, at most so many. Where fewer reach
            its threshold, this is lowered until there are as many; None: all events, and no others.

    Returns:
        Events in order of onset; their score is defined by `detection.events_from_scores`.
    """
    kind, n = scores.scores.dtype, len(scores.captions)
    on = np.broadcast_to(np.asarray(threshold, kind), n)
    if top is not None:
        tops = [detection.threshold_of_top(column, top) for column in scores.scores.T]
        on = np.minimum(on, np.asarray(tops, kind))
    found = detection.events_from_scores(
        scores.scores,
        scores.frame_edges,
        scores.captions,
        threshold=on,
        min_duration_s=np.asarray(min_duration_s),
        merge_gap_s=merge_gap_s,
        off_threshold=None if off_threshold is None else np.asarray(off_threshold, kind),
    )
    return found if top is None else _surest(found, top)


def _surest(found: Sequence[Detection], n: int) -> list[Detection]:
    """The events of the highest scores, at most `n` of each caption; of equal ones the earlier."""
    kept: Counter[str] = Counter()
    chosen = []
    for event in sorted(found, key=lambda event: -event.score):
        kept[event.caption] += 1
        if kept[event.caption] <= n:
            chosen.append(event)
    return sorted(chosen)


def excerpt(scores: Scores, start_s: float, stop_s: float) -> Scores:
    """Return the scores of the frames that meet a stretch of the recording, in seconds.

    Times stay those of the recording.
    """
    edges = scores.frame_edges
    first = int(np.searchsorted(edges, start_s, side="right")) - 1
    last = int(np.searchsorted(edges, stop_s, side="left"))
    return Scores(scores.scores[first:last], edges[first : last + 1], scores.captions)
