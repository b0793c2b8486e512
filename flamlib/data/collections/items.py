"""The common form of every collection: its recordings, and what its tables say of each.

*Sources.* One recording of Freesound is in FSD50K, Clotho, WavCaps and UrbanSound8K, and one video
in AudioSet, AudioCaps and WavCaps. `Item.source` names where a recording comes from, the same way
in every collection (`freesound:1234`, `youtube:AbCdEfGh_-1`); items of one source are not in
different splits, see `flamlib.data.corpus.collected`.

*What cannot be used* among many is skipped, each with the reason: audio that is not there, a row
without a caption, audio without a row.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flamlib.data.datasets.annotations import AnnotatedSet, AudioFolder
from flamlib.sound_events.events import Event

TEST, VALID, TRAIN, AUTO = "test", "valid", "train", "auto"
LFS = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Item:
    """A recording of a collection.

    Attributes:
        path: its audio.
        where: file and line, or entry, that describes it.
        caption: what sounds; "": to be written from `facts`.
        wordings: other texts for it.
        family: the captions that are not negatives of each other; "": the caption alone.
        parents: broader captions, true whenever this one is.
        facts: title, tags and description, to write a caption from.
        split: `TRAIN`, `VALID`, `TEST`, or `AUTO`: by its group.
        licence: as the collection states it.
        source: where it comes from, the same in every collection; "" if that is not known.
        group: of recordings too similar to be in two splits; "": by its source, else alone.
        described: the caption is a sentence on all that is in the recording, and no name of one
            sound, so it is kept to the rules of captions.
        events: what sounds when, in place of a caption: each during which no other one sounds is a
            recording of its own.
        duration_s: as a table states it; None: by its header.
    """

    path: Path
    where: str
    caption: str = ""
    wordings: Sequence[str] = ()
    family: str = ""
    parents: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    split: str = TRAIN
    licence: str = "unknown"
    source: str = ""
    group: str = ""
    described: bool = False
    events: Sequence[Event] = ()
    duration_s: float | None = None


@dataclass
class Contents:
    """What a collection holds.

    Attributes:
        items: the recordings that can be used.
        skipped: what cannot, as (file or name, why).
        held_out: the split, `TEST` or `VALID`, of sources that are not trained on, and what says
            so, whether their audio is there or not.
        left_out: sources of which this collection alone is not to be used, and what says so.
        notes: what a user must know, as sentences: which fold is held out.
    """

    items: list[Item] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    held_out: dict[str, tuple[str, str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add_all_of(self, dataset: AnnotatedSet, make: Any, *, table: str = "") -> None:
        """Add an item for each clip of a dataset that has audio, `make(clip)`; skip the others.

        With a `table`, what lies beside their recordings and has no row in it is skipped as well.
        """
        if table:
            listed = {clip.path for clip in dataset.present}
            for folder in sorted({path.parent for path in listed}):
                self.skip_without_row(AudioFolder(folder), listed, table)
        for clip in dataset.clips:
            if clip.path is None:
                self.skipped.append((clip.name, ": ".join(filter(None, [clip.where, clip.why]))))
            else:
                self.items.append(make(clip))

    def skip_without_row(self, audio: AudioFolder, listed: Iterable[Path], table: str) -> None:
        """Skip the recordings in a folder that no row of a table names."""
        known = set(listed)
        for path in sorted(path for paths in audio.paths.values() for path in paths):
            if path not in known:
                self.skipped.append((path.relative_to(audio.root).as_posix(), f"no row in {table}"))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises FileNotFoundError if it is not there, and ValueError, naming it, if it is none.
    """
    content = path.read_bytes()
    if content.startswith(LFS):
        raise ValueError(
            f"{path}: a pointer of Git LFS and not the file itself: `git lfs pull` fetches it"
        )
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error}); was it fetched whole?") from None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; raises as `read_json` does."""
    if not isinstance(content := read_json(path), dict):
        raise ValueError(f"{path}: a list or value, and no object of names and values")
    return content


def strings(value: Any) -> Iterator[str]:
    """Yield the texts of a JSON value: of itself, or of a list."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str | int | float) and not isinstance(one, bool):
            yield str(one)
