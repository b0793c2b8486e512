"""The command of `flam` that fits captions to a user's labelled recordings, adapt.

And what `flam thresholds` has in common with it.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from flamlib.cli import outputs, pipes
from flamlib.cli.arguments import (
    add_model,
    add_smoothing,
    model_folder,
    number,
    smoothing,
    warnings_in_a_line,
)
from flamlib.cli.aside import say, shows_progress
from flamlib.cli.errors import UsageError, printable
from flamlib.experiment.params.trials import DetectConfig
from flamlib.storage import files

if TYPE_CHECKING:  # it brings torch, seconds of import
    from flamlib.adaptation.choose import Choice, Criterion
    from flamlib.adaptation.learn import HeldOut
    from flamlib.adaptation.own_labels import Labelled
    from flamlib.models.interface import AudioTextModel

_FEW = 3  # recordings that cannot be used are told one by one


def add_labelled(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which recordings are labelled, and the model's."""
    add = parser.add_argument
    add(
        "labels",
        nargs="+",
        metavar="LABELS",
        help="labels: a table filename, onset, offset, event_label (DCASE), an Audacity label "
        "track, a Raven selection table, JAMS, detections with a column review (yes, no), or a "
        "folder of recordings with such files named after them",
    )
    add(
        "--audio",
        metavar="FOLDER",
        help="where the recordings are that labels name (default: beside them)",
    )
    add_model(parser)
    add_smoothing(parser)


def add_adapt(adapt: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam adapt`."""
    adapt.description = _adapt.__doc__
    adapt.set_defaults(run=_adapt, extra="evaluate")
    add_labelled(adapt)
    adapt.add_argument(
        "-o",
        "--output",
        type=outputs.folder,
        required=True,
        metavar="FOLDER",
        help="folder to write, for `flam detect --adapter FOLDER`",
    )
    adapt.add_argument(
        "--level",
        choices=["thresholds", "scale", "heads"],
        default="heads",
        help="what is fitted: thresholds alone, also a scale and a shift of each caption, or also "
        "a classifier that begins at the caption's text (default: %(default)s)",
    )
    add_wanted(adapt)


def add_wanted(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what thresholds are chosen for."""
    wanted = parser.add_mutually_exclusive_group()
    wanted.add_argument(
        "--precision",
        type=_precision,
        metavar="P",
        help="find as many events as possible while this share of what is detected is one, above "
        "0, at most 1",
    )
    wanted.add_argument(
        "--false-per-hour",
        type=_rate,
        metavar="N",
        help="find as many events as possible with at most so many false ones of each caption in "
        "an hour of audio (default: neither, but the highest F1 of frames)",
    )


def _rate(text: str) -> float:
    value = number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number, 0 or more")
    return value


def _precision(text: str) -> float:
    value = number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return value


def _adapt(args: argparse.Namespace) -> None:
    """Adapt a model's captions to labelled recordings: the labels are the captions. Prints how good
    the model was and is on recordings that were held out in turn, and writes an adapter, which
    leaves the model and all other captions as they are."""
    folder = model_folder(args.model)
    check_sources(args)

    from tqdm import tqdm

    from flamlib.adaptation import adapter, choose, learn
    from flamlib.inference import detector
    from flamlib.models.text_tower import UnknownWords
    from flamlib.models.weights import Fetching
    from flamlib.waveforms import audio

    with warnings_in_a_line((audio.Repaired, UnknownWords, Fetching)):
        found, captions, skipped = find_labelled(args)
        adapter.check_place(args.output)
        model = adapter.base_of(folder)
        smooth = smoothing(args, detector.smoothing_of(model))
        examples, unread = learn.examples_of(
            model,
            found,
            captions,
            smoothing=smooth,
            progress=shows_progress(),
        )
        say_skipped(skipped | unread)
        criterion, every = criterion_of(args), range(len(examples.recordings))
        levels = learn.LEVELS[: learn.LEVELS.index(args.level) + 1]
        judged, n_folds = {}, len(learn.deal(examples, every))
        n_steps = len(levels) * n_folds
        with tqdm(total=n_steps, desc="adapt", unit="fold", disable=not shows_progress()) as bar:
            choices = learn.thresholds_of(examples, every, args.level, criterion)
            if n_folds > 1:
                judged = {
                    level or "the model": learn.held_out(
                        examples, level, criterion, tick=bar.update
                    )
                    for level in (None, *levels)
                }
        made = choose.to_thresholds(
            choices,
            model.thresholds,
            criterion,
            model="",
            method="unbiased",
            smoothing=smooth,
            default=DetectConfig.threshold,
        )
        fitted = [] if args.level == "thresholds" else captions
        adapter.save(
            args.output,
            folder,
            fitted,
            learn.fit(examples, every, args.level)[: len(fitted)],
            made,
            {
                "level": args.level,
                "criterion": str(criterion),
                "n_recordings": len(examples.recordings),
                "held_out": {name: _plain(of) for name, of in judged.items()},
            },
        )
    hours = sum(each.duration_s for each in examples.recordings) / 3600
    n_recordings = outputs.counted(len(examples.recordings), "recording")
    print(f"{n_recordings}, {hours:.2f} h; written to {args.output}")
    if judged:
        _print_held_out(judged, notes_of(model, judged[args.level].choices))
    else:
        print("a single recording: none could be held out, so how good it is on others is unknown")


def _print_held_out(judged: Mapping[str, "HeldOut"], notes: Sequence[str]) -> None:
    """Print how good the model and each level are, and by caption the model and the last level."""
    print("on recordings held out in turn, means over captions:")
    rows = [
        [name, *(number_text(value) for value in of.mean().values()), ""]
        for name, of in judged.items()
    ]
    print(outputs.columns(("", "average precision", "F1", "recall", "false/h", ""), rows))
    before, *_, after = judged.values()
    rows = []
    for b, a, *precision, note in zip(
        before.choices,
        after.choices,
        before.average_precision,
        after.average_precision,
        notes,
        strict=True,
    ):
        pairs = (precision, (b.f1, a.f1), (b.false_per_hour, a.false_per_hour))
        numbers = (f"{number_text(x)} > {number_text(y)}" for x, y in pairs)
        rows.append([printable(b.caption), str(b.n_events), *numbers, note])
    columns = ("caption", "events", "average precision", "F1", "false/h", "note")
    print("\n" + outputs.columns(columns, rows))


def _plain(judged: "HeldOut") -> dict:
    """Scores in JSON's types, which have no nan."""

    def number(value: float) -> float | None:
        return None if math.isnan(value) else round(float(value), 6)

    by_caption = {
        choice.caption: {
            "n_events": choice.n_events,
            "average_precision": number(precision),
            **{key: number(getattr(choice, key)) for key in ("f1", "recall", "false_per_hour")},
        }
        for choice, precision in zip(judged.choices, judged.average_precision, strict=True)
    }
    means = {key: number(value) for key, value in judged.mean().items()}
    return {"mean": means, "captions": by_caption}


def number_text(value: float) -> str:
    """Return a number for a table, - for nan."""
    return "-" if math.isnan(value) else f"{value:.3g}"


def find_labelled(args: argparse.Namespace) -> "tuple[list[Labelled], list[str], dict[str, str]]":
    """Return the labelled recordings, their captions, and what cannot be used and why.

    Raises UsageError if no label is a caption.
    """
    from flamlib.adaptation import own_labels

    with ExitStack() as copies:
        sources = [copies.enter_context(pipes.on_disk(each)) for each in args.labels]
        found, skipped = own_labels.find(sources, args.audio)
    captions = own_labels.captions_of(found)
    if not captions:
        raise UsageError("the labelled recordings have no event, so there is no caption")
    return found, captions, skipped


def check_sources(args: argparse.Namespace) -> None:
    """Raise UsageError for labels or recordings that are not there."""
    for source in args.labels:
        if not Path(source).exists():
            raise UsageError(f"{source}: no such file or folder")
        if files.is_stream(source) and not args.audio:
            raise UsageError(
                f"{source}: a pipe, beside which no recordings are; name --audio FOLDER"
            )
    if args.audio and not Path(args.audio).is_dir():
        raise UsageError(f"{args.audio}: no such folder of recordings")


def criterion_of(args: argparse.Namespace) -> "Criterion":
    """Return what thresholds are chosen for."""
    from flamlib.adaptation.choose import Criterion

    if args.precision is not None:
        return Criterion("precision", args.precision)
    if args.false_per_hour is not None:
        return Criterion("false_per_hour", args.false_per_hour)
    return Criterion("f1")


def say_skipped(skipped: Mapping[str, str]) -> None:
    """Tell which recordings cannot be used, and why."""
    for name, why in list(skipped.items())[:_FEW]:
        say(f"skipped {name}: {why}")
    if len(skipped) > _FEW:
        say(f"skipped {len(skipped)} recordings in all")


def notes_of(model: "AudioTextModel", choices: Sequence["Choice"]) -> list[str]:
    """Return what to know of each before its threshold is believed."""
    captions = [choice.caption for choice in choices]
    known = model.known(captions).tolist() if hasattr(model, "known") else [1.0] * len(captions)
    notes = []
    for choice, of in zip(choices, known, strict=True):
        said = []
        if not choice.is_own:
            said.append("too few events, not its own threshold")
        elif choice.n_events < 5:
            said.append("few events")
        if choice.threshold == 1:
            said.append("no threshold reaches this precision")
        if of < 0.5:
            said.append("unlike all that the model was trained on")
        notes.append("; ".join(said))
    return notes
