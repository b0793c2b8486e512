"""The command of `flam` that chooses thresholds on a user's labelled recordings: thresholds."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from flamlib.cli import outputs
from flamlib.cli.adapt import (
    add_labelled,
    add_wanted,
    check_sources,
    criterion_of,
    find_labelled,
    notes_of,
    number_text,
    say_skipped,
)
from flamlib.cli.arguments import model_folder, smoothing, usage_errors, warnings_in_a_line
from flamlib.cli.aside import shows_progress
from flamlib.cli.errors import UsageError, printable
from flamlib.experiment.params.trials import DetectConfig
from flamlib.storage import files, tables

if TYPE_CHECKING:  # it brings torch, seconds of import
    from flamlib.adaptation.choose import Choice
    from flamlib.adaptation.own_labels import Clips

_COLUMNS = ("caption", "threshold", "events", "recall", "precision", "false/h", "F1", "note")


def add_thresholds(thresholds: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam thresholds`."""
    thresholds.description = _thresholds.__doc__
    thresholds.set_defaults(run=_thresholds, extra="evaluate")
    add_labelled(thresholds)
    add = thresholds.add_argument
    add(
        "-o",
        "--output",
        type=outputs.file,
        required=True,
        metavar="FILE",
        help="file to write, for `flam detect --thresholds FILE`; thresholds.json in the folder of "
        "a model of your own is used without being named",
    )
    add_wanted(thresholds)
    add(
        "--method",
        choices=["unbiased", "biased", "approximate"],
        default=DetectConfig.method,
        help="kind of score, as of flam detect (default: %(default)s)",
    )
    add(
        "--recall",
        type=outputs.file,
        metavar="FILE",
        help="also write a table of each caption's recall at 0.1 to 10 false spans a minute",
    )


def _thresholds(args: argparse.Namespace) -> None:
    """Choose the threshold of each caption on labelled recordings: the labels are the captions.
    Prints what each threshold means for these recordings, on which it was chosen, so that others
    will do a little worse."""
    folder = model_folder(args.model)
    check_sources(args)
    _check_outputs(args)

    from flamlib.adaptation import choose, own_labels
    from flamlib.experiment.parameters import plain
    from flamlib.inference import detector
    from flamlib.models import baselines
    from flamlib.models.checkpoint import WEIGHTS, write_json
    from flamlib.models.text_tower import UnknownWords
    from flamlib.models.weights import Fetching
    from flamlib.waveforms import audio

    with warnings_in_a_line((audio.Repaired, UnknownWords, Fetching)), usage_errors(KeyError):
        found, captions, skipped = find_labelled(args)
        model = baselines.load(folder)
        how = {
            "method": args.method,
            "smoothing": smoothing(args, detector.smoothing_of(model)),
        }
        asked = detector.ask(model, captions)

        def values_of(path: Path) -> tuple:
            scores = detector.score(model, path, asked, **how)
            return scores.scores, float(scores.frame_edges[-1])

        recordings, unread = own_labels.read(found, captions, values_of, progress=shows_progress())
        say_skipped(skipped | unread)
        clips = own_labels.clips_of(recordings, captions, model.frame_s)
        criterion = criterion_of(args)
        own = detector.choose_thresholds(model, asked, **how)
        choices = choose.choose(clips, own, criterion)
        made = choose.to_thresholds(
            choices,
            getattr(model, "thresholds", None),
            criterion,
            model=files.sha256(folder / WEIGHTS),
            default=DetectConfig.threshold,
            **how,
        )
        write_json(Path(args.output), plain(made))
        if args.recall:
            _write_recall(args.recall, clips)
        hours = sum(each.duration_s for each in recordings) / 3600
        tell = outputs.teller(args.output)
        n_recordings = outputs.counted(len(recordings), "recording")
        tell(f"{n_recordings}, {hours:.2f} h; {criterion}; written to {args.output}")
        rows = [_row(c, n) for c, n in zip(choices, notes_of(model, choices), strict=True)]
        tell(outputs.columns(_COLUMNS, rows))
        tell(f"other captions {made.fallback:.3g}, unlike all in training {made.novel:.3g}")


def _check_outputs(args: argparse.Namespace) -> None:
    """Raise UsageError, or OSError, for files that cannot be written, before minutes of work."""
    written = [args.output, *([args.recall] if args.recall else [])]
    if len({os.path.realpath(path) for path in written}) < len(written):
        raise UsageError(f"{args.recall}: --output and --recall name one file; choose two")
    for path in written:
        if Path(path).is_dir():
            raise UsageError(f"{path}: a folder; name a file in it")
        if any(Path(path).resolve() == Path(source).resolve() for source in args.labels):
            raise UsageError(f"{path}: holds the labels, and would be overwritten")
        files.check_file(path)


def _row(choice: "Choice", note: str) -> list[str]:
    numbers = (choice.recall, choice.precision, choice.false_per_hour, choice.f1)
    texts = [number_text(x) for x in numbers]
    events = f"{choice.n_events}" + (f" (and {choice.n_false} no)" if choice.n_false else "")
    return [printable(choice.caption), f"{choice.threshold:.4g}", events, *texts, note]


def _write_recall(path: str, clips: "Clips") -> None:
    from flamlib.adaptation import choose

    rows = [["caption", *(f"recall_at_{rate:g}" for rate in choose.RATES)]]
    rows += [
        [name, *(f"{value:.6g}" for value in of)] for name, of in choose.recall_table(clips).items()
    ]
    tables.write(path, rows)
