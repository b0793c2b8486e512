"""Detection in many recordings, into a folder that a stopped call goes on with.

    out/parameters.json     what was asked, with every threshold; `questions.read` reads it
    out/recordings.jsonl    a line for each recording as it is finished: its SHA-256, and its events
                            or why it was skipped
    out/events.tsv          the events of all recordings; likewise .csv, .jsonl and .parquet
    out/NAME.txt            those of a recording, in a format that holds one only
    pages/NAME.html         its page, see `sound_page`; `pages` may be the same folder
    out/written.jsonl       which tables were written, see `edited_tables`
    out/skipped.tsv         the recordings that could not be used, and why
    out/durations.tsv       how long each is, where scores are written, too
    scores/CLIP.tsv         the scores of a recording, as sed_scores_eval has them

A recording of a finished line is not processed again while its content is the same, and so are the
page and the scores that a call wants of it. One that was skipped is tried again. Tables that
somebody has edited are not written over.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flamlib.inference import bars, detector, questions, sound_page
from flamlib.inference.detector import Asked
from flamlib.inference.edited_tables import Tables
from flamlib.inference.questions import Questions
from flamlib.models.interface import AudioTextModel
from flamlib.sound_events import detection, event_tables
from flamlib.sound_events.detection import Detection
from flamlib.sound_events.event_tables import Found
from flamlib.storage import files, json_lines, one_writer, tables
from flamlib.waveforms import audio, collection

PARAMETERS, LOG, SKIPPED = "parameters.json", "recordings.jsonl", "skipped.tsv"
DURATIONS = "durations.tsv"


class Summary(NamedTuple):
    """What a call did.

    Attributes:
        n_new: Recordings that were processed.
        n_kept: Recordings that had been finished before.
        n_events: Events of all recordings in the folder.
        skipped: Why a recording of this call could not be used, by name.
        edited: Tables of one recording that were changed by hand, and stay as they are.
    """

    n_new: int
    n_kept: int
    n_events: int
    skipped: dict[str, str]
    edited: Sequence[str] = ()


class Pages(NamedTuple):
    """Where pages of recordings are written.

    Attributes:
        folder: The folder.
        model: Name of the model, which the pages tell.
        notes: What pages leave out is appended.
    """

    folder: Path
    model: str
    notes: list[str]

    def place(self, name: str) -> Path:
        """Return the page of a recording."""
        return self.folder / f"{name}{sound_page.SUFFIX}"


def write(
    model: AudioTextModel,
    recordings: Mapping[str, Path],
    out: str | Path,
    asked: Questions,
    *,
    embedded: Asked | None = None,
    formats: Sequence[str] = ("tsv",),
    pages: Pages | None = None,
    scores: str | Path | None = None,
    progress: bool = False,
) -> Summary:
    """Detect events in recordings and write them to a folder.

    The captions are embedded once. A recording that cannot be used does not end the call.

    Args:
        model: Any model that `baselines.load` returns.
        recordings: Files, by the names that tables have for them.
        out: The folder. One with results of the same questions is gone on with; its tables then
            hold what it held before, too. A file keeps the name that it has there, and another that
            would have this name is called by its whole path.
        asked: Captions and how scores become events.
        embedded: The captions, by `detector.ask`; None: they are embedded here.
        formats: Of `event_tables.FORMATS`.
        pages: Where each recording has a page; one without is processed again. None: no pages.
        scores: Folder for a score table of each recording; None: none is written.
        progress: Whether to show a progress bar, with the time that is left.

    Raises:
        OSError: The folder cannot be written to.
        ValueError: The folder holds results of other questions, or another process is writing
            there; or captions that the model or a score table does not take; or score tables of two
            recordings have one name; or a table of all recordings was changed by hand.
    """
    out = Path(out)
    places = {} if scores is None else _score_places(Path(scores), recordings, asked)
    with (
        one_writer.lock(out, "flam detect"),
        Tables.of(out, is_known=(out / LOG).exists()) as own,
    ):
        _same_questions(out / PARAMETERS, asked)
        for form in map(event_tables.FORMATS.get, formats):
            if form.is_joint and own.is_edited(name := f"events{form.suffix}"):
                raise _edited(out / name)
        finished = _read_log(out / LOG)
        name_of = {entry.get("path"): name for name, entry in finished.items()}
        table_of = {event_tables.clip_of(n): n for n, e in finished.items() if "scores" in e}
        embedded = detector.ask(model, asked.texts) if embedded is None else embedded
        questions.write(out / PARAMETERS, asked)
        n_kept, now = 0, {}
        sizes = map(_size, recordings.values())
        named = ((g, _name_in(finished, name_of, g, path)) for g, path in recordings.items())
        if scores is not None:  # before any work
            named = list(named)
            for _, name in named:
                _check_table(Path(scores), table_of, name)
        with (
            json_lines.appender(out / LOG) as log,
            bars.by_bytes("detect", sizes, shown=progress) as bar,
        ):
            for given, name in named:
                path = recordings[given]
                before = finished.get(name)
                entry = detect_one(
                    model,
                    name,
                    path,
                    embedded,
                    asked,
                    before=before,
                    pages=pages,
                    scores=places.get(given),
                )
                n_kept += entry is before
                if entry is before:  # perhaps it was moved
                    entry = {**entry, "path": str(path.absolute())}
                if entry != before:
                    finished[name] = entry
                    log(entry)
                now[name] = entry
                bar.update(_size(path))
        edited = _write_tables(own, out, finished, formats)
        if scores is not None:
            _write_durations(out, finished)
    skipped = {name: entry["why"] for name, entry in now.items() if "why" in entry}
    n_events = sum(len(entry.get("events", ())) for entry in finished.values())
    return Summary(len(now) - n_kept - len(skipped), n_kept, n_events, skipped, edited)


def detect_each(
    model: AudioTextModel,
    recordings: Mapping[str, Path],
    embedded: Asked,
    asked: Questions,
    *,
    pages: Pages | None = None,
    progress: bool = False,
) -> Iterator[Mapping[str, Any]]:
    """Yield what `detect_one` returns of each of some recordings; nothing is kept for a later call.

    Args:
        model: As in `write`.
        recordings: As in `write`.
        embedded: The captions.
        asked: The questions they are of.
        pages: As in `write`.
        progress: As in `write`.
    """
    sizes = map(_size, recordings.values())
    with bars.by_bytes("detect", sizes, shown=progress) as bar:
        for name, path in recordings.items():
            yield detect_one(model, name, path, embedded, asked, pages=pages)
            bar.update(_size(path))


def detect_one(
    model: AudioTextModel,
    name: str,
    path: Path,
    embedded: Asked,
    asked: Questions,
    *,
    before: Mapping[str, Any] | None = None,
    pages: Pages | None = None,
    scores: Path | None = None,
) -> Mapping[str, Any]:
    """Detect events in a recording, or say why it cannot be used.

    Args:
        model: As in `write`.
        name: Of the recording.
        path: Of the file.
        embedded: The captions.
        asked: The questions they are of.
        before: What was returned of it before; returned as it is if its content is the same, and
            the page and the scores that are wanted are still those that were written then.
        pages: As in `write`.
        scores: File for the scores of all frames; None: they are not written.

    Returns:
        `name`, `path`, and `sha256`, `sample_rate`, `channel`, `duration_s` and `events`, or `why`;
        and the SHA-256 of its `page` and of its `scores`, where they were written.
    """
    entry: dict[str, Any] = {"name": name, "path": str(path.absolute())}
    written = {} if pages is None else {"page": pages.place(name)}
    written |= {} if scores is None else {"scores": scores}
    try:
        if not path.is_file():
            raise audio.Unreadable(path, "not a file" if path.exists() else "no such file")
        sha256 = files.sha256(path)
        is_same = before is not None and before.get("sha256") == sha256
        if is_same and all(_is_still(before.get(kind), file) for kind, file in written.items()):
            return before
        with audio.Recording(path, channel=asked.channel) as opened:
            found = detector.score(
                model, opened, embedded, method=asked.method, smoothing=asked.smoothing
            )
            rate = opened.sample_rate
        if pages is not None:
            page = written["page"]
            if note := sound_page.write(page, name, path, found, asked, model=pages.model):
                pages.notes.append(f"{page}: {note}")
    except (audio.Unreadable, OSError, ValueError) as error:
        if scores is not None:
            scores.unlink(missing_ok=True)  # of what the recording was before
        why = audio.reason(error)
        return entry | {"why": why}
    if scores is not None:
        detection.write_scores(scores, *found)
    entry |= {"sha256": sha256, "sample_rate": rate, "channel": asked.channel or 1}
    entry |= {"duration_s": float(found.frame_edges[-1])}
    entry |= {kind: before[kind] for kind in ("page", "scores") if is_same and kind in before}
    entry |= {kind: files.sha256(file) for kind, file in written.items()}
    return entry | {"events": [list(event) for event in asked.events(found)]}


def _is_still(sha256: str | None, file: Path) -> bool:
    """Whether a file is the one that was written; another call may have put its own there."""
    return sha256 is not None and file.is_file() and files.sha256(file) == sha256


def found_in(entry: Mapping[str, Any]) -> Found:
    """Return the events of a recording that `detect_one` returned."""
    events = [Detection(*event) for event in entry["events"]]
    return Found(entry["name"], events, entry["sample_rate"], entry["channel"])


def _write_tables(
    own: Tables, out: Path, entries: Mapping[str, Any], formats: Sequence[str]
) -> list[str]:
    """Write all tables; return the names of those of one recording that were edited."""
    edited = []
    found = [found_in(entry) for _, entry in sorted(entries.items()) if "events" in entry]
    for form in map(event_tables.FORMATS.get, formats):
        if form.is_joint:
            if not own.write(name := f"events{form.suffix}", form.encode(found)):
                raise _edited(out / name)
            continue
        names = [f"{each.name}{form.suffix}" for each in found]
        edited += [
            name
            for name, each in zip(names, found, strict=True)
            if not own.write(name, form.encode([each]))
        ]
    skipped = [(name, entry["why"]) for name, entry in sorted(entries.items()) if "why" in entry]
    if not skipped:
        (out / SKIPPED).unlink(missing_ok=True)
        return edited
    rows = [tuple(" ".join(text.split()) for text in row) for row in skipped]
    tables.write(out / SKIPPED, [("filename", "why"), *rows])
    return edited


def _edited(path: Path) -> ValueError:
    return ValueError(
        f"{path} is not as `flam detect` wrote it, and would be written over: rename it, and give "
        "the same command again"
    )


def _score_places(
    folder: Path, recordings: Mapping[str, Path], asked: Questions
) -> dict[str, Path]:
    """Name the score table of each recording; raise ValueError for what cannot be."""
    detection.check_columns(folder, asked.texts)
    names: dict[str, str] = {}
    for name in recordings:
        _check_table(folder, names, name)
    return {name: folder / f"{clip}.tsv" for clip, name in names.items()}


def _check_table(folder: Path, name_of: dict[str, str], name: str) -> None:
    """Note which recording a score table is of; raise ValueError if it is of another."""
    if (first := name_of.setdefault(event_tables.clip_of(name), name)) != name:
        raise ValueError(
            f"{folder}: the score tables of {first} and {name} would have one name: a table is "
            "called by its recording, without folder and suffix; detect in them one by one"
        )


def _name_in(
    finished: Mapping[str, Any], name_of: Mapping[str, str], given: str, path: Path
) -> str:
    """What a recording is called in a folder that may know it, or another by the same name."""
    if (at := str(path.absolute())) in name_of:
        return name_of[at]
    if given not in finished or _was_moved(finished[given], path):
        return given
    return collection.whole_name(path)


def _was_moved(entry: Mapping[str, Any], path: Path) -> bool:
    """Whether a recording is the one of an entry, and no copy beside it."""
    before = entry.get("path", "")
    try:
        if os.path.exists(before) and not os.path.samefile(before, path):
            return False
        return "sha256" not in entry or files.sha256(path) == entry["sha256"]
    except OSError:
        return False


def _write_durations(out: Path, entries: Mapping[str, Any]) -> None:
    rows = [
        (event_tables.on_one_line(name), str(e["duration_s"]))
        for name, e in sorted(entries.items())
        if "duration_s" in e
    ]
    tables.write(out / DURATIONS, [("filename", "duration"), *rows])


def _same_questions(path: Path, asked: Questions) -> None:
    """Raise ValueError if the folder holds results of other questions, and say what differs."""
    if not path.exists():
        if (path.parent / LOG).exists():  # which would be written to
            raise ValueError(
                f"{path.parent}: its {LOG} is of something else, as an index has one; name another "
                "folder"
            )
        return
    before, now = (json.loads(questions.to_text(q)) for q in (questions.read(path), asked))
    if other := [name for name in now if now[name] != before[name]]:
        raise ValueError(
            f"{path}: made with other parameters ({', '.join(other)}): name another folder, or "
            f"use them with --load-params {path}"
        )


def _read_log(path: Path) -> dict[str, Mapping[str, Any]]:
    """The last line on each recording."""
    lines = json_lines.read(path)
    return {of["name"]: of for of in lines if isinstance(of, dict) and "name" in of}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
