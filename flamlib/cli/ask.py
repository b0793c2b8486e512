"""The commands of `flam` that ask a model: detect, embed, export."""

import argparse
import json
import sys
from pathlib import Path

from flamlib import files
from flamlib.cli.arguments import (
    CHECKPOINT,
    UsageError,
    add_workers,
    caption,
    count,
    model_folder,
    odd,
    seconds,
    share,
    usage_errors,
)


def add(commands: argparse._SubParsersAction) -> None:
    """Add them to those of the parser."""
    _add_detect(commands)
    _add_embed(commands)
    _add_export(commands)


def _add_detect(commands: argparse._SubParsersAction) -> None:
    detect = commands.add_parser(
        "detect", help="find the moments that captions describe", description=_detect.__doc__
    )
    detect.set_defaults(run=_detect)
    add = detect.add_argument
    add(
        "audio", metavar="AUDIO", help="any length and rate that libsndfile reads: WAV, FLAC, MP3 …"
    )
    add(
        "-c",
        "--caption",
        action="append",
        required=True,
        type=caption,
        dest="captions",
        metavar="TEXT",
        help='what to listen for, such as "a dog barks"; give it again for more',
    )
    add("-o", "--output", metavar="FILE", help="where to write the events (default: print them)")
    add("--model", metavar="FOLDER", help=f"a saved model (default: {CHECKPOINT} of the project)")
    add(
        "--threshold",
        metavar="X",
        type=share,
        default=0.5,
        help="lowest score of an event, 0 to 1; at 0.5 all that is likelier than usual, at 0.9 few "
        "and surer ones (default: %(default)s)",
    )
    add(
        "--method",
        choices=["unbiased", "biased", "approximate"],
        default="unbiased",
        help="kind of score: unbiased takes out how common a caption is; a model that knows no "
        "priors has no other (default: %(default)s)",
    )
    add(
        "--median-frames",
        metavar="N",
        type=odd,
        default=1,
        help="smooth over N frames (default: 1)",
    )
    add(
        "--scores",
        metavar="FILE",
        help="where to write the scores of all frames, too: a table as sed_scores_eval reads it",
    )
    add("--min-duration", metavar="S", type=seconds, default=0.0, help="drop shorter events")
    add("--merge-gap", metavar="S", type=seconds, default=0.0, help="join events this close")
    add(
        "--format",
        choices=["tsv", "audacity"],
        default="tsv",
        help="a table, or a label track for Audacity (default: %(default)s)",
    )


def _add_embed(commands: argparse._SubParsersAction) -> None:
    embed = commands.add_parser(
        "embed", help="recordings as embeddings, here or on a cluster", description=_embed.__doc__
    )
    embed.set_defaults(run=_embed, extra="serve")
    add = embed.add_argument
    add("audio", metavar="AUDIO", help="a folder of recordings, and of folders of them")
    add("folder", metavar="FOLDER", help="where to; a call that was stopped goes on there")
    add("--model", metavar="MODEL", help=f"a saved model (default: {CHECKPOINT} of the project)")
    add(
        "--shard-size",
        type=count,
        default=1000,
        metavar="N",
        help="recordings in a file (default: %(default)s)",
    )
    add_workers(embed, what="processes here")


def _add_export(commands: argparse._SubParsersAction) -> None:
    export = commands.add_parser(
        "export", help="a model as ONNX, in float32 and int8", description=_export.__doc__
    )
    export.set_defaults(run=_export, extra="onnx")
    export.add_argument("model", metavar="MODEL", help="a saved model")
    export.add_argument("out", metavar="OUT", help="the folder to write")
    export.add_argument(
        "--clip",
        metavar="S",
        type=seconds,
        default=10.0,
        help="length of the clips it will hear, rounded up to whole frames (default: %(default)s)",
    )


def _detect(args: argparse.Namespace) -> None:
    """Write the events of a recording that the captions describe: onset, offset, caption, score."""
    if not Path(args.audio).is_file():
        raise UsageError(f"{args.audio}: no such file")
    folder = model_folder(args.model)

    # Not at the top: torch takes seconds to import, which --help and a typo need not.
    from flamlib import audio, detection
    from flamlib.inference import detector
    from flamlib.models import baselines

    with usage_errors(audio.Unreadable):
        heard = detector.score(
            baselines.load(folder),
            args.audio,
            args.captions,
            method=args.method,
            median_frames=args.median_frames,
            progress=sys.stderr.isatty(),
        )
        if args.scores is not None:
            detection.write_scores(args.scores, *heard)
        found = detector.events(
            heard,
            threshold=args.threshold,
            min_duration_s=args.min_duration,
            merge_gap_s=args.merge_gap,
        )
        labels = args.format == "audacity"
        text = detection.to_audacity_labels(found) if labels else detection.to_table(found)
        if args.output is None:
            print(text, end="")
        else:
            files.atomic_write(args.output, text)


def _embed(args: argparse.Namespace) -> None:
    """Hear every recording of a folder once, and write what a caption can be compared with: unit
    vectors of frames and of whole recordings, in Parquet."""
    model = model_folder(args.model)

    from flamlib.inference import embedding

    with usage_errors():
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
    n = manifest["parameters"]["n_recordings"]
    print(f"{args.folder}: {n - len(unread)} recordings, {len(manifest['shards'])} files")
    for each in unread:
        print(f"skipped {each['path']}: {each['why']}", file=sys.stderr)


def _export(args: argparse.Namespace) -> None:
    """Write ONNX files of what hears and what reads, and print how far they are from the model."""
    folder = model_folder(args.model)

    from flamlib.inference import export
    from flamlib.models.flam import FLAM

    with usage_errors():
        model = FLAM.from_pretrained(folder)
        print(json.dumps(export.export(model, args.out, clip_s=args.clip), indent=2))
