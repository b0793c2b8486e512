"""The commands of `flam` that convert published checkpoints to models of ours."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flamlib.cli import outputs
from flamlib.cli.errors import UsageError

if TYPE_CHECKING:  # it brings torch, seconds of import
    from flamlib.models.dual_encoder import DualEncoder
    from flamlib.models.htsat import HTSAT


def add_import_openflam(openflam: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam import-openflam`."""
    openflam.add_argument("source", metavar="CKPT", help="the published .pth file")
    openflam.add_argument(
        "--tokenizer",
        required=True,
        metavar="FOLDER_OR_HUB_ID",
        help="RoBERTa's tokenizer: a folder, or roberta-base to download it from the hub",
    )
    _finish(openflam, _openflam)


def add_import_clap(clap: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam import-clap`."""
    clap.add_argument(
        "source",
        metavar="FOLDER_OR_HUB_ID",
        help="a CLAP without fusion, such as laion/clap-htsat-unfused",
    )
    clap.add_argument(
        "--towers",
        metavar="FOLDER",
        help="write its towers to FOLDER/htsat and FOLDER/roberta too: artifacts/weights, to train "
        "with configs/from_clap.yaml",
    )
    _finish(clap, _clap)


def add_import_baseline(baseline: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam import-baseline`."""
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
    _finish(baseline, _baseline)


def add_import_htsat(htsat: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam import-htsat`."""
    htsat.add_argument(
        "source", metavar="CKPT", help="the checkpoint, such as one trained on AudioSet"
    )
    _finish(htsat, _htsat)


def _finish(command: argparse.ArgumentParser, run: Callable[[argparse.Namespace], None]) -> None:
    command.add_argument("out", type=outputs.folder, metavar="OUT", help="new folder to write to")
    command.description = run.__doc__
    command.set_defaults(run=run)


def _openflam(args: argparse.Namespace) -> None:
    """Convert the FLAM authors' checkpoint to a model for --model and FLAM.from_pretrained."""
    from flamlib.models.importers import openflam

    _save(args.out, lambda: openflam.read(args.source, args.tokenizer))


def _clap(args: argparse.Namespace) -> None:
    """Convert a CLAP checkpoint of transformers to a model for --model and FLAM.from_pretrained."""
    from flamlib.models.importers import clap

    towers = [Path(args.towers, name) for name in ("htsat", "roberta")] if args.towers else []
    for folder in towers:
        _require_free(folder)
    model = _save(args.out, lambda: clap.read(args.source))
    if towers:
        clap.write_towers(args.towers, model)
        print(f"{towers[0]} and {towers[1]}: its towers; docs/from_clap.md says how to train on")


def _baseline(args: argparse.Namespace) -> None:
    """Convert a checkpoint of LAION-CLAP, CompA-CLAP or MGA-CLAP to a model for --model."""
    from flamlib.models.importers import originals

    _save(args.out, lambda: originals.read(args.source, args.tokenizer))


def _htsat(args: argparse.Namespace) -> None:
    """Convert the encoder of an HTS-AT checkpoint to an audio tower; written to
    artifacts/weights/htsat, training starts from it."""
    from flamlib.models.importers import clap

    _require_free(args.out)
    tower = clap.read_tower(args.source)
    clap.write_tower(args.out, tower)
    print(
        f"{args.out}: HTS-AT, {_front_end(tower)}\n"
        f"Next: network.audio.tower: htsat trains from it, if it is artifacts/weights/htsat."
    )


def _require_free(out: str | Path) -> None:
    """Raise UsageError if there is something already: an import takes minutes to make again."""
    folder = Path(out)
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{out} exists: name another folder, or remove it first")


def _save(out: str, read: Callable[[], "DualEncoder"]) -> "DualEncoder":
    """Write a model that is read, say what it is and what to do with it, and return it."""
    _require_free(out)
    model = read()
    model.save_pretrained(out)
    # What `baselines.load` makes of it: an imported CLAP has no scale and no bias of a caption.
    priors = "scores with and without priors"
    if model.kind is not None or "heads" in model.provenance:
        priors = "cosines of frames and captions as scores, without priors"
    print(
        f"{out}: {model.provenance['imported from']}; {_front_end(model.audio)}, {priors}\n"
        f'Next: flam detect RECORDING -c "a dog barks" --model {out}'
    )
    return model


def _front_end(tower: "HTSAT") -> str:
    return f"{tower.sample_rate} Hz, frames of {tower.frame_s:.4g} s"
