"""What is asked of a model, by the options that `flam detect` and `flam listen` share."""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flamlib.cli import outputs
from flamlib.cli.arguments import (
    add_model,
    add_smoothing,
    caption,
    model_folder,
    seconds,
    share,
    smoothing,
    usage_errors,
    warnings_in_a_line,
)
from flamlib.cli.errors import UsageError
from flamlib.experiment.params.trials import DetectConfig
from flamlib.storage import files

if TYPE_CHECKING:  # they bring torch, seconds of import
    from flamlib.inference.detector import Asked
    from flamlib.inference.questions import Question, Questions
    from flamlib.models.interface import AudioTextModel

_FEW = 5  # captions that are told one by one


class Loaded(NamedTuple):
    """A model, and what is asked of it.

    Attributes:
        model: Any.
        questions: By the options of `add_questions`.
        embedded: Their captions, by the model.
        notes: For `say`: which model and thresholds these are, and why.
    """

    model: "AudioTextModel"
    questions: "Questions"
    embedded: "Asked"
    notes: list[str]


def add_questions(parser: argparse.ArgumentParser) -> None:
    """Add what is asked of audio, arguments of `questions_of`: captions, model, thresholds."""
    add = parser.add_argument
    add(
        "-c",
        "--caption",
        action="append",
        default=[],
        type=caption,
        dest="captions",
        metavar="TEXT",
        help='a sound to look for, such as "a dog barks"; repeat the option for more',
    )
    add(
        "--captions",
        metavar="FILE",
        dest="caption_file",
        help="sounds to look for, one a line; or a .tsv or .csv with a column caption and, if "
        "wanted, label, threshold, off_threshold and min_duration",
    )
    add(
        "--load-params",
        metavar="FILE",
        help="ask what a parameters.json of an earlier call says, where no option says otherwise",
    )
    add_model(parser)
    add(
        "--threshold",
        metavar="X",
        type=share,
        help="lowest score of a frame of an event, 0 to 1; higher: fewer, more certain events. An "
        "unbiased score above 0.5 is evidence for the caption (default: the model's own, for each "
        f"caption; {DetectConfig.threshold} for a model without)",
    )
    add(
        "--thresholds",
        metavar="FILE",
        help="thresholds by caption, from `flam thresholds`, in place of the model's own",
    )
    add(
        "--adapter",
        metavar="FOLDER",
        help="captions and thresholds adapted to recordings of your own, from `flam adapt`",
    )
    add(
        "--off-threshold",
        metavar="X",
        type=share,
        help="an event that reaches its threshold goes on while its score, smoothed by "
        "--hysteresis, is at least this (default: the threshold)",
    )
    add(
        "--method",
        choices=["unbiased", "biased", "approximate"],
        help="kind of score: unbiased (independent of how common a caption is), biased (the "
        "probability, prior included) or approximate (unbiased, for very rare captions); models "
        f"without priors have unbiased scores only (default: {DetectConfig.method})",
    )
    add_smoothing(parser)
    add(
        "--min-duration",
        metavar="S",
        type=seconds,
        help="drop events shorter than this, in seconds (default: "
        f"{DetectConfig.min_duration_s:g})",
    )
    add(
        "--merge-gap",
        metavar="S",
        type=seconds,
        help="merge events of a caption with a gap of at most this, in seconds (default: "
        f"{DetectConfig.merge_gap_s:g})",
    )


def check_captions(args: argparse.Namespace) -> None:
    """Raise UsageError if no caption is asked for."""
    if not args.captions and not args.caption_file and not args.load_params:
        raise UsageError("captions are needed: -c TEXT, or --captions FILE with one a line")


@contextmanager
def loaded(args: argparse.Namespace) -> Iterator[Loaded]:
    """Load the model, and embed what is asked of it by the options of `add_questions`.

    Errors in the block, and warnings, are told as the user's.
    """
    folder = model_folder(args.model)

    from flamlib.adaptation import adapter
    from flamlib.inference import questions
    from flamlib.models import baselines
    from flamlib.models.text_tower import UnknownWords
    from flamlib.models.weights import Fetching
    from flamlib.waveforms import audio

    said = (audio.Repaired, UnknownWords, Fetching)
    with usage_errors(audio.Unreadable), warnings_in_a_line(said):
        before = None if args.load_params is None else questions.read(args.load_params)
        asked = [questions.Question(caption=text) for text in args.captions]
        if args.caption_file is not None:
            asked += questions.read_captions(args.caption_file)
        model = adapter.load(folder, args.adapter) if args.adapter else baselines.load(folder)
        yield _loaded(args, model, folder, before, asked)


def _loaded(
    args: argparse.Namespace,
    model: "AudioTextModel",
    folder: Path,
    before: "Questions | None",
    asked: "list[Question]",
) -> Loaded:
    """What is asked: by the options, else by the parameters that were loaded, else as usual."""
    from dataclasses import replace

    from flamlib.adaptation import adapter
    from flamlib.inference import detector
    from flamlib.inference.questions import Questions
    from flamlib.models import caption_thresholds
    from flamlib.models.checkpoint import WEIGHTS

    notes = [f"model {folder.name}"] if args.model is None else []
    sha256 = files.sha256(folder / WEIGHTS)
    if before is not None and before.model != sha256:
        notes.append(f"{args.load_params} was made with another model than {folder}")
    if before is not None and before.adapter and not args.adapter:
        notes.append(f"{args.load_params} was made with an adapter; --adapter FOLDER is not given")
    if not asked and before is not None:
        asked = before.captions
        if args.threshold is not None or args.thresholds is not None:
            asked = [replace(each, threshold=None) for each in asked]
    embedded = detector.ask(model, [each.caption for each in asked])

    def chosen(name: str, usual=None):
        given = getattr(args, name, None)
        field = {"merge_gap": "merge_gap_s"}.get(name, name)
        return given if given is not None else getattr(before, field, usual)

    method = chosen("method", DetectConfig.method)
    usual = detector.smoothing_of(model) if before is None else before.smoothing
    if args.thresholds is not None:
        model.thresholds = caption_thresholds.read_file(
            args.thresholds, folder / WEIGHTS, method=method
        )
        usual = model.thresholds.smoothing
    how = {"method": method, "smoothing": smoothing(args, usual)}
    if args.thresholds is not None and how["smoothing"] != usual:
        raise UsageError(
            f"{args.thresholds}: thresholds of scores with {usual}, not with {how['smoothing']}: "
            "choose them again with `flam thresholds`, or detect as they were chosen"
        )
    filled = {
        "threshold": _thresholds(args, model, asked, embedded, how, notes),
        "off_threshold": [args.off_threshold] * len(asked),
        "min_duration_s": [args.min_duration] * len(asked),
    }
    # What a table says of one caption goes before what an option says of all.
    captions = [
        replace(each, **{n: of[k] for n, of in filled.items() if getattr(each, n) is None})
        for k, each in enumerate(asked)
    ]
    questions = Questions(
        format=1,
        model=sha256,
        adapter=files.sha256(Path(args.adapter) / adapter.TENSORS) if args.adapter else None,
        captions=captions,
        merge_gap_s=chosen("merge_gap", DetectConfig.merge_gap_s),
        top=chosen("top"),
        channel=chosen("channel"),
        method=method,
        median_frames=how["smoothing"].median_frames,
        hysteresis=how["smoothing"].hysteresis,
    )
    return Loaded(model, questions, embedded, notes)


def _thresholds(
    args: argparse.Namespace,
    model: "AudioTextModel",
    asked: "list[Question]",
    embedded: "Asked",
    how: Mapping,
    notes: list[str],
) -> list[float]:
    """Return a threshold for each caption; note which, and why, if none was given."""
    from flamlib.inference import detector

    known = embedded.known or [1.0] * len(asked)
    if novel := [c for c, k in zip(embedded.captions, known, strict=True) if k < 0.5]:
        notes.append(f"not trained on these captions, scores are less sure: {_few(novel)}")
    if args.threshold is not None:
        return [args.threshold] * len(asked)
    chosen = detector.choose_thresholds(model, embedded, **how)
    told = [e for e, each in zip(chosen, asked, strict=True) if each.threshold is None]
    own = [
        f"{e.caption} {e.threshold:.3g} ({outputs.counted(e.n_events, 'event')})"
        for e in told
        if e.is_own
    ]
    others = [each for each in told if not each.is_own]
    if told and detector.thresholds_of(model, **how) is None:
        has_others = getattr(model, "thresholds", None) is not None
        why = "the model's own are of other scores" if has_others else "the model has none"
        notes.append(f"threshold of every caption: {told[0].threshold:.3g}, as {why}")
        return [each.threshold for each in chosen]
    with_own, without = "that validation knows", "that validation does not know"
    if args.thresholds is not None or args.adapter is not None:
        with_own, without = "with examples", "without enough examples"
    if own:
        notes.append(f"thresholds of captions {with_own}: {_few(own)}")
    if others:
        which = "other captions" if own else f"captions {without}"
        of_others = _few(f"{e.caption} {e.threshold:.3g}" for e in others)
        notes.append(f"thresholds of {which}: {of_others}")
    return [each.threshold for each in chosen]


def _few(texts: Iterable[str]) -> str:
    """The first of some texts, and how many more there are."""
    texts = list(texts)
    more = f"; and {len(texts) - _FEW} more" if len(texts) > _FEW else ""
    return "; ".join(texts[:_FEW]) + more
