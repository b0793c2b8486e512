"""The commands of `flam` that convert published checkpoints to models of ours."""

import argparse

from flamlib.cli.arguments import usage_errors


def add(commands: argparse._SubParsersAction) -> None:
    """Add the commands to the parser."""
    openflam = commands.add_parser(
        "import-openflam",
        help="import the FLAM authors' checkpoint (OpenFLAM)",
        description=_openflam.__doc__,
    )
    openflam.add_argument("source", metavar="CKPT", help="the published .pth file")
    openflam.add_argument(
        "--tokenizer",
        required=True,
        metavar="FOLDER_OR_HUB_ID",
        help="RoBERTa's tokenizer: a folder, or roberta-base to download it from the hub",
    )
    clap = commands.add_parser(
        "import-clap", help="import a CLAP checkpoint of transformers", description=_clap.__doc__
    )
    clap.add_argument(
        "source",
        metavar="FOLDER_OR_HUB_ID",
        help="a CLAP without fusion, such as laion/clap-htsat-unfused",
    )
    baseline = commands.add_parser(
        "import-baseline",
        help="import a checkpoint of LAION-CLAP, CompA-CLAP or MGA-CLAP in its authors' format",
        description=_baseline.__doc__,
    )
    baseline.add_argument(
        "source",
        metavar="CKPT",
        help="the checkpoint, such as 630k-audioset-best.pt; which model it is, is detected",
    )
    baseline.add_argument(
        "--tokenizer",
        required=True,
        metavar="FOLDER_OR_HUB_ID",
        help="tokenizer of its text encoder: a folder, or roberta-base, google/flan-t5-large or "
        "bert-base-uncased to download it from the hub",
    )
    htsat = commands.add_parser(
        "import-htsat",
        help="import an HTS-AT checkpoint as an audio tower to train from",
        description=_htsat.__doc__,
    )
    htsat.add_argument(
        "source", metavar="CKPT", help="the checkpoint, such as one trained on AudioSet"
    )
    runs = ((openflam, _openflam), (clap, _clap), (baseline, _baseline), (htsat, _htsat))
    for command, run in runs:
        command.add_argument("out", metavar="OUT", help="folder to write to")
        command.set_defaults(run=run)


def _openflam(args: argparse.Namespace) -> None:
    """Convert the FLAM authors' checkpoint to a model for --model and FLAM.from_pretrained."""
    from flamlib.models.importers import openflam

    with usage_errors():
        openflam.read(args.source, args.tokenizer).save_pretrained(args.out)


def _clap(args: argparse.Namespace) -> None:
    """Convert a CLAP checkpoint of transformers to a model for --model and FLAM.from_pretrained."""
    from flamlib.models.importers import clap

    with usage_errors():
        clap.read(args.source).save_pretrained(args.out)


def _baseline(args: argparse.Namespace) -> None:
    """Convert a checkpoint of LAION-CLAP, CompA-CLAP or MGA-CLAP to a model for --model."""
    from flamlib.models.importers import originals

    with usage_errors():
        originals.read(args.source, args.tokenizer).save_pretrained(args.out)


def _htsat(args: argparse.Namespace) -> None:
    """Convert the encoder of an HTS-AT checkpoint to an audio tower; written to
    artifacts/weights/htsat, training starts from it."""
    from flamlib.models.importers import clap

    with usage_errors():
        clap.write_tower(args.out, clap.read_tower(args.source))
