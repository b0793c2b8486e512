"""Saved models: folders that are written as a whole and whose every setting is checked.

    config.json        format and settings      caption_tower/  configuration and tokenizer
    model.safetensors  every tensor             training.json   provenance, if known
    README.md          the model card, made from the two
    thresholds.json    thresholds by caption, if they were computed

The light form of a model has no caption_tower/ and not every tensor, see `light`.
Nothing is written as a pickle; for reading one see `state_dict`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from flamlib.experiment.parameters import ParameterError
from flamlib.models import released, settings, state_dict
from flamlib.models.state_dict import reason
from flamlib.storage import files

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CAPTION_FOLDER = "caption_tower"
TRAINING = "training.json"
CARD = "README.md"
THRESHOLDS = "thresholds.json"
FORMAT = 1  # of a saved folder
LIGHT = 2  # of one in the light form; newer formats are refused

_LIGHT_KEYS = ("sha256", "towers")  # of config.json, beside the settings
_PATTERNS = ("*.json", "*.txt", "*.md")  # settings, tokenizer, card


def write(
    folder: str | Path,
    *,
    kind: str | None,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    provenance: Mapping[str, Any] | None,
    card: str,
    save_captions: Callable[[Path], None] | None = None,
    towers: Mapping[str, Any] | None = None,
) -> None:
    """Write a folder of the layout above atomically: all files or none.

    Args:
        folder: Where to write; an older model there is replaced.
        kind: "model" in config.json; None, which is FLAM, is not written.
        config: Settings of the model.
        tensors: State dict.
        provenance: Content of training.json, None to write none.
        card: Text of README.md.
        save_captions: Called with the folder `caption_tower/` to fill it; None for the light form.
        towers: Of the light form: what its towers are made from.

    Raises:
        FileExistsError: `folder` contains anything but a saved model.
        OSError: it cannot be written, as on a full disk.
    """
    folder = Path(folder)
    check_replaceable(folder)
    with files.atomic_folder(folder) as partial:
        plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        state_dict.write(plain, partial / WEIGHTS, format="pt")
        about: dict[str, Any] = {"format": FORMAT if towers is None else LIGHT}
        about |= {} if kind is None else {"model": kind}
        if towers is not None:
            about |= {"sha256": files.sha256(partial / WEIGHTS), "towers": towers}
        write_json(partial / CONFIG, about | dict(config))
        if save_captions is not None:
            save_captions(partial / CAPTION_FOLDER)
        (partial / CARD).write_text(card, encoding="utf-8")
        if provenance is not None:
            write_json(partial / TRAINING, dict(provenance))


def check_replaceable(folder: str | Path) -> None:
    """Raise FileExistsError if a folder holds anything but a saved model, NotADirectoryError for a
    file: to be asked before hours of work."""
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not _is_saved(folder):
        raise FileExistsError(f"{folder} contains more than a saved model: nothing written")


def resolve_source(source: str | Path, **hub: Any) -> Path:
    """Return the local folder of a model: `source` itself, a known one, or one of the hub.

    Args:
        source: A folder or, if it does not exist, the name of a model that is `released`, or the id
            of a repository on the Hugging Face hub, `owner/name`. Anything else is returned as a
            path, without contacting the hub.
        hub: Arguments of `huggingface_hub.snapshot_download`.

    Returns:
        The folder. Pickles are downloaded only if the repository has no safetensors.

    Raises:
        FileNotFoundError: The repository cannot be downloaded.
    """
    path = Path(source)
    if not path.exists() and (known := released.find(str(source))):
        return known
    if path.exists() or not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(source)):
        return path
    # Imported here: it takes a quarter of a second, which models of a folder need not wait for.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

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
            f"to it ({reason(error)})"
        ) from error


def digest(folder: str | Path) -> str:
    """Return the SHA-256 of a saved model's settings and weights together."""
    both = "".join(files.sha256(Path(folder) / name) for name in (CONFIG, WEIGHTS))
    return hashlib.sha256(both.encode()).hexdigest()


def read_kind(folder: str | Path) -> str | None:
    """Return the kind of model in a folder, None for FLAM.

    Raises FileNotFoundError or ValueError if config.json is missing or invalid.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: pass a folder with a saved model")
    return _parse_config(path).get("model")


def read_config(path: Path, section: type, *, kind: str | None) -> dict[str, Any]:
    """Read the settings from a config.json.

    Args:
        path: The config.json.
        section: What they may be, one of `settings`.
        kind: Expected kind of model, None for FLAM.

    Raises:
        ValueError: Not a config.json of a saved model, a newer format, another kind of model, or
            settings that are missing, unknown, of another type or out of range, each by its name.
    """
    config = {k: v for k, v in _parse_config(path).items() if k not in _LIGHT_KEYS}
    if (found := config.pop("model", None)) != kind:
        raise ValueError(f"{path}: the model is {found or 'flam'!r}, expected {kind or 'flam'!r}")
    try:
        return settings.check(section, config)
    except ParameterError as error:
        raise ValueError(f"{path}: {'; '.join(str(error).splitlines())}") from error


def read_light(path: Path) -> dict[str, Any] | None:
    """Return what a config.json says of the light form, `sha256` and `towers`; None of another.

    Raises ValueError if it says one and not the other.
    """
    config = _parse_config(path)
    if not config.keys() & set(_LIGHT_KEYS):
        return None
    if missing := [key for key in _LIGHT_KEYS if key not in config]:
        raise ValueError(f"{path}: {missing[0]} is missing: of a model in its light form?")
    return {key: config[key] for key in _LIGHT_KEYS}


def _is_saved(folder: Path) -> bool:
    """Return whether a folder contains a saved model and no other files."""
    ours = {CONFIG, WEIGHTS, CAPTION_FOLDER, TRAINING, CARD, THRESHOLDS}
    try:
        _parse_config(folder / CONFIG)
    except (OSError, ValueError):
        return False
    return {path.name for path in folder.iterdir()} <= ours


def _parse_config(path: Path) -> dict[str, Any]:
    """Read a config.json, check its format and return the rest."""
    config = read_json(path)
    # Compared exactly because a bool passes for an int.
    if not isinstance(config, dict) or type(config.get("format")) is not int:
        raise ValueError(f"{path} is not the config.json of a model saved by flamlib")
    written = config.pop("format")
    if written > LIGHT:
        raise ValueError(
            f"{path} has format {written}, of a newer flamlib; this one reads up to {LIGHT}"
        )
    if not isinstance(config.get("model", ""), str):
        raise ValueError(f"{path}: model = {config['model']!r}: expected the name of a kind")
    return config


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """Read training.json; None if there is none. Raises ValueError for another layout."""
    path = folder / TRAINING
    if not path.is_file():
        return None
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected names and values, got {type(found).__name__}")
    for names in (("parameters",), ("parameters", "objective")):
        part = found
        for name in names:
            part = part.get(name, {})
        if not isinstance(part, dict):
            raise ValueError(f"{path}: {'.'.join(names)} = {part!r}: expected names and values")
    return found


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
        ValueError: What `state_dict.check` raises.
    """
    try:
        state_dict.check(tensors, model.state_dict(), path)
    except ValueError as error:
        raise ValueError(f"{error} (by flamlib's names; the file may have others)") from error
    model.load_state_dict(tensors)  # half and double precision become float32
    model.provenance = {
        "imported from": origin,
        "sha256": files.sha256(path),
        "licence": "that of the imported weights, not this project's",
        **more,
    }
    model.eval()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of JSON, with an entry on each line: as a whole or not at all."""
    files.atomic_write(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a file of JSON. Raises ValueError naming one that is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # nested a thousand times
        raise ValueError(f"{path} is not valid JSON ({error}): truncated?") from error
