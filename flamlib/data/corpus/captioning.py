"""Write captions for recordings from their metadata, check them, and cache them.

FLAM's captions of sound effects were written by a language model (Mixtral) from metadata, in 2 to
13 words (arXiv:2505.05335). A model also makes things up, and a caption of more than the one sound
would be a wrong label in every mixture. So a caption that breaks a rule of `caption_rules` is
written again with another seed, and after `n_tries` the template's is used; `Caption.by` says so.

Captions are cached in an SQLite file by facts, writer and seed, one by one, so a run that was
stopped goes on with the missing ones.
"""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from flamlib.compute import parallel
from flamlib.data.corpus import own_sounds
from flamlib.data.corpus.caption_rules import (
    Facts,
    clean_answer,
    find_violation,
    words_from_facts,
)
from flamlib.data.corpus.caption_writers import PROMPT, Template
from flamlib.data.corpus.catalogue import Problems, raise_problems, read_table
from flamlib.storage import files, tables

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
        ValueError: a clip has no facts of which the template can make a caption, or `cache` is not
            a file of captions; before anything is written.
        OSError: `cache` cannot be read or written.
        Exception: what the writer raises; captions written before are in the cache.
    """
    facts = [{key: str(value) for key, value in clip.items() if value} for clip in clips]
    for i, why in _facts_problems(facts):
        raise ValueError(f"clip {i}: {why}")
    keys = [_key(clip, writer, seed) for clip in facts]
    with _cache_errors(cache), closing(_open_cache(cache)) as database:
        captions = _read_cache(database, dict(zip(keys, facts, strict=True)))
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
                    "INSERT OR IGNORE INTO captions (key, text, by, n_tries) VALUES (?, ?, ?, ?)",
                    (key, *caption),
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
    files.check_file(out)
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
    empty = rows.index[(rows["caption"] == "") & (rows["labels"] == "")]
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
        if not words_from_facts(_public(clip)):
            yield i, "no tags, title or description with a word to write a caption from"
            continue
        try:
            Template()(_public(clip), 0)  # the last resort, so it has to have something to say
        except ValueError as error:
            yield i, str(error)


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
        columns = {row[1] for row in database.execute("PRAGMA table_info(captions)")}
        others = database.execute("SELECT name FROM sqlite_master").fetchall()
        if (columns or others) and not columns >= {"key", *Caption._fields}:
            raise ValueError(f"{cache}: not a file of captions, but an SQLite file of another use")
        if not columns:
            database.execute(
                "CREATE TABLE IF NOT EXISTS captions (key TEXT PRIMARY KEY, text TEXT, by TEXT, "
                "n_tries INTEGER)"
            )
    except BaseException:
        database.close()
        raise
    return database


def _read_cache(database: sqlite3.Connection, clips: Mapping[str, Facts]) -> dict[str, Caption]:
    """The captions of these clips that are there; those that break a rule of today are removed."""
    captions = {}
    rows = database.execute("SELECT key, text, by, n_tries FROM captions").fetchall()
    for key, text, by, n_tries in rows:
        if key not in clips:
            continue
        if isinstance(text, str) and find_violation(text, _public(clips[key])) is None:
            captions[key] = Caption(text, str(by), n_tries)
        else:
            database.execute("DELETE FROM captions WHERE key = ?", (key,))
    database.commit()  # other runs may write
    return captions


@contextmanager
def _cache_errors(cache: str | Path) -> Iterator[None]:
    """Say of an error of SQLite which file it is and what helps."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "")  # such as SQLITE_CANTOPEN_ISDIR
        for name, why in _CACHE_ERRORS.items():
            if code.startswith(name):
                raise OSError(f"{cache}: {why} ({error})") from error
        raise ValueError(f"{cache}: not a file of captions ({error})") from error


_CACHE_ERRORS = {
    "SQLITE_FULL": "captions cannot be kept, the disk is full; --cache names a file elsewhere",
    "SQLITE_IOERR": "captions cannot be kept, is the disk full? --cache names a file elsewhere",
    "SQLITE_CANTOPEN": "cannot be opened or made; --cache names a file where you may write",
    "SQLITE_READONLY": "may only be read; --cache names a file where you may write",
    "SQLITE_PERM": "may not be written; --cache names a file where you may write",
    "SQLITE_BUSY": "another process has held it for a minute; try again or name another --cache",
    "SQLITE_LOCKED": "another process has held it for a minute; try again or name another --cache",
}
