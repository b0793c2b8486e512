"""The commands of `flam` that make models out of what others published."""

import argparse

from flamlib.cli.arguments import usage_errors


def add(commands: argparse._SubParsersAction) -> None:
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
    from flamlib.models.importers import openflam

    with usage_errors():
        openflam.read(args.source, args.tokenizer).save_pretrained(args.out)


def _clap(args: argparse.Namespace) -> None:
    """Write the model in a CLAP checkpoint, for --model and FLAM.from_pretrained."""
    from flamlib.models.importers import clap

    with usage_errors():
        clap.read(args.source).save_pretrained(args.out)


def _baseline(args: argparse.Namespace) -> None:
    """Write a model to compare with out of its authors' own checkpoint, for --model."""
    from flamlib.models.importers import originals

    with usage_errors():
        originals.read(args.source, args.tokenizer).save_pretrained(args.out)


def _htsat(args: argparse.Namespace) -> None:
    """Write the encoder alone, for a training that finds it as artifacts/weights/htsat."""
    from flamlib.models.importers import clap

    with usage_errors():
        clap.write_tower(args.out, clap.read_tower(args.source))
