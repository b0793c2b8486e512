"""Review of the events found in a recording: captions asked at will, thresholds moved; events
moved, deleted and added by hand, and saved as labels.

The recording is embedded once; a caption is then answered in milliseconds, however long it is.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from flamlib.experiment.params.trials import DetectConfig
from flamlib.inference.embedded_recording import EmbeddedRecording
from flamlib.models.interface import AudioTextModel
from flamlib.sound_events import detection
from flamlib.sound_events.detection import Detection
from flamlib.sound_events.events import Event, frame_edges, merge, write_events
from flamlib.storage import files
from flamlib.waveforms import audio

CONTEXT_S = 1.0  # heard before and after an event
MAX_HEARD_S = 12.0  # of an event, its context included
SUFFIXES = (".tsv", ".csv", ".txt")  # of label files: tables, and Audacity's label track


class Review(EmbeddedRecording):
    """A recording, the captions asked of it, and their events.

    The events of a caption are those that reach its threshold, until one of them is corrected: from
    then on they are what they were made, and only `reset` returns to the threshold.

    Attributes:
        recording: the file.
    """

    def __init__(self, model: AudioTextModel, recording: str | Path, config: DetectConfig) -> None:
        """Embed the recording.

        Args:
            model: any model that `baselines.load` returns.
            recording: a file.
            config: method, filter, minimum duration and gap of detection.

        Raises:
            audio.Unreadable: a file without usable audio.
        """
        self.recording = Path(recording)
        super().__init__(model, self.recording, config)
        self._corrected: dict[str, list[Detection]] = {}

    def is_corrected(self, caption: str) -> bool:
        """Return whether the events of a caption were corrected."""
        return caption in self._corrected

    def events(self) -> list[Detection]:
        """Return the events of all captions asked, in order of onset."""
        return sorted(e for caption in self.captions for e in self._events_of(caption))

    def _events_of(self, caption: str) -> list[Detection]:
        if caption in self._corrected:
            return self._corrected[caption]
        return detection.events_from_scores(
            self._scores[caption][:, None],
            frame_edges(self.duration_s, self.model.frame_s),
            [caption],
            threshold=np.asarray(self._thresholds[caption], self._scores[caption].dtype),
            min_duration_s=self.config.min_duration_s,
            merge_gap_s=self.config.merge_gap_s,
        )

    def add(self, caption: str, onset: float, offset: float) -> Detection:
        """Add an event to a caption that was asked, and return it with its highest score.

        Raises ValueError for times that are not within the recording, or not in order.
        """
        event = self._event(caption, onset, offset)
        self._corrected[caption] = sorted([*self._events_of(caption), event])
        return event

    def delete(self, event: Detection) -> None:
        """Delete an event."""
        self._corrected[event.caption] = [e for e in self._events_of(event.caption) if e != event]

    def move(self, event: Detection, onset: float, offset: float) -> Detection:
        """Move an event to other times, and return what it is then. Raises what `add` raises."""
        moved = self._event(event.caption, onset, offset)
        self.delete(event)
        self._corrected[event.caption] = sorted([*self._corrected[event.caption], moved])
        return moved

    def _event(self, caption: str, onset: float, offset: float) -> Detection:
        if not 0 <= onset < offset <= self.duration_s + 1e-6:
            raise ValueError(
                f"an event from {onset:g} to {offset:g} s; expected onset before offset, both "
                f"within the {self.duration_s:.2f} s of the recording"
            )
        edges = frame_edges(self.duration_s, self.model.frame_s)
        inside = (edges[:-1] < offset) & (edges[1:] > onset)
        peak = float(self._scores[caption][inside].max(initial=0.0))
        return Detection(float(onset), float(offset), caption, peak)

    def reset(self, caption: str) -> None:
        """Forget the corrections of a caption: its events are those of its threshold again."""
        self._corrected.pop(caption, None)

    def listen(self, event: Detection | Event) -> tuple[Float[np.ndarray, "sample"], int]:
        """Read an event with a second before and after it; of a long one the beginning.

        Returns mono samples and their sample rate.
        """
        start_s = max(0.0, event.onset - CONTEXT_S)
        stop_s = min(event.offset + CONTEXT_S, start_s + MAX_HEARD_S, self.duration_s)
        return audio.read(self.recording, start_s=start_s, stop_s=stop_s)

    def save(self, path: str | Path) -> int:
        """Write the events as labels, a table (.tsv, .csv) or Audacity's (.txt); return how many.

        They are labels, not detections: they have no scores. Events of a caption that overlap are
        joined. A recording without any has a row of its own in a table.

        Raises ValueError for another suffix.
        """
        path = Path(path)
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}")
        labels = merge(Event(e.onset, e.offset, e.caption) for e in self.events())
        if path.suffix.lower() == ".txt":
            rows = [f"{e.onset:.6f}\t{e.offset:.6f}\t{e.caption}\n" for e in labels]
            files.atomic_write(path, "".join(rows))
        else:
            rounded = [
                e._replace(onset=round(e.onset, 6), offset=round(e.offset, 6)) for e in labels
            ]
            write_events(path, {self.recording.name: rounded})
        return len(labels)
