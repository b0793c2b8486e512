"""Checkpoints on disk: our folders, whole or absent; patterns of others, read without running them.

    config.json        format and settings      caption_tower/  shape and tokenizer
    model.safetensors  every tensor             training.json   provenance, if there is any
    README.md          the model card, made from the two

Nothing is ever written as a pickle. A pickle that others wrote is read as tensors alone: what would
need code to read is refused before any of it runs.
"""

import json
import pickle
import re
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from numpy._core.multiarray import scalar as _scalar
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from flamlib import files

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CAPTION_FOLDER = "caption_tower"
TRAINING = "training.json"
CARD = "README.md"
FORMAT = 1  # of a saved folder; a reader refuses a newer one

# What a scalar of numpy is pickled as, by the name that its first and its second version use.
_NUMPY_NUMBERS = [
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)),
]

_PATTERNS = ("*.json", "*.txt", "*.md")  # settings, tokenizer, card


def write(
    folder: str | Path,
    *,
    kind: str | None,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    save_captions: Callable[[Path], None],
    provenance: Mapping[str, Any] | None,
    card: str,
) -> None:
    """Write a folder of the layout above; all of it or nothing.

    `kind` of model is what config.json says under "model"; FLAM's, None, is not written.
    `save_captions` fills `caption_tower/`. An older model in `folder` is replaced. Raises
    FileExistsError rather than replace a folder that holds anything else.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not _is_saved(folder):
        raise FileExistsError(f"{folder} is no saved model alone: nothing was written to it")
    with files.atomic_folder(folder) as partial:
        named = {} if kind is None else {"model": kind}
        _write_json(partial / CONFIG, {"format": FORMAT, **named, **config})
        plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        save_file(plain, partial / WEIGHTS, metadata={"format": "pt"})
        save_captions(partial / CAPTION_FOLDER)
        (partial / CARD).write_text(card, encoding="utf-8")
        if provenance is not None:
            _write_json(partial / TRAINING, dict(provenance))


def resolve_source(source: str | Path, **hub: Any) -> Path:
    """The folder `source`, or a local copy of the hub's repository of that name, `owner/name`.

    Only where no such folder is there, and nothing but `owner/name` was given, is the hub asked;
    `hub` are arguments of `huggingface_hub.snapshot_download`. Pickles stay where they are unless
    the repository has no safetensors. Raises FileNotFoundError if it cannot be had.
    """
    path = Path(source)
    if path.exists() or not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(source)):
        return path
    try:
        patterns = [*_PATTERNS, "*.safetensors"]
        folder = Path(snapshot_download(str(source), allow_patterns=patterns, **hub))
        if not any(folder.glob("*.safetensors")):
            patterns = [*_PATTERNS, "pytorch_model.bin"]
            folder = Path(snapshot_download(str(source), allow_patterns=patterns, **hub))
        return folder
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(
            f"{source} is missing: neither a folder here nor a repository that the hub gives us "
            f"({str(error).splitlines()[0][:200]})"
        ) from error


def read_kind(folder: str | Path) -> str | None:
    """The kind of model in a folder: None for FLAM. Raises as reading it would."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give a folder that a model was saved to")
    return _parse_config(path).get("model")


def read_config(
    path: Path, needed: Set[str], known: Set[str], *, kind: str | None
) -> dict[str, Any]:
    """The settings in a config.json of that kind of model: all that are `needed`, none un`known`.

    Raises ValueError for what is no configuration of ours, a newer format, another kind of model,
    and other settings.
    """
    config = _parse_config(path)
    if (found := config.pop("model", None)) != kind:
        raise ValueError(f"{path} is that of a model {found or 'flam'!r}, not {kind or 'flam'!r}")
    missing, unknown = needed - config.keys(), config.keys() - known
    if missing or unknown:
        raise ValueError(
            f"{path}: settings {sorted(missing)} are missing, {sorted(unknown)} are unknown"
        )
    return config


def _is_saved(folder: Path) -> bool:
    """Whether it holds a model of ours, and nothing that would be lost with it."""
    ours = {CONFIG, WEIGHTS, CAPTION_FOLDER, TRAINING, CARD}
    try:
        _parse_config(folder / CONFIG)
    except (OSError, ValueError):
        return False
    return {path.name for path in folder.iterdir()} <= ours


def _parse_config(path: Path) -> dict[str, Any]:
    """The content of a config.json without its format, which is one that can be read."""
    config = _read_json(path)
    if not isinstance(config, dict) or not isinstance(config.get("format"), int):
        raise ValueError(f"{path} is not the configuration of a saved FLAM")
    written = config.pop("format")
    if written > FORMAT:
        raise ValueError(
            f"{path} has format {written}, written by a newer flamlib; this one reads {FORMAT}"
        )
    return config


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """What training.json says, None if there is none."""
    return _read_json(folder / TRAINING) if (folder / TRAINING).is_file() else None


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file by name: safetensors, or what `torch.save` wrote, never running code.

    A dict under the key `state_dict` or `model`, as training programs write it, is taken for the
    whole; numbers of numpy beside it do no harm. Raises FileNotFoundError, and ValueError for a
    file that is damaged, that holds more than tensors and plain values, or no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} cannot be read ({error}): truncated?") from error
    try:
        with torch.serialization.safe_globals(_NUMPY_NUMBERS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is refused: it holds other things than tensors, and reading those could run "
            f"code of whoever wrote it ({_first_reason(error)})"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        raise ValueError(f"{path} cannot be read ({str(error)[:200]}): truncated?") from error
    if isinstance(content, dict):
        whole = (content[key] for key in ("state_dict", "model") if key in content)
        content = next((part for part in whole if isinstance(part, dict)), content)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no state dict, but {type(content).__name__}")
    if strange := [name for name, t in content.items() if not isinstance(t, Tensor)]:
        raise ValueError(f"{path}: {strange[0]!r} is no tensor; is this a whole training state?")
    return dict(content)


def check_tensors(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: str | Path
) -> None:
    """Raises ValueError naming what is missing, what is left over, or what has another shape."""
    for what, names in (
        ("lacks", expected.keys() - found.keys()),
        ("holds, which the model of its config.json does not,", found.keys() - expected.keys()),
    ):
        if names:
            raise ValueError(f"{path} {what} {len(names)} tensors: {preview(names)}")
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"{path}: {name} has shape {[*tensor.shape]}, its config.json asks for "
                f"{[*expected[name].shape]}"
            )


def load_tensors(
    model: nn.Module, tensors: Mapping[str, Tensor], path: str | Path, origin: str, **more: str
) -> None:
    """Give a model the weights of others, in its own names, and say in its provenance whose they
    are; after that it is ready to be asked. Raises what `check_tensors` does."""
    check_tensors(tensors, model.state_dict(), path)
    model.load_state_dict(tensors)
    model.provenance = {
        "imported from": origin,
        "sha256": files.sha256(path),
        "licence": "that of the imported weights, not this project's",
        **more,
    }
    model.eval()


def preview(names: Iterable[str]) -> str:
    """The first few names of many.

    >>> preview({"d", "b", "a", "c"})
    'a, b, c, …'
    """
    names = sorted(names)
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _first_reason(error: Exception) -> str:
    """Of torch's page of advice, the line that names what was refused."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "WeightsUnpickler error" in line), lines[0])[:200]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): truncated?") from error
