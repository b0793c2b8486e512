"""The public test sets of the field: what they are called, how they are read, what to expect.

`SETS` has a row for each. `STRONG` has the ones whose timed events may also be trained on. A set is
read from the folder that holds its official files; one's own tables join by configuration alone:

    {name: my_set, table: my_set/events.tsv, audio: my_set/audio}

whose header says what it is for: `filename onset offset event_label`, `filename caption` or
`filename label` (and `fold`), separated by tabs, or by commas in a `.csv`. A file name with folders
in it is a path in the folder of the audio; one without may be in any folder below it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from flamlib import tables
from flamlib.data.datasets import caption_sets, label_sets, sed_sets
from flamlib.data.datasets.annotations import AnnotatedSet, Task


class TestSet(NamedTuple):
    """A public set: its title, how a split of it is read, and what the official lists hold."""

    __test__ = False  # no test, for pytest

    title: str
    task: Task
    read: Callable[[Path], AnnotatedSet]
    n_listed: int | None
    n_captions: int | None


def _split(reader: Callable[..., AnnotatedSet], split: str) -> Callable[[Path], AnnotatedSet]:
    return lambda root: reader(root, split)


def _own_form(name: str, table: str) -> Callable[[Path], AnnotatedSet]:
    return lambda root: own(name, root / table, root / "audio")


SETS: dict[str, TestSet] = {
    "asfx_sed": TestSet("ASFX-SED", "sed", _own_form("asfx_sed", "events.tsv"), None, None),
    "audioset_strong": TestSet(
        "AudioSet-Strong, eval", "sed", _split(sed_sets.audioset_strong, "eval"), 16996, 407
    ),
    "desed_public": TestSet("DESED, public eval", "sed", _split(sed_sets.desed, "public"), 692, 10),
    "desed_validation": TestSet(
        "DESED, validation", "sed", _split(sed_sets.desed, "validation"), 1168, 10
    ),
    "maestro": TestSet("MAESTRO Real", "sed", _split(sed_sets.maestro, "validation"), 16, 11),
    "urbansed": TestSet("URBAN-SED, test", "sed", _split(sed_sets.urban_sed, "test"), 2000, 10),
    "asfx": TestSet("ASFX", "retrieval", _own_form("asfx", "captions.csv"), 10129, None),
    "clotho": TestSet(
        "Clotho v2, evaluation", "retrieval", _split(caption_sets.clotho, "evaluation"), 1045, None
    ),
    "audiocaps": TestSet(
        "AudioCaps, test", "retrieval", _split(caption_sets.audiocaps, "test"), 975, None
    ),
    "esc50": TestSet("ESC-50", "classification", label_sets.esc50, 2000, 50),
    "urbansound8k": TestSet("UrbanSound8K", "classification", label_sets.urbansound8k, 8732, 10),
    "vggsound": TestSet(
        "VGGSound, test", "classification", _split(label_sets.vggsound, "test"), None, 309
    ),
}

STRONG: dict[str, Callable[[Path], AnnotatedSet]] = {
    "audioset_strong": _split(sed_sets.audioset_strong, "train"),
    "desed": _split(sed_sets.desed, "strong"),
    "maestro": _split(sed_sets.maestro, "train"),
    "urbansed": _split(sed_sets.urban_sed, "train"),
    "tacos": _split(sed_sets.tacos, "development"),
}

# What 04 reports of the embedded corpus, and what 09 reports of it, too: no name for a set of one's
# own.
IN_04 = ("seen_captions", "unseen_captions", "held_out_recordings")
EMBEDDED = (*IN_04, "heldout_seen", "heldout_unseen", "supplied")


def read(name: str, root: str | Path) -> AnnotatedSet:
    """A public set from its folder, with a note wherever it is not what the official lists hold.

    Raises FileNotFoundError for a folder or table that is not there, ValueError for a set that is
    not in `SETS`, a table that cannot be used, and a folder without any of the audio.
    """
    if name not in SETS:
        raise ValueError(f"no test set {name!r}; there are {', '.join(SETS)}")
    root = Path(root).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{name}: {root} is no folder")
    expected, found = SETS[name], SETS[name].read(root)
    notes = list(found.notes)
    for what, n, n_expected in (
        ("clips", len(found.clips), expected.n_listed),
        ("captions", len(found.captions), expected.n_captions),
    ):
        if n_expected is not None and n != n_expected:
            notes.append(f"{n} {what} listed, {n_expected} in the official set")
    return _with_audio(AnnotatedSet(name, *_rest(found), notes), root)


def own(name: str, table: str | Path, audio: str | Path) -> AnnotatedSet:
    """A set of one's own from its table and the folder of its audio.

    Raises ValueError, naming the file, for a header of none of the three forms, and for a table of
    events that has none for any recording that can be heard.
    """
    table, audio = Path(table).expanduser(), Path(audio).expanduser()
    delimiter = "," if table.suffix.lower() == ".csv" else "\t"
    rows = tables.read(table, ("filename",), delimiter=delimiter, short_rows=True)
    if not rows:
        raise ValueError(f"{table}: a header and no rows")
    columns = rows[0].fields.keys()
    forms = {
        ("onset", "offset", "event_label"): sed_sets.own_events,
        ("caption",): caption_sets.own_captions,
        ("label",): label_sets.own_labels,
    }
    for needed, reader in forms.items():
        if set(needed) <= columns:
            found = _with_audio(reader(name, rows, audio), audio)
            if found.task == "sed" and not any(clip.events for clip in found.found):
                raise ValueError(f"{name}: {table} has no event for the recordings in {audio}")
            return found
    raise ValueError(
        f"{table}, line 1: beside filename, expected onset, offset and event_label, or caption, or "
        f"label; found {sorted(columns)}"
    )


def training_set(entry: Mapping[str, Any], *, base: str | Path = "") -> AnnotatedSet:
    """Timed events to train on, as an entry of `mix.strong` names them.

        {name: desed, folder: /sets/desed}                    the training split of one of `STRONG`
        {name: mine, table: events.tsv, audio: recordings}    a table of one's own; with
                                                              `closed: false` if it is free text

    Paths are as from the folder `base`, or in full.

    Raises ValueError for an entry of neither form, a name that `STRONG` does not have, and a table
    that is not of events; FileNotFoundError for a folder or table that is not there.
    """
    keys = set(entry)
    if keys == {"name", "folder"}:
        name, root = entry["name"], _at(base, entry["folder"])
        if name not in STRONG:
            raise ValueError(f"mix.strong: no set {name!r}; there are {', '.join(STRONG)}")
        if not root.is_dir():
            raise FileNotFoundError(f"{name}: {root} is no folder")
        return _with_audio(replace(STRONG[name](root), name=name), root)
    if keys | {"closed"} != {"name", "table", "audio", "closed"}:
        raise ValueError(
            "mix.strong: a set has name and folder, or name, table and audio (and closed), found "
            f"{dict(entry)}"
        )
    found = own(entry["name"], _at(base, entry["table"]), _at(base, entry["audio"]))
    if found.task != "sed":
        raise ValueError(f"{entry['table']}: no onset, offset and event_label to train on")
    return replace(found, closed=bool(entry.get("closed", True)))


def read_all(
    folders: Mapping[str, str | None],
    own_tables: Sequence[Mapping[str, Any]],
    *,
    base: str | Path = "",
) -> tuple[list[AnnotatedSet], dict[str, str]]:
    """Every set for which there is a folder, and one's own; and why each other one is left out.

    `folders` gives the folder of each row of `SETS`, None for one that is not there. Paths are
    as from the folder `base`, or in full. Raises ValueError for a set that cannot be meant, or
    whose name another has, and what `read` and `own` do.
    """
    unknown = sorted(set(folders) - set(SETS))
    if unknown:
        raise ValueError(f"no test sets {unknown}; there are {', '.join(SETS)}")
    found, skipped = [], {}
    for name in SETS:
        if folders.get(name) is None:
            skipped[name] = "no folder given"
        else:
            found.append(read(name, _at(base, folders[name])))
    for entry in own_tables:
        if set(entry) != {"name", "table", "audio"}:
            raise ValueError(f"a set of one's own has name, table and audio, found {dict(entry)}")
        if entry["name"] in EMBEDDED:
            raise ValueError(
                f"{entry['name']!r} is no name for a set of one's own: 09 reports "
                f"{', '.join(EMBEDDED)} beside it"
            )
        if entry["name"] in SETS or entry["name"] in [one.name for one in found]:
            raise ValueError(f"there is a test set {entry['name']!r} already")
        found.append(own(entry["name"], _at(base, entry["table"]), _at(base, entry["audio"])))
    return found, skipped


def _at(base: str | Path, path: str | Path) -> Path:
    return Path(base, Path(path).expanduser())


def _rest(found: AnnotatedSet) -> tuple:
    return found.task, found.clips, found.captions, found.repairs


def _with_audio(found: AnnotatedSet, root: Path) -> AnnotatedSet:
    if not found.found:
        raise ValueError(
            f"{found.name}: {len(found.clips)} clips are listed and not one is below {root}: is "
            "the audio somewhere else, or named otherwise?"
        )
    return found
