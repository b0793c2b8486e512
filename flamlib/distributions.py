"""Numbers drawn by chance: from which distribution, and from which key.

A range of `params.yaml` is a distribution, in one of these forms:

    [6.0, 30.0]                                     anything from 6 to 30 alike
    12.0                                            always 12
    {normal: [18.0, 5.0], within: [6.0, 30.0]}      mean and standard deviation, the rest cut off
    {log_uniform: [0.1, 10.0]}                      each octave alike
    {choice: [1, 2, 5], weights: [3, 2, 1]}         one of these; without weights each alike

Where whole numbers are meant, `[1, 3]` is 1, 2 or 3 alike, and the others are rounded.

Every number is drawn with one call of `random()`, the same on every machine and in every version
of Python: what is drawn from a key today is drawn from it in ten years.
"""

import hashlib
import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    """Random numbers that depend on the key alone: not on the process, nor on earlier draws.

    >>> KeyedRandom(7, "train", 3).random() == KeyedRandom(7, "train", 3).random()
    True
    """

    def __init__(self, *key: int | str):
        # Through SHA-512 in `random.seed`: neighbouring keys have nothing in common.
        self.random = random.Random("\0".join(map(str, key))).random

    def integer(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`, both included."""
        return low + int(self.random() * (high - low + 1))

    def choice(self, items: Sequence[Item]) -> Item:
        return items[int(self.random() * len(items))]

    def weighted_choice(self, items: Sequence[Item], cumulative: Sequence[Number]) -> Item:
        """Return an item drawn by the cumulative sums of the items' weights."""
        return items[bisect_right(cumulative, self.random() * cumulative[-1], hi=len(items) - 1)]


def generator(*key: int | str) -> np.random.Generator:
    """Random numbers that depend on the key alone: not on the process, nor on earlier draws.

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
    """What may be drawn, from `lowest` to `highest`; made by `Distribution.of` of a form above.

    `given` are the two numbers of a range, mean and standard deviation, or what to choose from;
    `cumulative` the running sums of a choice's weights.
    """

    kind: str
    given: tuple[Number, ...]
    lowest: Number
    highest: Number
    whole: bool = False
    cumulative: tuple[float, ...] = ()

    @classmethod
    def of(cls, form: Any, *, name: str, whole: bool = False) -> "Distribution":
        """The distribution of a form. Raises ValueError, beginning with `name`, for any other."""
        if isinstance(form, Distribution):
            return form
        try:
            made = _made(form, whole)
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"{name}: {error}; expected {FORMS}, got {form}") from None
        if whole and any(x != int(x) for x in (made.lowest, made.highest)):
            raise ValueError(f"{name}: expected whole numbers, got {form}")
        return made

    def draw(self, rng: KeyedRandom) -> Number:
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
            last = len(self.given) - 1
            return self.given[bisect_right(self.cumulative, u * self.cumulative[-1], hi=last)]
        if self.kind == "log_uniform":
            return self.lowest * exp(u * log(self.highest / self.lowest))
        # Normal: between the shares of it that lie below the lowest and below the highest.
        normal = NormalDist(*self.given)
        below, upto = normal.cdf(self.lowest), normal.cdf(self.highest)
        share = min(max(below + (upto - below) * u, 1e-12), 1 - 1e-12)
        return min(max(normal.inv_cdf(share), self.lowest), self.highest)


def _made(form: Any, whole: bool) -> Distribution:
    if isinstance(form, int | float) and not isinstance(form, bool):
        _numbers([form])
        return Distribution("constant", (form,), form, form, whole)
    if not isinstance(form, Mapping):
        low, high = _range(form)
        return Distribution("uniform", (low, high), low, high, whole)
    kinds = [kind for kind in ("normal", "log_uniform", "choice") if kind in form]
    if len(kinds) != 1:
        raise ValueError("no distribution of one kind")
    [kind] = kinds
    extra = {"normal": {"within"}, "log_uniform": set(), "choice": {"weights"}}[kind]
    if unused := set(form) - {kind} - extra:
        raise ValueError(f"{sorted(unused)} means nothing here")
    if kind == "choice":
        values = _numbers(form["choice"])
        weights = _numbers(form.get("weights", [1] * len(values)))
        if not values or len(weights) != len(values) or min(weights) < 0 or not sum(weights):
            raise ValueError("a weight for each, none below 0, not all 0")
        return Distribution(
            kind, values, min(values), max(values), whole, tuple(accumulate(map(float, weights)))
        )
    if kind == "log_uniform":
        low, high = _range(form[kind])
        if low <= 0:
            raise ValueError("octaves begin above 0")
        return Distribution(kind, (low, high), low, high, whole)
    mean, deviation = _numbers(form["normal"])
    low, high = _range(form["within"])
    if deviation <= 0 or NormalDist(mean, deviation).cdf(high) == 0:
        raise ValueError("a standard deviation above 0, and bounds that it reaches")
    if NormalDist(mean, deviation).cdf(low) == 1:
        raise ValueError("bounds that it reaches")
    return Distribution(kind, (mean, deviation), low, high, whole)


def _range(form: Any) -> tuple[Number, Number]:
    low, high = _numbers(form)
    if low > high:
        raise ValueError("the lowest comes first")
    return low, high


def _numbers(values: Any) -> tuple[Number, ...]:
    values = tuple(values)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise ValueError(f"{value!r} is no number")
    return values
