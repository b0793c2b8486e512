"""Write captions for recordings from their metadata, check them, and cache them.

FLAM's captions of sound effects were written by a language model (Mixtral) from metadata, in 2 to
13 words (arXiv:2505.05335). A model also makes things up, and a caption of more than the one sound
would be a wrong label in every mixture. So a caption that breaks a rule of `find_violation` is
written again with another seed, and after `n_tries` the template's is used; `Caption.by` says so.

Captions are cached in an SQLite file by facts, writer and seed, one by one, so a run that was
stopped goes on with the missing ones.
"""

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

from flamlib import files, parallel, tables
from flamlib.data.corpus import own_sounds
from flamlib.data.corpus.caption_writers import (
    PROMPT,
    Facts,
    Template,
    words_from_facts,
    words_in_name,
)
from flamlib.data.corpus.catalogue import Problems, raise_problems, read_table

FEWEST, MOST = 2, 13  # words
# Words of a sequence of sounds: a caption must be true in every moment of its event.
BOUNDARY = (
    "then", "before", "after", "afterwards", "followed", "following", "next", "later", "first",
    "finally", "until", "begins", "starts", "stops", "ends", "suddenly", "eventually", "meanwhile",
)  # fmt: skip
# What joins a second event to the first.
JOINTS = r"\b(?:and|while|as|with|over|amid|plus|alongside|accompanied by)\b|[,;/&]"
STOP_WORDS = frozenset(  # words that name no sound
    (
        "a", "an", "the", "of", "in", "on", "at", "to", "by", "is", "are", "it", "its", "from",
        "sound", "sounds", "heard", "being", "some", "someone", "something", "up", "down", "out",
        "off", "very", "loud", "loudly", "quiet", "quietly", "soft", "softly", "background",
    )
)  # fmt: skip

FACTS = ("tags", "title", "description")  # columns that a writer is given

Writer = Callable[[Facts, int], str]


class Caption(NamedTuple):
    """A caption that was written.

    Attributes:
        text: the caption.
        by: name of the writer; "template" also if no caption of the writer kept the rules.
        n_tries: how many it took.
    """

    text: str
    by: str
    n_tries: int


def find_violation(caption: str, facts: Facts) -> str | None:
    """Return which rule a caption breaks, in words, or None.

    What follows "and", "with", a comma and the like is a second event; it counts as made up unless
    it shares a word (its first four letters) with the facts.
    """
    words = re.findall(r"[\w'’-]+", caption.lower())
    if not FEWEST <= len(words) <= MOST:
        return f"{len(words)} words, not {FEWEST} to {MOST}"
    if "\n" in caption.strip() or re.search(r"[.!?:]\s+\S", caption):
        return "more than one phrase"
    if bounds := [word for word in words if word in BOUNDARY]:
        return f"{bounds[0]!r} puts sounds one after another"
    in_facts = {
        word[:4] for value in facts.values() for word in re.findall(r"[^\W\d_]+", value.lower())
    }
    in_facts |= {word[:4] for word in words_in_name(facts.get("title", ""))}
    for part in re.split(JOINTS, caption.lower())[1:]:
        named = [word for word in re.findall(r"[^\W\d_]+", part) if word not in STOP_WORDS]
        if named and not any(word[:4] in in_facts for word in named):
            return f"a second event that is not in the metadata: {part.strip()!r}"
    return None


def clean_answer(text: str) -> str:
    """Return the phrase of a model's answer: its first line without quotes, bullet, full stop."""
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
    """Write a caption for every clip; return them in order.

    Args:
        clips: the facts of each clip. They may include the checksum of the recording, `sha256`: the
            writer does not see it, but clips of other content then get captions of their own.
        writer: see `caption_writers`.
        cache: SQLite file of captions that were written before. Several runs may share it.
        seed: of the writer.
        n_tries: how often a writer may try to keep the rules.
        n_jobs: threads.
        scheduler: of a dask cluster, see `parallel.each`; each worker keeps the limit on requests
            per second for itself.
        progress: show a progress bar.

    Raises:
        ValueError: a clip has no facts with a word, or `cache` is not a file of captions; before
            anything is written.
        Exception: what the writer raises; captions written before are in the cache.
    """
    facts = [{key: str(value) for key, value in clip.items() if value} for clip in clips]
    for i, why in _facts_problems(facts):
        raise ValueError(f"clip {i}: {why}")
    keys = [_key(clip, writer, seed) for clip in facts]
    with closing(_open_cache(cache)) as database:
        captions = dict(_read_cache(database))
        missing = {key: clip for key, clip in zip(keys, facts, strict=True) if key not in captions}
        work = partial(_write_one, writer=writer, n_tries=n_tries)
        options = {"scheduler": scheduler, "threads": True, "progress": progress}
        for (key, _), caption in parallel.each(
            work, list(missing.items()), n_jobs=n_jobs, what="captions", **options
        ):
            captions[key] = caption
            if caption.by == writer.name:  # the template's are not cached: the writer may try again
                # Another run may have written the same caption meanwhile: the first one stays.
                database.execute(
                    "INSERT OR IGNORE INTO captions VALUES (?, ?, ?, ?)", (key, *caption)
                )
                database.commit()
    return [captions[key] for key in keys]


def caption_table(
    table: str | Path, out: str | Path, writer: Writer, cache: str | Path, **settings
) -> dict[str, int]:
    """Write the captions that a table of own sounds lacks; return how many each writer wrote.

    Args:
        table: .tsv or .csv with the columns of `own_sounds`, but not necessarily `caption`, and any
            of tags, title and description; if all three are empty, the file's name is the title.
            A caption that is there stays.
        out: the table to write, as `own_sounds` reads it.
        writer: see `caption_writers`.
        cache: see `write`.
        settings: the other arguments of `write`.

    Raises:
        ValueError: a column is missing or unknown, a row has no fact with a word, or `out` is the
            same file as `table`.
    """
    if Path(out).exists() and Path(out).samefile(table):
        raise ValueError(
            f"{out}: the table to write is the one to read, whose tags, titles and descriptions "
            "would be lost; give it another name"
        )
    rows = read_table(Path(table), ("path",), ("caption", *FACTS, *own_sounds.OPTIONAL))
    # A name such as recording_0001.wav says less than anything else that is known.
    has_facts = (rows[list(FACTS)] != "").any(axis=1)
    rows["title"] = rows["title"].where(
        has_facts, [PurePosixPath(path).name for path in rows["path"]]
    )
    empty = rows.index[rows["caption"] == ""]
    recordings = tables.FileFinder(Path(table).parent)
    clips = [
        {key: rows[key][i] for key in FACTS}
        | {"sha256": _checksum(recordings.find(rows["path"][i]))}
        for i in empty
    ]
    raise_problems(rows.loc[empty], _facts_problems(clips))
    captions = write(clips, writer, cache, **settings)
    rows.loc[empty, "caption"] = [caption.text for caption in captions]
    optional = [name for name in own_sounds.OPTIONAL if (rows[name] != "").any()]
    written = rows[[*own_sounds.COLUMNS, *optional]]
    tables.write(out, [list(written), *written.values.tolist()])
    return dict(Counter(caption.by for caption in captions))


def _facts_problems(clips: Iterable[Facts]) -> Problems:
    for i, clip in enumerate(clips):
        if not words_from_facts(clip):
            yield i, "no tags, title or description with a word to write a caption from"


def _checksum(recording: Path | None) -> str:
    return files.sha256(recording) if recording else ""


def _write_one(item: tuple[str, Facts], *, writer: Writer, n_tries: int) -> Caption:
    key, clip = item
    # The seed depends on the clip alone, not on which thread comes first.
    seed, facts = int(key[:8], 16) % 2**31, _public(clip)
    for attempt in range(n_tries):
        text = clean_answer(writer(facts, (seed + attempt) % 2**31))
        if find_violation(text, facts) is None:
            return Caption(text, writer.name, attempt + 1)
    return Caption(Template()(facts, seed), Template.name, n_tries)


def _public(clip: Facts) -> Facts:
    return {key: value for key, value in clip.items() if key != "sha256"}


def _key(clip: Facts, writer: Writer, seed: int) -> str:
    content = json.dumps([clip, writer.name, PROMPT, seed], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


def _open_cache(cache: str | Path) -> sqlite3.Connection:
    if Path(cache).is_dir():
        raise ValueError(f"{cache}: a folder, not a file to keep captions in")
    Path(cache).parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(cache, timeout=60)
    try:
        database.execute(
            "CREATE TABLE IF NOT EXISTS captions (key TEXT PRIMARY KEY, text TEXT, by TEXT, "
            "n_tries INTEGER)"
        )
    except sqlite3.DatabaseError as error:
        database.close()
        raise ValueError(f"{cache}: not a file of captions ({error})") from error
    return database


def _read_cache(database: sqlite3.Connection) -> Iterator[tuple[str, Caption]]:
    for key, text, by, n_tries in database.execute("SELECT key, text, by, n_tries FROM captions"):
        yield key, Caption(text, by, n_tries)
