"""What a server holds in memory: the model, the recordings opened last, and an index.

Everything here is called by one thread, see `work_queue`.
"""

import math
import os
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from flamlib import texts
from flamlib.experiment.params.trials import DetectConfig
from flamlib.inference import detector, questions, sound_page
from flamlib.inference.embedded_recording import EmbeddedRecording
from flamlib.inference.questions import Question, Questions
from flamlib.models.interface import AudioTextModel
from flamlib.models.text_tower import UnknownWords
from flamlib.plots import player
from flamlib.search import query
from flamlib.search.archive import Index
from flamlib.serve.limits import MAX_LETTERS, Limits
from flamlib.serve.refusals import Refused
from flamlib.storage import files
from flamlib.waveforms import audio, chain, decoders, formats

PART_S = 600.0  # of a recording that is too long to be opened whole
MAX_LISTED = 1000  # recordings of an index
MAX_ASKED = 1000  # captions of a recording, as the scores of each are kept
CONFIG = DetectConfig(
    recording="", captions=[], n_absent=0, threshold=DetectConfig.threshold,
)  # fmt: skip


@contextmanager
def place_for(name: str) -> Iterator[Path]:
    """Give a place for a recording that is sent: a file of its own, which is removed at the end.

    Of the name its suffix is kept, if it is one of recordings: it tells what kind of file it is.
    """
    suffix = PurePosixPath(name).suffix.lower()
    with tempfile.TemporaryDirectory(prefix="flam-serve-") as folder:
        yield Path(folder) / f"sent{suffix if suffix in formats.SUFFIXES else ''}"


def name_of(given: str) -> str:
    """Return a name to be read by people, of what a sender calls a recording."""
    return texts.normal(given.replace("\\", "/").split("/")[-1])[:MAX_LETTERS] or "recording"


def names_of(paths: Mapping[str, Path]) -> dict[str, str]:
    """Return how recordings are called: as their files, where these differ.

    Files of one name, as recorders of several places write them, have as many folders before it as
    tell them apart.
    """
    alike: dict[str, list[str]] = {}
    for known, path in paths.items():
        alike.setdefault(texts.normal(path.name), []).append(known)
    names = {}
    for of_one_name in alike.values():
        most, n = max(len(paths[k].parts) for k in of_one_name), 1
        while n < most and len({paths[k].parts[-n:] for k in of_one_name}) < len(of_one_name):
            n += 1
        names |= {k: texts.normal("/".join(paths[k].parts[-n:])) for k in of_one_name}
    return names


@contextmanager
def _reading() -> Iterator[list[str]]:
    """Put sentences on what a model cannot read of captions in a list, and refuse what it cannot
    take at all."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UnknownWords)
        try:
            yield notes
        except ValueError as error:
            raise Refused(422, "caption", f"{error}.") from error
        finally:
            told = {str(w.message): None for w in warned if issubclass(w.category, UnknownWords)}
            notes += [f"{note[0].upper()}{note[1:]}." for note in told]


class Opened(NamedTuple):
    """A recording, or a part of a long one, that was opened.

    Attributes:
        embedded: Answers captions.
        start_s: Where it begins in its recording, in seconds; 0 but for a part.
        about: What a page shows of it, in JSON's types.
        mp3: Its sound.
        asked: All captions that it was asked.
    """

    embedded: EmbeddedRecording
    start_s: float
    about: dict[str, Any]
    mp3: bytes
    asked: set[str]


class Workspace:
    """A model, the recordings that were opened last, and an index that may be searched."""

    def __init__(
        self, model: AudioTextModel, limits: Limits, *, name: str = "", index: Index | None = None
    ) -> None:
        """Begin without recordings.

        Args:
            model: Any model that `baselines.load` returns.
            limits: How much it takes.
            name: Of the model.
            index: Of the same model.
        """
        self.model, self.limits, self.name, self.index = model, limits, name, index
        smooth = detector.smoothing_of(model)
        self._config = replace(
            CONFIG, median_frames=smooth.median_frames, hysteresis=smooth.hysteresis
        )
        self._opened: OrderedDict[str, Opened] = OrderedDict()
        self._names = {} if index is None else names_of({k: w[0] for k, w in index.paths.items()})
        parts = () if index is None else index.parts
        self._duration_s = {r.sha256: r.duration_s for part in parts for r in part.recordings}

    def open_sent(self, path: Path, name: str) -> dict[str, Any]:
        """Open a recording that was sent, unless it is known; return what a page shows of it.

        Args:
            path: Where it was put.
            name: What its sender calls it, in the form of `name_of`; nothing is opened by it.

        Raises:
            Refused: It cannot be used, and why.
        """
        if not path.stat().st_size:
            raise Refused(422, "empty", f"{name} is empty: 0 bytes.")
        known = files.sha256(path)
        if known in self._opened:
            return self._find(known).about | {"name": name}
        return self._open(known, path, name)

    def open_indexed(self, sha256: str, at_s: float = 0.0) -> dict[str, Any]:
        """Open a recording of the index, unless it is known; return what a page shows of it.

        Of one that is longer than what is taken, the part around a time, in seconds. Parts overlap
        by half, so that most moments are far from an end.

        Raises Refused if there is none, or its file is gone, has changed or cannot be used.
        """
        if self.index is None or sha256 not in self.index.paths:
            raise Refused(404, "unknown", "The index has no such recording.")
        paths, name = self.index.paths[sha256], self._names[sha256]
        part = self._part(self._duration_s[sha256], at_s)
        known = sha256 if part is None else f"{sha256}-{part[0]:.0f}"
        if known in self._opened:
            return self._find(known).about | {"name": name}
        path = next((each for each in paths if os.path.isfile(each)), None)
        if path is None:
            raise Refused(410, "gone", f"{name} is no longer where it was when it was indexed.")
        if files.sha256(path) != sha256:
            raise Refused(
                409, "changed", f"{name} was changed since it was indexed; call flam index again."
            )
        return self._open(known, path, name, part)

    def _part(self, duration_s: float, at_s: float) -> tuple[float, float] | None:
        """Where the part of a long recording around a time begins and ends; None: all is taken."""
        if duration_s <= self.limits.max_s:
            return None
        frame_s = self.model.frame_s
        most_s = min(PART_S, self.limits.max_s)
        half = max(1, math.floor(most_s / 2 / frame_s))  # frames, which stay what they are
        last = math.ceil(duration_s / frame_s / half) - 2
        number = min(max(round(at_s / frame_s / half) - 1, 0), last)
        return number * half * frame_s, min((number + 2) * half * frame_s, duration_s)

    def _open(
        self, known: str, path: Path, name: str, part: tuple[float, float] | None = None
    ) -> dict[str, Any]:
        try:
            if part is None:
                self._check(path, name)
            with audio.Recording(path) as opened:
                waveform = opened.read() if part is None else opened.cut(*part)
                rate, notes = opened.sample_rate, list(opened.notes)
            embedded = EmbeddedRecording(self.model, (waveform, rate), self._config)
        except audio.Unreadable as error:
            raise Refused(415, "unreadable", f"{name}: {error.why}.") from error
        start_s, duration_s = 0.0, embedded.duration_s
        if part is not None:
            start_s, duration_s = part[0], self._duration_s[known.partition("-")[0]]
            minutes = f"{(part[1] - part[0]) / 60:.0f} of {duration_s / 60:.0f} minutes"
            notes.append(f"{minutes}: each moment of a search opens those around it")
        edges = embedded.scores().frame_edges
        about = {
            "id": known,
            "recording": known.partition("-")[0],
            "name": name,
            "model": self.name,
            "note": "; ".join(notes) or None,
            "duration_s": duration_s,
            "start_s": start_s,
            "end_s": start_s + float(edges[-1]),
            "frame_s": float(edges[1]),
            "merge_gap_s": CONFIG.merge_gap_s,
            "sample_rate": rate,
            "channel": 1,
            "spectrogram": sound_page.spectrogram(waveform, rate),
        }
        self._opened[known] = Opened(embedded, start_s, about, player.mp3(waveform, rate), set())
        while len(self._opened) > self.limits.n_kept:
            self._opened.popitem(last=False)
        return about

    def _check(self, path: Path, name: str) -> None:
        """Refuse a recording that is too long, as soon as that is known, or silent."""
        try:
            decoder = chain.Chain(*formats.plan(path))
        except decoders.Undecodable as error:
            raise audio.Unreadable(path, str(error)) from error
        n_most, n, sounds = self.limits.max_s * decoder.sample_rate, 0, False
        try:
            while len(piece := decoder.read(decoders.PIECE)):
                n += len(piece)
                sounds = sounds or bool(piece.any())
                if n > n_most:
                    raise self._too_long(name)
        except decoders.Undecodable as error:
            raise audio.Unreadable(path, str(error)) from error
        finally:
            decoder.close()
        if n and not sounds:
            raise Refused(422, "silent", f"{name} is silent from beginning to end.")

    def _too_long(self, name: str) -> Refused:
        return Refused(
            413,
            "too_long",
            f"{name} is longer than {self.limits.max_s / 60:g} minutes, the most that is taken "
            "here: start flam serve with --max-minutes, cut it, or use flam detect, which has no "
            "limit.",
        )

    def sound(self, known: str) -> bytes:
        """Return the sound of a recording, as MP3. Raises Refused if it is not kept."""
        return self._find(known).mp3

    def ask(self, known: str, captions: list[str]) -> dict[str, Any]:
        """Ask captions of a recording; it is not embedded again.

        Returns:
            `captions` with their scores, as a page has them; the `events` that reach the model's
            own thresholds, as `flam detect` finds them; and a `note` on words that the model cannot
            read, the first time that they are asked.
        """
        opened = self._find(known)
        if len(opened.asked | set(captions)) > MAX_ASKED:
            raise Refused(
                429,
                "too_many_captions",
                f"{opened.about['name']} was asked {MAX_ASKED} captions; open it again.",
            )
        with _reading() as notes:
            opened.embedded.ask(captions)
        opened.asked.update(captions)
        scores = opened.embedded.scores()
        scores = scores._replace(frame_edges=opened.start_s + scores.frame_edges)
        asked = Questions(
            format=questions.FORMAT,
            model=self.name,
            captions=[
                Question(caption=caption, threshold=opened.embedded.threshold(caption))
                for caption in captions
            ],
        )
        events = [event._asdict() for event in asked.events(scores)]
        shown = sound_page.captions(scores, asked)
        return {"captions": shown, "events": events, "note": " ".join(notes) or None}

    def _find(self, known: str) -> Opened:
        if known not in self._opened:
            raise Refused(
                404,
                "unknown",
                "No such recording: it was never opened here, or others took its place since. Open "
                "it again.",
            )
        self._opened.move_to_end(known)
        return self._opened[known]

    def listed(self, part: str = "") -> dict[str, Any]:
        """Return the recordings of the index whose names have a part, and how many they are."""
        self._index()
        part = texts.normal(part).casefold()
        named = ((name, known) for known, name in self._names.items())
        found = sorted(each for each in named if part in each[0].casefold())
        rows = [{"id": known, "name": name} for name, known in found[:MAX_LISTED]]
        return {"n_recordings": len(found), "recordings": rows}

    def search(self, caption: str, k: int) -> dict[str, Any]:
        """Return the surest moments of a caption in the index, and a note as `ask` has it."""
        index = self._index()
        with _reading() as notes:
            [hits] = query.by_text(index, self.model, [caption], k).values()
        ids = {path: known for known, paths in index.paths.items() for path in paths}
        return {
            "hits": [
                {
                    "id": ids[hit.path],
                    "name": self._names[ids[hit.path]],
                    **hit.detection._asdict(),
                    "is_there": hit.is_there,
                }
                for hit in hits
            ],
            "note": " ".join(notes) or None,
        }

    def _index(self) -> Index:
        if self.index is None:
            raise Refused(404, "no_index", "No index: start flam serve with --index INDEX.")
        return self.index
