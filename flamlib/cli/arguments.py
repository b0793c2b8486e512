"""What the commands of `flam` have in common: how arguments are read, and how one is refused."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flamlib import paths

CHECKPOINT = f"{paths.CHECKPOINTS}/flam"  # in a project; a model elsewhere goes by --model


class UsageError(Exception):
    """What the user asked for cannot be done; the message says why and what would help."""


@contextmanager
def usage_errors(*errors: type[Exception]) -> Iterator[None]:
    """Within it such an error, an OSError or a ValueError is what the user is told, and no more."""
    try:
        yield
    except (OSError, ValueError, *errors) as error:
        raise UsageError(str(error)) from error


def model_folder(given: str | None) -> Path:
    """The model to use. Raises `UsageError` where there is none."""
    if given is not None:
        if not Path(given).is_dir():
            raise UsageError(
                f"{given}: no such folder; --model takes one that a model was saved to"
            )
        return Path(given)
    try:
        folder = paths.root() / CHECKPOINT
    except FileNotFoundError:
        raise UsageError(
            "no model: give --model FOLDER, or start in a folder of the project"
        ) from None
    if not folder.is_dir():
        raise UsageError(f"no model in {folder}: `make repro` trains one, --model takes another")
    return folder


def add_workers(parser: argparse.ArgumentParser, *, jobs: int = 1, what: str) -> None:
    """Options --jobs and --scheduler, as `parallel.each` understands them."""
    parser.add_argument(
        "--jobs", type=count, default=jobs, metavar="N", help=f"{what} (default: %(default)s)"
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a dask scheduler, tcp://host:8786, or its scheduler file: its workers do the work",
    )


def caption(text: str) -> str:
    """A caption, with single spaces."""
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty caption")
    return " ".join(text.split())


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return value


def seconds(text: str) -> float:
    """A duration, 0 or more and finite."""
    value = number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no duration in seconds")
    return value


def odd(text: str) -> int:
    """An odd number of frames."""
    value = number(text)
    if value < 1 or value % 2 != 1:
        raise argparse.ArgumentTypeError(f"{text} is not an odd number of frames")
    return int(value)


def count(text: str) -> int:
    """A whole number from 1."""
    value = number(text)
    if value < 1 or value % 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return int(value)


def number(text: str) -> float:
    """Any number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
