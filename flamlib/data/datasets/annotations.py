"""The common form of every public dataset: clips with events, captions or a label.

*Missing audio.* Public datasets lose recordings over time. A clip that is listed but has no audio,
or audio that cannot be used, stays in the list with `path` None and the reason in `why`: it is
counted and never scored.
A header may promise more than the file holds, so every recording is decoded to its end once before
it counts as present; this takes a small part of the time that a model needs for it.

*Repairs.* Annotations are used as they are, except for what no metric can use. Each repair is
counted in `AnnotatedSet.repairs`:

    merged       overlapping or touching events of one caption, joined
    zero_length  events that end where they begin, dropped
    clipped      events that reach beyond the end of the audio by more than half a sample, shortened
    beyond       events that begin after the end of the audio, dropped

Errors are raised, with file and line, for an event that ends before it begins, a time that is not a
number, a label that the dataset does not have, and a clip that is listed twice.
"""

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from flamlib.sound_events.events import Event
from flamlib.sound_events.raw_events import RawEvent, repair
from flamlib.storage.tables import Row
from flamlib.texts import composed, normal
from flamlib.waveforms import collection
from flamlib.waveforms.audio import SUFFIXES, Recording, Unreadable

Task = Literal["sed", "retrieval", "classification", "moments"]


@dataclass(frozen=True)
class Query:
    """A sentence, and where in a recording it is true.

    Attributes:
        qid: its name in the dataset's list.
        caption: the sentence.
        windows: onset and offset of each moment, in seconds; in no order, and some may overlap.
    """

    qid: str
    caption: str
    windows: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Clip:
    """A recording and its annotation.

    Attributes:
        name: its name in the dataset's list.
        path: its audio file; None if that is missing or cannot be used.
        duration_s: length of the audio; 0 without any.
        events: for sound event detection.
        captions: for retrieval.
        label: for classification, as a caption.
        queries: for moments.
        fold: of a cross-validation.
        why: why it has no audio.
        audio_notes: what is not as it should be in its audio, see `audio.Recording`.
        where: file and line that name it, if the reader says so.
    """

    name: str
    path: Path | None
    duration_s: float = 0.0
    events: Sequence[Event] = ()
    captions: Sequence[str] = ()
    label: str = ""
    queries: Sequence[Query] = ()
    fold: int = 1
    why: str = ""
    audio_notes: Sequence[str] = ()
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class AnnotatedSet:
    """A dataset for one task.

    Attributes:
        name: of the dataset and split.
        task: "sed", "retrieval", "classification" or "moments".
        clips: every clip that is listed, also without audio.
        captions: the classes of events or labels, in the words a model is asked with; empty for
            retrieval and moments.
        repairs: how many events were changed, by kind of repair.
        notes: what a reader of the scores must know, as sentences.
        closed: whether annotators listened for every class, so that a class without an annotation
            is silent. Free text leaves that unknown.
    """

    name: str
    task: Task
    clips: Sequence[Clip]
    captions: Sequence[str] = ()
    repairs: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    closed: bool = True

    @property
    def present(self) -> list[Clip]:
        """The clips that have audio."""
        return [clip for clip in self.clips if clip.path is not None]

    @property
    def missing(self) -> list[str]:
        """The names of the clips without audio."""
        return [clip.name for clip in self.clips if clip.path is None]

    @property
    def skipped(self) -> dict[str, str]:
        """Why each clip without audio has none, by name."""
        return {clip.name: clip.why for clip in self.clips if clip.path is None}

    @property
    def audio_notes(self) -> dict[str, Sequence[str]]:
        """What is not as it should be in the audio of clips that have some, by name."""
        return {clip.name: clip.audio_notes for clip in self.clips if clip.audio_notes}

    @property
    def coverage(self) -> float:
        """The share of the listed clips that have audio."""
        return len(self.present) / len(self.clips) if self.clips else 0.0


def read_event(row: Row, onset: str, offset: str, caption: str) -> RawEvent:
    """Read an event from a row of a table.

    Args:
        row: the row.
        onset: name of the column of onsets, in seconds.
        offset: name of the column of offsets.
        caption: caption of the event.

    Raises:
        ValueError: a time is not a number; names file and line.
    """
    return RawEvent(row.where, row.number(onset), row.number(offset), caption)


def make_event_set(
    name: str,
    events: Mapping[str, Iterable[RawEvent]],
    audio: Mapping[str, Path | None],
    captions: Sequence[str],
    notes: Sequence[str] = (),
) -> AnnotatedSet:
    """Make a dataset for sound event detection, its events repaired as the module describes.

    Args:
        name: of the dataset.
        events: the events of every clip, by its name. Of clips without audio they are kept as
            they are, as the end of the audio is not known.
        audio: the audio file of every clip; None if it has none.
        captions: every class of the dataset.
        notes: what a reader of the scores must know.

    Raises:
        ValueError: an event ends before it begins, or begins before 0; names file and line.
    """
    repairs: Counter = Counter()
    clips = []
    for clip, raw_events in events.items():
        heard = probe_audio(audio[clip])
        repaired, changed = repair(raw_events, None if heard.path is None else heard.duration_s)
        repairs += changed
        clips.append(Clip(clip, events=repaired, **heard._asdict()))
    return AnnotatedSet(name, "sed", clips, captions, repairs, notes)


class ProbedAudio(NamedTuple):
    """What `Clip` says of the audio of a clip, by the same names."""

    path: Path | None
    duration_s: float = 0.0
    why: str = ""
    audio_notes: Sequence[str] = ()


def probe_audio(path: Path | None) -> ProbedAudio:
    """Decode a recording to its end; a path of None is one that was not found."""
    if path is None:
        return ProbedAudio(None, why="not found")
    try:
        with Recording(path) as recording:
            duration_s = recording.duration_s
            return ProbedAudio(path, duration_s, audio_notes=tuple(recording.notes))
    except Unreadable as error:
        return ProbedAudio(None, why=f"{path.name}: {error.why}")


class AudioFolder:
    """The recordings below a folder, looked up by the stem of their file name.

    The folder is the first of `folders`, in `root`, that exists; else `root`. Stems are compared in
    Unicode's composed form (NFC), because file systems differ in which one they keep.
    """

    def __init__(self, root: Path, *folders: str) -> None:
        self.root = next((root / f for f in folders if (root / f).is_dir()), root)
        self.paths: dict[str, list[Path]] = defaultdict(list)
        for path in collection.find(self.root)[0]:
            self.paths[composed(path.stem)].append(path)

    def find(self, *stems: str) -> Path | None:
        """Return the recording of the first of these stems that exists, or None.

        One that cannot be heard for what it is (a link to nothing, a format that is not read) is
        only found if there is no other.

        Raises ValueError if two recordings have that stem.
        """
        for stem in stems:
            paths = self.paths.get(composed(stem), [])
            if len(paths) > 1:
                paths = [path for path in paths if _may_be_heard(path)] or paths[:1]
            if len(paths) > 1:
                raise ValueError(f"{paths[0]} and {paths[1]}: which of them is {stem!r}?")
            if paths:
                return paths[0]
        return None

    def named(self, filename: str) -> Path | None:
        """Return the recording that a user's own table names, or None.

        `filename` is a path in the folder, its suffix may be left out, and its folders may be
        separated by `\\`. A name without a folder is also found by its stem, in any folder below
        and with any suffix of audio.
        """
        for way in dict.fromkeys((filename, filename.replace("\\", "/"))):
            name = composed(PurePosixPath(way).as_posix())
            for path in self.paths.get(composed(stem(way)), []):
                of_file = path.relative_to(self.root)
                if name in (composed(p.as_posix()) for p in (of_file, of_file.with_suffix(""))):
                    return path
            if "/" not in name and (found := self.find(stem(way))):
                return found
        return None

    def match(self, filenames: Iterable[str]) -> dict[str, tuple[str, Path | None]]:
        """Return, for each name in a user's own table, the first name of its clip and its audio.

        Names of one recording are of one clip, and so are those that differ in Unicode's form
        alone. Of names with several suffixes (`a.mp3`, `a.wav`) those with another than the
        recording's are of a missing one.
        """
        found = {name: self.named(name) for name in filenames}
        suffixes: dict[Path | None, set[str]] = defaultdict(set)
        for name, path in found.items():
            suffixes[path].add(_suffix(name))
        first: dict[str, str] = {}
        matched = {}
        for name, path in found.items():
            if path and len(suffixes[path] - {""}) > 1 and _suffix(name) not in ("", _suffix(path)):
                path = None
            matched[name] = first.setdefault(str(path or composed(name.strip())), name), path
        return matched


def check_label(row: Row, label: str, labels: Iterable[str]) -> str:
    """Return `label` if it is one of `labels`.

    Raises ValueError, naming file, line and the nearest label, if it is not.
    """
    labels = list(labels)
    if label not in labels:
        near = difflib.get_close_matches(label, labels, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{row.where}: unknown label {label!r}{hint}")
    return label


def label_to_caption(label: str) -> str:
    """Return a class name as a caption: in lower case, with spaces for `_`.

    >>> label_to_caption("Alarm_bell_ringing")
    'alarm bell ringing'
    """
    return normal(label.replace("_", " ").lower())


def stem(filename: str) -> str:
    """Return a file's name without its folder and its suffix of audio; other dots stay.

    >>> stem("audio/Yid_30.000_40.000.wav"), stem("Yid_30.000_40.000")
    ('Yid_30.000_40.000', 'Yid_30.000_40.000')
    """
    path = Path(filename)
    return path.stem if collection.is_named_as_audio(path) else path.name


def _suffix(name: str | Path) -> str:
    return Path(name).suffix.lower() if collection.is_named_as_audio(name) else ""


def _may_be_heard(path: Path) -> bool:
    try:
        return path.suffix.lower() in SUFFIXES and path.is_file()
    except OSError:
        return False
