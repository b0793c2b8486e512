"""What was found in recordings, by `flam detect`, `flam search` or another tool, with scores.

    a folder of `flam detect -o FOLDER`
    a table of `flam detect` or `flam search`: .tsv, .csv, .jsonl or .parquet
    a label file that `labels` reads: Audacity, Raven (BirdNET's tables too), JAMS, DCASE
    a folder of such files

A score is that of a column `score` or `confidence`, or stands behind the label in an Audacity
track of ours; many label files have none. The channel is that of a folder's parameters, or of a
selection table that has another than 1 in `Channel`: those of detections have 1 for the average.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from flamlib import texts
from flamlib.data.datasets.annotations import AudioFolder
from flamlib.sound_events import (
    crowsetta_labels,
    detection,
    labels,
    raven_tables,
    recording_names,
    reviews,
)
from flamlib.sound_events.labels import NoLabels
from flamlib.sound_events.raw_events import RawEvent, check
from flamlib.storage import tables
from flamlib.storage.tables import Row
from flamlib.waveforms import collection

DETECTED, ASKED = "recordings.jsonl", "parameters.json"  # in a folder of `flam detect`
SCORES = ("score", "confidence")


class Find(NamedTuple):
    """Something that was found.

    Attributes:
        table: File that says so. A recording that it does not name is named like it.
        where: The same, with the line.
        recording: As the file names it; "" if it names none.
        onset: In seconds.
        offset: In seconds.
        caption: What it is.
        score: How sure that is; None: nobody said.
        channel: The only one that it was found in, counted from 1; None: the average of all.
    """

    table: Path
    where: str
    recording: str
    onset: float
    offset: float
    caption: str
    score: float | None
    channel: int | None = None


def read(path: str | Path) -> list[Find]:
    """Read a file or folder of one of the kinds above.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is of none of these kinds, or holds what cannot be; names file and line.
    """
    path = Path(path)
    if (path / DETECTED).is_file():
        return _detected(path / DETECTED)
    if not path.is_dir():
        return _file(path)
    found, others = [], []
    for each in sorted(path.rglob("*")):
        if any(part.startswith(".") for part in each.relative_to(path).parts):
            continue  # as `collection.find` leaves it out
        if each.name.lower().endswith(labels.SUFFIXES) and each.is_file():
            try:
                found += _file(each)
            except NoLabels:
                others.append(each)
    if not found:
        raise ValueError(
            f"{path}: neither a folder of `flam detect -o` nor one of label files"
            + (f"; {others[0]} is none" if others else "")
        )
    return found


def join(finds: Sequence[Find], gap_s: float) -> list[Find]:
    """Make one of those of one caption in one recording that are at most `gap_s` apart.

    It is as sure as the surest of them.
    """
    groups: dict[tuple[str, int | None, str], list[Find]] = defaultdict(list)
    for find in finds:
        groups[find.recording, find.channel, find.caption].append(find)
    joined = []
    for group in groups.values():
        [last, *others] = sorted(group, key=lambda find: (find.onset, find.offset))
        for find in others:
            if find.onset > last.offset + gap_s:
                joined.append(last)
                last = find
                continue
            scores = [score for score in (last.score, find.score) if score is not None]
            last = last._replace(
                offset=max(last.offset, find.offset), score=max(scores, default=None)
            )
        joined.append(last)
    return joined


class Recordings:
    """Finds the file of a recording that a table names.

    It is looked for in the folder of audio that is given, there also by the end of its path, as
    recordings are moved and tables are not; or else, by its path, from here, from the folder of the
    table, beside which that of a label file without names is, and as a whole path, which tables of
    `flam detect` have without the first `/`.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else AudioFolder(Path(folder))
        self._found: dict[tuple[str, Path], Path | None] = {}  # a table has many rows of each
        self._beside: dict[Path, dict[str, Path]] = {}
        self._named: dict[Path, PurePosixPath] = {}

    def find(self, name: str, table: Path) -> Path | None:
        """Return the file of a recording that a table names, or that it is named after.

        Raises ValueError if two files in the folder of audio may be meant.
        """
        if (name, table) not in self._found:
            self._found[name, table] = self._look_for(name, table)
        return self._found[name, table]

    def _look_for(self, name: str, table: Path) -> Path | None:
        named = name or labels.stem(table)
        if Path(named).is_absolute() and _is_file(Path(named)):
            return Path(named)
        if self.folder is not None and name:
            return self.folder.named(name) or self._by_end(name)
        if self.folder is not None:  # in folders of the same names as the table's, or anywhere
            parts = table.with_name(named).parts
            ways = (self.folder.named("/".join(parts[i:])) for i in range(len(parts)))
            return next((path for path in ways if path is not None), None)
        for place in (Path(), table.parent, Path("/")):
            if name and _is_file(place / name):
                return place / name
        if table.parent not in self._beside:
            self._beside[table.parent] = _audio_in(table.parent)
        return self._beside[table.parent].get(Path(named).name)

    def _by_end(self, name: str) -> Path | None:
        """The file in the folder whose path and the name end alike, as far as both go."""
        wanted = recording_names.as_path(name)
        suffix = wanted.suffix if collection.is_named_as_audio(wanted.name) else ""
        found: dict[int, list[Path]] = defaultdict(list)
        for path in self.folder.paths.get(wanted.name.removesuffix(suffix), ()):
            of_file = recording_names.as_path(str(path.relative_to(self.folder.root)))
            n = _n_alike(of_file if suffix else of_file.with_suffix(""), wanted)
            found[n].append(path)
        best = found[max(found)] if max(found, default=0) else []
        if len(best) > 1:
            raise ValueError(f"{best[0]} and {best[1]}: which of them is {name!r}?")
        if best and not _n_alike(first := self._named.setdefault(best[0], wanted), wanted):
            raise ValueError(
                f"{first} and {wanted}: which of them is {best[0]}? Name the folder above both"
            )
        return best[0] if best else None


def _n_alike(one: PurePosixPath, other: PurePosixPath) -> int:
    """How many parts both paths have at their ends, if all that both have are the same; else 0."""
    n = min(len(one.parts), len(other.parts))
    return n if one.parts[-n:] == other.parts[-n:] else 0


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, a folder that may not be looked into
        return False


def _audio_in(folder: Path) -> dict[str, Path]:
    """The recordings in a folder, by their names with and without suffix; the first of each."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*")):
        if collection.is_named_as_audio(path):
            found.setdefault(path.stem, path)
            found.setdefault(path.name, path)
    return found


def _detected(path: Path) -> list[Find]:
    """The log of `flam detect`; of a recording the last line counts."""
    entries: dict[str, Mapping[str, Any]] = {}
    for where, entry in _objects(path):
        try:
            events = [(*map(float, e[:2]), str(e[2]), float(e[3])) for e in entry.get("events", [])]
            entries[entry["name"]] = {"where": where, "path": entry["path"], "events": events}
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"{where}: not what `flam detect` writes") from error
    channel = _channel_asked(path.with_name(ASKED))
    return [
        _checked(path, entry["where"], entry["path"], *event)._replace(channel=channel)
        for entry in entries.values()
        for event in entry["events"]
    ]


def _channel_asked(path: Path) -> int | None:
    """The channel that a folder's recordings were heard in; None: their average."""
    if not path.exists():
        return None
    try:
        channel = json.loads(path.read_text(encoding="utf-8")).get("channel")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not parameters of flam detect ({error})") from error
    if not isinstance(channel, int | None):
        raise ValueError(f"{path}: channel is {channel!r}, expected a number or null")
    return channel


def _file(path: Path) -> list[Find]:
    if path.suffix.lower() in (".jsonl", ".parquet"):
        return [
            _of_object(path, where, entry)
            for where, entry in _objects(path)
            if not reviews.is_rejected(Row(where, {name: str(of) for name, of in entry.items()}))
        ]
    file, scores, channels = labels.read(path), _scores(path), _channels(path)
    return [
        Find(path, where, recording, onset, offset, caption, scores.get(where), channels.get(where))
        for recording, events in file.events.items()
        for where, onset, offset, caption in events
    ]


def _scores(path: Path) -> dict[str, float]:
    """The score of each line that has one."""
    fields = _fields(path)
    column = next((name for name in fields if name.lower() in SCORES), None)
    if labels.is_birdnet_track(fields):
        rows = tables.read(path, labels.BIRDNET_TRACK, header=False, short_rows=True)
        return {row.where: row.number("confidence") for row in rows}
    if column is None:
        if len(fields) != 3:
            return {}
        rows = tables.read(path, ("onset", "offset", "label"), header=False, short_rows=True)
        matches = ((row, labels.OUR_SCORE.fullmatch(row["label"].strip())) for row in rows)
        return {row.where: float(match[2]) for row, match in matches if match}
    rows = tables.read(path, (column,), short_rows=True)
    return {row.where: row.number(column) for row in rows if row[column].strip()}


def _fields(path: Path) -> list[str]:
    """The fields of a table's first line; none of what is no table."""
    if crowsetta_labels.format_of(path) or path.suffix.lower() == ".jams":
        return []
    return [] if tables.first_line(path).startswith("{") else tables.first_fields(path)


def _channels(path: Path) -> dict[str, int]:
    """The channel of each line of a selection table, if it is another than 1 in any of them."""
    if not {"Channel", *raven_tables.TIMES} <= set(_fields(path)):
        return {}
    rows = tables.read(path, ("Channel",), short_rows=True)
    found = {row.where: int(row["Channel"]) for row in rows if row["Channel"].strip().isdecimal()}
    return found if set(found.values()) - {1} else {}


def _objects(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a .jsonl or .parquet, each with where it is."""
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet

        try:
            rows = pyarrow.parquet.read_table(path).to_pylist()
        except pyarrow.ArrowException as error:
            raise ValueError(f"{path}: not a Parquet file ({error})") from error
        yield from ((f"{path}, row {number}", row) for number, row in enumerate(rows, start=1))
        return
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        where = f"{path}, line {number}"
        try:
            entry = json.loads(line)
            entry.keys()
        except (ValueError, AttributeError, RecursionError):
            if path.name == DETECTED:
                continue  # what a killed process left half written, and the next went on behind
            raise ValueError(f"{where}: not an object of JSON") from None
        yield where, entry


def _of_object(table: Path, where: str, entry: Mapping[str, Any]) -> Find:
    lacking = [name for name in detection.COLUMNS[:-1] if entry.get(name) is None]
    if lacking:
        raise NoLabels(f"{where}: no {lacking[0]}; expected {', '.join(detection.COLUMNS)}")
    recording, onset, offset, caption = (entry[name] for name in detection.COLUMNS[:-1])
    score = entry.get("score")
    try:
        times = float(onset), float(offset)
        sure = None if score is None else float(score)
        return _checked(table, where, recording, *times, caption, sure)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error


def _checked(
    table: Path,
    where: str,
    recording: str,
    onset: float,
    offset: float,
    caption: str,
    score: float | None,
) -> Find:
    check(RawEvent(where, onset, offset, caption))
    return Find(table, where, recording, onset, offset, texts.normal(caption), score)
