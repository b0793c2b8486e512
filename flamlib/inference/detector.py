"""A recording of any length and rate, and captions: when does each of them sound?

Of a long file only a few minutes are in memory at once. Each piece is heard together with the
frames on either side of it that its own depend on, so where a file is cut changes no score.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from jaxtyping import Float
from tqdm import tqdm

from flamlib import audio, detection
from flamlib.detection import Detection
from flamlib.events import Event, count_frames, frame_edges, read_events
from flamlib.models.interface import AudioTextModel, Method

PIECE_FRAMES = 8 * 128  # five minutes or one; whole windows, of 32 or of 128 frames

Read = Callable[[float, float], Float[np.ndarray, "sample"]]
Recording = str | Path | tuple[Float[np.ndarray, "sample"], int]


class Scores(NamedTuple):
    """What was heard of each caption: frame i spans `frame_edges[i]` to `frame_edges[i + 1]` s."""

    scores: Float[np.ndarray, "frame caption"]
    frame_edges: Float[np.ndarray, "edge"]
    captions: list[str]


def select_captions(
    recording: str | Path, captions: Sequence[str], *, n_absent: int
) -> tuple[list[str], list[Event] | None]:
    """What to ask of a recording, and what is true of it if that is known.

    The truth is known of a file that a table `events.tsv` beside it names. Then, if no captions are
    given, those that sound in it are asked for, and the first `n_absent` of the table that do not.

    Raises ValueError if there is nothing to ask.
    """
    recording = Path(recording)
    table = recording.with_name("events.tsv")
    events = read_events(table) if table.is_file() else {}
    truth = events.get(recording.name)
    if not captions and truth is not None:
        sounding = list(dict.fromkeys(event.caption for event in truth))
        others = {event.caption for of_one in events.values() for event in of_one}
        captions = sounding + sorted(others - set(sounding))[:n_absent]
    if not captions:
        raise ValueError(f"{recording}: nobody knows what sounds in it, so captions are needed")
    return list(captions), truth


def detect(
    model: AudioTextModel,
    recording: Recording,
    captions: Sequence[str],
    *,
    method: Method,
    median_frames: int,
    threshold: float,
    min_duration_s: float,
    merge_gap_s: float,
    progress: bool = False,
) -> list[Detection]:
    """The events of a recording, in order of onset: `score`, then `events`."""
    heard = score(
        model,
        recording,
        captions,
        method=method,
        median_frames=median_frames,
        progress=progress,
    )
    return events(
        heard, threshold=threshold, min_duration_s=min_duration_s, merge_gap_s=merge_gap_s
    )


def score(
    model: AudioTextModel,
    recording: Recording,
    captions: Sequence[str],
    *,
    method: Method,
    median_frames: int,
    progress: bool = False,
) -> Scores:
    """How surely each caption sounds in each frame of a recording, in [0, 1], see `FLAM.score`.

    `recording` is a file that libsndfile reads, or mono samples and their rate. The scores of a
    caption pass a median filter over `median_frames` (1: none).

    Raises audio.Unreadable for a file without usable audio, ValueError for captions of which one is
    empty, too long or given twice.
    """
    captions = list(captions)
    if len(set(captions)) != len(captions):
        raise ValueError(f"a caption is given twice: {captions}")
    duration_s, sample_rate, read = _open(recording)
    n_frames = count_frames(duration_s, model.frame_s)
    context, pieces = model.context_frames, []
    for first in tqdm(range(0, n_frames, PIECE_FRAMES), "listen", disable=not progress):
        begin, end = max(0, first - context), first + PIECE_FRAMES + context
        waveform = read(begin * model.frame_s, min(end * model.frame_s, duration_s))
        [said] = model.score(waveform, sample_rate, captions, method).numpy(force=True)
        pieces.append(said[:, first - begin :][:, :PIECE_FRAMES])
    by_caption = np.concatenate(pieces, axis=1)[:, :n_frames]
    scores = detection.frames_first(detection.median_filter(by_caption, median_frames))
    return Scores(scores, frame_edges(duration_s, model.frame_s), captions)


def events(
    heard: Scores, *, threshold: float, min_duration_s: float, merge_gap_s: float
) -> list[Detection]:
    """The runs of frames that score at least `threshold`, see `detection.events_from_scores`."""
    return detection.events_from_scores(
        heard.scores,
        heard.frame_edges,
        heard.captions,
        threshold=threshold,
        min_duration_s=min_duration_s,
        merge_gap_s=merge_gap_s,
    )


def _open(recording: Recording) -> tuple[float, int, Read]:
    """Duration, sample rate, and a function that gives the samples between two times."""
    if isinstance(recording, tuple):
        waveform, sample_rate = recording
        if waveform.ndim != 1 or not len(waveform):
            raise ValueError(f"a recording is mono samples, at least one; this is {waveform.shape}")
        return (
            len(waveform) / sample_rate,
            sample_rate,
            lambda start_s, stop_s: waveform[
                round(start_s * sample_rate) : round(stop_s * sample_rate)
            ],
        )
    try:
        about = soundfile.info(recording)
    except (soundfile.SoundFileError, OSError) as error:
        raise audio.Unreadable(recording, str(error)) from error
    return (
        about.frames / about.samplerate,
        about.samplerate,
        lambda start_s, stop_s: audio.read(recording, start_s=start_s, stop_s=stop_s)[0],
    )
