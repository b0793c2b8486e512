"""Loading of a saved model, in its whole form (`checkpoint`) or in its light one (`light`)."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from flamlib.models import (
    caption_thresholds,
    checkpoint,
    light,
    state_dict,
    text_tower,
    weights,
)
from flamlib.models.checkpoint import CAPTION_FOLDER, CONFIG, WEIGHTS
from flamlib.models.state_dict import reason


def load(cls: Callable[..., nn.Module], source: str | Path, **hub: Any) -> nn.Module:
    """Load a saved model, in eval mode.

    Args:
        cls: A subclass of `DualEncoder`.
        source: See `DualEncoder.from_pretrained`, which also says what is raised.
        hub: See there.
    """
    folder = checkpoint.resolve_source(source, **hub)
    for path in (folder, folder / CONFIG, folder / WEIGHTS):
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: pass a folder with a saved model")
    config = checkpoint.read_config(folder / CONFIG, cls.settings, kind=cls.kind)
    towers = _towers(folder, config)
    captions = folder / CAPTION_FOLDER if towers is None else towers["caption"]
    if not captions.exists():
        raise FileNotFoundError(f"{captions} is missing: pass a folder with a saved model")
    tensors = state_dict.read(folder / WEIGHTS)

    def build() -> nn.Module:
        return _build(cls, folder / CONFIG, captions, config)

    def check(model: nn.Module) -> None:
        expected = {
            name: tensor
            for name, tensor in model.state_dict().items()
            if towers is None or name in tensors or not light.is_given(name)
        }
        state_dict.check(tensors, expected, folder / WEIGHTS)

    with torch.device("meta"), _WithoutStart():  # no memory, whatever sizes the settings claim
        check(build())
    with _WithoutStart():  # every number is replaced below
        model = build()
    check(model)
    if towers is not None:
        light.load_towers(model, towers)
    # Half and double precision become float32.
    model.load_state_dict(tensors, strict=towers is None)
    model.provenance = checkpoint.read_provenance(folder)
    model.thresholds = caption_thresholds.read(folder)
    model.eval()
    with text_tower.unusable(captions), warnings.catch_warnings():
        warnings.simplefilter("ignore", text_tower.UnknownWords)  # nobody asked for this one
        model.embed_captions(["a sound"])
    return model


class _WithoutStart(TorchFunctionMode):
    """Draws no random weights, which takes time; on "meta" it would import torch's compiler."""

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if getattr(function, "__module__", None) == "torch.nn.init":
            return (kwargs or {}).get("tensor", args[0] if args else None)
        return function(*args, **(kwargs or {}))


def _towers(folder: Path, config: dict[str, Any]) -> dict[str, Path] | None:
    """The folders of the towers that a light model goes with; None for a whole one."""
    form = checkpoint.read_light(folder / CONFIG)
    if form is None:
        return None
    light.check_digest(folder, form["sha256"])
    towers = light.read_towers(form["towers"], folder / CONFIG)
    if (named := towers["audio"].name) != config["audio"]["tower"]:
        raise ValueError(
            f"{folder / CONFIG}: audio.tower is {config['audio']['tower']!r}, but the tower that "
            f"its packages make is {named!r}"
        )
    return dict(
        zip(towers, weights.from_cache(towers.values(), progress=sys.stderr.isatty()), strict=True)
    )


def _build(
    cls: Callable[..., nn.Module], path: Path, captions: Path, config: dict[str, Any]
) -> nn.Module:
    """Build a model of checked settings. Raises ValueError naming the file."""
    try:
        return cls(captions, **config)
    except ValueError as error:
        if str(path.parent) in str(error) or str(captions) in str(error):
            raise
        raise ValueError(f"{path}: {error}") from error
    except (RuntimeError, OverflowError, TypeError) as error:  # sizes beyond 64 bits
        raise ValueError(f"{path}: no model has such sizes ({reason(error)})") from error
