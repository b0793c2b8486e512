"""Recordings that others annotated, in one form: events, captions or a label for each.

*Missing audio.* Public sets lose recordings over time. A clip that is listed but has no audio, or
audio that cannot be read, stays in the list without a path; it is counted and never scored. A
header promises what the rest of a file may not hold, so every recording is decoded once, to its
end, before it counts as found: a small part of the time in which a model hears it.

*Repairs.* Annotations are taken as they are, but for what no scorer can use. Each is counted:

    merged       events of one caption that overlap or touch, joined
    zero_length  events that end where they begin, dropped
    clipped      events that reach beyond the end of the audio, ended with it
    beyond       events that begin after the end of the audio, dropped

What cannot be meant is refused with file and line: an event that ends before it begins, times that
are no numbers, a label that the set does not have, a clip that is listed twice.
"""

import difflib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from flamlib.audio import Unreadable, read
from flamlib.events import Event, merge
from flamlib.tables import Row

AUDIO = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".aif", ".aiff", ".au"}
Task = Literal["sed", "retrieval", "classification"]


@dataclass(frozen=True)
class Clip:
    """A recording and what is said of it; `path` is None if there is no audio to be heard."""

    name: str
    path: Path | None
    duration_s: float = 0.0
    events: Sequence[Event] = ()
    captions: Sequence[str] = ()
    label: str = ""
    fold: int = 1


@dataclass(frozen=True)
class AnnotatedSet:
    """A set of clips for one task; `captions` are what every clip is asked for: the classes of a
    set of events or labels, nothing for retrieval. In a `closed` set a caption that is not
    annotated does not sound; free text says nothing of what it leaves out. `notes` are what a
    reader of a score must know.
    """

    name: str
    task: Task
    clips: Sequence[Clip]
    captions: Sequence[str] = ()
    repairs: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    closed: bool = True

    @property
    def found(self) -> list[Clip]:
        """The clips whose audio is there."""
        return [clip for clip in self.clips if clip.path is not None]

    @property
    def missing(self) -> list[str]:
        return [clip.name for clip in self.clips if clip.path is None]

    @property
    def coverage(self) -> float:
        """The share of the listed clips that can be heard."""
        return len(self.found) / len(self.clips) if self.clips else 0.0


class Timed(NamedTuple):
    """An event as a table has it, not yet believed."""

    where: str
    onset: float
    offset: float
    caption: str


def timed(row: Row, onset: str, offset: str, caption: str) -> Timed:
    """The event of a row whose columns have these names."""
    return Timed(row.where, row.number(onset), row.number(offset), caption)


def settle(
    name: str,
    task: Task,
    events: Mapping[str, Iterable[Timed]],
    audio: Mapping[str, Path | None],
    captions: Sequence[str],
    notes: Sequence[str] = (),
) -> AnnotatedSet:
    """A set of events, by clip, with its repairs made; clips without audio keep raw events.

    Raises ValueError naming file and line for an event that ends before it begins.
    """
    repairs: Counter = Counter()
    clips = []
    for clip, rows in events.items():
        path, duration_s = heard(audio[clip])
        kept = []
        for row in rows:
            if row.offset < row.onset or row.onset < 0:
                raise ValueError(
                    f"{row.where}: an event from {row.onset} to {row.offset} s; expected "
                    "0 <= onset <= offset"
                )
            if row.offset == row.onset:
                repairs["zero_length"] += 1
            elif path is not None and row.onset >= duration_s:
                repairs["beyond"] += 1
            else:
                offset = row.offset
                if path is not None and offset > duration_s:
                    offset = duration_s
                    repairs["clipped"] += 1
                kept.append(Event(row.onset, offset, row.caption))
        merged = merge(kept)
        repairs["merged"] += len(kept) - len(merged)
        clips.append(Clip(clip, path, duration_s, merged))
    return AnnotatedSet(name, task, clips, captions, +repairs, notes)


def heard(path: Path | None) -> tuple[Path | None, float]:
    """The path and how long its audio is, as `audio.read` decodes it; None and 0 if that cannot
    read it, or if there is no path."""
    if path is None:
        return None, 0.0
    try:
        waveform, sample_rate = read(path)
    except Unreadable:
        return None, 0.0
    return path, len(waveform) / sample_rate


class AudioFolder:
    """The recordings below the first of some folders that exists, found by the stem of their name.

    Stems are compared in Unicode's composed form, because file systems differ in which they keep.
    """

    def __init__(self, root: Path, *folders: str) -> None:
        self.root = next((root / f for f in folders if (root / f).is_dir()), root)
        self.paths: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self.root.rglob("*")):
            if path.suffix.lower() in AUDIO:
                self.paths[_composed(path.stem)].append(path)

    def find(self, *stems: str) -> Path | None:
        """The recording of the first of the stems that there is one of; None without any.

        Raises ValueError where two recordings have the stem: either could be meant.
        """
        for stem in stems:
            paths = self.paths.get(_composed(stem), [])
            if len(paths) > 1:
                raise ValueError(f"{paths[0]} and {paths[1]}: which of them is {stem!r}?")
            if paths:
                return paths[0]
        return None

    def named(self, filename: str) -> Path | None:
        """The recording that a table of one's own names: the file of this name in the folder, with
        the folders in it if it has any. A name without a folder is also found by its stem, below
        any folder and with any suffix of audio.
        """
        name = _composed(PurePosixPath(filename).as_posix())
        for path in self.paths.get(_composed(stem(filename)), []):
            if _composed(path.relative_to(self.root).as_posix()) == name:
                return path
        return None if "/" in name else self.find(stem(filename))


def known_label(row: Row, label: str, labels: Iterable[str]) -> str:
    """The label, if the set has it. Raises ValueError naming file, line and the nearest one."""
    labels = list(labels)
    if label not in labels:
        near = difflib.get_close_matches(label, labels, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{row.where}: unknown label {label!r}{hint}")
    return label


def listed_once(rows: Iterable[Row], column: str) -> None:
    """Raises ValueError naming file and line of the second row of a clip that has two."""
    seen: dict[str, str] = {}
    for row in rows:
        if row[column] in seen:
            raise ValueError(
                f"{row.where}: {row[column]!r} is listed again, first {seen[row[column]]}"
            )
        seen[row[column]] = row.where


def readable(label: str) -> str:
    """A class name as a caption: lower case, `_` read as a space.

    >>> readable("Alarm_bell_ringing")
    'alarm bell ringing'
    """
    return " ".join(label.replace("_", " ").lower().split())


def stem(filename: str) -> str:
    """A file's name without its folder and the suffix of audio; other dots stay.

    >>> stem("audio/Yid_30.000_40.000.wav"), stem("Yid_30.000_40.000")
    ('Yid_30.000_40.000', 'Yid_30.000_40.000')
    """
    path = Path(filename)
    return path.stem if path.suffix.lower() in AUDIO else path.name


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
