"""What a review decided about the events of a table: its column `review`, in any case.

It has "yes", "no" (or y, n, true, false, 1, 0), or nothing for an event that nobody looked at.
"""

from collections.abc import Iterable

from flamlib.storage.tables import Row

COLUMN = "review"
ANSWERS = {"yes": True, "y": True, "true": True, "1": True} | dict.fromkeys(
    ("no", "n", "false", "0"), False
)


def column_of(fields: Iterable[str]) -> str | None:
    """Return which of the columns of a table has the decisions, None if there is none."""
    return next((name for name in fields if name.strip().lower() == COLUMN), None)


def is_rejected(row: Row) -> bool:
    """Return whether a review says that the event of a row is not there."""
    column = column_of(row.fields)
    return column is not None and ANSWERS.get(row[column].strip().lower()) is False


def decision(row: Row) -> bool | None:
    """Return whether the event of a row is there; None if nobody looked at it.

    Raises ValueError, naming file and line, for any other answer, and KeyError without the column.
    """
    column = column_of(row.fields) or COLUMN
    answer = row[column].strip()
    if answer and answer.lower() not in ANSWERS:
        raise ValueError(
            f"{row.where}: {column} is {answer!r}, expected yes, no, or nothing for an event that "
            "nobody looked at"
        )
    return ANSWERS.get(answer.lower())
