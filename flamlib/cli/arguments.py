"""Shared by the commands of `flam`: types of arguments, common options, notes to the user."""

import argparse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flamlib import paths, texts
from flamlib.cli import aside
from flamlib.cli.errors import UsageError, require
from flamlib.experiment.params.trials import MAX_HYSTERESIS, MAX_MEDIAN_FRAMES
from flamlib.models import released

if TYPE_CHECKING:  # it brings numpy
    from flamlib.sound_events.smoothing import Smoothing

CHECKPOINT = f"{paths.CHECKPOINTS}/flam"  # default model, relative to the project
MAX_CLIP_S = 600.0  # of an exported model, which hears a clip at once


@contextmanager
def usage_errors(*errors: type[Exception]) -> Iterator[None]:
    """Turn these errors into `UsageError`, a message without traceback.

    Errors of files and values, OSError and ValueError, become such a message without it.
    """
    try:
        yield
    except errors as error:
        raise UsageError(str(error)) from error


@contextmanager
def warnings_in_a_line(categories: tuple[type[Warning], ...]) -> Iterator[None]:
    """Print warnings of these categories as notes to the user, without their place in the code."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def say(message, kind, *where):
            if issubclass(kind, categories):
                aside.say(str(message))
            else:
                show(message, kind, *where)

        for category in categories:
            warnings.simplefilter("always", category)
        warnings.showwarning = say
        yield


def model_folder(given: str | None) -> Path:
    """Return the folder of the model: the one given, by folder or name, or the default.

    The default is the released one; where there is none, as in a checkout without it, the project's
    own.

    Raises `UsageError` if there is none.
    """
    if given is not None:
        folder = Path(given) if Path(given).is_dir() else released.find(given)
        if folder is None:
            raise UsageError(
                f"{given}: no such folder, and no model of that name; `flam models` lists them"
            )
        return folder
    if folder := released.find(released.SMALL):
        return folder
    try:
        folder = paths.root() / CHECKPOINT
    except FileNotFoundError:
        raise UsageError(
            f"no model: {released.SMALL} is not part of this installation; pass --model FOLDER, or "
            "run flam in a folder of the project"
        ) from None
    if not folder.is_dir():
        raise UsageError(
            f"no model: {released.SMALL} is not part of this installation, and there is none in "
            f"{folder}; `make repro` trains one, or pass another with --model"
        )
    return folder


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the option --model, an argument of `model_folder`."""
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="a model by its folder, or by a name that `flam models` lists (default: "
        f"{released.SMALL})",
    )


def add_workers(parser: argparse.ArgumentParser, *, jobs: int = 1, what: str) -> None:
    """Add the options --jobs and --scheduler, for `workers`.

    `jobs` is the default of --jobs, `what` its help text.
    """
    parser.add_argument(
        "--jobs", type=count, default=jobs, metavar="N", help=f"{what} (default: %(default)s)"
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="use the workers of this dask scheduler: tcp://host:8786, or its scheduler file",
    )


def workers(args: argparse.Namespace, *, threads: bool = False) -> dict[str, Any]:
    """Return what `add_workers` added, as arguments of `parallel.each`.

    Raises ModuleNotFoundError where processes are asked for that need a missing package; `threads`
    says that jobs are threads.
    """
    if args.scheduler is not None or (args.jobs > 1 and not threads):
        require("distributed")
    return {"n_jobs": args.jobs, "scheduler": args.scheduler}


def add_smoothing(
    parser: argparse.ArgumentParser, usual: str = "as the model's thresholds were chosen"
) -> None:
    """Add how scores are smoothed, for `smoothing`; `usual` tells how they are without options."""
    parser.add_argument(
        "--median-frames",
        metavar="N",
        type=odd,
        help=f"length of a median filter over the scores, odd; 1: no filter (default: {usual})",
    )
    parser.add_argument(
        "--hysteresis",
        metavar="X",
        type=nats,
        help="then an event goes on while its odds are at least exp(-X) times those of its "
        f"threshold; 0: none (default: {usual})",
    )


def smoothing(args: argparse.Namespace, usual: "Smoothing") -> "Smoothing":
    """Return how scores are smoothed: by the options of `add_smoothing`, else as usual."""
    given = {
        name: getattr(args, name)
        for name in ("median_frames", "hysteresis")
        if getattr(args, name) is not None
    }
    return replace(usual, **given)


def caption(text: str) -> str:
    """Parse a caption, in the form of `texts.normal`."""
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes that the shell's encoding does not know
        raise argparse.ArgumentTypeError(f"{text!a} is not UTF-8 text") from None
    if not texts.normal(text):
        raise argparse.ArgumentTypeError("an empty caption")
    return texts.normal(text)


def share(text: str) -> float:
    """Parse a number from 0 to 1."""
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return value


def seconds(text: str) -> float:
    """Parse a duration in seconds, 0 or more."""
    value = number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a duration in seconds, 0 or more")
    return value


def clip_seconds(text: str) -> float:
    """Parse the duration of a clip in seconds, above 0 and at most `MAX_CLIP_S`."""
    value = seconds(text)
    if not 0 < value <= MAX_CLIP_S:
        raise argparse.ArgumentTypeError(
            f"a clip has more than 0 and at most {MAX_CLIP_S:g} s, not {text}"
        )
    return value


def odd(text: str) -> int:
    """Parse an odd number of frames, up to `MAX_MEDIAN_FRAMES`."""
    value = number(text)
    if not 1 <= value <= MAX_MEDIAN_FRAMES or value % 2 != 1:
        raise argparse.ArgumentTypeError(
            f"{text} is not an odd number of frames up to {MAX_MEDIAN_FRAMES}"
        )
    return int(value)


def nats(text: str) -> float:
    """Parse a difference of log-odds, from 0 to `MAX_HYSTERESIS`."""
    value = number(text)
    if not 0 <= value <= MAX_HYSTERESIS:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to {MAX_HYSTERESIS:g}")
    return value


def count(text: str) -> int:
    """Parse a whole number from 1."""
    try:
        return texts.count(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def whole(text: str) -> int:
    """Parse a whole number."""
    if number(text) % 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(number(text))


def number(text: str) -> float:
    """Parse a number."""
    try:
        return texts.number(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
