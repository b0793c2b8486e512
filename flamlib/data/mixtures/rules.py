"""What mixtures are like: the rules that `mixing` draws by, with their defaults in params.yaml.

Where a rule is a range, any distribution may be given: see `distributions`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import Any

from flamlib.distributions import Distribution

Number = int | float
COUNTS = ("n_events", "n_fragments", "n_repeats", "n_short_repeats")
Range = Distribution | list | tuple | Mapping | Number  # a `Distribution` once the rules are made


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The numbers of an experiment, `Rules(clip_s=10.0, **params["rules"])`.

    Raises ValueError for what cannot be meant.
    """

    clip_s: Number
    n_events: Range  # per clip
    max_polyphony: int  # events that sound at once
    snr_db: Range  # an event's A-weighted level over the background's
    background_db: Range  # A-weighted level of the background, dBFS
    max_event_s: Number  # longer recordings are cut at a random place
    fragment_prob: Number  # of events are cut into `n_fragments` with gaps between them
    n_fragments: Range
    repeat_prob: Number  # of events sound `n_repeats` times
    n_repeats: Range
    short_event_s: Number  # events below this always repeat, `n_short_repeats` times: footsteps
    n_short_repeats: Range
    pause_s: Range  # silence between fragments and between repeats
    fade_s: Number  # at both ends of every segment
    silence_dbfs: Number  # an event below this A-weighted level (dBFS) is not active
    min_snr_db: Number | None  # nor at less than this over the background; None: whatever that is
    fill_gaps_below_s: Number  # shorter pauses in the activity of an event are filled
    drop_activity_below_s: Number  # and shorter activity is dropped from events that have longer
    event_position: Range = (0.0, 1.0)  # of an event in the time in which it fits, from first to last
    background_prob: Number = 1.0  # of mixtures have a background; the rest have its level only
    # How often an event comes from which package, {"own": 0.8, "scratch": 0.2}; None: no matter.
    package_weights: Mapping[str, Number] | None = None
    packages: tuple[str, ...] = field(init=False, default=())
    cumulative_weights: tuple[float, ...] = field(init=False, default=())

    def __post_init__(self):
        for each in fields(self):
            if each.type is Range:
                self._set(each.name, _distribution(each.name, getattr(self, each.name)))
        for name in ("clip_s", "max_polyphony", "max_event_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")
        for name in ("fade_s", "short_event_s", "fill_gaps_below_s", "drop_activity_below_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if self.pause_s.lowest < 0:
            raise ValueError(f"pause_s: a pause cannot be negative, got {self.pause_s.lowest}")
        if self.event_position.lowest < 0 or self.event_position.highest > 1:
            raise ValueError("event_position: from 0, as early as it fits, to 1, as late as it fits")
        if not 0 <= self.background_prob <= 1:
            raise ValueError(f"background_prob: expected 0 to 1, got {self.background_prob}")
        rest = 1 - self.fragment_prob - self.repeat_prob
        if min(self.fragment_prob, self.repeat_prob, rest + 1e-9) < 0:  # 1 - 0.9 - 0.1 < 0
            raise ValueError(
                "fragment_prob and repeat_prob are shares of all events and add up to at most 1, "
                f"got {self.fragment_prob} and {self.repeat_prob}"
            )
        if self.package_weights is not None:
            weights = {k: v for k, v in self.package_weights.items() if v != 0}
            if not weights or min(weights.values()) < 0:
                raise ValueError(
                    "package_weights: expected a weight above 0 for a package, or null, got "
                    f"{dict(self.package_weights)}"
                )
            self._set("packages", tuple(weights))
            self._set("cumulative_weights", tuple(accumulate(map(float, weights.values()))))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


def _distribution(name: str, form: Any) -> Distribution:
    made = Distribution.of(form, name=name, whole=name in COUNTS)
    if name in COUNTS and made.lowest < 1:
        raise ValueError(f"{name}: expected whole numbers from 1, got {form}")
    return made
