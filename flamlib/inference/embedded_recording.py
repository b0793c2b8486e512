"""A recording that is embedded once, whose captions are then asked at will.

A caption is answered in milliseconds, however long the recording is.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from flamlib import texts
from flamlib.experiment.params.trials import DetectConfig
from flamlib.inference import detector, pieces
from flamlib.inference.detector import Scores
from flamlib.models.interface import AudioTextModel
from flamlib.sound_events.events import frame_edges


class EmbeddedRecording:
    """The captions asked of a recording, their scores and their thresholds.

    Attributes:
        duration_s: of the recording, in seconds.
        captions: those asked last, in order.
    """

    def __init__(
        self, model: AudioTextModel, recording: pieces.Recording, config: DetectConfig
    ) -> None:
        """Embed the recording.

        Args:
            model: any model that `baselines.load` returns.
            recording: a file, or mono samples and their sample rate, as `pieces.cut` takes them.
            config: method and filter of the scores.

        Raises:
            audio.Unreadable: a file without usable audio.
            ValueError: samples that are empty or not mono.
        """
        self.model, self.config = model, config
        self.captions: list[str] = []
        with pieces.cut(recording, model) as opened:
            self.duration_s = opened.duration_s
            self._embedded = pieces.embed_whole(model, opened)
        self._scores: dict[str, Float[np.ndarray, frame]] = {}
        self._thresholds: dict[str, float] = {}

    def ask(self, captions: Sequence[str]) -> None:
        """Ask captions in place of those before; what was asked once keeps threshold and events.

        Raises ValueError for a caption that is empty or given twice.
        """
        captions = [texts.normal(caption) for caption in captions]
        if "" in captions:
            raise ValueError("an empty caption")
        detector.check_unique(captions)
        if new := [caption for caption in captions if caption not in self._scores]:
            how = {"method": self.config.method, "smoothing": self.config.smoothing}
            asked = detector.ask(self.model, new)
            by_caption = detector.score_embedded(self.model, [self._embedded], asked, **how)
            chosen = detector.choose_thresholds(self.model, asked, **how)
            for caption, scores, own in zip(new, by_caption, chosen, strict=True):
                self._scores[caption] = scores
                self._thresholds[caption] = own.threshold
        self.captions = captions

    def scores(self) -> Scores:
        """Return the scores of the captions asked, smoothed."""
        edges = frame_edges(self.duration_s, self.model.frame_s)
        columns = [self._scores[caption] for caption in self.captions]
        table = np.stack(columns, axis=1) if columns else np.zeros((len(edges) - 1, 0), np.float32)
        return Scores(table, edges, list(self.captions))

    def threshold(self, caption: str) -> float:
        """Return the threshold of a caption."""
        return self._thresholds[caption]

    def set_threshold(self, caption: str, threshold: float) -> None:
        """Set the threshold of a caption; its events follow unless they were corrected."""
        self._thresholds[caption] = threshold
