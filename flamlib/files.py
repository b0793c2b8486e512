"""Files that are never half written, checksums, and the experiment's numbers as files.

*Writes.* A stage may be stopped at any instant. A file or folder therefore gets its final name only
when it is complete; until then it is a sibling called `.NAME.<random>.partial`.

*Parameters.* papermill replaces a notebook's `train = {...}` by the `train:` of `params.yaml` as a
whole and only warns about what it does not know, so `check_parameters` compares the two.
"""

import ast
import difflib
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
    """Write a whole file or nothing: an older file stays as it was until the new one is complete.

    Text is written as UTF-8 with its line ends untouched. Missing parent folders are made.
    """
    with atomic_file(path) as partial:
        partial.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """A file to write bit by bit, which takes the place of `path` when the block ends well.

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
    """A fresh folder to fill, which takes the place of `path` when the block ends well.

    If the block raises, the new folder is removed and whatever `path` held is untouched.

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
    """Write numbers as JSON that `dvc metrics` reads and git can compare.

    Keys are sorted and floats keep six significant digits, so that two runs which agree in every
    digit we would report are equal byte for byte. Dicts and lists may nest; numpy scalars are taken
    as numbers; None stands for "not defined here" (a recall without events, say).

    Raises ValueError naming the metric that is not finite, since JSON has no word for it.
    """
    plain = _plain(metrics, "")
    atomic_write(path, json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def write_table(path: str | Path, table: Any, *, digits: int = 4, index: bool = False) -> None:
    """Write a table of pandas as TSV, its floats rounded to so many digits; whole or not at all."""
    text = table.to_csv(sep="\t", index=index, float_format=f"%.{digits}g")
    atomic_write(path, text)


def check_parameters(notebook: str | Path, **given: Any) -> None:
    """Stop before any work is done if the values given are not shaped like the notebook's own.

    The cell of `notebook` tagged `parameters` is the template: every section given must have the
    same keys, to any depth, and values of the same types. A whole number may stand for a float; in
    a list every item is compared with the template's first; None in the template fits anything.
    Where it has two numbers, [lowest, highest], one number or a dict may be given as well: another
    distribution, which whoever draws from it checks.

        files.check_parameters(root / "notebooks/03_train.ipynb", seed=seed, train=train)

    Raises ValueError listing every misfit with, for an unknown key, the nearest known one.
    """
    misfits = list(_misfits(dict(given), declared_parameters(notebook), ""))
    if misfits:
        where = f"parameters do not fit {Path(notebook).name} (see params.yaml):"
        raise ValueError("\n  ".join([where, *misfits]))


def declared_parameters(notebook: str | Path) -> dict[str, Any]:
    """What the one cell tagged `parameters` assigns: literals only, because papermill replaces the
    values after that cell has run, so anything computed in it would be stale.

    Raises ValueError for a notebook with no such cell, with two, or with anything but literals.
    """
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{notebook}: {len(tagged)} cells are tagged `parameters`, expected one")
    declared = {}
    for line in ast.parse("".join(tagged[0]["source"])).body:
        try:
            [name] = line.targets
            declared[name.id] = ast.literal_eval(line.value)
        except (AttributeError, ValueError):
            text = ast.unparse(line)
            raise ValueError(f"{notebook}: `{text}` is not of the form name = literal") from None
    return declared


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


def _misfits(given: Any, template: Any, name: str) -> Iterator[str]:
    """One sentence for each place where `given` is not shaped like `template`."""
    if isinstance(given, dict) and isinstance(template, dict):
        prefix = f"{name}." if name else ""
        for key in given.keys() - template.keys():
            near = difflib.get_close_matches(str(key), template.keys() - given.keys(), n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {sorted(template)}"
            yield f"{prefix}{key} is unknown; {hint}"
        for key in template.keys() - given.keys():
            yield f"{prefix}{key} is missing"
        for key in template.keys() & given.keys():
            yield from _misfits(given[key], template[key], f"{prefix}{key}")
    elif _is_range(template) and not isinstance(given, list) and _is_distribution(given):
        return  # `distributions` reads both
    elif isinstance(given, list) and isinstance(template, list):
        for i, item in enumerate(given if template else []):
            yield from _misfits(item, template[0], f"{name}[{i}]")
    elif not _fits(given, template):
        kind, expected = type(given).__name__, type(template).__name__
        hint = _number_as_text(given) if expected in ("int", "float") else ""
        yield f"{name} = {given!r} is {kind}, expected {expected}{hint}"


def _is_range(template: Any) -> bool:
    return isinstance(template, list) and [type(x) in (int, float) for x in template] == [True] * 2


def _is_distribution(given: Any) -> bool:
    return type(given) in (int, float) or isinstance(given, dict)


def _fits(given: Any, template: Any) -> bool:
    # Compared exactly because a bool passes for an int elsewhere in Python.
    whole_for_float = type(given) is int and type(template) is float
    return template is None or whole_for_float or type(given) is type(template)


def _number_as_text(given: Any) -> str:
    """YAML 1.1 needs the point: `1e-4` is text, `1.0e-4` a number."""
    try:
        float(given)
    except (TypeError, ValueError):
        return ""
    return " (in YAML write 1.0e-4, not 1e-4)" if isinstance(given, str) else ""
