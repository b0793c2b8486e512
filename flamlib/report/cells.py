"""Cells and rows of the report's tables, as `page` shows them.

Numbers are fractions and shown in percent, but for ranks. Below a number stands where 95 % of other
draws of clips would put it, and the p-value of its test against FLAM.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flamlib.plots.figures import MODELS

Numbers = Mapping[str, Any]
Results = Mapping[str, Mapping[str, Numbers]]

LOWER = {"ece", "brier", "t2a_median_rank", "a2t_median_rank"}
RANKS = {"t2a_median_rank", "a2t_median_rank"}


def row(cells: list[dict], kind: str = "") -> dict[str, Any]:
    """`kind` is how it looks: "published", "first" or as any other."""
    return {"group": None, "kind": kind, "cells": cells}


def cell(
    text: str | None,
    kind: str = "",
    *,
    small: str = "",
    why: str = "",
    share: float | None = None,
) -> dict[str, Any]:
    """`why` says why there is no text, `share` draws a bar of so many percent."""
    if text is None:
        return {"text": "–", "kind": "none", "small": "", "why": why, "share": None}
    return {"text": text, "kind": kind, "small": small, "why": why, "share": share}


def number(
    numbers: Numbers, key: str, *, is_best: bool, why: str, test: Numbers | None = None
) -> dict[str, Any]:
    """The cell of a model's number; a dash that says `why` where there is none. `test` is the
    model's entry under "difference"."""
    value = numbers.get(key)
    if value is None or np.isnan(value):
        return cell(None, why=why)
    low, high = (numbers.get(f"{key}_{end}") for end in ("low", "high"))
    small = ""
    if low is not None and high is not None and not np.isnan(low + high):
        small = f"[{_shown(low, key)}, {_shown(high, key)}]"
    p = (test or {}).get(f"{key}_p")
    if p is not None and not np.isnan(p):
        small += f" p {'<' if p < 0.001 else '='} {max(p, 0.001):.3f}".replace(" 0.", " .")
    return cell(_shown(value, key), kind="best" if is_best else "", small=small.strip())


def sizes(of_set: Mapping[str, Numbers]) -> Numbers:
    """The numbers of one of a test set's models: how many clips and captions there are is the same
    for all of them."""
    return next(numbers for model, numbers in of_set.items() if model != "difference")


def best(of_set: Mapping[str, Numbers], key: str, models: Sequence[str]) -> set[str]:
    """Which of several models have the best number of a test set; none if all have the same.

    Numbers that read the same are the same: some come from a file and were rounded there.
    """
    values = {model: of_set.get(model, {}).get(key) for model in models}
    values = {
        model: float(_shown(value, key))
        for model, value in values.items()
        if value is not None and not np.isnan(value)
    }
    if len(set(values.values())) < 2:
        return set()
    first = (min if key in LOWER else max)(values.values())
    return {model for model, value in values.items() if value == first}


def percent(value: float) -> str:
    """With as many decimals as were published, at least one."""
    return f"{value:.1f}" if round(value, 1) == value else f"{value:g}"


def title(model: str) -> str:
    """What a model is called: those that were supplied go by the name they were given."""
    return MODELS[model][0] if model in MODELS else model


def _shown(value: float, key: str) -> str:
    return f"{value if key in RANKS else 100 * value:.1f}"
