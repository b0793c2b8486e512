"""The command of `flam` that lists models, and fetches one of others."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from flamlib import paths
from flamlib.cli.aside import say
from flamlib.models import released


def add_models(models: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam models`."""
    models.description = _models.__doc__
    models.set_defaults(run=_models)
    models.add_argument(
        "--get",
        choices=list(released.OTHERS),
        metavar="NAME",
        help="fetch this model from the Hugging Face hub, under its licence, and import it: "
        + ", ".join(released.OTHERS),
    )


def _models(args: argparse.Namespace) -> None:
    """List the models that `flam detect --model` finds by name, those of the project, and those of
    others that can be had; nothing is downloaded unless --get names it."""
    if args.get is not None:
        _get(args.get)
        return
    print("At hand, for --model:")
    for name, folder in _at_hand():
        print(f"  {name}  {_size_mb(folder):.0f} MB{_towers(folder)}  {folder}")
    print("To be had, with flam models --get NAME:")
    for name, other in released.OTHERS.items():
        print(f"  {name}  {other.about}; licence {other.licence}  ({other.hub})")


def _get(name: str) -> None:
    other = released.OTHERS[name]
    say(f"{other.hub}, licence {other.licence}")

    from flamlib.models.importers import others

    print(f'{others.get(name)}\nNext: flam detect RECORDING -c "a dog barks" --model {name}')


def _at_hand() -> Iterator[tuple[str, Path]]:
    """Models by their names, then those of the project by their folders."""
    yield from released.known().items()
    try:
        root = paths.root()
    except FileNotFoundError:
        return
    for config in sorted((root / paths.CHECKPOINTS).glob("*/config.json")):
        yield config.parent.relative_to(root).as_posix(), config.parent


def _size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def _towers(folder: Path) -> str:
    """What is fetched for a model in its light form, or was."""
    try:
        towers = json.loads((folder / "config.json").read_text(encoding="utf-8"))["towers"]
        n_bytes = sum(p["bytes"] for tower in towers.values() for p in tower["packages"])
        names = [tower["name"] for tower in towers.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""  # a whole model, or a damaged one, which loading will name
    cached = paths.user_cache() / "towers"
    if all(any(cached.glob(f"{name}-*/provenance.json")) for name in names):
        return ", towers fetched"
    return f", and {n_bytes / 1e6:.0f} MB of towers at first use"
