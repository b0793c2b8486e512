"""Random numbers that depend on a key alone, and the distributions that `params.yaml` can ask for.

Where `params.yaml` has a range, any of these forms may be given:

    [6.0, 30.0]                                     uniform from 6 to 30
    12.0                                            always 12
    {normal: [18.0, 5.0], within: [6.0, 30.0]}      normal(mean, standard deviation), truncated
    {log_uniform: [0.1, 10.0]}                      uniform in octaves
    {choice: [1, 2, 5], weights: [3, 2, 1]}         one of these; equal weights if none are given

Where whole numbers are wanted, `[1, 3]` is 1, 2 or 3 with equal probability, and what the other
forms draw is rounded.

Every number takes one call of `random()`, whose stream is the same on every machine and in every
version of Python, so a key gives the same number for good.
"""

import hashlib
import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import exp, isfinite, log
from statistics import NormalDist
from typing import Any, TypeVar

import numpy as np

Item = TypeVar("Item")
Number = int | float
FORMS = (
    "[lowest, highest], one number, {normal: [mean, sd], within: [lowest, highest]}, "
    "{log_uniform: [lowest, highest]} or {choice: [...], weights: [...]}"
)


class KeyedRandom:
    """Random numbers that depend on the key alone: not on the process, nor on other draws.

    >>> KeyedRandom(7, "train", 3).random() == KeyedRandom(7, "train", 3).random()
    True
    """

    def __init__(self, *key: int | str):
        # Through SHA-512 in `random.seed`: neighbouring keys have nothing in common.
        self.random = random.Random("\0".join(map(str, key))).random

    def integer(self, highest: int) -> int:
        """Return a whole number from 0 to `highest`, both included."""
        return int(self.random() * (highest + 1))

    def choice(self, items: Sequence[Item]) -> Item:
        """Return one of the items, each with the same probability."""
        return items[int(self.random() * len(items))]

    def weighted_choice(self, items: Sequence[Item], cumulative: Sequence[Number]) -> Item:
        """Return an item drawn by the cumulative sums of the items' weights."""
        return items[bisect_right(cumulative, self.random() * cumulative[-1], hi=len(items) - 1)]


def generator(*key: int | str) -> np.random.Generator:
    """Return numpy's generator for a key: for arrays, where `KeyedRandom` draws single numbers.

    >>> first, again = (generator(7, "train", 3).integers(1000) for _ in range(2))
    >>> bool(first == again)
    True
    """
    words = []
    for part in key:
        if isinstance(part, str):
            part = int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "little")
        words.append(part)
    return np.random.default_rng(np.random.SeedSequence(words))


@dataclass(frozen=True)
class Distribution:
    """A distribution of numbers, made by `Distribution.of` from one of the forms above.

    Attributes:
        kind: "constant", "uniform", "normal", "log_uniform" or "choice".
        values: the bounds of a range, mean and standard deviation, or the numbers to choose from.
        lowest: the smallest number that can be drawn.
        highest: the largest one.
        whole: draw whole numbers.
        cumulative: cumulative sums of the weights of a choice.
        form: what it was made of.
    """

    kind: str
    values: tuple[Number, ...]
    lowest: Number
    highest: Number
    whole: bool = False
    cumulative: tuple[float, ...] = ()
    form: Any = field(default=None, compare=False)

    @classmethod
    def of(cls, form: Any, *, name: str, whole: bool = False) -> "Distribution":
        """Return the distribution of one of the forms above.

        Raises ValueError, which begins with `name`, if `form` is none of them.
        """
        if isinstance(form, Distribution):
            return form
        try:
            parsed = _parse(form, whole)
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"{name}: {error}; expected {FORMS}, got {form}") from None
        if whole and any(x != int(x) for x in (parsed.lowest, parsed.highest)):
            raise ValueError(f"{name}: expected whole numbers, got {form}")
        return replace(parsed, form=form)

    def draw(self, rng: KeyedRandom) -> Number:
        """Return a number, with one call of `rng.random()`."""
        u = rng.random()
        if self.kind == "uniform":
            if self.whole:
                return self.lowest + int(u * (self.highest - self.lowest + 1))
            return self.lowest + (self.highest - self.lowest) * u
        value = self._quantile(u)
        return round(value) if self.whole else value

    def _quantile(self, u: float) -> Number:
        if self.kind == "constant":
            return self.lowest
        if self.kind == "choice":
            last = len(self.values) - 1
            return self.values[bisect_right(self.cumulative, u * self.cumulative[-1], hi=last)]
        if self.kind == "log_uniform":
            return self.lowest * exp(u * log(self.highest / self.lowest))
        # Inverse of the truncated normal: u runs between the cdf at the two bounds.
        normal = NormalDist(*self.values)
        first, last = normal.cdf(self.lowest), normal.cdf(self.highest)
        p = min(max(first + (last - first) * u, 1e-12), 1 - 1e-12)
        return min(max(normal.inv_cdf(p), self.lowest), self.highest)


def _parse(form: Any, whole: bool) -> Distribution:
    if isinstance(form, int | float) and not isinstance(form, bool):
        _numbers([form])
        return Distribution("constant", (form,), form, form, whole)
    if not isinstance(form, Mapping):
        low, high = _range(form)
        return Distribution("uniform", (low, high), low, high, whole)
    kinds = [kind for kind in ("normal", "log_uniform", "choice") if kind in form]
    if len(kinds) != 1:
        raise ValueError("give exactly one of normal, log_uniform, choice")
    [kind] = kinds
    extra = {"normal": {"within"}, "log_uniform": set(), "choice": {"weights"}}[kind]
    if unknown := sorted(set(form) - {kind} - extra):
        raise ValueError(f"unknown key {', '.join(map(repr, unknown))} beside {kind}")
    if kind == "choice":
        values = _numbers(form["choice"])
        weights = _numbers(form.get("weights", [1] * len(values)))
        if not values or len(weights) != len(values) or min(weights) < 0 or not sum(weights):
            raise ValueError(
                "choice needs one or more numbers, and as many weights: none below 0, not all 0"
            )
        return Distribution(
            kind, values, min(values), max(values), whole, tuple(accumulate(map(float, weights)))
        )
    if kind == "log_uniform":
        low, high = _range(form[kind])
        if low <= 0:
            raise ValueError(f"log_uniform needs low > 0, got {low}")
        return Distribution(kind, (low, high), low, high, whole)
    mean, deviation = _numbers(form["normal"])
    low, high = _range(form["within"])
    if deviation <= 0:
        raise ValueError(f"normal needs a standard deviation above 0, got {deviation}")
    normal = NormalDist(mean, deviation)
    if normal.cdf(high) == 0 or normal.cdf(low) == 1:
        raise ValueError(
            f"within [{low}, {high}] has no probability under normal({mean}, {deviation})"
        )
    return Distribution(kind, (mean, deviation), low, high, whole)


def _range(form: Any) -> tuple[Number, Number]:
    low, high = _numbers(form)
    if low > high:
        raise ValueError(f"the lower bound comes first, got [{low}, {high}]")
    return low, high


def _numbers(values: Any) -> tuple[Number, ...]:
    values = tuple(values)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise ValueError(f"{value!r} is not a finite number")
    return values
