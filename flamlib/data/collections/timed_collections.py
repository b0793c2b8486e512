"""Collections whose labels have times: recordings with label files, and databases of audformat.

An audformat database is a folder with a header `db.yaml` and for each of its tables a file
`db.<table>.parquet` or `.csv`:

    file,start,end,sound                            segmented: from start to end, or to the file's
    audio/yard.wav,0 days 00:00:01,0 days 00:00:02,dog

    file,sound                                      filewise: all of the file
    audio/gate.wav,door

They are read without the package audformat, which prefers copies of the tables that are pickled.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pandas as pd
import yaml

from flamlib import texts
from flamlib.data.collections.items import AUTO, TEST, TRAIN, VALID, Contents, Item
from flamlib.data.datasets import sed_sets
from flamlib.data.datasets.annotations import AudioFolder, Clip, label_to_caption, probe_audio
from flamlib.sound_events.raw_events import RawEvent, repair
from flamlib.storage.tables import Row
from flamlib.storage.tables import read as read_table

SPLITS = {"train": TRAIN, "dev": VALID, "test": TEST}  # of audformat
HEADER = "db.yaml"
TEXT = "str"  # the values of a scheme: free text, or classes if it lists `labels`


def label_files(root: Path, *, labels: Path | None = None) -> Contents:
    """Read recordings with label files beside them, see `flamlib.sound_events.labels`.

    `labels` is the file, or the folder, with the labels if that is another one.
    """
    table = root if labels is None else labels
    if not table.exists():
        raise FileNotFoundError(f"{table} is missing")
    dataset = sed_sets.read_own_events("labels", table, root)
    if not dataset.clips:
        raise FileNotFoundError(f"no label file below {table}")
    contents = Contents(notes=list(dataset.notes))

    def make(clip: Clip) -> Item:
        return Item(clip.path, f"labels of {clip.name}", split=AUTO, events=clip.events)

    contents.add_all_of(dataset, make)
    silent = [item for item in contents.items if not item.events]
    contents.items = [item for item in contents.items if item.events]
    contents.skipped += [(item.path.name, f"{item.where}: nothing sounds in it") for item in silent]
    return contents


def audformat(
    root: Path, *, column: str | None = None, tables: Sequence[str] | None = None
) -> Contents:
    """Read an audformat database, as `audb.load_to` writes it.

    `column` is the one with labels or captions, if there are several; `tables` those to read of the
    tables that have it. A table of the split train, dev or test is of that split, others are shared
    out. Of a class `Dog_bark` the caption is "dog bark", a text is the caption as it is. Where a
    scheme's labels are keys of something that is said of each, `column: sound.category` names what.
    """
    path = root / HEADER
    header = _read_header(path)
    if unknown := [name for name in tables or () if name not in header["tables"]]:
        raise ValueError(f"{path}: no table {unknown[0]!r}; it has {', '.join(header['tables'])}")
    chosen = {name: header["tables"][name] for name in tables or header["tables"]}
    column, _, said = (column or "").partition(".")
    column = _choose_column(path, header, chosen, column)
    contents, table_of = Contents(), {}
    for name, about in chosen.items():
        if column not in about["columns"]:
            continue
        split = header["splits"].get(about.get("split_id"), {}).get("type")
        scheme = _scheme(header, about["columns"][column])
        named = _named(root, header, column, said, scheme.get("labels"))
        is_class = "labels" in scheme
        for file, rows in _read_table(root, name, column, about["type"]).items():
            if (other := table_of.setdefault(file, name)) != name:
                contents.skipped.append((file, f"{rows[0].where}: it is in table {other} already"))
                continue
            licence = str(header.get("license") or "unknown")
            item = Item(root / file, rows[0].where, split=SPLITS.get(split, AUTO), licence=licence)
            _add(contents, item, file, [_Label.of(row, column, is_class, named) for row in rows])
    listed = [root / file for file in table_of]
    contents.skip_without_row(AudioFolder(root), listed, f"a table with {column}")
    return contents


class _Label(NamedTuple):
    """A label of a recording; without an offset it sounds to the end."""

    where: str
    onset: float
    offset: float | None
    caption: str

    @classmethod
    def of(cls, row: Row, column: str, is_class: bool, named: Mapping[str, str] | None) -> "_Label":
        label = row[column]
        if named is not None and label.strip():
            if label.strip() not in named:
                raise ValueError(f"{row.where}: {column} {label!r} is none of its scheme's labels")
            label = named[label.strip()]
        caption = label_to_caption(label) if is_class else texts.normal(label)
        onset, offset = (_seconds(row, name) for name in ("start", "end"))
        return cls(row.where, onset or 0.0, offset, caption)


def _add(contents: Contents, item: Item, file: str, found: Sequence[_Label]) -> None:
    """Add a recording with its labels, or what is wrong with it."""
    if not item.path.is_file():
        contents.skipped.append((file, f"{item.where}: no such recording"))
        return
    named = [label for label in found if any(map(str.isalpha, label.caption))]
    without = [label for label in found if label not in named]
    contents.skipped += [(file, f"{label.where}: no label with a word") for label in without]
    whole = [label for label in named if not label.onset and label.offset is None]
    if whole:  # what else there is sounds at the same time
        contents.skipped += [
            (file, f"{label.where}: {label.caption!r} sounds beside {whole[0].caption!r}")
            for label in named
            if label is not whole[0]
        ]
        described = len(whole[0].caption.split()) > 2
        contents.items.append(replace(item, caption=whole[0].caption, described=described))
        return
    if not named:
        return
    heard = probe_audio(item.path)
    if heard.path is None:
        contents.skipped.append((file, f"{item.where}: {heard.why}"))
        return
    ends = (heard.duration_s if label.offset is None else label.offset for label in named)
    raw = [
        RawEvent(label.where, label.onset, end, label.caption)
        for label, end in zip(named, ends, strict=True)
    ]
    events, repairs = repair(raw, heard.duration_s)
    n_lost = repairs["zero_length"] + repairs["beyond"]
    if n_lost:
        why = f"{n_lost} labels without a duration, or behind the end of the recording"
        contents.skipped.append((file, f"{item.where}: {why}"))
    if events:
        contents.items.append(replace(item, events=events))


def _read_header(path: Path) -> dict[str, Any]:
    """The header, of which tables, schemes and splits are there, if empty."""
    try:
        header = yaml.safe_load(path.read_text(encoding="utf-8"))
        parts = {name: header.get(name) or {} for name in ("tables", "schemes", "splits")}
        for name, about in parts["tables"].items():
            if about["type"] not in ("filewise", "segmented"):
                raise ValueError(f"table {name} is {about['type']}")
            columns = dict(about.get("columns") or {})
            about["columns"] = {column: dict(of or {}) for column, of in columns.items()}
        for name in ("schemes", "splits"):
            parts[name] = {key: dict(of or {}) for key, of in parts[name].items()}
    except (yaml.YAMLError, AttributeError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a header of audformat ({error!r})") from error
    return header | parts


def _choose_column(
    path: Path, header: Mapping[str, Any], chosen: Mapping[str, Any], column: str
) -> str:
    """The column that is asked for, or the only one of classes or texts."""
    every = {name: about for of in chosen.values() for name, about in of["columns"].items()}
    if column:
        if column not in every:
            raise ValueError(f"{path}: no column {column!r}; its tables have {', '.join(every)}")
        return column
    of_text = [name for name, about in every.items() if _scheme(header, about)]
    of_text = [name for name in of_text if _has_words(_scheme(header, every[name]))]
    of_text = [*every] if len(every) == 1 else of_text
    if len(of_text) != 1:
        raise ValueError(
            f"{path}: `column` has to say which of {', '.join(of_text or every)} has the labels"
        )
    return of_text[0]


def _scheme(header: Mapping[str, Any], column: Mapping[str, Any]) -> Mapping[str, Any]:
    return header["schemes"].get(column.get("scheme_id"), {})


def _has_words(scheme: Mapping[str, Any]) -> bool:
    has_more = isinstance(scheme.get("labels"), Mapping | str)
    return has_more or scheme.get("dtype", TEXT) == TEXT


def _named(
    root: Path, header: Mapping[str, Any], column: str, said: str, labels: Any
) -> dict[str, str] | None:
    """What is said of each label, where a scheme maps its labels; None where it lists them.

    The labels are a mapping, `{0: {category: Dog_bark}}` or `{0: Dog_bark}`, or the name of a
    table of which the first column has them.
    """
    if not isinstance(labels, Mapping | str):
        if said:
            raise ValueError(f"{root / HEADER}: the labels of {column} are a list, without {said}")
        return None
    if isinstance(labels, str):
        labels = _read_labels(root, header, labels)
    found = {str(label): of for label, of in labels.items()}
    if not any(isinstance(of, Mapping) for of in found.values()):
        return {label: str(of) for label, of in found.items()}
    of_texts = {
        name
        for of in found.values()
        for name, value in dict(of or {}).items()
        if isinstance(value, str) and any(map(str.isalpha, value))
    }
    if said not in of_texts and (said or len(of_texts) != 1):
        raise ValueError(
            f"{root / HEADER}: `column` has to say what of a label of {column} is its name: "
            + (", ".join(f"{column}.{name}" for name in sorted(of_texts)) or "none has a text")
        )
    said = said or next(iter(of_texts))
    return {label: str(dict(of or {}).get(said) or "") for label, of in found.items()}


def _read_labels(root: Path, header: Mapping[str, Any], name: str) -> dict[str, dict[str, str]]:
    """The rows of a table about labels, by the label."""
    about = header.get("misc_tables")
    if not isinstance(about, Mapping) or name not in about:
        raise ValueError(f"{root / HEADER}: labels of a scheme are those of {name}, no table")
    path = root / f"db.{name}.parquet"
    if path.is_file():
        rows = _read_parquet(path, ())
    else:
        rows = read_table(path.with_suffix(".csv"), (), short_rows=True)
    if not rows:
        raise ValueError(f"{path}: no row, and labels of a scheme are those of this table")
    key = next(iter(rows[0].fields))
    return {row[key].strip(): row.fields for row in rows}


def _read_table(root: Path, name: str, column: str, kind: str) -> dict[str, list[Row]]:
    """The rows of each file, by its path in the folder."""
    columns = ("file", *(("start", "end") if kind == "segmented" else ()), column)
    path = root / f"db.{name}.parquet"
    if path.is_file():
        rows = _read_parquet(path, columns)
    else:
        rows = read_table(path.with_suffix(".csv"), columns, short_rows=True)
    by_file: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        parts = PurePosixPath(row["file"].strip())
        if parts.is_absolute() or ".." in parts.parts or not parts.name:
            raise ValueError(f"{row.where}: {row['file']!r} is no path in {root}")
        by_file[parts.as_posix()].append(row)
    return by_file


def _read_parquet(path: Path, columns: Sequence[str]) -> list[Row]:
    try:
        # Of whole numbers with gaps pandas' own types make 1.0 of 1.
        table = pd.read_parquet(path, dtype_backend="numpy_nullable")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a table of parquet ({error})") from error
    if missing := [name for name in columns if name not in table]:
        raise ValueError(f"{path}: no column {missing[0]}; it has {', '.join(map(str, table))}")
    wanted = table[list(columns)] if columns else table.reset_index(drop=table.index.name is None)
    texts_of = wanted.astype(object).where(wanted.notna(), "")
    return [
        Row(f"{path}, row {i}", {name: str(value) for name, value in fields.items()})
        for i, fields in enumerate(texts_of.to_dict("records"), start=1)
    ]


def _seconds(row: Row, column: str) -> float | None:
    """A time, which pandas writes as `0 days 00:00:01.250000`; None without one."""
    if not (text := row.fields.get(column, "").strip()):
        return None
    if text.isdecimal():
        raise ValueError(
            f"{row.where}: {column} is {text!r} without a unit, which would be nanoseconds; a time "
            f"is written as 0 days 00:00:08.5 or 8.5s"
        )
    try:
        return pd.Timedelta(text).total_seconds()
    except ValueError:
        raise ValueError(f"{row.where}: {column} is {text!r}, no time") from None
