"""Ask an index: where in an archive do captions sound, the surest moments first?

Every frame is compared with every caption, so nothing is missed. The cosines of a recording are
smoothed by a median filter, which leaves the order of scores as that of cosines, and `peaks` makes
hits of them. Recordings are looked into in the order of their highest cosine, until that is below
all of the hits that are wanted. An approximate search has the highest cosine among a few frames of
each, and misses what is in recordings of which it has no frame or too low a one; what it finds is
what the other finds.
"""

import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from flamlib.compute import parallel
from flamlib.inference import detector
from flamlib.models.interface import AudioEmbeddings, AudioTextModel, CaptionEmbeddings
from flamlib.search import coarse, kernel, peaks
from flamlib.search.archive import Index
from flamlib.search.archive_part import Part, Stored
from flamlib.search.coarse import Coarse
from flamlib.search.codes import Coded
from flamlib.sound_events import smoothing
from flamlib.sound_events.detection import Detection
from flamlib.sound_events.events import frame_edges

MEDIAN_FRAMES = 3  # so that no moment is of one frame alone, and `coarse` can look for pairs
AT_ONCE = 8  # captions, each with a number a frame


class Hit(NamedTuple):
    """A moment that was found.

    Attributes:
        path: Of a file with this content; of several the first that is still there.
        detection: When, the caption, and the score.
        is_there: Whether the file still exists.
    """

    path: Path
    detection: Detection
    is_there: bool

    def called(self, label: str) -> "Hit":
        """Return the same moment under another name than its caption."""
        return self._replace(detection=self.detection._replace(caption=label))


class _Recording(NamedTuple):
    """A recording and where its frames are among those of all parts."""

    stored: Stored
    start: int
    stop: int


def by_text(
    index: Index,
    model: AudioTextModel,
    captions: Sequence[str],
    k: int,
    *,
    where: Coarse | None = None,
) -> dict[str, list[Hit]]:
    """Find the surest moments of captions.

    Args:
        index: From `archive.read`.
        model: The one that the index is of.
        captions: At least one; no two may read the same.
        k: How many hits there are of a caption at most. A cosine of 0 or below is no hit.
        where: From `coarse.read`, to look at `coarse.SHARE` of the frames alone, those that may be
            the most like the caption; None: at all of them.

    Returns:
        The hits of each caption, in the form of `texts.normal`, the surest first.

    Raises:
        ValueError: Captions that `detector.ask` refuses.
    """
    asked = detector.ask(model, captions)
    recordings, found = list(_recordings(index)), {}
    for first in range(0, len(asked.captions), AT_ONCE):
        names = asked.captions[first : first + AT_ONCE]
        some = CaptionEmbeddings(*(of[first : first + AT_ONCE] for of in asked.embeddings))
        vectors = some.caption_emb.numpy(force=True)
        cosines = None if where else kernel.products(index.parts, vectors)
        for j, caption in enumerate(names):
            one = CaptionEmbeddings(*(of[j : j + 1] for of in some))
            if where is not None:
                top = _top_of_picked(index, where, recordings, vectors[j], k)
            else:
                top = _top(recordings, cosines[j], k)
            scores = _scores(model, one, [peak.cosine for _, peak in top])
            found[caption] = [
                _hit(index, recording, peak, caption, score)
                for (recording, peak), score in zip(top, scores, strict=True)
            ]
    return found


def by_example(
    index: Index,
    example: Float[np.ndarray, "frame dim"],
    label: str,
    k: int,
) -> list[Hit]:
    """Find the moments that sound most like an example.

    Frames have much in common, whatever sounds. So the mean of all frames of the index is
    subtracted from each of them, and from the mean of the example's frames, before they are
    compared.

    Args:
        index: From `archive.read`.
        example: Its frames, by the model that the index is of.
        label: What the hits are called.
        k: How many hits there are at most. What is less like the example than frames are on average
            is no hit.

    Returns:
        The hits, the most similar first; a score is (1 + cosine) / 2.
    """
    n_frames = [len(part.coded.codes) for part in index.parts]
    if not n_frames:
        return []
    means = [part.coded.mean for part in index.parts]
    ordinary = np.average(means, axis=0, weights=n_frames).astype(np.float32)
    asked = example.astype(np.float32).mean(axis=0) - ordinary
    asked /= max(float(np.linalg.norm(asked)), 1e-9)
    along, common = kernel.products(index.parts, np.stack([asked, ordinary]))
    length = np.sqrt(np.maximum(1 - 2 * common + ordinary @ ordinary, 1e-6))
    cosine = np.minimum((along - asked @ ordinary) / length, 1)
    top = _top(list(_recordings(index)), cosine, k)
    return [_hit(index, recording, peak, label, (1 + peak.cosine) / 2) for recording, peak in top]


def _recordings(index: Index) -> Iterator[_Recording]:
    """Those that are to be found, each once."""
    at, seen = 0, set()
    for part in index.parts:
        for stored in part.recordings:
            stop = at + stored.n_frames
            if stored.sha256 in index.paths and stored.sha256 not in seen:
                seen.add(stored.sha256)
                yield _Recording(stored, at, stop)
            at = stop


def _top(
    recordings: Sequence[_Recording], cosine: Float[np.ndarray, "frame"], k: int
) -> list[tuple[_Recording, peaks.Peak]]:
    """The `k` hits of the highest cosines, in that order; of equal ones those that stand first."""
    if not recordings:
        return []
    # Every second stretch lies between recordings; the end of all is no edge of `reduceat`.
    edges = np.array([edge for each in recordings for edge in (each.start, each.stop)])
    highest = np.maximum.reduceat(cosine, edges[edges < len(cosine)])[::2]
    return _best(recordings, highest, lambda of: cosine[of.start : of.stop], k)


def _top_of_picked(
    index: Index,
    where: Coarse,
    recordings: Sequence[_Recording],
    vector: Float[np.ndarray, "dim"],
    k: int,
) -> list[tuple[_Recording, peaks.Peak]]:
    """Those of `_top` in recordings of which a frame is picked that is high enough."""
    if not recordings:
        return []
    n_pairs = sum(map(len, where.numbers))
    pairs = coarse.pick(where, vector, max(round(coarse.SHARE * n_pairs), coarse.LEAST * k))
    starts = np.cumsum([0, *(len(part.coded.codes) for part in index.parts)])

    def picked(of: tuple[Part, np.ndarray]) -> tuple[np.ndarray, Part]:
        part, pairs = of
        frames = (pairs[:, None] * coarse.N_FRAMES + np.arange(coarse.N_FRAMES)).ravel()
        frames = frames[frames < len(part.coded.codes)]
        return frames, _rows(part, frames)

    looked = zip(index.parts, pairs, strict=True)
    found = list(parallel.in_order(picked, looked, n_jobs=kernel.n_cores(), threads=True))
    [cosine] = kernel.products([part for _, part in found], vector[None])
    frames = np.concatenate([of + start for (of, _), start in zip(found, starts, strict=False)])
    # Which recording a frame is of; some are of none that is to be found.
    begins = np.array([each.start for each in recordings])
    ends = np.array([each.stop for each in recordings])
    of = np.searchsorted(begins, frames, side="right") - 1
    is_of = (of >= 0) & (frames < ends[of])
    highest = np.full(len(recordings), -np.inf, np.float32)
    np.maximum.at(highest, of[is_of], cosine[is_of])

    def whole(recording: _Recording) -> Float[np.ndarray, "frame"]:
        i = int(np.searchsorted(starts, recording.start, side="right")) - 1
        rows = slice(recording.start - starts[i], recording.stop - starts[i])
        return kernel.products([_rows(index.parts[i], rows)], vector[None], n_threads=1)[0]

    return _best(recordings, highest, whole, k)


def _rows(part: Part, rows: np.ndarray | slice) -> Part:
    """A part with these of its frames alone."""
    codes, scale, mean = part.coded
    return part._replace(coded=Coded(codes[rows], scale[rows], mean))


def _best(
    recordings: Sequence[_Recording],
    highest: Float[np.ndarray, "recording"],
    cosine: Callable[[_Recording], Float[np.ndarray, "frame"]],
    k: int,
) -> list[tuple[_Recording, peaks.Peak]]:
    """The `k` best hits, by the cosines of recordings, the highest of which are known."""
    best: list[tuple[float, int, int, peaks.Peak]] = []
    for i in np.argsort(-highest, kind="stable").tolist():
        if highest[i] == -np.inf or (len(best) == k and highest[i] <= best[0][0]):
            break
        smooth = smoothing.median_filter(cosine(recordings[i]), MEDIAN_FRAMES)
        for peak in peaks.find(smooth):
            if len(best) == k and peak.cosine <= best[0][0]:
                break
            entry = (peak.cosine, -i, -peak.start, peak)
            (heapq.heappush if len(best) < k else heapq.heapreplace)(best, entry)
    return [(recordings[-i], peak) for _, i, _, peak in sorted(best, reverse=True)]


def _scores(
    model: AudioTextModel, caption: CaptionEmbeddings, cosines: Sequence[float]
) -> list[float]:
    """The scores of cosines with a caption: those of unit vectors in one dimension."""
    if not cosines:
        return []
    frames = torch.tensor(cosines).reshape(1, -1, 1)
    audio = AudioEmbeddings(frames, frames.mean(dim=1))
    caption = caption._replace(caption_emb=torch.ones(1, 1))
    [[scores]] = model.score_embeddings(audio, caption).tolist()
    return scores


def _hit(index: Index, recording: _Recording, peak: peaks.Peak, caption: str, score: float) -> Hit:
    paths = index.paths[recording.stored.sha256]
    there = next((path for path in paths if os.path.isfile(path)), None)  # also if it is lost
    edges = frame_edges(recording.stored.duration_s, index.about.frame_s)
    onset, offset = float(edges[peak.start]), float(edges[peak.stop])
    return Hit(there or paths[0], Detection(onset, offset, caption, score), there is not None)
