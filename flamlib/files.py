"""Files that are never half written, checksums, and the experiment's numbers as files.

*Writes.* A stage may be stopped at any instant. A file or folder therefore gets its final name only
when it is complete; until then it is a sibling called `.NAME.<random>.partial`.
"""

import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def atomic_write(path: str | Path, content: bytes | str) -> None:
    """Write a file as a whole or not at all: an older file stays until the new one is complete.

    Text is written as UTF-8, its line ends as they are. Missing parent folders are made.
    """
    with atomic_file(path) as partial:
        partial.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which becomes `path` if the block ends without an error.

    with files.atomic_file(root / "artifacts/train.parquet") as partial:
        ...  # open `partial` and write to it
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new folder to fill, which replaces `path` if the block ends without an error.

    If the block raises, the new folder is removed and `path` is untouched.

        with atomic_folder(root / "artifacts/mixtures") as folder:
            (folder / "events.tsv").write_text(...)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    partial.mkdir()
    try:
        yield partial
        # A folder cannot be renamed onto one that holds files, so the old one steps aside first.
        replaced = _partial(path)
        if path.exists():
            os.replace(path, replaced)
        os.replace(partial, path)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_metrics(path: str | Path, metrics: Mapping[str, Any]) -> None:
    """Write metrics as JSON that `dvc metrics` reads and git can compare.

    Keys are sorted and floats keep six significant digits, so two runs that agree in every digit we
    report are equal byte for byte. Dicts and lists may nest; numpy scalars become numbers; None
    stands for "not defined" (a recall without events, say).

    Raises ValueError naming the metric that is not finite, because JSON has no value for it.
    """
    plain = _plain(metrics, "")
    atomic_write(path, json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def write_table(path: str | Path, table: Any, *, digits: int = 4, index: bool = False) -> None:
    """Write a table of pandas as TSV, as a whole or not at all.

    Args:
        path: the file.
        table: a DataFrame.
        digits: significant digits of floats.
        index: write the index as first column.
    """
    text = table.to_csv(sep="\t", index=index, float_format=f"%.{digits}g")
    atomic_write(path, text)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def _plain(value: Any, name: str) -> Any:
    """The value in JSON's own types, floats rounded."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{name}.{key}".strip(".")) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
    if value is not None and not isinstance(value, bool | int | float | str):
        value = value.item()  # a numpy scalar or a 0-d tensor
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"metric {name} is {value}: give None if it is not defined here")
        return float(f"{value:.6g}")
    return value
