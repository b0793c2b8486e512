"""The command of `flam` that finds events in recordings: detect."""

import argparse
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flamlib.cli import outputs
from flamlib.cli.arguments import count, model_folder, usage_errors
from flamlib.cli.aside import say, shows_progress
from flamlib.cli.ask_model import add_questions, check_captions, loaded
from flamlib.cli.errors import SOME_SKIPPED, UsageError, require
from flamlib.sound_events import event_tables
from flamlib.storage import files
from flamlib.waveforms import collection, streams

if TYPE_CHECKING:  # they bring torch, seconds of import
    from flamlib.inference.detect_many import Summary

_ONE_TABLE = "one table is tsv, csv, jsonl or parquet, and -o FOLDER/ takes all formats"
_STDIN = "-"


def add_detect(detect: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam detect`."""
    detect.description = _detect.__doc__
    detect.set_defaults(run=_detect, extra="serve")
    add = detect.add_argument
    add(
        "audio",
        nargs="+",
        metavar="AUDIO",
        help="recordings of any length and sample rate (WAV, FLAC, MP3, M4A and whatever else "
        "libsndfile or FFmpeg reads), folders of them, patterns such as 'night/**/*.flac', or - "
        "for one from standard input",
    )
    add(
        "-o",
        "--output",
        type=outputs.file,
        metavar="FILE_OR_FOLDER",
        help="file to write the events to, of several recordings a .tsv, .csv, .jsonl or .parquet; "
        "or a folder, which a call that was stopped goes on with (default: print them)",
    )
    add(
        "--format",
        action="append",
        type=_formats,
        metavar="FORMAT[,FORMAT]",
        help=f"of the events, one or several of {', '.join(event_tables.FORMATS)} (default: by the "
        "suffix of FILE, as .csv, .jsonl, .parquet or .vtt, else tsv)",
    )
    add(
        "--scores",
        type=outputs.file,
        metavar="FILE_OR_FOLDER",
        help="also write the scores of all frames, in the format of sed_scores_eval: of one "
        "recording to this file, of several to a table of each in this folder, beside -o FOLDER, "
        "for `flam evaluate`",
    )
    add(
        "--html",
        type=outputs.file,
        metavar="FILE_OR_FOLDER",
        help="also write a page to see, hear and review the events, one file with the sound in it; "
        "of several recordings a folder with a page for each",
    )
    add(
        "--pcm",
        type=pcm_format,
        metavar="ENCODING:RATE[:CHANNELS]",
        help="standard input is raw samples, such as s16le:16000:1; else it is a file of a format "
        f"above. Encodings: {', '.join(streams.ENCODINGS)}",
    )
    add_questions(detect)
    add(
        "--top",
        metavar="N",
        type=count,
        help="of each caption and recording the N surest events, whatever their scores",
    )
    add(
        "--channel",
        metavar="N",
        type=count,
        help="hear this channel alone, counted from 1 (default: their average)",
    )


def _formats(text: str) -> list[str]:
    names = text.split(",")
    if wrong := [name for name in names if name not in event_tables.FORMATS]:
        raise argparse.ArgumentTypeError(
            f"no format {wrong[0]!r}; there are {', '.join(event_tables.FORMATS)}"
        )
    return names


def pcm_format(text: str) -> streams.Pcm:
    """Parse how raw samples follow each other, see `streams.parse_pcm`."""
    try:
        return streams.parse_pcm(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _detect(args: argparse.Namespace) -> int:
    """Find the events in recordings that the captions describe. Writes tables with the columns
    filename, onset, offset (both in seconds), event_label and score, or those of other tools. The
    exit code is 0, also if nothing was found; 1 if a recording of several could not be used; 2 if
    nothing could be done."""
    check_captions(args)
    formats = list(dict.fromkeys(name for given in args.format or [] for name in given))
    with _inputs(args) as (recordings, closed):
        if _is_single(args):
            _check_single(args, formats)
            [(name, recording)] = recordings.items()
            return _detect_one(args, name, recording, formats)
        return _detect_many(args, recordings, closed, formats)


@contextmanager
def _inputs(args: argparse.Namespace) -> Iterator[tuple[dict[str, Path], dict[str, str]]]:
    """The recordings by name, standard input as a temporary file; and folders not listed."""
    if args.audio != [_STDIN]:
        if _STDIN in args.audio or args.pcm:
            raise UsageError("standard input, -, is one recording of its own; --pcm is for it")
        with usage_errors(FileNotFoundError):
            yield collection.gather(args.audio)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("stdin.w64" if args.pcm else "stdin")
        if args.pcm is None:
            with path.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        else:
            streams.save(sys.stdin.buffer, args.pcm, path)
        try:
            yield {"stdin": path}, {}
        except UsageError as error:
            raise UsageError(str(error).replace(str(path), "standard input")) from error


def _is_single(args: argparse.Namespace) -> bool:
    """Whether there is one recording, and what is written of it is no folder."""
    [first, *more] = args.audio
    is_many = more or Path(first).is_dir() or not (first == _STDIN or Path(first).exists())
    to_folder = any(
        output and (Path(output).is_dir() or output.endswith(("/", os.sep)))
        for output in (args.output, args.html)
    )
    if is_many and not more and not Path(first).is_dir() and not glob.has_magic(first):
        raise UsageError(f"{first}: no such file")
    return not is_many and not to_folder


def _check_single(args: argparse.Namespace, formats: list[str]) -> None:
    """Raise UsageError for outputs that cannot be, before anything is computed."""
    written = [o for o in (args.output, args.scores, args.html) if o]
    if len(formats) > 1:
        raise UsageError("several formats need a folder to write to: -o FOLDER/")
    outputs.check_table(args.output, _format(args, formats))
    if args.audio != [_STDIN]:
        [recording] = map(Path, args.audio)
        if not recording.is_file():
            raise UsageError(f"{recording}: not a file")
        if any(_is_same(recording, output) for output in written):
            raise UsageError(f"{recording}: the recording would be replaced; choose another output")
    _check_read(args, written)
    if args.scores is not None and _place(args.scores) == _place(args.output):
        raise UsageError(
            "--output and --scores name one file; choose two"
            if args.output is not None
            else f"{args.scores}: the scores would stand among the events that are printed; "
            "-o FILE puts those into a file"
        )
    if args.html is not None and _place(args.html) in map(_place, (args.output, args.scores)):
        raise UsageError(f"{args.html}: --html needs a file of its own; choose another")
    for output in written:
        files.check_file(output)


def _format(args: argparse.Namespace, formats: list[str]) -> str:
    """The format of a single table."""
    return formats[0] if formats else event_tables.format_of(args.output)


def _detect_one(args: argparse.Namespace, name: str, recording: Path, formats: list[str]) -> int:
    # Imported here: torch takes seconds, and --help does not need it.
    from flamlib.inference import detector, sound_page
    from flamlib.sound_events import detection
    from flamlib.waveforms import audio

    with loaded(args) as (model, questions, embedded, notes):
        if args.html is not None:
            sound_page.check(questions)
        if args.scores is not None:
            detection.check_columns(args.scores, questions.texts)
        opened = audio.Recording(recording, channel=args.channel or questions.channel)
        scores = detector.score(
            model,
            opened,
            embedded,
            method=questions.method,
            smoothing=questions.smoothing,
            progress=shows_progress(),
        )
        say(*notes)
        if args.scores is not None:
            detection.write_scores(args.scores, *scores)
        if args.html is not None:
            title = model_folder(args.model).name
            said = sound_page.write(args.html, name, recording, scores, questions, model=title)
            say(*([f"{args.html}: {said}"] if said else []))
        found = event_tables.Found(
            name, questions.events(scores), opened.sample_rate, questions.channel or 1
        )
        outputs.write_table(args.output, _format(args, formats), [found])
    return 0


def _detect_many(
    args: argparse.Namespace,
    recordings: Mapping[str, Path],
    closed: Mapping[str, str],
    formats: list[str],
) -> int:
    is_table, kind = _check_many(args, formats), _format(args, formats)

    from flamlib.inference import detect_many, sound_page

    with loaded(args) as (model, questions, embedded, notes):
        say(*notes)
        pages = None
        if args.html is not None:
            sound_page.check(questions)
            pages = detect_many.Pages(Path(args.html), model_folder(args.model).name, [])
        if is_table:
            entries = detect_many.detect_each(
                model,
                recordings,
                embedded,
                questions,
                pages=pages,
                progress=shows_progress() and not _is_printed(args, kind),
            )
            done = _write_one_table(args, entries, kind)
        else:
            args.goes_on = True
            done = detect_many.write(
                model,
                recordings,
                args.output,
                questions,
                embedded=embedded,
                formats=formats or ["tsv"],
                pages=pages,
                scores=args.scores,
                progress=shows_progress(),
            )
    say(*(pages.notes if pages else ()))
    skipped = {**closed, **done.skipped}
    for name, why in skipped.items():
        say(f"skipped {name}: {why}")
    for name in done.edited:
        say(f"left as it is: {name}, which is not as it was written")
    if args.output is not None:
        kept = f", {done.n_kept} as they were" if done.n_kept else ""
        told = f", {len(skipped)} skipped" if skipped else ""
        heard = outputs.counted(done.n_new, "recording")
        events = outputs.counted(done.n_events, "event")
        outputs.teller(args.output)(f"{args.output}: {heard} heard{kept}{told}, {events}")
    return SOME_SKIPPED if skipped else 0


def _check_many(args: argparse.Namespace, formats: list[str]) -> bool:
    """Return whether the events of several recordings go to one table, else to a folder.

    Raises UsageError for outputs that cannot be, before anything is computed.
    """
    is_table = _is_table(args.output)
    for output in (args.html, args.scores):
        if output is not None and (Path(output).is_file() or files.is_stream(output)):
            raise UsageError(f"{output}: a file; several recordings need a folder to write to")
    if not is_table:
        for kind in formats:
            require(*event_tables.FORMATS[kind].packages)
        if args.scores is not None and _place(args.scores) == _place(args.output):
            raise UsageError("--output and --scores name one folder; choose two")
        return False
    kind = _format(args, formats)
    if len(formats) > 1 or kind not in event_tables.JOINT:
        raise UsageError(f"several formats or {kind} of several recordings: {_ONE_TABLE}")
    if args.scores is not None:
        raise UsageError(
            "--scores of several recordings needs -o FOLDER, for their events and durations"
        )
    _check_read(args, [args.output] if args.output else [])
    outputs.check_table(args.output, kind)
    return True


def _check_read(args: argparse.Namespace, written: Iterable[str]) -> None:
    """Raise UsageError if what says what is asked would be replaced."""
    for read in (args.caption_file, args.load_params, args.thresholds):
        if read is not None and any(_is_same(read, output) for output in written):
            raise UsageError(f"{read} is read, and would be replaced; choose another output")


def _is_same(one: str | Path, other: str) -> bool:
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)


def _is_table(output: str | None) -> bool:
    """Whether the events of several recordings go to one table by this name."""
    if output is None or files.is_stream(output):
        return True
    if Path(output).is_dir() or output.endswith(("/", os.sep)):
        return False
    forms, name = event_tables.FORMATS.values(), output.lower()
    if name.endswith(tuple(form.suffix for form in forms if form.is_joint)):
        return True
    if Path(output).is_file() or name.endswith(tuple(form.suffix.lower() for form in forms)):
        raise UsageError(f"{output}: a file of several recordings: {_ONE_TABLE}")
    return False


def _write_one_table(
    args: argparse.Namespace, entries: Iterable[Mapping[str, Any]], kind: str
) -> "Summary":
    """Write the events of several recordings as one table; print them as each is heard."""
    from flamlib.inference import detect_many

    encode, found, skipped = event_tables.FORMATS[kind].encode, [], {}
    is_printed = _is_printed(args, kind)
    if is_printed:
        print(encode([]).decode(), end="")
    for entry in entries:
        if "why" in entry:
            skipped[entry["name"]] = entry["why"]
            continue
        found.append(detect_many.found_in(entry))
        if is_printed:
            text = encode(found[-1:]).decode()
            print(text.removeprefix(encode([]).decode()), end="", flush=True)
    if not is_printed:
        outputs.write_table(args.output, kind, found)
    n_events = sum(len(each.detections) for each in found)
    return detect_many.Summary(len(found), 0, n_events, skipped)


def _is_printed(args: argparse.Namespace, kind: str) -> bool:
    """Whether a table is printed as it grows."""
    return args.output in (None, outputs.STDOUT) and event_tables.FORMATS[kind].is_text


def _place(output: str | None) -> tuple[int, int] | str | None:
    """What is written to, the same for all its names; None: what is printed."""
    try:
        status = os.fstat(sys.stdout.fileno()) if output is None else os.stat(output)
    except (OSError, ValueError, AttributeError):  # not there yet, or closed
        return output and os.path.realpath(output)
    if os.path.exists(os.devnull) and os.path.samestat(status, os.stat(os.devnull)):
        return output  # swallows any number of tables
    return status.st_dev, status.st_ino
