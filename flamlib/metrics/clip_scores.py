"""Clips of any length, their scores by frame and when their captions sound: what is to be judged.

*Open vocabulary.* Every clip is asked for every caption of its set: one that does not sound in a
clip is absent there, and all that is claimed of it is false. A pair of clip and caption that is not
`known` leaves every count; in PSDS its scores are -inf and its events left out, while the clip's
time still counts. A caption that sounds nowhere is in the pooled figures alone.

*The end of a clip.* A frame is judged if it begins before the clip ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from flamlib import detection
from flamlib.events import Event, active_frames, count_frames
from flamlib.metrics import segments
from flamlib.metrics.psds import Detected

Claims = dict[str, list[tuple]]


@dataclass(frozen=True, eq=False)
class Located:
    """The scores of clips, by frame, and when their captions sound; frame l of a clip spans
    [l, l + 1) * frame_s seconds. Events of a clip end with it, and those of a caption are apart."""

    clips: Sequence[str]
    captions: Sequence[str]
    frame_s: float
    durations: Sequence[float]
    truth: Sequence[Sequence[Event]]
    scores: Sequence[Float[np.ndarray, "_ caption"]]
    known: Bool[np.ndarray, "clip caption"]

    def __post_init__(self) -> None:
        for clip, duration, score in zip(self.clips, self.durations, self.scores, strict=True):
            expected = (count_frames(duration, self.frame_s), len(self.captions))
            if score.shape != expected:
                raise ValueError(f"clip {clip!r}: scores of {score.shape}, expected {expected}")
            if np.isnan(score).any():
                frame, caption = np.argwhere(np.isnan(score))[0]
                of = f"of {self.captions[caption]!r} is NaN in frame {frame}"
                raise ValueError(f"clip {clip!r}: the score {of}")

    @cached_property
    def by_frame(self) -> "Rows":
        """The frames of all clips below one another."""
        active = [
            active_frames(events, list(self.captions), n_frames=len(score), frame_s=self.frame_s).T
            for events, score in zip(self.truth, self.scores, strict=True)
        ]
        return self._rows(list(self.scores), active)

    def by_segment(self, segment_s: float) -> "Rows":
        """The segments of all clips below one another."""
        scores, active = [], []
        for events, score, duration in zip(self.truth, self.scores, self.durations, strict=True):
            n = segments.count(duration, segment_s)
            edges = frame_edges(len(score), self.frame_s, duration)
            # The last segment may begin after the last edge by rounding alone.
            edges[-1] = max(edges[-1], n * segment_s)
            scores.append(segments.segment_scores(score, edges, n_segments=n, segment_s=segment_s))
            active.append(
                segments.active_segments(events, self.captions, n_segments=n, segment_s=segment_s)
            )
        return self._rows(scores, active)

    def smoothed(self, median_frames: int) -> "Located":
        """The same with scores through `detection.median_filter`."""
        scores = [detection.median_filter(score.T, median_frames).T for score in self.scores]
        return replace(self, scores=scores)

    def claims(self, threshold: float) -> "Claims":
        """What is detected in each clip, of known pairs."""
        found = {}
        for i, (clip, score) in enumerate(zip(self.clips, self.scores, strict=True)):
            edges = frame_edges(len(score), self.frame_s, self.durations[i])
            # Most captions are claimed nowhere in a clip.
            claimed = np.flatnonzero((score.max(axis=0) >= threshold) & self.known[i])
            found[clip] = detection.events_from_scores(
                score[:, claimed],
                edges,
                [self.captions[j] for j in claimed],
                threshold=threshold,
                min_duration_s=0.0,
                merge_gap_s=0.0,
            )
        return found

    @property
    def known_truth(self) -> dict[str, list[Event]]:
        """The events of known pairs, by clip."""
        column = {caption: j for j, caption in enumerate(self.captions)}
        return {
            clip: [event for event in events if known[column[event.caption]]]
            for clip, events, known in zip(self.clips, self.truth, self.known, strict=True)
        }

    @property
    def as_psds(self) -> Detected:
        """What `psds` asks for. All clips get the frames of the longest, silent after their own."""
        longest = max(len(score) for score in self.scores)
        kind = self.scores[0].dtype
        scores = {}
        for clip, score, known in zip(self.clips, self.scores, self.known, strict=True):
            padded = np.full((longest, len(self.captions)), -np.inf, kind)
            padded[: len(score)] = np.where(known, score, -np.inf)
            scores[clip] = padded
        return Detected(
            scores,
            frame_edges(longest, self.frame_s, max(self.durations)),
            list(self.captions),
            self.known_truth,
            dict(zip(self.clips, self.durations, strict=True)),
        )

    def _rows(self, scores: list, active: list) -> "Rows":
        n_rows = [len(score) for score in scores]
        return Rows(
            np.concatenate(scores),
            np.concatenate(active),
            np.repeat(np.arange(len(scores)), n_rows),
            np.repeat(self.known, n_rows, axis=0),
        )


@dataclass(frozen=True, eq=False)
class Rows:
    """Scores and truth of frames, or segments, of all clips."""

    score: Float[np.ndarray, "row caption"]
    active: Bool[np.ndarray, "row caption"]
    clip: Int[np.ndarray, "row"]
    known: Bool[np.ndarray, "row caption"]

    def counts_at(self, threshold: float) -> Int[np.ndarray, "clip caption 3"]:
        """How many are right, claimed and active, as `decisions.f1_of` takes them."""
        claimed, active = (self.score >= threshold) & self.known, self.active & self.known
        n_clips = int(self.clip[-1]) + 1
        counts = np.zeros((n_clips, self.score.shape[1], 3), dtype=int)
        for i, of_row in enumerate((claimed & active, claimed, active)):
            np.add.at(counts[:, :, i], self.clip, of_row)
        return counts


def frame_edges(n: int, frame_s: float, duration_s: float) -> Float[np.ndarray, "edge"]:
    """Seconds; the last frame ends with the clip."""
    edges = np.arange(n + 1) * frame_s
    edges[-1] = min(edges[-1], max(duration_s, edges[-2] + 1e-6))
    return edges
