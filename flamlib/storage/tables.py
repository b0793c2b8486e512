"""Read and write tables of text (.tsv, .csv) strictly: every error names the file and the line.

UTF-8 with or without a byte order mark; lines end at \\n, \\r\\n or \\r and nowhere else; blank
lines, a header that stands again, and empty fields beyond the last column, do not count. In a table
with commas a field may be quoted; in one with tabs a quotation mark is a letter like any other,
unless all of them are quotes of a spreadsheet (`_are_quotes`).
"""

import csv
import difflib
import io
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flamlib import texts
from flamlib.storage import files

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons"}

# A whole field in quotes, those within doubled; it holds no tab, or a lone quote would open rows.
_QUOTED = re.compile(r'(?<![^\t\r\n])"((?:[^"\t]|"")*)"(?![^\t\r\n])')
_NEED_QUOTES = re.compile(r'[",;\r\n]')  # for what Excel puts a field in quotes

DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+")


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
        """Return a field as a number. Raises ValueError for what `texts.number` refuses."""
        text = self.fields[column].strip()
        try:
            return texts.number(text)
        except ValueError:
            hint = " with a decimal point, not a comma" if DECIMAL_COMMA.fullmatch(text) else ""
            raise ValueError(
                f"{self.where}: {column} is {text!r}, expected a number{hint}"
            ) from None


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
        optional: other columns that it may have. None: any others, which are kept if they have a
            name.
        filled: columns in which no field may be empty.
        unique: a column in which no text may stand twice.
        delimiter: what separates columns. None: that of `delimiter_of`; in a .csv whose first line
            has tabs and no comma, as dcase_util writes it, tabs.
        header: the first line names the columns.
        short_rows: a row may end early; its last fields are then empty.
        encoding: of the text.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has another encoding, lacks a column, has an unknown one or one twice, or a
            row does not fit; names file and line.
    """
    path = Path(path)
    text = _text(path, encoding)
    delimiter = delimiter or _delimiter_in(path, text)
    lines = _split_lines(path, text, delimiter, header=header)
    names = list(columns)
    if header:
        if not lines:
            raise ValueError(f"{path}: the file is empty; expected columns {', '.join(columns)}")
        number, first = lines.pop(0)
        names = _without_empty_end([texts.normal(name) for name in first])
        hint = _separator_hint(first, delimiter)
        _check_names(f"{path}, line {number}", names, columns, optional, hint)
    rows = []
    for number, fields in lines:
        fields = _without_empty_end(fields, at_least=len(names))
        if header and fields == first[: len(names)]:
            continue  # tables that were joined, each with its header
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


def write(path: str | Path, rows: Iterable[Sequence[str]]) -> None:
    """Write rows, the names of the columns first, as a table that `read` reads.

    Raises ValueError for a field that a table with tabs, which has no quotes, cannot hold.
    """
    try:
        files.atomic_write(path, to_text(rows, delimiter_of(path)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def to_text(rows: Iterable[Sequence[str]], delimiter: str) -> str:
    """Return the text of a table, see `write`."""
    rows = list(rows)
    if delimiter != ",":
        for row in rows:
            if wrong := [field for field in row if re.search(r"[\t\r\n]", field)]:
                raise ValueError(f"a tab or line break inside {wrong[0]!r}")
        # Others take a quotation mark where a field begins for a quote that ends somewhere.
        if not any(field.startswith('"') for row in rows for field in row):
            return "".join("\t".join(row) + "\n" for row in rows)
    quoted = io.StringIO()
    csv.writer(quoted, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return quoted.getvalue()


def delimiter_of(path: str | Path) -> str:
    """Return what separates the columns of a table: a comma in a .csv, in any case, else a tab."""
    return "," if Path(path).suffix.lower() == ".csv" else "\t"


def first_line(path: str | Path) -> str:
    """Return the first line of a text that is not blank, without its end; "" if there is none.

    Raises FileNotFoundError if there is no such file, and ValueError if it is not UTF-8.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = next((line.strip("\r\n") for line in file if line.strip()), "")
    except UnicodeDecodeError as error:
        raise _not_text(path, "utf-8-sig", error) from error
    if "\0" in line:
        raise ValueError(f"{path}: holds zero bytes, as UTF-16 text does: save it as UTF-8")
    return line


def first_fields(path: str | Path) -> list[str]:
    """Return the fields of the first line that is not blank, in the form of `texts.normal`.

    Raises what `first_line` raises.
    """
    path, line = Path(path), first_line(path)
    delimiter = _delimiter_in(path, line)
    quoting = _quoting(line, delimiter, header=True)
    try:
        rows = list(csv.reader([line], delimiter=delimiter, quoting=quoting))
    except csv.Error as error:
        raise ValueError(f"{path}, line 1: {error}") from error
    return [texts.normal(field) for row in rows for field in row]


def filled(rows: Iterable["Row"], column: str) -> list[str]:
    """Return what a column has where it is not empty."""
    return [value for row in rows if (value := row[column].strip())]


def are_numbers(fields: Iterable[str]) -> bool:
    """Return whether all look like numbers, with a decimal comma too, so that a row is told of it.

    >>> are_numbers(["0.5", "1e3", "1,5"]), are_numbers(["rain"])
    (True, False)
    """
    number = r"[-+]?(\d[\d.,]*|\.\d+)([eE][-+]?\d+)?"
    return all(re.fullmatch(number, field, re.ASCII) for field in fields)


def check_unique(
    rows: Iterable[Row], column: str, *, key: Callable[[str], str] = texts.composed
) -> None:
    """Raise ValueError, naming both lines, if two texts of a column have one key."""
    first: dict[str, str] = {}
    for row in rows:
        of_text = key(row[column])
        if of_text in first:
            raise ValueError(
                f"{row.where}: {column} {row[column]!r} is listed twice, first in {first[of_text]}"
            )
        first[of_text] = row.where


class FileFinder:
    """The files in a folder, by the names that a table gives them.

    A file is also found where the disk keeps its name composed otherwise (NFC or NFD), and where
    its folders are separated by `\\`, as on Windows. Links are followed, wherever they lead.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._listed: dict[Path, dict[str, list[str]]] = {}

    def find(self, name: str) -> Path | None:
        """Return the file, or None if there is none or the name leads out of the folder."""
        for way in dict.fromkeys((name, name.replace("\\", "/"))):
            parts = PurePosixPath(way).parts
            if not parts or ".." in parts or PurePosixPath(way).is_absolute():
                continue
            path = self.folder.joinpath(*parts)
            if _is_file(path):
                return path
            if not way.isascii() and (path := self._descend(self.folder, parts)):
                return path
        return None

    def _descend(self, folder: Path, parts: Sequence[str]) -> Path | None:
        if not parts:
            return folder if _is_file(folder) else None
        if folder not in self._listed:
            self._listed[folder] = _names_in(folder)
        same = self._listed[folder].get(texts.composed(parts[0]), [])
        found = (self._descend(folder / name, parts[1:]) for name in same)
        return next((path for path in found if path is not None), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False


def _names_in(folder: Path) -> dict[str, list[str]]:
    """The names in a folder, by their composed form."""
    try:
        found = sorted(os.listdir(folder))
    except OSError:  # no folder, or one that may not be read
        return {}
    names = defaultdict(list)
    for name in found:
        names[texts.composed(name)].append(name)
    return names


def _text(path: Path, encoding: str) -> str:
    try:
        with path.open(encoding=encoding, newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise _not_text(path, encoding, error) from error


def _delimiter_in(path: Path, text: str) -> str:
    first = _first_of(text)
    return "\t" if "\t" in first and "," not in first else delimiter_of(path)


def _first_of(text: str) -> str:
    """The first line that is not blank."""
    return next((m[0] for m in re.finditer(r"[^\r\n]+", text) if m[0].strip()), "")


def _split_lines(
    path: Path, text: str, delimiter: str, *, header: bool
) -> list[tuple[int, list[str]]]:
    """The fields of every row that is not blank, each with the number of its line."""
    quoting = _quoting(text, delimiter, header=header)
    lines = io.StringIO(text, newline="")
    try:
        reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
        rows = [(reader.line_num, fields) for fields in reader]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    return [(number, fields) for number, fields in rows if any(field.strip() for field in fields)]


def _quoting(text: str, delimiter: str, *, header: bool) -> int:
    is_quoted = delimiter != "\t" or _are_quotes(text, header=header)
    return csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE


def _are_quotes(text: str, *, header: bool) -> bool:
    """Whether the quotation marks of a table with tabs are quotes and no letters.

    That is so if each is one of a field that is quoted as a whole, and one of these fields needs
    quotes, as Excel writes them, or is the name of a column, as R writes them around every text.
    """
    if '"' not in text or '"' in _QUOTED.sub("", text):
        return False
    return (header and '"' in _first_of(text)) or any(
        _NEED_QUOTES.search(m[1]) for m in _QUOTED.finditer(text)
    )


def _not_text(path: Path, encoding: str, error: UnicodeDecodeError) -> ValueError:
    with path.open("rb") as file:
        is_utf16 = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
    what = (
        "UTF-16 text, as some spreadsheets write it"
        if is_utf16
        else f"not {encoding.upper().removesuffix('-SIG')} text ({error})"
    )
    return ValueError(f"{path}: {what}: save it as UTF-8")


def _without_empty_end(fields: list[str], at_least: int = 0) -> list[str]:
    while len(fields) > at_least and not fields[-1].strip():
        fields = fields[:-1]
    return fields


def _check_names(
    where: str,
    names: list[str],
    required: Sequence[str],
    optional: Sequence[str] | None,
    hint: str,
) -> None:
    for name in names:
        if name and names.count(name) > 1:
            raise ValueError(f"{where}: column {name!r} stands twice")
    if missing := [column for column in required if column not in names]:
        raise ValueError(f"{where}: no column {', '.join(missing)}; found {names}{hint}")
    known = [*required, *(optional or ())]
    for name in names:
        if optional is not None and name not in known:
            near = difflib.get_close_matches(name, set(known) - set(names), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {known}"
            raise ValueError(f"{where}: unknown column {name!r}; {hint}")


def _separator_hint(names: list[str], delimiter: str) -> str:
    if len(names) != 1 or not (others := [c for c in SEPARATORS if c in names[0]]):
        return ""
    return f": the columns are separated by {SEPARATORS[others[0]]}, not {SEPARATORS[delimiter]}"
