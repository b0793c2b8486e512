"""Readers of queries whose moments are known: CASTELLA and Clotho-Moment, as lighthouse has them.

A line of `<set>_<split>_release.jsonl` is a query, and a recording may have several:

    {"qid": "a_1", "query": "a dog barks", "duration": 60, "vid": "a", "relevant_windows": [[2, 4]]}

Other keys are not needed. Windows stay as they are, also where those of a query overlap, and two
queries of a recording may read the same: each is judged by its own windows, as in the reference
evaluation. Repairs, which are counted:

    clipped      windows that end after the recording, shortened
    beyond       windows that begin when it is over, dropped
    zero_length  windows that end where they begin, dropped

A recording is over after the stated duration, or where its audio ends if that is before.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from flamlib import texts
from flamlib.data.datasets.annotations import AnnotatedSet, AudioFolder, Clip, Query, probe_audio

KEYS = ("qid", "query", "duration", "vid", "relevant_windows")


class _Line(NamedTuple):
    """A query as a file has it; `where` is file and line."""

    where: str
    query: Query
    duration_s: float
    recording: str


def castella(root: Path, split: str = "test") -> AnnotatedSet:
    """Read CASTELLA, split "train", "val" or "test"; recordings are called by their YouTube id."""
    return _read("castella", root, f"castella/castella_{split}_release.jsonl", split)


def clotho_moment(root: Path, split: str = "test") -> AnnotatedSet:
    """Read Clotho-Moment, split "val" or "test": Clotho's sounds in recordings of a minute."""
    return _read("clotho_moment", root, f"clotho_moment/clotho_moment_{split}_release.jsonl", split)


def _read(name: str, root: Path, labels: str, split: str) -> AnnotatedSet:
    places = (root / "data" / labels, root / labels, root / Path(labels).name)
    table = next((place for place in places if place.is_file()), places[-1])
    folder = AudioFolder(root, f"audio/{split}", "audio")
    by_recording: dict[str, list[_Line]] = defaultdict(list)
    for line in _lines(table):
        by_recording[line.recording].append(line)
    repairs: Counter[str] = Counter()
    clips, notes = [], []
    n_lost = n_same = 0
    for recording, lines in by_recording.items():
        probed = probe_audio(folder.find(recording, f"Y{recording}"))
        end_s = lines[0].duration_s
        if probed.path is not None:
            end_s = min(end_s, probed.duration_s)
        repaired = [
            replace(line.query, windows=_repair(line.query.windows, end_s, repairs))
            for line in lines
        ]
        queries = [query for query in repaired if query.windows]
        n_lost += len(repaired) - len(queries)
        n_same += len(queries) - len({texts.key(query.caption) for query in queries})
        clips.append(Clip(recording, queries=queries, **probed._asdict()))
    if n_lost:
        notes.append(f"queries left out, as no window of theirs is in the recording: {n_lost}")
    if n_same:
        notes.append(
            "queries that read like another one of the same recording, each judged by its own "
            f"windows: {n_same}"
        )
    return AnnotatedSet(name, "moments", clips, repairs=repairs, notes=notes)


def _lines(path: Path) -> Iterator[_Line]:
    """Yield the queries of a file. Raises ValueError, naming the line, for what is none."""
    first: dict[str, str] = {}
    lengths: dict[str, tuple[float, str]] = {}
    for number, text in enumerate(path.read_bytes().split(b"\n"), start=1):
        where = f"{path}, line {number}"
        if not text.strip():
            continue
        try:
            entry = json.loads(text.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: not JSON, one object a line ({error})") from None
        line = _line(where, entry)
        if other := first.get(line.query.qid):
            raise ValueError(f"{where}: qid {line.query.qid!r} is listed twice, first in {other}")
        first[line.query.qid] = where
        length_s, other = lengths.setdefault(line.recording, (line.duration_s, where))
        if length_s != line.duration_s:
            raise ValueError(
                f"{where}: {line.recording!r} lasts {line.duration_s:g} s, but {length_s:g} s in "
                f"{other}"
            )
        yield line
    if not first:
        raise ValueError(f"{path}: holds no query")


def _line(where: str, entry: Any) -> _Line:
    missing = [key for key in KEYS if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise ValueError(f"{where}: no {missing[0]!r}; a query has {', '.join(KEYS)}")
    qid, caption, duration_s, recording, windows = (entry[key] for key in KEYS)
    if not isinstance(caption, str) or not texts.normal(caption):
        raise ValueError(f"{where}: an empty query")
    if not isinstance(recording, str) or not recording.strip():
        raise ValueError(f"{where}: no vid, the name of a recording")
    if not _is_number(duration_s) or duration_s <= 0:
        raise ValueError(f"{where}: a duration of {duration_s!r}, expected seconds above 0")
    if not isinstance(windows, list) or not windows:
        raise ValueError(f"{where}: no relevant_windows, expected [[onset, offset], …]")
    for window in windows:
        if not isinstance(window, list) or len(window) != 2 or not all(map(_is_number, window)):
            raise ValueError(f"{where}: a window {window!r}, expected [onset, offset] in seconds")
        if not 0 <= window[0] <= window[1]:
            raise ValueError(f"{where}: a window {window!r}, expected 0 <= onset <= offset")
    pairs = [(float(onset), float(offset)) for onset, offset in windows]
    query = Query(str(qid), texts.normal(caption), pairs)
    return _Line(where, query, float(duration_s), recording)


def _repair(
    windows: Sequence[tuple[float, float]], end_s: float, repairs: Counter[str]
) -> list[tuple[float, float]]:
    kept = []
    for onset, offset in windows:
        if onset == offset or onset >= end_s:
            repairs["zero_length" if onset == offset else "beyond"] += 1
            continue
        if offset > end_s:
            repairs["clipped"] += 1
        kept.append((onset, min(offset, end_s)))
    return kept


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max
