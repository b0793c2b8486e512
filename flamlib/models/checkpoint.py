"""Checkpoints on disk: our own folders, written atomically, and safe reading of others' files.

    config.json        format and settings      caption_tower/  configuration and tokenizer
    model.safetensors  every tensor             training.json   provenance, if known
    README.md          the model card, made from the two

Nothing is written as a pickle. A pickle of others is read with torch's weights-only unpickler: a
file that would need code to be read is refused before any of it runs.
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
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from flamlib import files

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CAPTION_FOLDER = "caption_tower"
TRAINING = "training.json"
CARD = "README.md"
FORMAT = 1  # of a saved folder; newer formats are refused

# What numpy scalars are pickled as; the function has another name in numpy 1 and in numpy 2.
_scalar = np.float64(0).__reduce__()[0]
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
    """Write a folder of the layout above atomically: all files or none.

    Args:
        folder: Where to write; an older model there is replaced.
        kind: "model" in config.json; None, which is FLAM, is not written.
        config: Settings of the model.
        tensors: State dict.
        save_captions: Called with the folder `caption_tower/` to fill it.
        provenance: Content of training.json, None to write none.
        card: Text of README.md.

    Raises:
        FileExistsError: `folder` contains anything but a saved model.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not _is_saved(folder):
        raise FileExistsError(f"{folder} contains more than a saved model: nothing written")
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
    """Return the local folder of a model: `source` itself, or a download from the hub.

    Args:
        source: A folder or, if it does not exist, the id of a repository on the Hugging Face hub,
            `owner/name`. Anything else is returned as a path, without contacting the hub.
        hub: Arguments of `huggingface_hub.snapshot_download`.

    Returns:
        The folder. Pickles are downloaded only if the repository has no safetensors.

    Raises:
        FileNotFoundError: The repository cannot be downloaded.
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
            f"{source} is missing: no such folder, and no such repository on the hub, or no access "
            f"to it ({str(error).splitlines()[0][:200]})"
        ) from error


def read_kind(folder: str | Path) -> str | None:
    """Return the kind of model in a folder, None for FLAM.

    Raises FileNotFoundError or ValueError if config.json is missing or invalid.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: pass a folder with a saved model")
    return _parse_config(path).get("model")


def read_config(
    path: Path, needed: Set[str], known: Set[str], *, kind: str | None
) -> dict[str, Any]:
    """Read the settings from a config.json.

    Args:
        path: The config.json.
        needed: Settings that must be there.
        known: Settings that may be there.
        kind: Expected kind of model, None for FLAM.

    Raises:
        ValueError: Not a config.json of ours, a newer format, another kind of model, missing or
            unknown settings.
    """
    config = _parse_config(path)
    if (found := config.pop("model", None)) != kind:
        raise ValueError(f"{path}: the model is {found or 'flam'!r}, expected {kind or 'flam'!r}")
    missing, unknown = needed - config.keys(), config.keys() - known
    if missing or unknown:
        raise ValueError(
            f"{path}: missing settings {sorted(missing)}, unknown settings {sorted(unknown)}"
        )
    return config


def _is_saved(folder: Path) -> bool:
    """Return whether a folder contains a saved model and no other files."""
    ours = {CONFIG, WEIGHTS, CAPTION_FOLDER, TRAINING, CARD}
    try:
        _parse_config(folder / CONFIG)
    except (OSError, ValueError):
        return False
    return {path.name for path in folder.iterdir()} <= ours


def _parse_config(path: Path) -> dict[str, Any]:
    """Read a config.json, check its format and return the rest."""
    config = _read_json(path)
    if not isinstance(config, dict) or not isinstance(config.get("format"), int):
        raise ValueError(f"{path} is not the config.json of a model saved by flamlib")
    written = config.pop("format")
    if written > FORMAT:
        raise ValueError(
            f"{path} has format {written}, of a newer flamlib; this one reads up to {FORMAT}"
        )
    return config


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """Read training.json; None if there is none."""
    return _read_json(folder / TRAINING) if (folder / TRAINING).is_file() else None


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from safetensors or a file of `torch.save`, without running any code.

    Training programs often save a larger dict: a dict under its key `state_dict` or `model` is then
    returned. Raises FileNotFoundError, and ValueError for a file that is damaged, needs code to be
    read, or contains no state dict.
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
            f"{path} is refused: it contains objects other than tensors, and reading them could "
            f"run code from the file ({_first_reason(error)})"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        raise ValueError(f"{path} cannot be read ({str(error)[:200]}): truncated?") from error
    if isinstance(content, dict):
        whole = (content[key] for key in ("state_dict", "model") if key in content)
        content = next((part for part in whole if isinstance(part, dict)), content)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} contains no state dict, but {type(content).__name__}")
    if strange := [name for name, t in content.items() if not isinstance(t, Tensor)]:
        raise ValueError(f"{path}: {strange[0]!r} is not a tensor; is this a training state?")
    return dict(content)


def check_tensors(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: str | Path
) -> None:
    """Compare names and shapes of a state dict with those the model expects.

    Raises ValueError naming missing or unexpected tensors, or one of another shape.
    """
    for what, names in (
        ("missing", expected.keys() - found.keys()),
        ("unexpected", found.keys() - expected.keys()),
    ):
        if names:
            raise ValueError(f"{path}: {len(names)} {what} tensors: {preview(names)}")
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"{path}: {name} has shape {[*tensor.shape]}, the model expects "
                f"{[*expected[name].shape]}"
            )


def load_tensors(
    model: nn.Module, tensors: Mapping[str, Tensor], path: str | Path, origin: str, **more: str
) -> None:
    """Load imported weights into a model, record their origin, and put it in eval mode.

    Args:
        model: The model; its `provenance` is replaced.
        tensors: State dict in the model's names.
        path: The file they come from; its checksum is recorded.
        origin: What the file is, for "imported from".
        more: Further entries of the provenance.

    Raises:
        ValueError: What `check_tensors` raises.
    """
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
    """Return the first three names of many, for an error message.

    >>> preview({"d", "b", "a", "c"})
    'a, b, c, …'
    """
    names = sorted(names)
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _first_reason(error: Exception) -> str:
    """Return the line of torch's long error message that names what was refused."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "WeightsUnpickler error" in line), lines[0])[:200]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}): truncated?") from error
