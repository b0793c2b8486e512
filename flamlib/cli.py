"""The console script `flam`: when does a recording sound like a sentence?

    flam detect AUDIO -c CAPTION [-c CAPTION …] [--model FOLDER] [-o FILE] …

writes a table, `onset offset event_label score` in seconds, or Audacity's labels.

    flam import-openflam CKPT OUT --tokenizer FOLDER_OR_HUB_ID
    flam import-clap FOLDER_OR_HUB_ID OUT
    flam import-baseline CKPT OUT --tokenizer FOLDER_OR_HUB_ID
    flam import-htsat CKPT OUT

make models, and the last a tower to train from, out of what others published.

    flam export MODEL OUT

writes a model as ONNX and says how far onnxruntime is from torch.

    flam mix FOLDER -n 1000000 [--form webdataset] [--jobs 8 | --scheduler ADDRESS] …

renders the project's mixtures to files for any loader.

    flam caption TABLE -o sounds.tsv [--url http://localhost:11434/v1 --model NAME | --local FOLDER]

writes captions for recordings of which tags or titles are known. Exit code 0, also if nothing was
found; 2 if the call or a file is no good.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from flamlib import project

CHECKPOINT = "artifacts/checkpoints/flam"  # in a project; a model elsewhere goes by --model


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of `flam` with these arguments, by default those of the command line."""
    args = _parser().parse_args(arguments)
    try:
        args.run(args)
    except _Refused as error:
        print(f"flam: {error}", file=sys.stderr)
        return 2
    return 0


class _Refused(Exception):
    """What the user asked for cannot be done; the message says why and what would help."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="flam", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
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
        type=_caption,
        dest="captions",
        metavar="TEXT",
        help='what to listen for, such as "a dog barks"; give it again for more',
    )
    add("-o", "--output", metavar="FILE", help="where to write the events (default: print them)")
    add("--model", metavar="FOLDER", help=f"a saved model (default: {CHECKPOINT} of the project)")
    add(
        "--threshold",
        metavar="X",
        type=_share,
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
        type=_odd,
        default=1,
        help="smooth over N frames (default: 1)",
    )
    add("--min-duration", metavar="S", type=_seconds, default=0.0, help="drop shorter events")
    add("--merge-gap", metavar="S", type=_seconds, default=0.0, help="join events this close")
    add(
        "--format",
        choices=["tsv", "audacity"],
        default="tsv",
        help="a table, or a label track for Audacity (default: %(default)s)",
    )
    _add_imports(commands)
    export = commands.add_parser(
        "export", help="a model as ONNX, in float32 and int8", description=_export.__doc__
    )
    export.set_defaults(run=_export)
    export.add_argument("model", metavar="MODEL", help="a saved model")
    export.add_argument("out", metavar="OUT", help="the folder to write")
    export.add_argument(
        "--clip",
        metavar="S",
        type=_seconds,
        default=10.0,
        help="length of the clips it will hear, rounded up to whole frames (default: %(default)s)",
    )
    _add_mix(commands)
    _add_caption(commands)
    return parser


def _add_mix(commands: argparse._SubParsersAction) -> None:
    mix = commands.add_parser(
        "mix", help="render mixtures to files, here or on a cluster", description=_mix.__doc__
    )
    mix.set_defaults(run=_mix)
    add = mix.add_argument
    add("folder", metavar="FOLDER", help="where to; a call that was stopped goes on there")
    add("-n", type=_count, required=True, metavar="N", help="how many mixtures")
    add("--split", default="train", help="whose recordings (default: %(default)s)")
    add(
        "--form",
        choices=["parquet", "webdataset"],
        default="parquet",
        help="FLAC in Parquet, as `datasets` reads it, or tar files (default: %(default)s)",
    )
    add(
        "--shard-size",
        type=_count,
        default=1000,
        metavar="N",
        help="mixtures in a file (default: %(default)s)",
    )
    add("--jobs", type=_count, default=1, metavar="N", help="processes here (default: 1)")
    add(
        "--scheduler",
        metavar="ADDRESS",
        help="of a dask scheduler, tcp://host:8786, or its scheduler file: its workers do the work",
    )


def _add_imports(commands: argparse._SubParsersAction) -> None:
    """The commands that turn what others published into folders of ours."""
    openflam = commands.add_parser(
        "import-openflam", help="the authors' checkpoint as a model", description=_openflam.__doc__
    )
    openflam.add_argument("source", metavar="CKPT", help="your copy of the published .pth file")
    openflam.add_argument(
        "--tokenizer",
        required=True,
        metavar="FOLDER_OR_HUB_ID",
        help="RoBERTa's: a folder, or roberta-base to ask the hub for it",
    )
    clap = commands.add_parser(
        "import-clap", help="a CLAP of transformers as a model", description=_clap.__doc__
    )
    clap.add_argument(
        "source", metavar="FOLDER_OR_HUB_ID", help="without fusion, as laion/clap-htsat-unfused"
    )
    baseline = commands.add_parser(
        "import-baseline",
        help="LAION-CLAP's, CompA-CLAP's or MGA-CLAP's own checkpoint as a model",
        description=_baseline.__doc__,
    )
    baseline.add_argument(
        "source", metavar="CKPT", help="your copy, such as 630k-audioset-best.pt; its tensors tell "
        "which of them it is",
    )  # fmt: skip
    baseline.add_argument(
        "--tokenizer",
        required=True,
        metavar="FOLDER_OR_HUB_ID",
        help="of its text encoder: a folder, or roberta-base, google/flan-t5-large or "
        "bert-base-uncased to ask the hub for it",
    )
    htsat = commands.add_parser(
        "import-htsat", help="HTS-AT's own checkpoint as a tower", description=_htsat.__doc__
    )
    htsat.add_argument("source", metavar="CKPT", help="such as one trained on AudioSet's classes")
    runs = ((openflam, _openflam), (clap, _clap), (baseline, _baseline), (htsat, _htsat))
    for command, run in runs:
        command.add_argument("out", metavar="OUT", help="the folder to write")
        command.set_defaults(run=run)


def _openflam(args: argparse.Namespace) -> None:
    """Write the model in the authors' checkpoint, for --model and FLAM.from_pretrained."""
    from flamlib import openflam

    _write(lambda: openflam.read(args.source, args.tokenizer).save_pretrained(args.out))


def _clap(args: argparse.Namespace) -> None:
    """Write the model in a CLAP checkpoint, for --model and FLAM.from_pretrained."""
    from flamlib import clap

    _write(lambda: clap.read(args.source).save_pretrained(args.out))


def _baseline(args: argparse.Namespace) -> None:
    """Write a model to compare with out of its authors' own checkpoint, for --model."""
    from flamlib import originals

    _write(lambda: originals.read(args.source, args.tokenizer).save_pretrained(args.out))


def _htsat(args: argparse.Namespace) -> None:
    """Write the encoder alone, for a training that finds it as artifacts/weights/htsat."""
    from flamlib import clap

    _write(lambda: clap.write_tower(args.out, clap.read_tower(args.source)))


def _export(args: argparse.Namespace) -> None:
    """Write ONNX files of what hears and what reads, and print how far they are from the model."""
    folder = _model_folder(args.model)
    from flamlib import export
    from flamlib.model import FLAM

    def write() -> None:
        model = FLAM.from_pretrained(folder)
        print(json.dumps(export.export(model, args.out, clip_s=args.clip), indent=2))

    _write(write)


def _write(write: Callable[[], None]) -> None:
    try:
        write()
    except (OSError, ValueError) as error:
        raise _Refused(str(error)) from error


def _add_caption(commands: argparse._SubParsersAction) -> None:
    caption = commands.add_parser(
        "caption",
        help="write captions for recordings that have none",
        description=_captions.__doc__,
    )
    caption.set_defaults(run=_captions)
    add = caption.add_argument
    add(
        "table",
        metavar="TABLE",
        help="tab-separated, with a column path and any of tags, title, description",
    )
    add("-o", "--output", metavar="FILE", required=True, help="the table with captions, to write")
    who = caption.add_mutually_exclusive_group()
    who.add_argument("--url", help="of a server that speaks the OpenAI protocol, up to /v1")
    who.add_argument("--local", metavar="FOLDER", help="a text-generation model of transformers")
    add("--model", metavar="NAME", help="which model of the server")
    add("--per-second", metavar="X", type=_number, default=10.0, help="requests (default: 10)")
    add("--jobs", type=_count, default=4, metavar="N", help="requests at once (default: 4)")
    add("--scheduler", metavar="ADDRESS", help="of a dask cluster whose workers ask instead")
    add("--tries", type=_count, default=3, metavar="N", help="for one that keeps the rules")
    add("--seed", type=int, default=0)
    add(
        "--cache",
        metavar="FILE",
        default="artifacts/captions.sqlite",
        help="what was written before (default: %(default)s)",
    )


def _captions(args: argparse.Namespace) -> None:
    """Write the table with a column caption, from tags and titles: a template's without --url or
    --local. A server's key is taken from the variable OPENAI_API_KEY."""
    import httpx

    from flamlib import captioning

    if args.url and not args.model:
        raise _Refused("--url needs --model, the name that the server knows it by")
    try:
        made = captioning.caption_table(
            args.table,
            args.output,
            _writer(args),
            args.cache,
            seed=args.seed,
            n_tries=args.tries,
            n_jobs=args.jobs,
            scheduler=args.scheduler,
            progress=sys.stderr.isatty(),
        )
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise _Refused(str(error)) from error
    print(f"{args.output}: " + ", ".join(f"{n} by {by}" for by, n in sorted(made.items())))


def _writer(args: argparse.Namespace):
    from flamlib import caption_writers

    if args.url:
        key = os.environ.get("OPENAI_API_KEY")
        return caption_writers.Endpoint(args.url, args.model, key=key, per_second=args.per_second)
    return caption_writers.Local(args.local) if args.local else caption_writers.Template()


def _mix(args: argparse.Namespace) -> None:
    """Render mixtures by the `seed`, `audio` and `rules` of params.yaml from artifacts/bank."""
    import yaml

    from flamlib import shards
    from flamlib.rules import Rules

    try:
        root = project.root()
        params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
        manifest = shards.write(
            root / "artifacts/bank",
            Rules(clip_s=params["audio"]["clip_s"], **params["rules"]),
            args.folder,
            seed=params["seed"],
            split=args.split,
            n=args.n,
            shard_size=args.shard_size,
            form=args.form,
            n_jobs=args.jobs,
            scheduler=args.scheduler,
            progress=sys.stderr.isatty(),
        )
    except (OSError, ValueError) as error:
        raise _Refused(str(error)) from error
    n_bytes = sum(shard["n_bytes"] for shard in manifest["shards"])
    print(f"{args.folder}: {args.n} mixtures, {len(manifest['shards'])} files, {n_bytes:,} bytes")


def _detect(args: argparse.Namespace) -> None:
    """Write the events of a recording that the captions describe: onset, offset, caption, score."""
    if not Path(args.audio).is_file():
        raise _Refused(f"{args.audio}: no such file")
    folder = _model_folder(args.model)

    # Not at the top: torch takes seconds to import, which --help and a typo need not.
    from flamlib import audio, baselines, detection, detector

    try:
        found = detector.detect(
            baselines.load(folder),
            args.audio,
            args.captions,
            method=args.method,
            median_frames=args.median_frames,
            threshold=args.threshold,
            min_duration_s=args.min_duration,
            merge_gap_s=args.merge_gap,
            progress=sys.stderr.isatty(),
        )
        labels = args.format == "audacity"
        text = detection.to_audacity_labels(found) if labels else detection.to_table(found)
        if args.output is None:
            print(text, end="")
        else:
            project.atomic_write(args.output, text)
    except (audio.Unreadable, OSError, ValueError) as error:
        raise _Refused(str(error)) from error


def _model_folder(given: str | None) -> Path:
    """The model to use. Raises `_Refused` where there is none."""
    if given is not None:
        if not Path(given).is_dir():
            raise _Refused(f"{given}: no such folder; --model takes one that a model was saved to")
        return Path(given)
    try:
        folder = project.root() / CHECKPOINT
    except FileNotFoundError:
        raise _Refused(
            "no model: give --model FOLDER, or start in a folder of the project"
        ) from None
    if not folder.is_dir():
        raise _Refused(f"no model in {folder}: `make repro` trains one, --model takes another")
    return folder


def _caption(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty caption")
    return " ".join(text.split())


def _share(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return value


def _seconds(text: str) -> float:
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no duration in seconds")
    return value


def _odd(text: str) -> int:
    value = _number(text)
    if value < 1 or value % 2 != 1:
        raise argparse.ArgumentTypeError(f"{text} is not an odd number of frames")
    return int(value)


def _count(text: str) -> int:
    value = _number(text)
    if value < 1 or value % 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return int(value)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
