"""Detection in a stream: events as they close, in constant memory, however long it lasts.

A frame is scored as soon as its context is there, so scores are those of `detector.score`; a stream
has no more than the look-ahead to wait for (`Listener.latency_s`).
"""

import numpy as np
from jaxtyping import Float

from flamlib.inference import detector, pieces
from flamlib.inference.detector import Asked
from flamlib.inference.questions import Question, Questions
from flamlib.models.interface import AudioPiece, AudioTextModel
from flamlib.sound_events import smoothing
from flamlib.sound_events.detection import GRACE_S, Detection
from flamlib.sound_events.events import count_frames

HOP_FRAMES = 4  # scored at a time; fewer are told sooner, and cost more for their context


class Listener:
    """Finds events in audio that comes piece by piece.

    Attributes:
        latency_s: From the end of a frame to its score, at most, in seconds; computing not counted.
            An event is told once the gap after it is longer than `merge_gap_s`.
        n_smoothed: Frames that have been scored and smoothed.
    """

    def __init__(
        self,
        model: AudioTextModel,
        asked: Questions,
        sample_rate: int,
        *,
        embedded: Asked | None = None,
    ) -> None:
        """Prepare for audio that is still to come.

        Args:
            model: Any model that `baselines.load` returns.
            asked: Captions and how scores become events; `top` does not apply.
            sample_rate: Of the audio, in hertz.
            embedded: The captions, by `detector.ask`; None: they are embedded here.
        """
        self._model, self._asked, self._rate = model, asked, sample_rate
        self._embedded = detector.ask(model, asked.texts) if embedded is None else embedded
        self._spotters = [_Spotter(each, asked.merge_gap_s) for each in asked.captions]
        self._half = asked.median_frames // 2
        self.latency_s = (model.context_frames + HOP_FRAMES + self._half) * model.frame_s
        self._samples, self._first_sample = np.zeros(0, np.float32), 0
        self._n_scored, self.n_smoothed = 0, 0
        self._scores = np.zeros((len(asked.captions), 0), np.float32)

    def feed(self, samples: Float[np.ndarray, "sample"]) -> list[Detection]:
        """Take the next mono samples, full scale 1; return the events that are over, by onset."""
        self._samples = np.concatenate([self._samples, samples.astype(np.float32)])
        found = []
        while self._n_samples() >= self._sample_of(
            self._n_scored + HOP_FRAMES + self._model.context_frames
        ):
            self._score(self._n_scored + HOP_FRAMES)
            found += self._spot(last=False)
        return sorted(found)

    def finish(self) -> list[Detection]:
        """End the stream; return the events that had not been over."""
        duration_s = self._n_samples() / self._rate
        if not duration_s:
            return []
        n_frames = count_frames(duration_s, self._model.frame_s)
        if n_frames > self._n_scored:
            self._score(n_frames)
        found = self._spot(last=True)
        for spotter in self._spotters:
            found += spotter.finish(duration_s)
        return sorted(found)

    def _n_samples(self) -> int:
        return self._first_sample + len(self._samples)

    def _sample_of(self, frame: int) -> int:
        return round(frame * self._model.frame_s * self._rate)

    def _score(self, stop: int) -> None:
        """Score the frames up to `stop`, and forget samples that no later frame depends on."""
        context = self._model.context_frames
        begin = max(0, self._n_scored - context)
        ends = self._sample_of(begin), self._sample_of(stop + context)
        waveform = self._samples[ends[0] - self._first_sample : ends[1] - self._first_sample]
        piece = AudioPiece(waveform, self._n_scored - begin, stop - self._n_scored)
        heard = pieces.embed_piece(self._model, piece, self._rate)
        scores = self._model.score_embeddings(heard, self._embedded.embeddings, self._asked.method)
        [new] = scores.numpy(force=True)
        self._scores = np.concatenate([self._scores, new], axis=1)
        self._n_scored = stop
        kept = self._sample_of(max(0, stop - context))
        self._samples = self._samples[kept - self._first_sample :].copy()
        self._first_sample = kept

    def _spot(self, *, last: bool) -> list[Detection]:
        """Smooth the frames whose neighbours are there, and look for events in them."""
        stop = self._n_scored if last else self._n_scored - self._half
        first = self._n_scored - self._scores.shape[1]
        # The events of `Smoothing` as they come: hysteresis itself would wait for the end of each.
        smooth = smoothing.median_filter(self._scores, self._asked.median_frames)
        raised = smoothing.raise_odds(smooth, self._asked.hysteresis)
        found = []
        for frame in range(self.n_smoothed, max(stop, self.n_smoothed)):
            times = frame * self._model.frame_s, (frame + 1) * self._model.frame_s
            columns = smooth[:, frame - first], raised[:, frame - first]
            for spotter, *of_frame in zip(self._spotters, *columns, strict=True):
                found += spotter.hear(*times, *of_frame)
        self.n_smoothed = max(stop, self.n_smoothed)
        self._scores = self._scores[:, max(0, self.n_smoothed - self._half - first) :]
        return found


class _Spotter:
    """The events of one caption, frame by frame, as `detection.events_from_scores` finds them."""

    def __init__(self, asked: Question, merge_gap_s: float) -> None:
        self._label, self._gap_s = asked.label or asked.caption, merge_gap_s
        self._on = np.float32(asked.threshold)
        off = asked.threshold if asked.off_threshold is None else asked.off_threshold
        self._low = min(self._on, np.float32(off))
        self._shortest_s = asked.min_duration_s or 0.0
        self._run: Detection | None = None  # goes on
        self._event: Detection | None = None  # is over, unless another follows soon

    def hear(
        self, onset: float, offset: float, score: np.floating, raised: np.floating
    ) -> list[Detection]:
        """Hear a frame, its score and that of raised odds; return an event that is over, if any."""
        if raised >= self._low:
            if self._run is None:
                self._run = Detection(onset, offset, self._label, float(score))
            self._run = self._run._replace(offset=offset, score=max(self._run.score, float(score)))
            return []
        found = self._close()
        if self._event is not None and offset - self._event.offset > self._gap_s + GRACE_S:
            found += self._tell()
        return found

    def finish(self, duration_s: float) -> list[Detection]:
        """End; the last frame ends with the audio."""
        if self._run is not None:
            self._run = self._run._replace(offset=min(self._run.offset, duration_s))
        return self._close() + self._tell()

    def _close(self) -> list[Detection]:
        """End the run; return the event before, if it does not belong to it."""
        run, self._run = self._run, None
        if run is None or np.float32(run.score) < self._on:
            return []
        before = self._event
        if before is not None and run.onset - before.offset <= self._gap_s + GRACE_S:
            self._event = before._replace(offset=run.offset, score=max(before.score, run.score))
            return []
        found = self._tell()
        self._event = run
        return found

    def _tell(self) -> list[Detection]:
        event, self._event = self._event, None
        if event is None or event.offset - event.onset < self._shortest_s - GRACE_S:
            return []
        return [event]
