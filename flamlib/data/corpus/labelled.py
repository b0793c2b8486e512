"""Own recordings whose label file says what sounds when: each event becomes a sound of its own.

A row of `sounds.tsv` without a caption takes the captions and times of a label file, see
`flamlib.sound_events.labels`: the one that its column `labels` names, or the one beside the
recording. In a folder without a table that is done for every recording with a label file beside it.

A mixture labels an event with its caption alone. So an event during which another one sounds is of
no use as a sound to mix; such recordings can be trained on as they are, see `mix.strong`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from flamlib import texts
from flamlib.data.corpus.catalogue import BEHIND, OWN, raise_problems
from flamlib.sound_events import labels, raw_events
from flamlib.sound_events.events import Event
from flamlib.storage import tables
from flamlib.waveforms import audio

PART = re.compile(r"(.+)#t=([0-9.e+-]+),([0-9.e+-]+)")  # as W3C's Media Fragments have it
OF_ONE_CAPTION = ("onset", "offset", "family", "wordings")

LeftOut = list[dict[str, str]]  # package, member, why: as the rows of skipped.tsv


def rows(folder: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return a table of the recordings in a folder that have a label file beside them."""
    files = labels.files_of(folder, below=True)
    listed = [
        dict.fromkeys(columns, "") | {"path": path.as_posix(), "where": str(folder / path)}
        for path in sorted(p.relative_to(folder) for p in folder.rglob("*"))
        if path.suffix.lower() in audio.SUFFIXES and labels.named_after(path, files)
    ]
    return pd.DataFrame(listed, columns=[*columns, "where"])


def expand(
    table: pd.DataFrame, found: Sequence[Path | None], folder: Path
) -> tuple[pd.DataFrame, list[Path | None], LeftOut]:
    """Replace each row that has labels instead of a caption by a row for each of its events.

    Args:
        table: of own sounds; a foreground may lack its caption.
        found: the recording of each row, None if it is not there.
        folder: of the table.

    Returns:
        The table, with a column `part`, which `split_part` reads behind the name of a recording;
        the recording of each row; and the events that are left out.

    Raises:
        ValueError: a row has neither caption nor labels, or labels that cannot be read; names it.
    """
    is_labelled = (table["caption"] == "") & ~table["role"].isin(BEHIND)
    table = table.assign(part="")
    if not (is_labelled | (table["labels"] != "")).any():
        return table, list(found), []
    files = labels.files_of(folder, below=True)
    finder = tables.FileFinder(folder)
    expanded, paths, left_out, problems = [], [], [], []
    for i, row in enumerate(table.to_dict("records")):
        if not is_labelled[i]:
            if row["labels"]:
                why = "labels are for a foreground without a caption: each of them is the caption"
                problems.append((i, why))
            expanded.append(row)
            paths.append(found[i])
            continue
        file, why = _label_file(row, found[i], folder, files, finder)
        if why:
            problems.append((i, why))
        elif file is None:
            left_out.append({"package": OWN, "member": row["path"], "why": "no such recording"})
        else:
            events, unused = _of_recording(file, found[i])
            expanded += [row | part(event) for event in events]
            paths += [found[i]] * len(events)
            left_out += [{"package": OWN, "member": row["path"], "why": why} for why in unused]
    raise_problems(table, problems)
    return pd.DataFrame(expanded, columns=table.columns), paths, left_out


def split_part(member: str) -> tuple[str, dict[str, float]]:
    """Return the path of an own sound, and the arguments of `audio.read` for its part of the file.

    >>> split_part("yard.wav#t=0.5,1.25"), split_part("gate.wav")
    (('yard.wav', {'start_s': 0.5, 'stop_s': 1.25}), ('gate.wav', {}))
    """
    if not (parts := PART.fullmatch(member)):
        return member, {}
    return parts[1], {"start_s": float(parts[2]), "stop_s": float(parts[3])}


def _label_file(
    row: Mapping[str, Any],
    recording: Path | None,
    folder: Path,
    files: Mapping[str, Sequence[Path]],
    finder: tables.FileFinder,
) -> tuple[labels.LabelFile | None, str]:
    """The label file of a row, None if its recording is missing; or what is wrong with the row."""
    if given := [column for column in OF_ONE_CAPTION if row[column]]:
        return None, f"no caption, and so no {given[0]}: a label file has them"
    if row["labels"]:
        path = finder.find(row["labels"])
        return (labels.read(path), "") if path else (None, f"no file {row['labels']}")
    if recording is None:
        return None, ""
    beside = labels.named_after(recording.relative_to(folder), files)
    if file := labels.pick(beside):
        return file, ""
    others = "".join(f"; {why}" for why in map(_why_not, beside))
    return None, "no caption, and no label file beside the recording that counts" + others


def _why_not(path: Path) -> str:
    """Why a file beside a recording does not count as its labels."""
    try:
        labels.read(path)
    except labels.NoLabels as error:
        return str(error)
    return f"{path}: detections with scores, which count where the column labels names them"


def _of_recording(file: labels.LabelFile, recording: Path | None) -> tuple[list[Event], list[str]]:
    """The events of a recording that are of use, and why the others are left out."""
    if recording is None:
        return [], ["no such recording"]
    raw = file.of(recording)
    spelled = texts.spellings(event.caption for event in raw)
    events, repairs = raw_events.repair(
        [event._replace(caption=spelled[event.caption]) for event in raw], None
    )
    unused = [f"{file.path.name}: nothing sounds in it"] if not raw else []
    if n := repairs["zero_length"]:
        unused.append(f"{file.path.name}: {n} labels without a duration")
    usable, overlapped = isolated_events(events)
    return usable, [*unused, *(f"{file.path.name}: {why}" for why in overlapped)]


def isolated_events(events: Sequence[Event]) -> tuple[list[Event], list[str]]:
    """Return those of joined events, in order, during which no other sounds, and why not others."""
    found, unused = [], []
    ended_s = 0.0  # when the last of those before has ended
    for event, following in zip(events, [*events[1:], None], strict=True):
        if event.onset < ended_s or (following and following.onset < event.offset):
            times = f"from {event.onset:g} to {event.offset:g} s"
            unused.append(f"another sound during {event.caption!r} {times}")
        else:
            found.append(event)
        ended_s = max(ended_s, event.offset)
    return found, unused


def part(event: Event) -> dict[str, str]:
    """Return what a row of own sounds says of a part of a recording in which an event sounds."""
    return {
        "caption": event.caption,
        "role": "foreground",
        "onset": "0.0",
        "offset": repr(event.offset - event.onset),
        "part": f"#t={event.onset!r},{event.offset!r}",
    }
