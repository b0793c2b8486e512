"""Values of parameters from files, commands and notebooks, laid over one another.

YAML is read by its version 1.2, as DVC does: there `5e-5` is a number and `no` is text, both of
which YAML 1.1, and so PyYAML, reads otherwise. What is laid over must be there: a misspelt change
would run the same experiment once more.
"""

import argparse
import copy
import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flamlib.experiment.parameters import ParameterError, misspelt


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a file of sections. Raises ParameterError, naming the file, for anything else."""
    try:
        sections = _yaml(Path(path).read_text(encoding="utf-8"))
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from None
    if not isinstance(sections, dict):
        raise ParameterError(f"{path} holds no sections, but {type(sections).__name__}")
    return sections


def add_overlays(parser: argparse.ArgumentParser) -> None:
    """Add the option `--with FILE`, whose files are the `overlays` of `config.load_config`."""
    parser.add_argument(
        "--with",
        dest="overlays",
        metavar="FILE",
        action="append",
        default=[],
        help="parameters to put in the place of those in params.yaml; give it again for more",
    )


def overlaid(values: Mapping[str, Any], overlay: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """Return `values` with those keys of its sections replaced that `overlay` gives.

    A value is replaced as a whole, also where it is a mapping: the settings of a tower, say.
    Raises ParameterError, beginning with `name`, for a section or key that `values` does not have.
    """
    found = dict(values)
    for section, given in overlay.items():
        if section not in values:
            raise ParameterError(f"{name}: {misspelt(section, values)}")
        if not isinstance(given, Mapping) or not isinstance(values[section], Mapping):
            found[section] = given
            continue
        for key in given:
            if key not in values[section]:
                raise ParameterError(f"{name}: {misspelt(key, values[section], section)}")
        found[section] = {**values[section], **given}
    return found


def override(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of nested `values` with others at dotted names.

    Raises ParameterError for a name that is not there, with the nearest that is: a misspelt change
    would run the same experiment once more.

    >>> override({"train": {"n_steps": 5}}, {"train.n_steps": 3})
    {'train': {'n_steps': 3}}
    """
    found = copy.deepcopy(dict(values))
    for name, value in changes.items():
        place, *keys = found, *name.split(".")
        for key in keys:
            if not isinstance(place, dict) or key not in place:
                near = difflib.get_close_matches(name, list(_names(found)), n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ParameterError(f"no parameter {name}{hint}")
            parent, place = place, place[key]
        parent[keys[-1]] = value
    return found


def read_overrides(given: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """Return changes by dotted name, given as such or as text, values as in YAML.

    >>> read_overrides("train.n_steps=40 train.lr_heads=1e-3")
    {'train.n_steps': 40, 'train.lr_heads': 0.001}
    """
    if not isinstance(given, str):
        return dict(given or {})
    before, *pieces = re.split(r"(?:^|\s)([A-Za-z_][\w.]*)=", given)
    if before.strip():
        raise ParameterError(f"overrides: expected name=value, got {before.strip()!r}")
    names = pieces[::2]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ParameterError(f"overrides: {twice[0]} is given twice")
    return {name: read_value(value) for name, value in zip(names, pieces[1::2], strict=True)}


class Overrides:
    """Values set as attributes, at any depth: what a notebook has for each section.

    Papermill turns `-p network.audio.tags False` into the line `network.audio.tags = False`. Its
    `-p` knows no lists: text in brackets, "[a dog barks, rain]", is read as YAML.
    """

    def __getattr__(self, name: str) -> "Overrides":
        if name.startswith("_"):  # which Python and Jupyter ask of any object
            raise AttributeError(name)
        inner = vars(self)[name] = Overrides()
        return inner

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, str) and re.fullmatch(r"\[.*\]|\{.*\}", value):
            value = read_value(value)
        vars(self)[name] = value

    def changes(self, name: str) -> dict[str, Any]:
        """Return what was set by dotted name, which begins with `name`."""
        found = {}
        for key, value in vars(self).items():
            full = f"{name}.{key}"
            found |= value.changes(full) if isinstance(value, Overrides) else {full: value}
        return found


def read_value(text: str) -> Any:
    """Read a single value as YAML: "3", "1e-3", "[a dog barks, rain]", or plain text.

    Raises ParameterError for a comment: of a path with " #" in it the end would be lost.
    """
    if re.search(r"""^[^"']*\s#""", text):
        raise ParameterError(f"{text.strip()!r} holds a comment (#): put the value in quotes")
    return _yaml(text)


def _yaml(text: str) -> Any:
    from ruamel.yaml import YAML  # only training needs it, detection does not
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ParameterError(f"not YAML: {error}") from None


def _names(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of everything in it."""
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _names(value, f"{prefix}{key}.")
