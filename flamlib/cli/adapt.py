"""The commands of `flam` that fit a model to a user's labelled recordings: thresholds, adapt."""

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flamlib.cli import outputs
from flamlib.cli.arguments import (
    add_model,
    add_smoothing,
    model_folder,
    number,
    smoothing,
    usage_errors,
    warnings_in_a_line,
)
from flamlib.cli.aside import say, shows_progress
from flamlib.cli.errors import UsageError, printable
from flamlib.experiment.params.trials import DetectConfig
from flamlib.storage import files, tables

if TYPE_CHECKING:  # it brings torch, seconds of import
    from flamlib.adaptation.choose import Choice
    from flamlib.adaptation.learn import HeldOut
    from flamlib.adaptation.own_labels import Clips, Labelled
    from flamlib.models.interface import AudioTextModel

_FEW = 3  # recordings that cannot be used are told one by one
_COLUMNS = ("caption", "threshold", "events", "recall", "precision", "false/h", "F1", "note")


def add_thresholds(thresholds: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam thresholds`."""
    thresholds.description = _thresholds.__doc__
    thresholds.set_defaults(run=_thresholds, extra="evaluate")
    _add_labelled(thresholds)
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
    _add_wanted(thresholds)
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


def _add_labelled(parser: argparse.ArgumentParser) -> None:
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
    _add_labelled(adapt)
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
    _add_wanted(adapt)


def _add_wanted(parser: argparse.ArgumentParser) -> None:
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


def _thresholds(args: argparse.Namespace) -> None:
    """Choose the threshold of each caption on labelled recordings: the labels are the captions.
    Prints what each threshold means for these recordings, on which it was chosen, so that others
    will do a little worse."""
    folder = model_folder(args.model)
    _check_sources(args)
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
        found, captions, skipped = _find(args)
        model = baselines.load(folder)
        how = {
            "method": args.method,
            "smoothing": smoothing(args, detector.smoothing_of(model)),
        }
        asked = detector.ask(model, captions)

        def hear_one(path: Path) -> tuple:
            scores = detector.score(model, path, asked, **how)
            return scores.scores, float(scores.frame_edges[-1])

        heard, unread = own_labels.hear(found, captions, hear_one, progress=shows_progress())
        _say_skipped(skipped | unread)
        clips = own_labels.clips_of(heard, captions, model.frame_s)
        criterion = _criterion(args)
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
        hours = sum(each.duration_s for each in heard) / 3600
        tell = outputs.teller(args.output)
        n_heard = outputs.counted(len(heard), "recording")
        tell(f"{n_heard}, {hours:.2f} h; {criterion}; written to {args.output}")
        rows = [_row(c, n) for c, n in zip(choices, _notes(model, choices), strict=True)]
        tell(outputs.columns(_COLUMNS, rows))
        tell(f"other captions {made.fallback:.3g}, unlike all in training {made.novel:.3g}")


def _adapt(args: argparse.Namespace) -> None:
    """Adapt a model's captions to labelled recordings: the labels are the captions. Prints how good
    the model was and is on recordings that were held out in turn, and writes an adapter, which
    leaves the model and all other captions as they are."""
    folder = model_folder(args.model)
    _check_sources(args)

    from tqdm import tqdm

    from flamlib.adaptation import adapter, choose, learn
    from flamlib.inference import detector
    from flamlib.models.text_tower import UnknownWords
    from flamlib.models.weights import Fetching
    from flamlib.waveforms import audio

    with warnings_in_a_line((audio.Repaired, UnknownWords, Fetching)):
        found, captions, skipped = _find(args)
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
        _say_skipped(skipped | unread)
        criterion, every = _criterion(args), range(len(examples.heard))
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
                "n_recordings": len(examples.heard),
                "held_out": {name: _plain(of) for name, of in judged.items()},
            },
        )
    hours = sum(each.duration_s for each in examples.heard) / 3600
    n_heard = outputs.counted(len(examples.heard), "recording")
    print(f"{n_heard}, {hours:.2f} h; written to {args.output}")
    if judged:
        _print_held_out(judged, _notes(model, judged[args.level].choices))
    else:
        print("a single recording: none could be held out, so how good it is on others is unknown")


def _print_held_out(judged: Mapping[str, "HeldOut"], notes: Sequence[str]) -> None:
    """Print how good the model and each level are, and by caption the model and the last level."""
    print("on recordings held out in turn, means over captions:")
    rows = [
        [name, *(_number(value) for value in of.mean().values()), ""] for name, of in judged.items()
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
        numbers = (f"{_number(x)} > {_number(y)}" for x, y in pairs)
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


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}"


def _find(args: argparse.Namespace) -> "tuple[list[Labelled], list[str], dict[str, str]]":
    """The labelled recordings, the captions of their labels, and what cannot be used and why."""
    from flamlib.adaptation import own_labels

    found, skipped = own_labels.find(args.labels, args.audio)
    captions = own_labels.captions_of(found)
    if not captions:
        raise UsageError("the labelled recordings have no event, so there is no caption")
    return found, captions, skipped


def _check_sources(args: argparse.Namespace) -> None:
    """Raise UsageError for labels or recordings that are not there."""
    for source in args.labels:
        if not Path(source).exists():
            raise UsageError(f"{source}: no such file or folder")
    if args.audio and not Path(args.audio).is_dir():
        raise UsageError(f"{args.audio}: no such folder of recordings")


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


def _criterion(args: argparse.Namespace):
    from flamlib.adaptation.choose import Criterion

    if args.precision is not None:
        return Criterion("precision", args.precision)
    if args.false_per_hour is not None:
        return Criterion("false_per_hour", args.false_per_hour)
    return Criterion("f1")


def _say_skipped(skipped: Mapping[str, str]) -> None:
    for name, why in list(skipped.items())[:_FEW]:
        say(f"skipped {name}: {why}")
    if len(skipped) > _FEW:
        say(f"skipped {len(skipped)} recordings in all")


def _notes(model: "AudioTextModel", choices: Sequence["Choice"]) -> list[str]:
    """What to know before a threshold is believed."""
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


def _row(choice: "Choice", note: str) -> list[str]:
    numbers = (choice.recall, choice.precision, choice.false_per_hour, choice.f1)
    texts = [_number(x) for x in numbers]
    events = f"{choice.n_events}" + (f" (and {choice.n_false} no)" if choice.n_false else "")
    return [printable(choice.caption), f"{choice.threshold:.4g}", events, *texts, note]


def _write_recall(path: str, clips: "Clips") -> None:
    from flamlib.adaptation import choose

    rows = [["caption", *(f"recall_at_{rate:g}" for rate in choose.RATES)]]
    rows += [
        [name, *(f"{value:.6g}" for value in of)] for name, of in choose.recall_table(clips).items()
    ]
    tables.write(path, rows)
