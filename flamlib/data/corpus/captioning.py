"""Captions for recordings that have none: written by a `caption_writers` writer, checked, kept.

FLAM's captions of sound effects are a language model's, 2 to 13 words made of metadata (Mixtral in
arXiv:2505.05335). A model also writes stories; what says more than one sound is would be a wrong
label in every mixture. So a caption that breaks a rule of `wrong` is asked for again with another
seed, and after `n_tries` the template's is taken, which `by` then says.

What was written for the same facts by the same writer with the same seed is not asked for again: it
is kept in a file (SQLite), clip by clip, so that a run which was stopped goes on where it was.
"""

import csv
import hashlib
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from flamlib import parallel, files
from flamlib.data.corpus import own_sounds
from flamlib.data.corpus.caption_writers import PROMPT, Facts, Template, words_known, words_of
from flamlib.data.corpus.catalogue import Wrong, complain, read_table

FEWEST, MOST = 2, 13  # words
# Words that put one sound before or after another: a caption is true of every moment of its event.
BOUNDARY = (
    "then", "before", "after", "afterwards", "followed", "following", "next", "later", "first",
    "finally", "until", "begins", "starts", "stops", "ends", "suddenly", "eventually", "meanwhile",
)  # fmt: skip
# Where a second event is joined to the first.
JOINTS = r"\b(?:and|while|as|with|over|amid|plus|alongside|accompanied by)\b|[,;/&]"
IDLE = frozenset(  # words that name no sound
    (
        "a", "an", "the", "of", "in", "on", "at", "to", "by", "is", "are", "it", "its", "from",
        "sound", "sounds", "heard", "being", "some", "someone", "something", "up", "down", "out",
        "off", "very", "loud", "loudly", "quiet", "quietly", "soft", "softly", "background",
    )
)  # fmt: skip

TOLD = ("tags", "title", "description")  # what a writer is told

Writer = Callable[[Facts, int], str]


class Caption(NamedTuple):
    """`by` is the writer's name; "template" also where the writer never kept the rules."""

    text: str
    by: str
    n_tries: int


def wrong(caption: str, facts: Facts) -> str | None:
    """Which rule a caption breaks, in words; None if none.

    A part after "and", "with", a comma and the like counts as a second event, and as an invented
    one unless it shares a word (its first four letters) with the facts.
    """
    words = re.findall(r"[\w'’-]+", caption.lower())
    if not FEWEST <= len(words) <= MOST:
        return f"{len(words)} words, not {FEWEST} to {MOST}"
    if "\n" in caption.strip() or re.search(r"[.!?:]\s+\S", caption):
        return "more than one phrase"
    if bounds := [word for word in words if word in BOUNDARY]:
        return f"{bounds[0]!r} puts sounds one after another"
    known = {
        word[:4] for value in facts.values() for word in re.findall(r"[^\W\d_]+", value.lower())
    }
    known |= {word[:4] for word in words_of(facts.get("title", ""))}
    for part in re.split(JOINTS, caption.lower())[1:]:
        named = [word for word in re.findall(r"[^\W\d_]+", part) if word not in IDLE]
        if named and not any(word[:4] in known for word in named):
            return f"a second event that nothing tells of: {part.strip()!r}"
    return None


def tidy(text: str) -> str:
    """The phrase in what a model answered: its first line, without quotes, bullets, full stop."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    line = re.sub(r"^(?:[-*•]|\d+[.)]|caption:)\s*", "", lines[0] if lines else "", flags=re.I)
    line = " ".join(line.strip("\"'“”‘’` ").rstrip(".").split())
    return line[:1].lower() + line[1:] if line[1:2].islower() or line[1:2] == " " else line


def write(
    clips: Sequence[Facts],
    writer: Writer,
    cache: str | Path,
    *,
    seed: int,
    n_tries: int,
    n_jobs: int,
    scheduler: str | None = None,
    progress: bool = True,
) -> list[Caption]:
    """A caption for every clip, from its facts, in order.

    `facts` may hold the checksum of the recording, `sha256`: it is not told to the writer, but
    clips of different content are then asked for apart even if all else is the same. `n_jobs`
    threads ask at once, or the workers of a `scheduler`, see `parallel.each`; each keeps a writer's
    pace for itself, so many ask as many times as often. Several runs may share a `cache`; where two
    ask for the same at once, the answer that came first is kept.

    Raises ValueError, before anything is asked, naming a clip of which no word is known or a
    `cache` that is something else; and what the writer raises. What was written until then is kept.
    """
    facts = [{key: str(value) for key, value in clip.items() if value} for clip in clips]
    for i, why in _wordless(facts):
        raise ValueError(f"clip {i}: {why}")
    keys = [_key(clip, writer, seed) for clip in facts]
    with closing(_open(cache)) as kept:
        known = dict(_kept(kept))
        todo = {key: clip for key, clip in zip(keys, facts, strict=True) if key not in known}
        work = partial(_written, writer=writer, n_tries=n_tries)
        how = {"scheduler": scheduler, "threads": True, "progress": progress, "what": "captions"}
        for (key, _), caption in parallel.each(work, list(todo.items()), n_jobs=n_jobs, **how):
            known[key] = caption
            if caption.by == writer.name:  # what came of no try may be tried again
                # Another run may have kept the same clip's since: its answer stays.
                kept.execute("INSERT OR IGNORE INTO captions VALUES (?, ?, ?, ?)", (key, *caption))
                kept.commit()
    return [known[key] for key in keys]


def caption_table(
    table: str | Path, out: str | Path, writer: Writer, cache: str | Path, **settings
) -> dict[str, int]:
    """Write a table that `own_sounds` reads, from one without captions; return how many are whose.

    The table has the columns of `own_sounds`, though no caption, and any of tags, title and
    description; where all of these are empty, the file's name is the title. A caption that is there
    stays. What ends in .csv has commas, all else tabs, as `catalogue.read_table` reads it.
    `settings` are those of `write`.

    Raises ValueError naming the table for a missing or an unknown column and if `out` is that very
    file, and the row for one of which no word is known.
    """
    if Path(out).exists() and Path(out).samefile(table):
        raise ValueError(
            f"{out}: the table to write is the one to read, whose tags, titles and descriptions "
            "would be lost; give it another name"
        )
    rows = read_table(Path(table), ("path",), ("caption", *TOLD, *own_sounds.OPTIONAL))
    # A name such as recording_0001.wav says less than anything else that is known.
    known = (rows[list(TOLD)] != "").any(axis=1)
    rows["title"] = rows["title"].where(known, [PurePosixPath(path).name for path in rows["path"]])
    empty = rows.index[rows["caption"] == ""]
    clips = [
        {key: rows[key][i] for key in TOLD}
        | {"sha256": _checksum(Path(table).parent, rows["path"][i])}
        for i in empty
    ]
    complain(rows.loc[empty], _wordless(clips))
    made = write(clips, writer, cache, **settings)
    rows.loc[empty, "caption"] = [caption.text for caption in made]
    kept = [name for name in own_sounds.OPTIONAL if (rows[name] != "").any()]
    dialect = {} if Path(out).suffix == ".csv" else {"sep": "\t", "quoting": csv.QUOTE_NONE}
    files.atomic_write(out, rows[[*own_sounds.COLUMNS, *kept]].to_csv(index=False, **dialect))
    return dict(Counter(caption.by for caption in made))


def _wordless(clips: Iterable[Facts]) -> Wrong:
    for i, clip in enumerate(clips):
        if not words_known(clip):
            yield i, "no tags, title or description with a word to write a caption from"


def _checksum(folder: Path, path: str) -> str:
    return files.sha256(folder / path) if (folder / path).is_file() else ""


def _written(item: tuple[str, Facts], *, writer: Writer, n_tries: int) -> Caption:
    key, clip = item
    # The seed of a try is a matter of the clip alone, not of which thread is quicker.
    seed, asked = int(key[:8], 16) % 2**31, _public(clip)
    for attempt in range(n_tries):
        text = tidy(writer(asked, (seed + attempt) % 2**31))
        if wrong(text, asked) is None:
            return Caption(text, writer.name, attempt + 1)
    return Caption(Template()(asked, seed), Template.name, n_tries)


def _public(clip: Facts) -> Facts:
    return {key: value for key, value in clip.items() if key != "sha256"}


def _key(clip: Facts, writer: Writer, seed: int) -> str:
    content = json.dumps([clip, writer.name, PROMPT, seed], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


def _open(cache: str | Path) -> sqlite3.Connection:
    if Path(cache).is_dir():
        raise ValueError(f"{cache}: a folder, not a file to keep captions in")
    Path(cache).parent.mkdir(parents=True, exist_ok=True)
    kept = sqlite3.connect(cache, timeout=60)
    try:
        kept.execute(
            "CREATE TABLE IF NOT EXISTS captions (key TEXT PRIMARY KEY, text TEXT, by TEXT, "
            "n_tries INTEGER)"
        )
    except sqlite3.DatabaseError as error:
        kept.close()
        raise ValueError(f"{cache}: not a file of captions ({error})") from error
    return kept


def _kept(kept: sqlite3.Connection) -> Iterator[tuple[str, Caption]]:
    for key, text, by, n_tries in kept.execute("SELECT key, text, by, n_tries FROM captions"):
        yield key, Caption(text, by, n_tries)
