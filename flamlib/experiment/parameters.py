"""Typed sections of parameters: what each may be, checked before any work is done.

A section is a frozen dataclass whose fields are made by `parameter`, which documents them:

    @dataclass(frozen=True, kw_only=True)
    class TrainConfig:
        n_steps: int = parameter("optimiser steps", low=1, paper="120000")

`parse` turns plain values, as read from YAML, into such an object and lists everything that does
not fit at once; `plain` is the way back.
"""

import contextlib
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from flamlib import texts
from flamlib.compute.distributions import Distribution

Section = TypeVar("Section")
Problems = list[str]


class ParameterError(ValueError):
    """Parameters that do not fit: one line for each misfit, with the nearest known name."""


def parameter(
    doc: str,
    *,
    unit: str = "",
    paper: str = "",
    low: float | int | None = None,
    high: float | int | None = None,
    above: float | int | None = None,
    whole: bool = False,
    default: Any = dataclasses.MISSING,
) -> Any:
    """Declare a field of a section.

    Args:
        doc: what it means, in a sentence.
        unit: "s", "dB", "Hz"; empty for counts, shares and names.
        paper: the value of FLAM's paper (arXiv:2505.05335), as far as it is known.
        low, high: the lowest and the highest value allowed.
        above: a value that must be exceeded.
        whole: of a distribution: it draws whole numbers from 1.
        default: the value if none is given. Most have none: their one home is `params.yaml`.
    """
    about = {"doc": doc, "unit": unit, "paper": paper, "low": low, "high": high, "above": above}
    return dataclasses.field(default=default, metadata=about | {"whole": whole})


def parse(kind: type[Section], values: Mapping[str, Any], *, name: str = "") -> Section:
    """Make a section of plain values.

    Args:
        kind: the dataclass.
        values: a value for every field without a default; sections within it are mappings.
        name: the section's own name, to begin names in messages with.

    Raises:
        ParameterError: naming every unknown name (with the nearest known one), missing name, wrong
            type and value out of range.
    """
    problems: Problems = []
    made = _section(kind, values, name, problems)
    if problems:
        raise ParameterError("\n".join(problems))
    return made


def check(kind: Any, value: Any, *, name: str) -> Any:
    """Return a plain value as a field of that type has it.

    Raises ParameterError, beginning with `name`, for what does not fit the type.
    """
    problems: Problems = []
    made = _value(kind, plain(value), name, parameter("").metadata, problems)
    if problems:
        raise ParameterError("\n".join(problems))
    return made


def plain(value: Any) -> Any:
    """Turn sections, and all that is in them, into values of JSON and YAML."""
    if dataclasses.is_dataclass(value) and not isinstance(value, Distribution):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Distribution):
        return plain(value.form)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def unknown(names: Iterable[str], known: Collection[str], section: str) -> list[str]:
    """Say which names of a section are not known, each with the nearest that is."""
    known = dict.fromkeys(sorted(known))
    return [misspelt(name, known, section) for name in names if name not in known]


def allowed(field: dataclasses.Field) -> str:
    """Say in words what a field may be: "1 or more", "0 to 1", "auto, no, bf16 or fp16"."""
    about, kind = field.metadata, field.type
    for part in _parts(kind):
        if typing.get_origin(part) is Literal:
            *names, last = map(str, typing.get_args(part))
            return f"{', '.join(names)} or {last}" if names else last
    low, high, above = about["low"], about["high"], about["above"]
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    if above is not None:
        return f"more than {above:g}" + (f", at most {high:g}" if high is not None else "")
    return f"{low:g} or more" if low is not None else ""


def _section(kind: type, values: Any, name: str, problems: Problems) -> Any:
    if not isinstance(values, Mapping):
        problems.append(f"{name}: expected names and values, got {values!r}")
        return None
    fields = {field.name: field for field in dataclasses.fields(kind)}
    types_of = typing.get_type_hints(kind)
    before = len(problems)
    problems += [misspelt(key, fields, name) for key in values if key not in fields]
    made = {}
    for key, field in fields.items():
        full = f"{name}.{key}".lstrip(".")
        if key in values:
            value = _value(types_of[key], values[key], full, field.metadata, problems)
            made[key] = value
        elif field.default is dataclasses.MISSING:
            problems.append(f"{full} is missing")
    if len(problems) > before:
        return None
    try:
        return kind(**made)
    except ValueError as error:  # of numbers that do not go together
        problems.append(f"{name}: {error}".lstrip(": "))
        return None


def _value(kind: Any, value: Any, name: str, about: Mapping[str, Any], problems: Problems) -> Any:
    parts = _parts(kind)
    if type(None) in parts:
        if value is None:
            return None
        if value in ("None", "none"):
            problems.append(f"{name} = {value!r}: in YAML nothing is null, and this a word")
            return None
    parts = [part for part in parts if part is not type(None)]
    if len(parts) > 1:
        return _value(_chosen(parts, value, name, problems), value, name, about, problems)
    [kind] = parts
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind) and kind is not Distribution:
        return _section(kind, value, name, problems)
    if typing.is_typeddict(kind):
        return _entry(kind, value, name, about, problems)
    if kind is Distribution:
        return _distribution(value, name, about, problems)
    if origin is Literal:
        if value not in arguments or type(value) is not type(arguments[0]):
            expected = ", ".join(map(str, arguments))
            near = difflib.get_close_matches(str(value), [str(a) for a in arguments], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(f"{name} = {value!r}: expected one of {expected}{hint}")
        return value
    if origin in (list, tuple):
        if not isinstance(value, Sequence) or isinstance(value, str):
            problems.append(f"{name} = {value!r}: expected a list")
            return value
        if origin is tuple and len(value) != len(arguments):
            problems.append(f"{name} = {value!r}: expected {len(arguments)} values")
            return value
        items = (
            _value(arguments[0], item, f"{name}[{i}]", about, problems)
            for i, item in enumerate(value)
        )
        return origin(items)
    if origin is dict:
        if not isinstance(value, Mapping):
            problems.append(f"{name} = {value!r}: expected names and values")
            return value
        if known := typing.get_args(arguments[0]):  # of a Literal
            problems += unknown(value, known, name)
        return {
            key: _value(arguments[1], item, f"{name}.{key}", about, problems)
            for key, item in value.items()
        }
    return _scalar(kind, value, name, about, problems)


def _entry(kind: Any, value: Any, name: str, about: Mapping[str, Any], problems: Problems) -> Any:
    """Names and values that stay such: a TypedDict says which there are."""
    if not isinstance(value, Mapping):
        problems.append(f"{name} = {value!r}: expected names and values")
        return value
    types_of = typing.get_type_hints(kind)
    problems += [misspelt(key, types_of, name) for key in value if key not in types_of]
    problems += [f"{name}.{key} is missing" for key in types_of if key in _lacking(kind, value)]
    return {
        key: _value(types_of[key], item, f"{name}.{key}", about, problems)
        for key, item in value.items()
        if key in types_of
    }


def _lacking(kind: Any, value: Mapping[str, Any]) -> set[str]:
    return kind.__required_keys__ - value.keys()


def _scalar(kind: type, value: Any, name: str, about: Mapping[str, Any], problems: Problems) -> Any:
    if kind is float and isinstance(value, str) and "e" in value.lower():
        with contextlib.suppress(ValueError):
            value = texts.number(value)  # "5e-5", as YAML 1.1 hands it on
    if kind is float and type(value) is int:
        value = float(value)
    # Compared exactly because a bool passes for an int elsewhere in Python.
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        expected = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}
        problems.append(f"{name} = {value!r}: expected {expected[kind]}")
        return value
    if kind in (int, float):
        low, high, above = about["low"], about["high"], about["above"]
        if (low is not None and value < low) or (high is not None and value > high):
            bounds = (
                f"{low:g} to {high:g}"
                if None not in (low, high)
                else (f"{low:g} or more" if low is not None else f"at most {high:g}")
            )
            problems.append(f"{name} = {value!r}: expected {bounds}")
        if above is not None and value <= above:
            problems.append(f"{name} = {value!r}: expected more than {above:g}")
    return value


def _distribution(value: Any, name: str, about: Mapping[str, Any], problems: Problems) -> Any:
    try:
        made = Distribution.of(value, name=name, whole=about["whole"])
    except ValueError as error:
        problems.append(str(error))
        return None
    lowest = 1 if about["whole"] else about["low"]
    if lowest is not None and made.lowest < lowest:
        problems.append(f"{name} = {value!r}: expected {lowest:g} or more")
    if about["high"] is not None and made.highest > about["high"]:
        problems.append(f"{name} = {value!r}: expected at most {about['high']:g}")
    return made


def _parts(kind: Any) -> list[Any]:
    union = typing.get_origin(kind) in (types.UnionType, typing.Union)
    return list(typing.get_args(kind)) if union else [kind]


def _chosen(kinds: Sequence[type], value: Any, name: str, problems: Problems) -> type:
    """The section whose first field, a literal, is what `value` says; such are the towers.

    Of several TypedDicts the one whose names are nearest to those of `value`.
    """
    if typing.is_typeddict(kinds[0]):
        given = value if isinstance(value, Mapping) else {}
        return min(
            kinds,
            key=lambda k: len(_lacking(k, given)) + len(given.keys() - typing.get_type_hints(k)),
        )
    key = dataclasses.fields(kinds[0])[0].name
    names = {typing.get_args(typing.get_type_hints(kind)[key])[0]: kind for kind in kinds}
    chosen = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(chosen, str) or chosen not in names:
        problems.append(f"{name}.{key} = {chosen!r}: expected one of {', '.join(names)}")
        return Any
    return names[chosen]


def misspelt(key: Any, known: Collection[str], name: str = "") -> str:
    """Say that a section, `name`, has no such key, and which known one is the nearest."""
    full = f"{name}.{key}".lstrip(".")
    near = difflib.get_close_matches(str(key), list(known), n=1)
    if near:
        return f"no parameter {full}; did you mean {f'{name}.{near[0]}'.lstrip('.')}?"
    return f"no parameter {full}; known: {', '.join(map(str, known))}"
