"""The commands of `flam` that use a model: detect, embed, export."""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from flamlib import files
from flamlib.cli.arguments import (
    UsageError,
    add_model,
    add_workers,
    caption,
    clip_seconds,
    count,
    model_folder,
    odd,
    printable,
    seconds,
    share,
    usage_errors,
    warnings_in_a_line,
)
from flamlib.config import DetectConfig

if TYPE_CHECKING:  # it brings torch, seconds of import
    from flamlib.models.interface import AudioTextModel

_FEW = 5  # captions that are told one by one


def add_detect(detect: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam detect`."""
    detect.description = _detect.__doc__
    detect.set_defaults(run=_detect)
    add = detect.add_argument
    add(
        "audio",
        metavar="AUDIO",
        help="a recording of any length and sample rate: WAV, FLAC, MP3, M4A and whatever else "
        "libsndfile or FFmpeg reads",
    )
    add(
        "-c",
        "--caption",
        action="append",
        required=True,
        type=caption,
        dest="captions",
        metavar="TEXT",
        help='a sound to look for, such as "a dog barks"; repeat the option for more',
    )
    add("-o", "--output", metavar="FILE", help="file to write the events to (default: print them)")
    add_model(detect)
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
        "--method",
        choices=["unbiased", "biased", "approximate"],
        default=DetectConfig.method,
        help="kind of score: unbiased (independent of how common a caption is), biased (the "
        "probability, prior included) or approximate (unbiased, for very rare captions); models "
        "without priors have unbiased scores only (default: %(default)s)",
    )
    add(
        "--median-frames",
        metavar="N",
        type=odd,
        default=DetectConfig.median_frames,
        help="length of a median filter over the scores, odd; 1: no filter (default: %(default)s)",
    )
    add(
        "--scores",
        metavar="FILE",
        help="also write the scores of all frames to this file, in the format of sed_scores_eval",
    )
    add(
        "--min-duration",
        metavar="S",
        type=seconds,
        default=DetectConfig.min_duration_s,
        help="drop events shorter than this, in seconds (default: %(default)s)",
    )
    add(
        "--merge-gap",
        metavar="S",
        type=seconds,
        default=DetectConfig.merge_gap_s,
        help="merge events of a caption with a gap of at most this, in seconds (default: "
        "%(default)s)",
    )
    add(
        "--format",
        choices=["tsv", "audacity"],
        default="tsv",
        help="tab-separated table, or label track for Audacity (default: %(default)s)",
    )


def add_embed(embed: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam embed`."""
    embed.description = _embed.__doc__
    embed.set_defaults(run=_embed, extra="serve")
    add = embed.add_argument
    add("audio", metavar="AUDIO", help="folder of recordings; subfolders are included")
    add("folder", metavar="FOLDER", help="folder to write to; an interrupted run continues")
    add_model(embed)
    add(
        "--shard-size",
        type=count,
        default=1000,
        metavar="N",
        help="recordings per file (default: %(default)s)",
    )
    add_workers(embed, what="number of processes on this machine")


def add_export(export: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam export`."""
    export.description = _export.__doc__
    export.set_defaults(run=_export, extra="onnx")
    export.add_argument("model", metavar="MODEL", help="a model by its folder or name")
    export.add_argument("out", metavar="OUT", help="folder to write to")
    export.add_argument(
        "--clip",
        metavar="S",
        type=clip_seconds,
        default=10.0,
        help="duration of a clip in seconds, rounded up to whole frames (default: %(default)s)",
    )


def _detect(args: argparse.Namespace) -> None:
    """Find the events in a recording that the captions describe. Writes a table with the columns
    filename, onset, offset (both in seconds), event_label and score."""
    recording, outputs = Path(args.audio), [o for o in (args.output, args.scores) if o]
    if recording.is_dir():
        raise UsageError(f"{recording}: a folder; flam detect takes one recording")
    if not recording.is_file():
        missing = "not a file" if recording.exists() else "no such file"
        raise UsageError(f"{recording}: {missing}")
    if any(Path(output).exists() and recording.samefile(output) for output in outputs):
        raise UsageError(f"{recording}: the recording would be replaced; choose another output")
    if args.scores is not None and _place(args.scores) == _place(args.output):
        raise UsageError(
            "--output and --scores name one file; choose two"
            if args.output is not None
            else f"{args.scores}: the scores would stand among the events that are printed; "
            "-o FILE puts those into a file"
        )
    folder = model_folder(args.model)

    # Imported here: torch takes seconds, and --help does not need it.
    from flamlib import audio, detection, tables
    from flamlib.adaptation import adapter
    from flamlib.inference import detector
    from flamlib.models import baselines, caption_thresholds
    from flamlib.models.checkpoint import WEIGHTS
    from flamlib.models.text_tower import UnknownWords
    from flamlib.models.weights import Fetching

    said = (audio.Repaired, UnknownWords, Fetching)
    with usage_errors(audio.Unreadable), warnings_in_a_line(said):
        for output in outputs:
            files.check_file(output)
        if args.scores is not None:
            detection.check_columns(args.scores, args.captions)
        model = adapter.load(folder, args.adapter) if args.adapter else baselines.load(folder)
        if args.thresholds is not None:
            model.thresholds = caption_thresholds.read_file(
                args.thresholds,
                folder / WEIGHTS,
                method=args.method,
                median_frames=args.median_frames,
            )
        scores = detector.score(
            model,
            args.audio,
            args.captions,
            method=args.method,
            median_frames=args.median_frames,
            progress=sys.stderr.isatty(),
        )
        if args.scores is not None:
            detection.write_scores(args.scores, *scores)
        found = detector.events(
            scores,
            threshold=_thresholds(model, folder, args),
            min_duration_s=args.min_duration,
            merge_gap_s=args.merge_gap,
        )
        if args.format == "audacity":
            text = detection.to_audacity_labels(found)
        else:
            separator = tables.delimiter_of(args.output or "")
            name = recording.name
            text = detection.to_table(found, filename=name, delimiter=separator)
        if args.output is None:
            print(text, end="")
        else:
            files.atomic_write(args.output, text)


def _thresholds(model: "AudioTextModel", folder: Path, args: argparse.Namespace) -> list[float]:
    """Return a threshold for each caption, and tell the user which and why, if none was given."""
    from flamlib.inference import detector

    if args.model is None:
        _say(f"model {folder.name}")
    _say_novel(model, args.captions)
    if args.threshold is not None:
        return [args.threshold] * len(args.captions)
    how = {"method": args.method, "median_frames": args.median_frames}
    chosen = detector.choose_thresholds(model, args.captions, **how)
    own = [f"{e.caption} {e.threshold:.3g} ({e.n_events} events)" for e in chosen if e.is_own]
    others = [each for each in chosen if not each.is_own]
    if own:
        _say(f"thresholds of captions that validation knows: {_few(own)}")
    if others:
        which = "other captions" if own else "captions that validation does not know"
        _say(f"thresholds of {which}: {_few(f'{e.caption} {e.threshold:.3g}' for e in others)}")
    return [each.threshold for each in chosen]


def _say_novel(model: "AudioTextModel", captions: list[str]) -> None:
    """Tell the user which captions are unlike all that the model was trained on."""
    if not hasattr(model, "known"):
        return
    novel = [c for c, known in zip(captions, model.known(captions), strict=True) if known < 0.5]
    if novel:
        _say(f"not trained on these captions, scores are less sure: {_few(novel)}")


def _few(texts: Iterable[str]) -> str:
    """The first of some texts, and how many more there are."""
    texts = list(texts)
    more = f"; and {len(texts) - _FEW} more" if len(texts) > _FEW else ""
    return "; ".join(texts[:_FEW]) + more


def _say(text: str) -> None:
    print(f"flam: {printable(text)}", file=sys.stderr)


def _place(output: str | None) -> tuple[int, int] | str | None:
    """What is written to, the same for all its names; None: what is printed."""
    try:
        status = os.fstat(sys.stdout.fileno()) if output is None else os.stat(output)
    except (OSError, ValueError, AttributeError):  # not there yet, or closed
        return output and os.path.realpath(output)
    if os.path.exists(os.devnull) and os.path.samestat(status, os.stat(os.devnull)):
        return output  # swallows any number of tables
    return status.st_dev, status.st_ino


def _embed(args: argparse.Namespace) -> None:
    """Write unit vectors of the frames and of the whole of every recording in a folder, in Parquet
    files. They can be compared with any caption later, without the audio."""
    model = model_folder(args.model)

    from flamlib.inference import embedding

    manifest = embedding.write(
        model,
        args.audio,
        args.folder,
        shard_size=args.shard_size,
        n_jobs=args.jobs,
        scheduler=args.scheduler,
        progress=sys.stderr.isatty(),
    )
    unread = embedding.list_skipped(manifest)
    n = manifest["parameters"]["n_recordings"] - sum(len(s["skipped"]) for s in manifest["shards"])
    skipped = f", {len(unread)} skipped" if unread else ""
    print(f"{args.folder}: {n} recordings, {len(manifest['shards'])} files{skipped}")
    for each in unread:
        print(printable(f"skipped {each['path']}: {each['why']}"), file=sys.stderr)
    for each in embedding.list_notes(manifest):
        print(printable(f"note on {each['path']}: {each['note']}"), file=sys.stderr)


def _export(args: argparse.Namespace) -> None:
    """Write the audio half and the caption half of a model as ONNX files, and print how far their
    outputs are from the model's."""
    folder = model_folder(args.model)

    from flamlib.inference import export
    from flamlib.models.flam import FLAM

    model = FLAM.from_pretrained(folder)
    print(json.dumps(export.export(model, args.out, clip_s=args.clip), indent=2))
