"""Tables that others made: read strictly, with the file and line in every complaint.

Windows line ends and a byte order mark are read as if they were not there. A field may be quoted in
a table with commas; in one with tabs a quote is a letter like any other.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One row: `where` it stands, for complaints, and its fields by column."""

    where: str
    fields: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.fields[column]

    def number(self, column: str) -> float:
        """A field as a number. Raises ValueError for text, NaN and infinity."""
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
    delimiter: str,
    header: bool = True,
    short_rows: bool = False,
    encoding: str = "utf-8-sig",
) -> list[Row]:
    """The rows of a table that has at least these columns, blank lines left out.

    With a `header` the columns are found by name, in any order and with others between them;
    without one, they are all the columns there are. `short_rows` takes a row that ends early for
    one whose last fields are empty.

    Raises FileNotFoundError, and ValueError naming file and line for another encoding, a missing
    column or a row of another length.
    """
    path = Path(path)
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    try:
        with path.open(encoding=encoding, newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)
            rows = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not {encoding} text ({error})") from error
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error

    names = list(columns)
    if header:
        line, names = rows.pop(0) if rows else (1, [])
        names = [name.strip() for name in names]
        missing = [column for column in columns if column not in names]
        if missing:
            raise ValueError(f"{path}, line {line}: no column {missing}, found {names}")
    read_rows = []
    for line, row in rows:
        if not any(field.strip() for field in row):
            continue
        if len(row) > len(names) or (len(row) < len(names) and not short_rows):
            raise ValueError(
                f"{path}, line {line}: {len(row)} fields, expected {len(names)}: {row[:6]}"
            )
        row += [""] * (len(names) - len(row))
        read_rows.append(Row(f"{path}, line {line}", dict(zip(names, row, strict=True))))
    return read_rows
