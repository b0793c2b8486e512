"""The public test sets: their names, how to read them, and how many clips to expect.

`SETS` has a row for each; `STRONG` has the training splits of those with timed events. A dataset is
read from the folder that holds its official files. A user's own data joins by configuration alone:

    {name: my_set, table: my_set/events.tsv, audio: my_set/audio}

`table` may also be a label file of another tool (Audacity, Raven, JAMS; see
`flamlib.sound_events.labels`), or a folder of them. The header of a table, separated by tabs or in
a `.csv` by commas, says what the task is:

    filename  onset  offset  event_label    sound event detection
    filename  caption                       retrieval
    filename  label  [fold]                 classification

A file name with folders in it is a path in the folder of the audio; one without may be in any
folder below it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from flamlib.data.datasets import caption_sets, label_sets, moment_sets, sed_sets
from flamlib.data.datasets.annotations import AnnotatedSet, Task
from flamlib.experiment import parameters
from flamlib.experiment.params.sounds import OwnSet, OwnTrainingSet, PublicSet
from flamlib.experiment.params.trials import TestSetName
from flamlib.storage import tables


class TestSet(NamedTuple):
    """A public test set.

    Attributes:
        title: for readers.
        task: "sed", "retrieval", "classification" or "moments".
        read: reads it from the folder of its official files.
        n_listed: number of clips in the official list; None if there is none.
        n_captions: number of classes; None if there is no official number.
    """

    __test__ = False  # no test, for pytest

    title: str
    task: Task
    read: Callable[[Path], AnnotatedSet]
    n_listed: int | None
    n_captions: int | None


def _split(reader: Callable[..., AnnotatedSet], split: str) -> Callable[[Path], AnnotatedSet]:
    return lambda root: reader(root, split)


def _own_form(name: str, table: str) -> Callable[[Path], AnnotatedSet]:
    return lambda root: read_own(name, root / table, root / "audio")


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
        "VGGSound, test", "classification", _split(label_sets.vggsound, "test"), 15446, 309
    ),
    "castella": TestSet(
        "CASTELLA, test", "moments", _split(moment_sets.castella, "test"), None, None
    ),
    "clotho_moment": TestSet(
        "Clotho-Moment, test", "moments", _split(moment_sets.clotho_moment, "test"), None, None
    ),
}

STRONG: dict[str, Callable[[Path], AnnotatedSet]] = {
    "audioset_strong": _split(sed_sets.audioset_strong, "train"),
    "desed": _split(sed_sets.desed, "strong"),
    "maestro": _split(sed_sets.maestro, "train"),
    "urbansed": _split(sed_sets.urban_sed, "train"),
    "tacos": _split(sed_sets.tacos, "development"),
}

# Where the official files of a set come from; one that has several splits stands here once.
HOMES = {
    "asfx_sed": "no official files are published; make events.tsv and audio/ in the form above",
    "audioset_strong": "research.google.com/audioset, 'strong' download",
    "desed": "github.com/turpaultn/DESED",
    "maestro": "Zenodo, 'MAESTRO Real', development set",
    "urbansed": "urbansed.weebly.com",
    "asfx": "no official files are published; make captions.csv and audio/ in the form above",
    "clotho": "Zenodo, 'Clotho dataset', version 2",
    "audiocaps": "github.com/cdjkim/audiocaps",
    "esc50": "github.com/karolpiczak/ESC-50",
    "urbansound8k": "urbansounddataset.weebly.com",
    "vggsound": "robots.ox.ac.uk/~vgg/data/vggsound",
    "castella": "github.com/line/lighthouse, data/castella; audio: github.com/line/CASTELLA",
    "clotho_moment": "github.com/line/lighthouse, data/clotho_moment; audio: Zenodo 13836117",
    "tacos": "Zenodo, 'TACOS: Temporally-aligned Audio Captions'",
}

MOST_NOTES = 20  # on the audio of a set

# Names of the parts of the project's own corpus in the reports of notebooks 04 and 09: a user's set
# cannot have one of them.
IN_04 = (
    *("seen_captions", "unseen_captions", "seen_under_maskers", "unseen_under_maskers"),
    "held_out_recordings",
)
EMBEDDED = (*IN_04, "heldout_seen", "heldout_unseen", "supplied")


def read(name: str, root: str | Path) -> AnnotatedSet:
    """Read a public test set from its folder; notes say where it differs from the official list.

    Raises FileNotFoundError for a folder or table that does not exist, and ValueError for a name
    that is not in `SETS`, a table that cannot be used, and a folder without any of the audio.
    """
    if name not in SETS:
        raise ValueError(f"no test set {name!r}; there are {', '.join(SETS)}")
    root = Path(root).expanduser()
    expected, dataset = SETS[name], _read_official(name, SETS[name].read, root)
    notes = list(dataset.notes)
    for what, n, n_expected in (
        ("clips", len(dataset.clips), expected.n_listed),
        ("captions", len(dataset.captions), expected.n_captions),
    ):
        if n_expected is not None and n != n_expected:
            notes.append(f"{n} {what} listed, {n_expected} in the official set")
    return _check_audio(replace(dataset, name=name, notes=notes), root)


def read_own(name: str, table: str | Path, audio: str | Path) -> AnnotatedSet:
    """Read a user's own dataset from its table and the folder of its audio.

    Instead of a table of events there may be any label file of `flamlib.sound_events.labels`, or a
    folder of such files, each named after its recording.

    Raises FileNotFoundError for a table or folder that is not there; ValueError, naming the file,
    for one of none of these forms, and for events of which none is in a recording with audio.
    """
    table, audio = Path(table).expanduser(), Path(audio).expanduser()
    for path, is_there in ((table, table.exists()), (audio, audio.is_dir())):
        if not is_there:
            raise FileNotFoundError(f"{name}: {path} is not there")
    if _has_times(table):
        dataset = _check_audio(sed_sets.read_own_events(name, table, audio), audio)
        if not any(clip.events for clip in dataset.present):
            raise ValueError(f"{name}: {table} has no event for the recordings in {audio}")
        return dataset
    rows = tables.read(table, ("filename",), short_rows=True)
    if not rows:
        raise ValueError(f"{table}: a header and no rows")
    columns = rows[0].fields.keys()
    readers = {"caption": caption_sets.read_own_captions, "label": label_sets.read_own_labels}
    for column, reader in readers.items():
        if column in columns:
            return _check_audio(reader(name, rows, audio), audio)
    raise ValueError(
        f"{table}, line 1: beside filename, expected onset, offset and event_label, or caption, or "
        f"label; found {sorted(columns)}"
    )


def _has_times(table: Path) -> bool:
    """Whether it is labels with times, and no table `filename caption` or `filename label`."""
    if table.is_dir():
        return True
    header = tables.first_fields(table)
    return "filename" not in header or {"onset", "offset", "event_label"} <= set(header)


def training_set(entry: PublicSet | OwnTrainingSet, *, base: str | Path = "") -> AnnotatedSet:
    """Read a dataset of timed events to train on, from an entry of `mix.strong` of params.yaml.

        {name: desed, folder: /sets/desed}                    the training split of one of `STRONG`
        {name: mine, table: events.tsv, audio: recordings}    a user's own table, label file or
                                                              folder of label files; with
                                                              `closed: false` if it is free text

    Paths are absolute, or relative to the folder `base`.

    Raises ValueError for an entry of neither form, a name that is not in `STRONG`, and a table
    without events; FileNotFoundError for a folder or table that does not exist.
    """
    parameters.check(PublicSet | OwnTrainingSet, entry, name="mix.strong")
    if "folder" in entry:
        name, root = entry["name"], _resolve(base, entry["folder"])
        return _check_audio(replace(_read_official(name, STRONG[name], root), name=name), root)
    dataset = read_own(
        entry["name"], _resolve(base, entry["table"]), _resolve(base, entry["audio"])
    )
    if dataset.task != "sed":
        raise ValueError(f"{entry['table']}: no onset, offset and event_label to train on")
    return replace(dataset, closed=entry.get("closed", True))


def read_all(
    folders: Mapping[str, str | None],
    own_tables: Sequence[OwnSet],
    *,
    base: str | Path = "",
) -> tuple[list[AnnotatedSet], dict[str, str]]:
    """Read every public test set whose folder is given, and the user's own ones.

    `folders` has the folder of each name in `SETS`, None for one that is not there; `own_tables`
    are entries `{name, table, audio}`. Paths are absolute, or relative to the folder `base`.

    Returns the datasets, and for each name in `SETS` that is left out the reason. Raises ValueError
    for an unknown name, an entry of another form and a name that is taken, and what `read` and
    `read_own` raise.
    """
    parameters.check(dict[TestSetName, str | None], folders, name="testsets.folders")
    parameters.check(list[OwnSet], own_tables, name="testsets.own")
    datasets, skipped = [], {}
    for name in SETS:
        if folders.get(name) is None:
            skipped[name] = "no folder given"
        else:
            datasets.append(read(name, _resolve(base, folders[name])))
    for entry in own_tables:
        if entry["name"] in EMBEDDED:
            raise ValueError(
                f"{entry['name']!r} is no name for your own set: 09 reports "
                f"{', '.join(EMBEDDED)} beside it"
            )
        if entry["name"] in SETS or entry["name"] in [one.name for one in datasets]:
            raise ValueError(f"there is a test set {entry['name']!r} already")
        table, audio = _resolve(base, entry["table"]), _resolve(base, entry["audio"])
        datasets.append(read_own(entry["name"], table, audio))
    return datasets, skipped


def _read_official(name: str, reader: Callable[[Path], AnnotatedSet], root: Path) -> AnnotatedSet:
    """Read a public set. Raises FileNotFoundError that says which file of which set is missing."""
    home = HOMES.get(name) or HOMES[name.partition("_")[0]]
    if not root.is_dir():
        raise FileNotFoundError(f"{name}: {root} is no folder; official files: {home}")
    try:
        return reader(root)
    except FileNotFoundError as error:
        missing = f"{error.filename} is missing" if error.filename else str(error)
        missing = missing.removeprefix(f"{name}: ")
        raise FileNotFoundError(
            f"{name}: {missing}; {root} must hold the official files ({home})"
        ) from error


def _resolve(base: str | Path, path: str | Path) -> Path:
    return Path(base, Path(path).expanduser())


def _check_audio(dataset: AnnotatedSet, root: Path) -> AnnotatedSet:
    """The set, with notes on its audio. Raises ValueError if none of it can be used."""
    if not dataset.present:
        unusable = [f"; {why}" for why in dataset.skipped.values() if why != "not found"]
        raise ValueError(
            f"{dataset.name}: {len(dataset.clips)} clips are listed and not one is below {root}: "
            "is the audio somewhere else, or named otherwise?" + "".join(unusable[:3])
        )
    notes = [f"{name}: {note}" for name, of in dataset.audio_notes.items() for note in of]
    if len(notes) > MOST_NOTES:
        notes = [*notes[:MOST_NOTES], f"and {len(notes) - MOST_NOTES} more such recordings"]
    return replace(dataset, notes=[*dataset.notes, *notes])
