"""Add the recordings of collections, `source.collections`, to the catalogue as own sounds are.

*Splits.* A collection's own splits are kept: test, validation, training. What is in the test or
validation set of one, by its source, is not trained on under another name: the copy is skipped.
The rest, and collections without splits, are shared out by group, see `auto_splits`, whatever their
place in the list when all others have theirs.

*Captions.* A recording without one gets that of `caption_writers.Template` from its title, tags and
description, as `flam caption` writes it. Sentences on all that is in a recording are kept to
`caption_rules`: the first that names no sequence of sounds is the caption, the others that do not
are its wordings. A text stands for one sound only: the caption that has it first keeps it.

*Backgrounds* are recordings of 10 s and longer, or as `source.background_from_s` says. A family can
be heard in one if all the words of one of its texts are in the texts of the background, so that it
is labelled neither as sounding there nor as silent.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import soundfile
from tqdm import tqdm

from flamlib import texts
from flamlib.data.collections import kinds, licences
from flamlib.data.collections.items import AUTO, TEST, TRAIN, VALID, Contents, Item
from flamlib.data.corpus import auto_splits, labelled, own_sounds
from flamlib.data.corpus.caption_rules import STOP_WORDS, find_violation
from flamlib.data.corpus.caption_writers import Template
from flamlib.data.corpus.catalogue import OWN, Catalogue, caption_of_key, split_list
from flamlib.data.corpus.kept_unseen import KeptUnseen
from flamlib.experiment.params.sounds import PublishedCollection
from flamlib.waveforms import audio

BACKGROUND_FROM_S = 10.0
HELD_OUT = "held_out"
RANKS = {TEST: 2, VALID: 1, TRAIN: 0, AUTO: 0}  # of a source in several splits the highest counts
COLUMNS = (*own_sounds.COLUMNS, *own_sounds.OPTIONAL, "parents", "part", "where")


@dataclass
class Found:
    """What was found of one collection.

    Attributes:
        name: what its recordings are called.
        folder: where they are.
        contents: what its reader found; `items` are those that are used.
        is_held_out: nothing of it is in the corpus.
        n_listed: how many recordings and rows it has.
    """

    name: str
    folder: Path
    contents: Contents
    is_held_out: bool
    n_listed: int

    def member(self, item: Item) -> str:
        """Return how a recording is called in the tables of the corpus."""
        return item.path.relative_to(self.folder).as_posix()

    def group(self, item: Item) -> str:
        """Return the group of a recording: as its collection has it, its source, or it alone."""
        own = f"{self.name}:{item.group or self.member(item)}"
        return own if item.group else item.source or own

    def cut(self) -> None:
        """Put an item for each event of a recording, where no other one sounds, in its place."""
        items = []
        for item in self.contents.items:
            if item.events:
                events, unused = labelled.isolated_events(item.events)
                items += [replace(item, caption=e.caption, events=(e,)) for e in events]
                self.contents.skipped += [(self.member(item), f"{item.where}: {w}") for w in unused]
                self.n_listed += len(item.events) - 1
            else:
                items.append(item)
        self.contents.items = items

    def keep(self, use: Iterable[tuple[Item, Item | str]]) -> None:
        """Keep the second of each pair in place of the first, or skip it if that is the reason."""
        kept = []
        for item, other in use:
            if isinstance(other, str):
                self.contents.skipped.append((self.member(item), f"{item.where}: {other}"))
            else:
                kept.append(other)
        self.contents.items = kept

    def account(self, stored: pd.DataFrame) -> dict[str, Any]:
        """Return what became of it: counts, and what a user must know."""
        n_used = int((stored["package"] == self.name).sum())
        return {
            "n_listed": self.n_listed,
            "n_used": n_used,
            "n_skipped": self.n_listed - n_used,
            "notes": self.contents.notes,
        }


def add(
    catalogue: Catalogue,
    entries: Sequence[PublishedCollection],
    *,
    base: str | Path = "",
    allowed: Collection[str] = (),
    background_from_s: float | int | None = None,
    progress: bool = True,
) -> tuple[Catalogue, list[Found]]:
    """Return the catalogue with the recordings of collections added, and what was found of each.

    Args:
        catalogue: what there is.
        entries: of `source.collections`.
        base: folder to which relative paths of entries refer.
        allowed: names of licences, see `licences`; empty: all.
        background_from_s: recordings at least as long are backgrounds; None: `BACKGROUND_FROM_S`.
        progress: show progress bars.

    Raises:
        FileNotFoundError: a collection or one of its tables is not there.
        ValueError: an entry, or a table, cannot be used; names it.
    """
    found = _read(catalogue, entries, base, progress=progress)
    _skip_held_out_sources(found)
    for one in found:
        one.cut()
    used = [one for one in found if not one.is_held_out]
    from_s = BACKGROUND_FROM_S if background_from_s is None else background_from_s
    long: dict[Path, bool] = {}
    for one in used:
        one.keep((i, licences.find_refusal(i.licence, allowed) or i) for i in one.contents.items)
        items = tqdm(one.contents.items, one.name, unit="recording", disable=not progress)
        long |= {item.path: _is_long(item, from_s) for item in items}
        one.keep((item, _captioned(item, long[item.path])) for item in one.contents.items)
    names = _Names(catalogue.captions)
    names.claim([i for one in used for i in one.contents.items if not long[i.path]])

    for role in ("foreground", "background"):
        heard = _Heard(catalogue.captions) if role == "background" else None
        of_role = {path for path, is_long in long.items() if is_long == (role == "background")}
        # What is shared out last: it must know which groups and families the others train on.
        for one in sorted(used, key=lambda one: any(i.split == AUTO for i in one.contents.items)):
            fixed = catalogue.clips[catalogue.clips["split"] != "train"]
            one.keep(_apart(one, of_role, set(fixed["group"])))
            if heard is None:
                kept = KeptUnseen(catalogue)
                one.keep(
                    (i, kept.check(i, names.row(i)["family"]) if i.path in of_role else i)
                    for i in one.contents.items
                )
            items = [i for i in one.contents.items if i.path in of_role]
            rows = []
            for item in items:
                row = labelled.part(item.events[0]) if item.events else {}
                row |= names.row(item) if heard is None else heard.row(item)
                split = auto_splits.TEST[role] if item.split == TEST else item.split
                row |= {"role": role, "split": split, "group": one.group(item)}
                row |= {"path": one.member(item), "where": item.where, "licence": item.licence}
                rows.append(row)
            table = pd.DataFrame(rows, columns=list(COLUMNS), dtype=str).fillna("")
            paths = [item.path for item in items]
            catalogue = own_sounds.join(catalogue, table, paths, one.folder, package=one.name)
    skipped = [
        {"package": one.name, "member": member, "why": why}
        for one in found
        for member, why in one.contents.skipped
    ]
    return replace(catalogue, left_out=[*catalogue.left_out, *skipped]), found


def licensed(selected: Catalogue, allowed: Collection[str]) -> Catalogue:
    """Return the catalogue without recordings under other licences."""
    if not allowed:
        return selected
    refusals = {
        text: licences.find_refusal(text, allowed) for text in selected.clips["licence"].unique()
    }
    why = selected.clips["licence"].map(refusals)
    refused = selected.clips[why != ""].assign(why=why)
    return replace(
        selected,
        clips=selected.clips[why == ""].reset_index(drop=True),
        left_out=[*selected.left_out, *refused[["package", "member", "why"]].to_dict("records")],
    )


def held_out_paths(found: Sequence[Found]) -> dict[Path, str]:
    """Return the recordings of collections that are held out as a whole, with what they are."""
    return {
        item.path: f"{one.name} {one.member(item)}"
        for one in found
        if one.is_held_out
        for item in one.contents.items
    }


def _read(
    catalogue: Catalogue,
    entries: Sequence[PublishedCollection],
    base: str | Path,
    *,
    progress: bool,
) -> list[Found]:
    names = [entry.get("name", entry["kind"]) for entry in entries]
    taken = Counter([OWN, *catalogue.clips["package"].unique(), *names])
    if twice := [name for name in names if taken[name] > 1]:
        raise ValueError(
            f"source.collections: {twice[0]!r} is what something else is called already; `name` "
            "gives a collection another name"
        )
    found = []
    bar = tqdm(entries, "collections", disable=not progress)
    for name, entry in zip(names, bar, strict=True):
        bar.set_postfix_str(name)
        contents = kinds.read(entry, base=base)
        folder = Path(base, Path(entry["folder"]).expanduser())
        n_listed = len(contents.items) + len(contents.skipped)
        found.append(Found(name, folder, contents, entry.get("split") == HELD_OUT, n_listed))
    return found


def _skip_held_out_sources(found: Sequence[Found]) -> None:
    """Skip what another collection, or another row, has for validation or a test."""
    highest: dict[str, tuple[int, str]] = {}

    def note(source: str, rank: int, where: str) -> None:
        if source and rank > highest.get(source, (0, ""))[0]:
            highest[source] = rank, where

    for one in found:
        for source, (split, where) in one.contents.held_out.items():
            note(source, RANKS[split], where)
        for item in one.contents.items:
            note(item.source, 3 if one.is_held_out else RANKS[item.split], item.where)
    for one in found:
        if not one.is_held_out:
            why = one.contents.left_out
            one.keep(
                (item, _held_out(item, highest) or _left_out(item, why) or item)
                for item in one.contents.items
            )


def _held_out(item: Item, highest: Mapping[str, tuple[int, str]]) -> str:
    rank, where = highest.get(item.source, (0, ""))
    return f"{item.source} is held out: {where}" if rank > RANKS[item.split] else ""


def _left_out(item: Item, why: Mapping[str, str]) -> str:
    return f"{item.source} is left out: {why[item.source]}" if item.source in why else ""


def _apart(one: Found, of_role: set[Path], held_out: set[str]) -> Iterator[tuple]:
    """Skip recordings of a role, not held out, of a group that is held out already."""
    for item in one.contents.items:
        is_copy = item.split in (AUTO, TRAIN) and item.source and item.path in of_role
        is_held_out = is_copy and one.group(item) in held_out
        yield item, f"{item.source} is held out" if is_held_out else item


def _is_long(item: Item, from_s: float | int) -> bool:
    if item.events:
        return False
    duration_s = item.duration_s
    if duration_s is None:
        try:
            duration_s = soundfile.info(item.path).duration  # the header alone
        except (soundfile.LibsndfileError, OSError):
            try:
                with audio.Recording(item.path) as recording:
                    duration_s = recording.duration_s
            except audio.Unreadable:
                return False  # what is wrong with it shows when it is stored
    return duration_s >= from_s


def _captioned(item: Item, is_long: bool) -> Item | str:
    """The item with a caption and wordings that can be used, or why there are none."""
    given = [texts.normal(text) for text in (item.caption, *item.wordings)]
    given = [text for text in given if text and "|" not in text]
    if not given and item.facts:
        try:
            given = [Template()(item.facts, 0)]
        except ValueError as error:
            return str(error)
    elif item.described and not is_long:
        given = [text for text in given if not _break(text)] or given[:0]
        if not given:
            return f"no caption of one sound: {item.caption!r}: {_break(item.caption)}"
    elif not item.described:
        given = [
            *given[:1],
            *(text for text in given[1:] if len(text.split()) < 2 or not _break(text)),
        ]
    if not given:
        return "no caption"
    caption, *wordings = dict.fromkeys(given)
    return replace(item, caption=caption, wordings=tuple(wordings))


def _break(text: str) -> str | None:
    return find_violation(text, {"description": text})


class _Names:
    """Which caption each text stands for, and its family."""

    def __init__(self, captions: pd.DataFrame):
        self._caption_of = caption_of_key(captions)
        self._family_of: dict[str, str] = {}

    def claim(self, items: Sequence[Item]) -> None:
        """Give every text to one caption: first what is a caption, then other texts."""
        for item in items:
            key = texts.key(item.caption)
            if key not in self._caption_of:
                self._caption_of[key] = item.caption
                self._family_of[item.caption] = item.family.replace("|", "/") or item.caption
        for item in items:
            caption = self._caption_of[texts.key(item.caption)]
            for text in item.wordings:
                self._caption_of.setdefault(texts.key(text), caption)

    def row(self, item: Item) -> dict[str, str]:
        """Return the caption of a foreground, and what goes with it, as own sounds have it."""
        caption = self._caption_of[texts.key(item.caption)]
        own = [text for text in item.wordings if self._caption_of[texts.key(text)] == caption]
        parents = dict.fromkeys(
            filter(None, (self._parent(text, caption) for text in item.parents))
        )
        return {
            "caption": caption,
            "family": self._family_of.get(caption, ""),
            "wordings": "|".join(own),
            "parents": "|".join(parents),
        }

    def _parent(self, text: str, caption: str) -> str:
        """A broader caption in the spelling of the caption it is; "" if it is another's wording."""
        spelled = self._caption_of.get(texts.key(text), text)
        is_itself = texts.key(spelled) == texts.key(text)
        return spelled if is_itself and spelled != caption and "|" not in text else ""


class _Heard:
    """The families that can be heard in a background, by the words of its texts."""

    def __init__(self, captions: pd.DataFrame):
        named = [
            (words, family)
            for caption, cell, family in zip(
                captions["caption"], captions["wordings"], captions["family"], strict=True
            )
            for text in (caption, *split_list(cell))
            if (words := frozenset(_words([text])))
        ]
        count = Counter(word for words, _ in named for word in words)
        self._named: dict[str, set[tuple[frozenset[str], str]]] = defaultdict(set)
        for words, family in named:  # by its rarest word, of which few texts have to be looked at
            self._named[min(words, key=lambda word: (count[word], word))].add((words, family))

    def row(self, item: Item) -> dict[str, str]:
        """Return the caption of a background and what is heard in it, as own sounds have it."""
        words = _words([item.caption, *item.wordings, *item.parents, *item.facts.values()])
        heard = {
            family
            for word in words
            for needed, family in self._named.get(word, ())
            if needed <= words
        }
        return {"caption": item.caption, "family": "|".join(sorted(heard))}


def _words(given: Iterable[str]) -> set[str]:
    """The words that name a sound, by their first four letters, as in `caption_rules`."""
    words = (word for text in given for word in texts.key(text).replace("_", " ").split())
    stripped = ("".join(filter(str.isalnum, word)) for word in words)
    return {word[:4] for word in stripped if word and word not in STOP_WORDS}
