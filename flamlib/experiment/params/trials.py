"""Sections of what a model is put to: evaluation, the studies, public test sets, detection."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from flamlib.experiment.parameters import parameter
from flamlib.experiment.params.sounds import OwnSet

if TYPE_CHECKING:
    from flamlib.sound_events.smoothing import Smoothing

MAX_MEDIAN_FRAMES = 9999  # of a median filter; beyond, time and memory would know no bound


MAX_HYSTERESIS = 50.0  # nats; more than any score differs from another


class _Smoothed:
    """What sections have that say how scores are smoothed."""

    median_frames: int
    hysteresis: float

    def __post_init__(self):
        if self.median_frames % 2 == 0:
            raise ValueError(f"median_frames = {self.median_frames}: expected an odd number")

    @property
    def smoothing(self) -> "Smoothing":
        """How scores are smoothed before events are found in them."""
        # Imported here: numpy takes a tenth of a second, and --help does not need it.
        from flamlib.sound_events.smoothing import Smoothing

        return Smoothing(self.median_frames, self.hysteresis)


class SavedModel(TypedDict):
    """A folder with a model, and what to call it."""

    name: str
    folder: str


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(_Smoothed):
    """Evaluation on held-out mixtures: section `evaluate`."""

    n_clips: int = parameter("mixtures of each split, at most", low=1)
    batch_size: int = parameter("mixtures scored at a time", low=1)
    median_frames: int = parameter(
        "frames of the median filter before PSDS and events; odd", low=1, high=MAX_MEDIAN_FRAMES
    )
    hysteresis: float = parameter(
        "an event goes on while its odds are at least exp(-hysteresis) times those of its "
        "threshold", unit="nats", low=0, high=MAX_HYSTERESIS
    )  # fmt: skip
    n_thresholds: int = parameter("thresholds that F1 is computed at", low=1)
    novel_threshold: float | None = parameter(
        "lowest unbiased score of an active frame of a caption that FLAM was not trained on; null, "
        "and for models without trust_novel: by the few such captions of validation", low=0, high=1
    )  # fmt: skip
    n_bins: int = parameter("bins of a reliability diagram", low=1)
    segment_s: float = parameter(
        "segments of segment F1 and partial AUROC", unit="s", above=0, paper="1"
    )
    max_fpr: float = parameter(
        "false positive rate up to which partial AUROC goes", above=0, high=1
    )
    collar_s: float = parameter(
        "tolerance at the ends of an event, of event F1", unit="s", low=0, paper="0.2"
    )
    collar_rate: float = parameter(
        "or at its offset this share of its length, if that is more", low=0, paper="0.2"
    )
    n_resamples: int = parameter("bootstrap draws of the intervals", low=1)


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """The study, FLAM with one thing changed at a time: section `ablate`."""

    budget: dict[str, Any] = parameter("changes that all runs share, by dotted name")
    arms: dict[str, dict[str, Any]] = parameter("changes of each arm; `model` is another model")


@dataclass(frozen=True, kw_only=True)
class DependencyConfig:
    """Two captions that sound together, one frequent and one rare."""

    frequent: str = parameter("caption that sounds for whole clips")
    rare: str = parameter("caption that sounds for a moment, and only with the other")
    frequent_share: float = parameter("share of the clips with the frequent one", low=0, high=1)
    rare_share: float = parameter("share of those in which the rare one sounds too", low=0, high=1)
    rare_s: float = parameter("for how long", unit="s", above=0)
    n_train: int = parameter("mixtures to train on", low=1)
    n_test: int = parameter("mixtures to test on", low=1)
    n_thresholds: int = parameter("thresholds that F1 is computed at", low=1)
    budget: dict[str, Any] = parameter("changes of the training, by dotted name")


TestSetName = Literal[
    *("asfx_sed", "audioset_strong", "desed_public", "desed_validation", "maestro", "urbansed"),
    *("asfx", "clotho", "audiocaps", "esc50", "urbansound8k", "vggsound"),
    *("castella", "clotho_moment"),
]


@dataclass(frozen=True, kw_only=True)
class TestsetsConfig:
    """Public test sets."""

    __test__ = False  # pytest takes a class of this name for tests

    folders: dict[TestSetName, str | None] = parameter(
        "folder of each set's official files; null: absent"
    )
    own: list[OwnSet] = parameter(
        "tables or folders of label files of your own: {name: mine, table: a.tsv, audio: folder}"
    )
    models: list[SavedModel] = parameter(
        "models to compare with, saved by flam: {name: laion_clap, folder: path}"
    )
    window_s: float = parameter("longer recordings are scored window by window", unit="s", above=0)
    templates: list[str] = parameter("prompts of classes; the first is reported first")
    sed_template: str = parameter("prompt of classes that are located in time")
    n_resamples: int = parameter("bootstrap draws of the intervals", low=1)
    n_examples: int = parameter("best and worst clips of each split in the report", low=0)


@dataclass(frozen=True, kw_only=True)
class DetectConfig(_Smoothed):
    """Detection in one recording.

    The defaults are those of `flam detect` and of `detector.detect`, too; params.yaml repeats them.
    """

    recording: str = parameter("a recording, from the project's root or in full")
    captions: list[str] = parameter(
        "what to find; []: what sounds in the mixture, and some captions that do not"
    )
    n_absent: int = parameter("how many that do not", low=0)
    method: Literal["unbiased", "biased", "approximate"] = parameter(
        "score of a frame", default="unbiased"
    )
    median_frames: int = parameter(
        "frames of the median filter; odd", low=1, high=MAX_MEDIAN_FRAMES, default=1
    )
    hysteresis: float = parameter(
        "an event goes on while its odds are at least exp(-hysteresis) times those of its "
        "threshold", unit="nats", low=0, high=MAX_HYSTERESIS, default=0.75
    )  # fmt: skip
    threshold: float = parameter("score from which a frame is active", low=0, high=1, default=0.9)
    min_duration_s: float = parameter("shorter events are dropped", unit="s", low=0, default=0.0)
    merge_gap_s: float = parameter(
        "shorter gaps between events are closed", unit="s", low=0, default=0.0
    )
