"""An experiment's numbers as files: JSON that `dvc metrics` reads, and tables."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flamlib.storage.files import atomic_write


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
