"""The commands of `flam` that use a model on a collection, or hand it on: embed, export."""

import argparse
import json

from flamlib.cli import outputs
from flamlib.cli.arguments import (
    add_model,
    add_workers,
    clip_seconds,
    count,
    model_folder,
    workers,
)
from flamlib.cli.aside import say, shows_progress


def add_embed(embed: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam embed`."""
    embed.description = _embed.__doc__
    embed.set_defaults(run=_embed, extra="serve", goes_on=True)
    add = embed.add_argument
    add("audio", metavar="AUDIO", help="folder of recordings; subfolders are included")
    add(
        "folder",
        type=outputs.folder,
        metavar="FOLDER",
        help="folder to write to; an interrupted run continues",
    )
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
    export.add_argument("out", type=outputs.folder, metavar="OUT", help="folder to write to")
    export.add_argument(
        "--clip",
        metavar="S",
        type=clip_seconds,
        default=10.0,
        help="duration of a clip in seconds, rounded up to whole frames (default: %(default)s)",
    )


def _embed(args: argparse.Namespace) -> None:
    """Write unit vectors of the frames and of the whole of every recording in a folder, in Parquet
    files. They can be compared with any caption later, without the audio."""
    model, how = model_folder(args.model), workers(args)

    from flamlib.inference import embedding

    manifest = embedding.write(
        model,
        args.audio,
        args.folder,
        shard_size=args.shard_size,
        **how,
        progress=shows_progress(),
    )
    unread = embedding.list_skipped(manifest)
    n = manifest["parameters"]["n_recordings"] - sum(len(s["skipped"]) for s in manifest["shards"])
    skipped = f", {len(unread)} skipped" if unread else ""
    embedded = outputs.counted(n, "recording")
    written = outputs.counted(len(manifest["shards"]), "file")
    print(f"{args.folder}: {embedded}, {written}{skipped}")
    for each in unread:
        say(f"skipped {each['path']}: {each['why']}")
    for each in embedding.list_notes(manifest):
        say(f"note on {each['path']}: {each['note']}")


def _export(args: argparse.Namespace) -> None:
    """Write the audio half and the caption half of a model as ONNX files, and print how far their
    outputs are from the model's."""
    folder = model_folder(args.model)

    from flamlib.inference import export
    from flamlib.models.flam import FLAM

    model = FLAM.from_pretrained(folder)
    print(json.dumps(export.export(model, args.out, clip_s=args.clip), indent=2))
