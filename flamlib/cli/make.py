"""The commands of `flam` that make training data and check it: mix, caption, verify."""

import argparse
import os
from pathlib import Path

from flamlib import paths
from flamlib.cli import outputs
from flamlib.cli.arguments import (
    add_workers,
    count,
    number,
    usage_errors,
    whole,
    workers,
)
from flamlib.cli.aside import shows_progress
from flamlib.cli.errors import UsageError
from flamlib.storage import files


def add_mix(mix: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam mix`."""
    mix.description = _mix.__doc__
    mix.set_defaults(run=_mix, extra="train", goes_on=True)
    add = mix.add_argument
    add(
        "folder",
        type=outputs.folder,
        metavar="FOLDER",
        help="folder to write to; an interrupted run continues",
    )
    add("-n", type=count, required=True, metavar="N", help="number of mixtures")
    add("--split", default="train", help="split whose recordings are mixed (default: %(default)s)")
    add(
        "--form",
        choices=["parquet", "webdataset"],
        default="parquet",
        help="file format: FLAC in Parquet, for `datasets`, or tar files (default: %(default)s)",
    )
    add(
        "--shard-size",
        type=count,
        default=1000,
        metavar="N",
        help="mixtures per file (default: %(default)s)",
    )
    add_workers(mix, what="number of processes on this machine")


def _mix(args: argparse.Namespace) -> None:
    """Render mixtures of the recordings in artifacts/bank, by the sections `seed` and
    `mixture` of params.yaml."""
    how = workers(args)

    from flamlib.data.mixtures import shards
    from flamlib.experiment.config import load_config

    root = paths.root()
    config = load_config(root / paths.PARAMS)
    manifest = shards.write(
        root / paths.BANK,
        config.mixture,
        args.folder,
        seed=config.seed,
        split=args.split,
        n=args.n,
        shard_size=args.shard_size,
        form=args.form,
        **how,
        progress=shows_progress(),
    )
    n_bytes = sum(shard["n_bytes"] for shard in manifest["shards"])
    mixtures = outputs.counted(args.n, "mixture")
    written = outputs.counted(len(manifest["shards"]), "file")
    print(f"{args.folder}: {mixtures}, {written}, {n_bytes:,} bytes")


def add_caption(caption: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam caption`."""
    caption.description = _captions.__doc__
    caption.set_defaults(run=_captions, extra="train", goes_on=True)
    add = caption.add_argument
    add(
        "table",
        metavar="TABLE",
        help="a .tsv or .csv with a column path and any of the columns tags, title, description",
    )
    add(
        "-o",
        "--output",
        type=outputs.file,
        metavar="FILE",
        required=True,
        help="file to write the table with captions to",
    )
    who = caption.add_mutually_exclusive_group()
    who.add_argument("--url", help="address of a server with the OpenAI protocol, up to /v1")
    who.add_argument(
        "--local", metavar="FOLDER", help="folder of a text-generation model of transformers"
    )
    add("--model", metavar="NAME", help="name of the model on the server, with --url")
    add(
        "--per-second",
        metavar="X",
        type=number,
        default=10.0,
        help="highest number of requests per second (default: 10)",
    )
    add_workers(caption, jobs=4, what="number of requests at a time")
    add(
        "--tries",
        type=count,
        default=3,
        metavar="N",
        help="attempts per caption until one keeps the rules (default: %(default)s)",
    )
    add("--seed", type=whole, default=0, help="seed of the writer (default: %(default)s)")
    add(
        "--cache",
        metavar="FILE",
        help="captions of earlier runs (default: captions.sqlite beside the output, or beside the "
        "table where the output is no file)",
    )


def _captions(args: argparse.Namespace) -> None:
    """Add a column caption to a table of recordings, written from tags, title and description, or
    from the file's name if all three are empty: by a model on a server (--url), a local model
    (--local), or else a template. The key of a server is read from the variable OPENAI_API_KEY."""
    import httpx

    from flamlib.data.corpus import captioning

    if args.url is not None and not args.model:
        raise UsageError("--url needs --model, the name of the model on the server")
    if args.model is not None and not args.url:
        raise UsageError(
            "--model is the name of a model on a server and needs --url; for a model of "
            "transformers pass --local FOLDER only"
        )
    output = Path(args.output)
    is_file = not files.is_stream(output)
    how = workers(args, threads=True)
    with usage_errors(httpx.HTTPError):
        made = captioning.caption_table(
            args.table,
            args.output,
            _writer(args),
            args.cache or (output if is_file else Path(args.table)).with_name("captions.sqlite"),
            seed=args.seed,
            n_tries=args.tries,
            **how,
            progress=shows_progress(),
        )
    counts = ", ".join(f"{n} by {by}" for by, n in sorted(made.items()))
    outputs.teller(args.output)(f"{args.output}: {counts}")


def _writer(args: argparse.Namespace):
    from flamlib.data.corpus import caption_writers

    if args.url:
        key = os.environ.get("OPENAI_API_KEY")
        return caption_writers.Endpoint(args.url, args.model, key=key, per_second=args.per_second)
    if args.local is not None:
        return caption_writers.Local(args.local)
    return caption_writers.Template()


def add_verify(verify: argparse.ArgumentParser) -> None:
    """Add the argument of `flam verify`."""
    verify.description = _verify.__doc__
    verify.set_defaults(run=_verify)
    verify.add_argument("folder", metavar="FOLDER", help="folder with a manifest.json")


def _verify(args: argparse.Namespace) -> None:
    """Compare every file that the manifest.json of a folder lists with its recorded SHA-256, for
    example after copying the folder. Stops at the first file that differs."""
    from flamlib.storage import manifest

    shards = manifest.verify(args.folder)["shards"]
    n_bytes = sum(shard["n_bytes"] for shard in shards)
    compared = outputs.counted(len(shards), "file")
    print(f"{args.folder}: {compared}, {n_bytes:,} bytes, all as they were written")
