"""Read tables of text (.tsv, .csv) strictly: every error names the file and the line.

UTF-8 with or without a byte order mark, any line ends; blank lines, and empty fields beyond the
last column, do not count. In a table with commas a field may be quoted; in one with tabs a
quotation mark is a letter like any other.
"""

import csv
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        where: file and line, for error messages.
        fields: the text of each column, by name.
    """

    where: str
    fields: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.fields[column]

    def number(self, column: str) -> float:
        """Return a field as a number. Raises ValueError for text, NaN and infinity."""
        text = self.fields[column].strip()
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not abs(value) < float("inf"):
            raise ValueError(f"{self.where}: {column} is {text!r}, expected a number")
        return value


def read(
    path: str | Path,
    columns: Sequence[str],
    *,
    optional: Sequence[str] | None = None,
    filled: Sequence[str] = (),
    unique: str | None = None,
    delimiter: str | None = None,
    header: bool = True,
    short_rows: bool = False,
    encoding: str = "utf-8-sig",
) -> list[Row]:
    """Read the rows of a table.

    Args:
        path: the file.
        columns: columns that it must have, in any order; without a `header`, all of them in order.
        optional: other columns that it may have. None: any others, which are kept.
        filled: columns in which no field may be empty.
        unique: a column in which no text may stand twice.
        delimiter: what separates columns. None: a comma in a .csv, else a tab.
        header: the first line names the columns.
        short_rows: a row may end early; its last fields are then empty.
        encoding: of the text.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has another encoding, lacks a column or has an unknown one, or a row does not
            fit; names file and line.
    """
    path = Path(path)
    if delimiter is None:
        delimiter = "," if path.suffix.lower() == ".csv" else "\t"
    lines = _split_lines(path, delimiter, encoding)
    names = list(columns)
    if header:
        number, first = lines.pop(0) if lines else (1, [])
        names = _without_empty_end([name.strip() for name in first])
        _check_names(f"{path}, line {number}", names, columns, optional)
    rows = []
    for number, fields in lines:
        fields = _without_empty_end(fields, at_least=len(names))
        if not any(field.strip() for field in fields):
            continue
        if len(fields) > len(names) or (len(fields) < len(names) and not short_rows):
            raise ValueError(
                f"{path}, line {number}: {len(fields)} fields, expected {len(names)}: {fields[:6]}"
            )
        fields += [""] * (len(names) - len(fields))
        row = Row(f"{path}, line {number}", dict(zip(names, fields, strict=True)))
        if empty := [column for column in filled if not row[column].strip()]:
            raise ValueError(f"{row.where}: empty {empty[0]}")
        rows.append(row)
    if unique is not None:
        check_unique(rows, unique)
    return rows


def check_unique(rows: Iterable[Row], column: str) -> None:
    """Raise ValueError, naming both lines, if a text stands in a column twice."""
    first: dict[str, str] = {}
    for row in rows:
        if row[column] in first:
            raise ValueError(
                f"{row.where}: {column} {row[column]!r} is listed twice, first in "
                f"{first[row[column]]}"
            )
        first[row[column]] = row.where


def _split_lines(path: Path, delimiter: str, encoding: str) -> list[tuple[int, list[str]]]:
    """The fields of every row, each with the number of its line."""
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    try:
        with path.open(encoding=encoding, newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)
            return [(reader.line_num, fields) for fields in reader]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not {encoding} text ({error})") from error
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error


def _without_empty_end(fields: list[str], at_least: int = 0) -> list[str]:
    while len(fields) > at_least and not fields[-1].strip():
        fields = fields[:-1]
    return fields


def _check_names(
    where: str, names: list[str], required: Sequence[str], optional: Sequence[str] | None
) -> None:
    if missing := [column for column in required if column not in names]:
        raise ValueError(f"{where}: no column {', '.join(missing)}; found {names}")
    known = [*required, *(optional or ())]
    for name in names:
        if names.count(name) > 1 and (name in known or optional is not None):
            raise ValueError(f"{where}: column {name!r} stands twice")
        if optional is not None and name not in known:
            near = difflib.get_close_matches(name, set(known) - set(names), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {known}"
            raise ValueError(f"{where}: unknown column {name!r}; {hint}")
