"""Sections of what sounds: audio, sources, variants and mixtures."""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal, NotRequired, TypedDict

from flamlib.compute.distributions import Distribution
from flamlib.experiment.parameters import parameter


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """Audio once decoded."""

    sample_rate: int = parameter("sample rate of the bank", unit="Hz", above=0, paper="48000")


class PublishedCollection(TypedDict):
    """A collection of recordings as it is published, or a library of sounds.

    `name`: what its recordings are called, else `kind`. `split`: `held_out`, nothing of it is
    trained on; `train` or `auto` instead of its own splits. `titles`: captions are written from
    titles (fsd50k). `test_fold` of esc50 and urbansound8k. `categories`: the list of UCS.
    `labels` of crowsetta, where these are not beside the recordings.
    `column` of labels, and `tables` that have it, of audformat.
    """

    kind: Literal[
        "fsd50k", "wavcaps", "clotho", "audiocaps", "esc50", "urbansound8k", "freesound", "ucs",
        "folder", "crowsetta", "audformat",
    ]  # fmt: skip
    folder: str
    name: NotRequired[str]
    split: NotRequired[Literal["held_out", "train", "auto"]]
    titles: NotRequired[bool]
    test_fold: NotRequired[int]
    categories: NotRequired[str]
    labels: NotRequired[str]
    column: NotRequired[str]
    tables: NotRequired[list[str]]


Licence = Literal[
    "cc0", "public-domain", "cc-by", "cc-by-sa", "cc-by-nd", "cc-by-nc", "cc-by-nc-sa",
    "cc-by-nc-nd", "sampling+", "gpl", "mit", "artistic", "academic", "unknown",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Which recordings there are: stage `corpus`."""

    profile: Literal["core", "full", "extra", "none"] = parameter(
        "packages of the catalogue; each profile holds those before it; none: own sounds alone"
    )
    only: list[str] = parameter("packages of the profile to use; []: all of them")
    own_sounds: str | None = parameter(
        "folder of sounds of your own, with its table or label files"
    )
    collections: list[PublishedCollection] = parameter(
        "public sets and libraries beside these: {kind: fsd50k, folder: path}, see docs/data.md"
    )
    licences: list[Licence] = parameter(
        "recordings of other licences are left out: [cc0, cc-by]; []: none is"
    )
    background_from_s: float | None = parameter(
        "own sounds without a role are backgrounds from this length on; null: none of them, and "
        "recordings of collections from 10 s on", unit="s", above=0, paper="10",
    )  # fmt: skip
    max_per_caption: int = parameter("recordings kept of a caption, at most", low=1)
    n_jobs: int = parameter("processes", low=1)


@dataclass(frozen=True, kw_only=True)
class VariantsConfig:
    """Augmented copies of each training recording: stage `mix`."""

    n_foreground: int = parameter("copies of a foreground", low=0, paper="0")
    n_background: int = parameter("copies of a background", low=0, paper="0")
    speed: tuple[float, float] = parameter("[lowest, highest] speed; moves the pitch too", above=0)
    eq_db: float = parameter("largest gain of an equaliser band", unit="dB", low=0)
    lowpass_prob: float = parameter("probability of a low-pass filter", low=0, high=1)
    reverb_prob: float = parameter("probability of synthetic reverberation", low=0, high=1)
    pitch_semitones: tuple[float, float] = parameter(
        "[lowest, highest] pitch shift at the same length", unit="semitones", low=-36, high=36
    )
    stretch: tuple[float, float] = parameter(
        "[lowest, highest] factor of the length at the same pitch", above=0
    )
    rooms: str | None = parameter("folder of impulse responses")
    room_prob: float = parameter("probability of one of these rooms", low=0, high=1)
    codec_prob: float = parameter("probability of an MP3 or telephone codec", low=0, high=1)

    def __post_init__(self):
        for name in ("speed", "stretch", "pitch_semitones"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: expected [lowest, highest], got {[low, high]}")
        if self.room_prob and self.rooms is None:
            raise ValueError(f"room_prob is {self.room_prob}, but rooms names no folder")


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """What mixtures are like: stages `mix` and `train`."""

    clip_s: float = parameter("length of a mixture", unit="s", above=0, paper="10")
    n_events: Distribution = parameter("events of a mixture", whole=True, paper="1 to 10")
    max_polyphony: int = parameter("events that sound at once, at most", low=1, paper="3")
    snr_db: Distribution = parameter(
        "A-weighted level of an event over that of the background", unit="dB", paper="6 to 30"
    )
    background_db: Distribution = parameter("A-weighted level of the background", unit="dBFS")
    max_event_s: float = parameter(
        "longer recordings are cut, at a random place", unit="s", above=0, paper="10"
    )
    fragment_prob: float = parameter(
        "probability that an event is cut into fragments with pauses between", low=0, high=1,
        paper="0.1",
    )  # fmt: skip
    n_fragments: Distribution = parameter("fragments of such an event", whole=True, paper="2 to 3")
    repeat_prob: float = parameter(
        "probability that an event is repeated", low=0, high=1, paper="0.1"
    )
    n_repeats: Distribution = parameter("how often it then sounds", whole=True, paper="2 to 3")
    short_event_s: float = parameter(
        "shorter events always repeat: a footstep is one of several", unit="s", low=0, paper="0"
    )
    n_short_repeats: Distribution = parameter("how often they sound", whole=True, paper="1")
    pause_s: Distribution = parameter(
        "silence between fragments and between repeats", unit="s", low=0
    )
    fade_s: float = parameter("fade at both ends of a segment", unit="s", low=0, paper="0.01")
    silence_dbfs: float = parameter(
        "an event is active only where its A-weighted level is at least this", unit="dBFS",
        paper="-70",
    )  # fmt: skip
    min_snr_db: float | None = parameter(
        "and no further below the background than this; null: however far", unit="dB", paper="null"
    )
    fill_gaps_below_s: float = parameter(
        "shorter pauses in the activity of an event are filled", unit="s", low=0, paper="0.2"
    )
    drop_activity_below_s: float = parameter(
        "shorter activity is dropped from events that have longer", unit="s", low=0, paper="0.04"
    )
    event_position: Distribution = parameter(
        "where an event is put: 0 as early as it fits, 1 as late", low=0, high=1, paper="0 to 1"
    )
    background_prob: float = parameter(
        "probability of a background; without, its level alone is drawn", low=0, high=1, paper="1"
    )
    masker_prob: float = parameter(
        "probability that a training mixture has a masker, speech or music at the front, where the "
        "corpus has any", low=0, high=1, paper="0",
    )  # fmt: skip
    masker_db: Distribution = parameter(
        "A-weighted level of a masker over that of the background: with 0 to 12 and snr_db from 6 "
        "to 30, events are at -6 to 30 dB relative to it", unit="dB",
    )  # fmt: skip
    package_weights: dict[str, float] | None = parameter(
        "how often events of training mixtures come from which package; null: packages do not "
        "matter",
        paper="sound effects 0.8, general audio 0.2",
    )

    def __post_init__(self):
        if self.fragment_prob + self.repeat_prob > 1 + 1e-9:  # 0.9 + 0.1 > 1, as floats go
            raise ValueError(
                "fragment_prob and repeat_prob exclude each other and add up to at most 1, got "
                f"{self.fragment_prob} and {self.repeat_prob}"
            )
        weights = self.package_weights
        if weights is not None and (not any(weights.values()) or min(weights.values()) < 0):
            raise ValueError(
                f"package_weights: expected a weight above 0 for a package, or null, got {weights}"
            )

    @cached_property
    def packages(self) -> tuple[str, ...]:
        """The packages that have a weight."""
        return tuple(name for name, weight in (self.package_weights or {}).items() if weight)

    @cached_property
    def cumulative_weights(self) -> tuple[float, ...]:
        """The running sums of their weights."""
        return tuple(accumulate(float(self.package_weights[name]) for name in self.packages))


class PublicSet(TypedDict):
    """A public set to train on."""

    name: Literal["audioset_strong", "desed", "maestro", "urbansed", "tacos"]
    folder: str


class OwnSet(TypedDict):
    """A set of one's own: a table, a label file or a folder of them, and its folder of audio."""

    name: str
    table: str
    audio: str


class OwnTrainingSet(OwnSet):
    """`closed: false`: a caption without an event may sound all the same."""

    closed: NotRequired[bool]


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """How many mixtures are drawn: stage `mix`."""

    n_train: int = parameter("mixtures to train on", low=1, paper="1000000")
    n_valid: int = parameter("mixtures for validation", low=1)
    n_heldout: int = parameter("mixtures of each held-out split", low=1)
    strong: list[PublicSet | OwnTrainingSet] = parameter(
        "strongly labelled recordings beside the mixtures: {name: desed, folder: path}, or a table "
        "or folder of label files of your own, {name: mine, table: a.tsv, audio: folder}, with "
        "`closed: false` for free text"
    )
    n_jobs: int = parameter("processes", low=1)
    scheduler: str | None = parameter(
        "address or file of a dask scheduler, whose workers decode the recordings; null: none, see "
        "docs/cluster.md"
    )
