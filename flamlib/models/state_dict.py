"""State dicts read from files of unknown origin, and compared with what a model needs.

A pickle is read with torch's weights-only unpickler: a file that would need code to be read is
refused before any of it runs. Weights are float32, or half or double precision made so; nothing
else is cast.
"""

import errno
import hashlib
import os
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

# What numpy scalars are pickled as; the function has another name in numpy 1 and in numpy 2.
_scalar = np.float64(0).__reduce__()[0]
_NUMPY_NUMBERS = [
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)),
]

_WEIGHTS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_COUNTER = "num_batches_tracked"  # the one integer of a state dict that is no constant


def read(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from safetensors or a file of `torch.save`, without running any code.

    Training programs often save a larger dict: a dict under its key `state_dict` or `model` is then
    returned. Raises FileNotFoundError, and ValueError for a file that is damaged, needs code to be
    read, or contains no state dict.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: expected a file of tensors")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except PermissionError:
            raise
        # Whatever the reader does not foresee is damage, too: a type it does not know, say.
        except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise ValueError(f"{path} cannot be read ({reason(error)}): truncated?") from error
    try:
        with torch.serialization.safe_globals(_NUMPY_NUMBERS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is refused: it contains objects other than tensors, and reading them could "
            f"run code from the file{_named(error)}"
        ) from error
    except PermissionError:
        raise
    # A damaged pickle is a program that ends in any error.
    except Exception as error:
        raise ValueError(f"{path} cannot be read ({reason(error)}): truncated?") from error
    if isinstance(content, dict):
        whole = (content[key] for key in ("state_dict", "model") if key in content)
        content = next((part for part in whole if isinstance(part, dict)), content)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} contains no state dict, but {type(content).__name__}")
    if strange := [
        n for n, t in content.items() if not isinstance(t, Tensor) or type(n) is not str
    ]:
        raise ValueError(f"{path}: {strange[0]!r} is not a tensor; is this a training state?")
    if strange := [name for name, t in content.items() if t.is_meta or t.layout != torch.strided]:
        raise ValueError(f"{path}: {strange[0]} is stored without numbers, or as a sparse tensor")
    return dict(content)


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return what a file of safetensors that `read` reads says beside its tensors."""
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def write(tensors: Mapping[str, Tensor], path: str | Path, **metadata: str) -> None:
    """Write tensors, and `metadata` beside them, to a file of safetensors, which others may read as
    the umask says.

    Raises OSError if they cannot be written, as on a full disk.
    """
    try:
        save_file(dict(tensors), path, metadata=metadata or None)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        text = os.strerror(int(number[1])) if number else reason(error)
        raise OSError(int(number[1]) if number else errno.EIO, text, str(path)) from error


def check(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: str | Path) -> None:
    """Compare a state dict with the one of a model: names, shapes, types, and that numbers are.

    Tensors of the `meta` device have no numbers, only shapes, so a model can be compared before
    memory is taken for it.

    Raises:
        ValueError: Naming missing or unexpected tensors, one of another shape or type, one that
            holds NaN or infinity, or a constant that is another.
    """
    for what, names in (
        ("missing", expected.keys() - found.keys()),
        ("unexpected", found.keys() - expected.keys()),
    ):
        if names:
            raise ValueError(f"{path}: {len(names)} {what} tensors: {preview(names)}")
    for name, tensor in found.items():
        wanted = expected[name]
        if tensor.shape != wanted.shape:
            raise ValueError(
                f"{path}: {name} has shape {[*tensor.shape]}, the model expects {[*wanted.shape]}"
            )
        if wanted.is_floating_point():
            if tensor.dtype not in _WEIGHTS:
                raise ValueError(
                    f"{path}: {name} is {_type(tensor)}, expected float32 or another "
                    "floating-point type: quantised, or damaged?"
                )
            if not (tensor.is_meta or _is_finite(tensor)):
                raise ValueError(
                    f"{path}: {name} holds NaN or infinite weights: a training that diverged, or a "
                    "damaged file"
                )
        elif tensor.dtype != wanted.dtype:
            raise ValueError(f"{path}: {name} is {_type(tensor)}, expected {_type(wanted)}")
        elif not (_is_free(name, tensor, wanted) or torch.equal(tensor, wanted.cpu())):
            raise ValueError(f"{path}: {name} is a constant and has other values: damaged?")


def digest(modules: Iterable[nn.Module]) -> str:
    """Return the SHA-256 of the names and numbers of the modules' tensors, in hexadecimal."""
    found = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            found.update(name.encode())
            found.update(tensor.detach().float().cpu().numpy().tobytes())
    return found.hexdigest()


def preview(names: Iterable[str]) -> str:
    """Return the first three names of many, for an error message.

    >>> preview({"d", "b", "a", "c"})
    'a, b, c, …'
    """
    names = sorted(names)
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def reason(error: BaseException) -> str:
    """Return the first line of a library's error message, cut after a sentence if it is long.

    >>> reason(OSError("No such repository. " + "Read the documentation. " * 20))
    'No such repository. Read the documentation. …'
    """
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    line = lines[0] if lines else type(error).__name__
    if len(line) <= 200:
        return line
    sentences = re.findall(r".*?[.!?](?=\s|$)", line) or [line]
    kept = sentences[0]
    for sentence in sentences[1:]:
        if len(kept + sentence) > 60:
            break
        kept += sentence
    return kept + (" …" if kept != line else "")


def _named(error: Exception) -> str:
    """Return what torch says was refused, found in its long message."""
    found = re.search(r"\bGLOBAL (\S+)", str(error))
    return f": it names {found[1]}" if found else ""


def _is_free(name: str, *integers: Tensor) -> bool:
    """Return whether integers of a state dict may have other values than the model's."""
    return name.endswith(_COUNTER) or any(t.is_meta for t in integers)


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are; their sum, much faster, says so unless it overflows."""
    tensor = tensor.float()
    return bool(tensor.sum().isfinite() or tensor.isfinite().all())


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
