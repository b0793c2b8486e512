"""Scores of clips of any length, frame by frame, together with the events that are true of them.

`ClipScores` is what carries a model's scores to every metric of sound event detection; a
`FrameTable` holds the same frames (or segments) of all clips in one table.

*Open vocabulary.* Every clip has a score for every caption of its set. A caption without an event
in a clip is absent there, and every detection of it in that clip is a false positive.

*Unknown pairs.* Where one cannot say whether a caption is true of a clip, the pair of both is not
`known`, and leaves every count; in PSDS its scores are -inf and its events are left out, while the
clip's duration still counts. A caption without any event is in the pooled metrics alone.

*The end of a clip.* A frame is evaluated if it begins before the clip ends.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from flamlib.metrics import segments
from flamlib.metrics.psds import PsdsInputs
from flamlib.sound_events import detection
from flamlib.sound_events.detection import Detection, frames_first
from flamlib.sound_events.events import Event, active_frames, frame_edges
from flamlib.sound_events.smoothing import Smoothing

BLOCK = 1 << 23  # scores of some clips or captions that are looked at together: 150 MB


@dataclass(frozen=True, eq=False)
class FrameTable:
    """Scores and ground truth of the frames, or segments, of all clips, one row each.

    Attributes:
        scores: the higher, the surer that the caption is active.
        active: ground truth.
        clip: number of the row's clip, counted from 0, in rising order.
        known: False where the ground truth is unknown; such a frame leaves every count.
    """

    scores: Float[np.ndarray, "row caption"]
    active: Bool[np.ndarray, "row caption"]
    clip: Int[np.ndarray, "row"]
    known: Bool[np.ndarray, "row caption"]

    def counts_at(self, threshold: float) -> Int[np.ndarray, "clip caption 3"]:
        """Count true positives, detected and active rows, as `f1.f1_of_counts` takes them."""
        detected, active = (self.scores >= threshold) & self.known, self.active & self.known
        n_clips = int(self.clip[-1]) + 1
        counts = np.zeros((n_clips, self.scores.shape[1], 3), dtype=int)
        for i, of_row in enumerate((detected & active, detected, active)):
            np.add.at(counts[:, :, i], self.clip, of_row)
        return counts


@dataclass(frozen=True, eq=False)
class ClipScores:
    """A model's scores of clips, and the ground truth of the same clips.

    Attributes:
        clips: names of the clips, each of them once.
        captions: names of the columns of `scores`.
        frame_s: seconds of a frame; frame l of a clip spans [l, l + 1) * frame_s.
        durations: seconds of each clip.
        scores: of each clip an array [frame, caption] of as many frames as begin in the clip.
        ground_truth: the events of each clip, in seconds. They end with the clip at the latest;
            those of one caption do not overlap.
        known: False where the ground truth of a caption in a clip is unknown.

    Raises ValueError, naming the clip, for scores of another shape or that are NaN.
    """

    clips: Sequence[str]
    captions: Sequence[str]
    frame_s: float
    durations: Sequence[float]
    scores: Sequence[Float[np.ndarray, "_ caption"]]
    ground_truth: Sequence[Sequence[Event]]
    known: Bool[np.ndarray, "clip caption"]

    def __post_init__(self) -> None:
        for clip, duration, score in zip(self.clips, self.durations, self.scores, strict=True):
            expected = (len(self.edges(duration)) - 1, len(self.captions))
            if score.shape != expected:
                raise ValueError(
                    f"clip {clip!r}: scores of shape {score.shape}, expected {expected}, the "
                    f"frames of {self.frame_s} s in {duration} s by the captions"
                )
            if np.isnan(score).any():
                frame, caption = np.argwhere(np.isnan(score))[0]
                where = f"of {self.captions[caption]!r} is NaN in frame {frame}"
                raise ValueError(f"clip {clip!r}: the score {where}")

    def edges(self, duration_s: float) -> Float[np.ndarray, "edge"]:
        """Return the edges of the frames of a clip that is so long, in seconds."""
        return frame_edges(duration_s, self.frame_s)

    def active(
        self, events: Sequence[Event], duration_s: float
    ) -> Bool[np.ndarray, "frame caption"]:
        """Return which captions are active in which frames of a clip that is so long."""
        n_frames = len(self.edges(duration_s)) - 1
        sizes = {"n_frames": n_frames, "frame_s": self.frame_s, "clip_s": duration_s}
        return frames_first(active_frames(events, list(self.captions), **sizes))

    @cached_property
    def by_frame(self) -> FrameTable:
        """The frames of all clips, one below the other."""
        active = [
            self.active(events, duration)
            for events, duration in zip(self.ground_truth, self.durations, strict=True)
        ]
        return self._table(list(self.scores), active)

    def by_segment(self, segment_s: float) -> FrameTable:
        """Return the segments of all clips, one below the other; see `segments`."""
        scores, active = [], []
        for events, score, duration in zip(
            self.ground_truth, self.scores, self.durations, strict=True
        ):
            n = segments.count(duration, segment_s)
            edges = self.edges(duration).copy()
            # The last segment may begin after the last edge by rounding alone.
            edges[-1] = max(edges[-1], n * segment_s)
            scores.append(segments.segment_scores(score, edges, n_segments=n, segment_s=segment_s))
            active.append(
                segments.active_segments(events, self.captions, n_segments=n, segment_s=segment_s)
            )
        return self._table(scores, active)

    def caption_blocks(self) -> list[Int[np.ndarray, "column"]]:
        """Return the numbers of the captions in groups of at most `BLOCK` scores, or of one."""
        return _groups(len(self.captions), self._longest * len(self.clips))

    def clip_blocks(self) -> Iterator["ClipScores"]:
        """Yield some clips after the others, each time at most `BLOCK` scores, or one clip."""
        for rows in _groups(len(self.clips), self._longest * len(self.captions)):
            yield self.of_clips(rows)

    @property
    def _longest(self) -> int:
        return max(map(len, self.scores), default=0)

    def smoothed(self, smoothing: Smoothing) -> "ClipScores":
        """Return a copy whose scores are smoothed, clip by clip; without smoothing this one."""
        if smoothing == Smoothing():
            return self
        scores = [frames_first(smoothing(frames_first(score))) for score in self.scores]
        return replace(self, scores=scores)

    def of_clips(self, rows: Int[np.ndarray, "_"]) -> "ClipScores":
        """Return the scores and the ground truth of some clips, in this order, or this one."""
        if np.array_equal(rows, np.arange(len(self.clips))):
            return self
        return replace(
            self,
            clips=[self.clips[i] for i in rows],
            durations=[self.durations[i] for i in rows],
            scores=[self.scores[i] for i in rows],
            ground_truth=[self.ground_truth[i] for i in rows],
            known=self.known[rows],
        )

    def of_captions(self, columns: Int[np.ndarray, "_"]) -> "ClipScores":
        """Return the scores and the ground truth of some captions, in this order, or this one."""
        if np.array_equal(columns, np.arange(len(self.captions))):
            return self
        captions = [self.captions[j] for j in columns]
        wanted = set(captions)
        return replace(
            self,
            captions=captions,
            scores=[score[:, columns] for score in self.scores],
            ground_truth=[
                [e for e in events if e.caption in wanted] for events in self.ground_truth
            ],
            known=self.known[:, columns],
        )

    def detections(self, threshold: float) -> dict[str, list[Detection]]:
        """Return the events detected in each clip at one threshold, those of known pairs."""
        detections = {}
        for i, (clip, score) in enumerate(zip(self.clips, self.scores, strict=True)):
            # Most captions are detected nowhere in a clip.
            columns = np.flatnonzero((score.max(axis=0) >= threshold) & self.known[i])
            detections[clip] = detection.events_from_scores(
                score[:, columns],
                self.edges(self.durations[i]),
                [self.captions[j] for j in columns],
                threshold=threshold,
                min_duration_s=0.0,
                merge_gap_s=0.0,
            )
        return detections

    def known_events(self) -> dict[str, list[Event]]:
        """Return the ground truth of each clip, the events of known pairs."""
        column = {caption: j for j, caption in enumerate(self.captions)}
        return {
            clip: [event for event in events if known[column[event.caption]]]
            for clip, events, known in zip(self.clips, self.ground_truth, self.known, strict=True)
        }

    def psds_inputs(self) -> PsdsInputs:
        """Return what `psds` reads; all clips get as many frames as the longest, padded by -inf."""
        longest = self._longest
        kind = self.scores[0].dtype
        scores = {}
        for clip, score, known in zip(self.clips, self.scores, self.known, strict=True):
            if len(score) == longest and score.dtype == kind and known.all():
                scores[clip] = score  # no copy: of a large set all are a gigabyte
                continue
            padded = np.full((longest, len(self.captions)), -np.inf, kind)
            padded[: len(score)] = np.where(known, score, -np.inf)
            scores[clip] = padded
        return PsdsInputs(
            scores,
            self.edges(max(self.durations)),
            list(self.captions),
            self.known_events(),
            dict(zip(self.clips, self.durations, strict=True)),
        )

    def _table(self, scores: list, active: list) -> FrameTable:
        n_rows = [len(score) for score in scores]
        return FrameTable(
            np.concatenate(scores),
            np.concatenate(active),
            np.repeat(np.arange(len(scores)), n_rows),
            np.repeat(self.known, n_rows, axis=0),
        )


def _groups(n: int, scores_of_each: int) -> list[Int[np.ndarray, "_"]]:
    """Return 0 to n - 1 in groups of at most `BLOCK` scores, or of one."""
    step = max(1, BLOCK // max(1, scores_of_each))
    return [np.arange(first, min(first + step, n)) for first in range(0, n, step)]
