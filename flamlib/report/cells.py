"""Cells and rows of the report's tables, as `page` shows them.

Metrics are fractions and shown in percent, but for ranks, nats and false spans. Below a value stand
its 95 % confidence interval and the p-value of the test against FLAM.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flamlib.plots.figures import MODELS

Numbers = Mapping[str, Any]
Results = Mapping[str, Mapping[str, Numbers]]

PRIORS = ("nats_constant", "nats_caption", "nats_oracle")
DECIMALS = {"t2a_median_rank": 1, "a2t_median_rank": 1, "false_spans": 2}
DECIMALS |= dict.fromkeys(("nats", "nats_gain", *PRIORS), 4)
UNRANKED = {"event_recall", "false_spans"}  # each is best where the other is worst
LOWER = {"auroc_loss", "ece", "brier", "nats", "t2a_median_rank", "a2t_median_rank"}


def row(cells: list[dict], kind: str = "") -> dict[str, Any]:
    """Return a row; `kind` is its style: "published", "first" or "" for any other."""
    return {"group": None, "kind": kind, "cells": cells}


def cell(
    text: str | None,
    kind: str = "",
    *,
    small: str = "",
    why: str = "",
    share: float | None = None,
    audio: str | None = None,
) -> dict[str, Any]:
    """Return a cell.

    Args:
        text: what it says; None: a dash.
        kind: its style.
        small: a second line in small print.
        why: why there is no text, shown as a tooltip.
        share: draw a bar of this many percent.
        audio: a player of this data URI.
    """
    if text is None:
        text, kind, small, share = "–", "none", "", None
    of = {"text": text, "kind": kind, "small": small, "why": why}
    return of | {"share": share, "audio": audio}


def number(
    numbers: Numbers, key: str, *, is_best: bool, why: str, test: Numbers | None = None
) -> dict[str, Any]:
    """Return the cell of one metric of one model.

    Args:
        numbers: the model's metrics.
        key: name of the metric.
        is_best: print it as the best of its column.
        why: why there is no value, if so.
        test: the model's entry under "difference".
    """
    value = numbers.get(key)
    if value is None or np.isnan(value):
        return cell(None, why=why)
    low, high = (numbers.get(f"{key}_{end}") for end in ("low", "high"))
    small = ""
    if low is not None and high is not None and not np.isnan(low + high):
        small = f"[{_format(low, key)}, {_format(high, key)}]"
    p = (test or {}).get(f"{key}_p")
    if p is not None and not np.isnan(p):
        small += f" p {'<' if p < 0.001 else '='} {max(p, 0.001):.3f}".replace(" 0.", " .")
    return cell(_format(value, key), kind="best" if is_best else "", small=small.strip())


def sizes(of_set: Mapping[str, Numbers]) -> Numbers:
    """Return the metrics of any model of a test set: all have the same numbers of clips and
    captions."""
    return next(numbers for model, numbers in of_set.items() if model != "difference")


def best(of_set: Mapping[str, Numbers], key: str, models: Sequence[str]) -> set[str]:
    """Return which models have the best value of a metric; none if all have the same, or if it
    ranks none (`UNRANKED`).

    Values that are printed alike are the same: some come from a file and were rounded there.
    """
    values = {model: of_set.get(model, {}).get(key) for model in models}
    values = {
        model: float(_format(value, key))
        for model, value in values.items()
        if value is not None and not np.isnan(value)
    }
    if len(set(values.values())) < 2 or key in UNRANKED:
        return set()
    first = (min if key in LOWER else max)(values.values())
    return {model for model, value in values.items() if value == first}


def percent(value: float) -> str:
    """Format a published value with as many decimals as it has, at least one."""
    return f"{value:.1f}" if round(value, 1) == value else f"{value:g}"


def title(model: str) -> str:
    """Return the name of a model in tables; external models keep the name they were given."""
    return MODELS[model][0] if model in MODELS else model


def _format(value: float, key: str) -> str:
    if key in DECIMALS:
        return f"{value:.{DECIMALS[key]}f}"
    return f"{100 * value:.1f}"
