"""The experiment's parameters: what each means, its unit, its range, and the paper's value.

The values are in `params.yaml`, one section for each class below. `configs/small.yaml` holds the
sizes of a quick run, other files of `configs` those of other experiments:

    config = load_config(small=True, overrides={"train.n_steps": 3})
    config.train.n_steps  # 3

"Paper" is FLAM, arXiv:2505.05335; `configs/paper.yaml` says what is known of each value and how.
A field of type `Distribution` takes any form that `flamlib.distributions` describes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from flamlib import paths, tables
from flamlib.distributions import Distribution
from flamlib.overrides import Overrides, overlaid, override, read_overrides, read_yaml
from flamlib.parameters import ParameterError, parameter, parse, plain, unknown

SMALL = "configs/small.yaml"
PLAIN = str | int | float | list | dict | None  # what papermill gives
MAX_MEDIAN_FRAMES = 9999  # of a median filter; beyond, time and memory would know no bound


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """Audio once decoded."""

    sample_rate: int = parameter("sample rate of the bank", unit="Hz", above=0, paper="48000")


class Collection(TypedDict):
    """A collection of recordings as it is published, or a library of sounds.

    `name`: what its recordings are called, else `kind`. `split`: `held_out`, nothing of it is
    trained on; `train` or `auto` instead of its own splits. `titles`: captions are written from
    titles (fsd50k). `test_fold` of esc50 and urbansound8k. `categories`: the list of UCS.
    """

    kind: Literal[
        "fsd50k", "wavcaps", "clotho", "audiocaps", "esc50", "urbansound8k", "freesound", "ucs",
        "folder",
    ]  # fmt: skip
    folder: str
    name: NotRequired[str]
    split: NotRequired[Literal["held_out", "train", "auto"]]
    titles: NotRequired[bool]
    test_fold: NotRequired[int]
    categories: NotRequired[str]


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
    collections: list[Collection] = parameter(
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
        "how often events come from which package; null: packages do not matter",
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


class SavedModel(TypedDict):
    """A folder with a model, and what to call it."""

    name: str
    folder: str


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


@dataclass(frozen=True, kw_only=True)
class YamnetConfig:
    """YAMNet as the audio tower: 16 kHz, frames of 0.32 or 0.08 s."""

    tower: Literal["yamnet"] = parameter("which tower: a folder of artifacts/weights")
    dropout: float = parameter("dropout of the local branch", low=0, high=1, default=0.0)
    tags: bool = parameter("YAMNet's AudioSet classes are half of every embedding", default=False)
    frame_hops: Literal[32, 8] = parameter("hops of 10 ms in a frame", default=32)


@dataclass(frozen=True, kw_only=True)
class HtsatConfig:
    """HTS-AT as the audio tower: the paper's."""

    tower: Literal["htsat"] = parameter("which tower: a folder of artifacts/weights")
    embed: int = parameter("width of the first stage", low=1, paper="128")
    depths: list[int] = parameter("blocks of each stage", low=1, paper="2, 2, 12, 2")
    heads: list[int] = parameter("attention heads of each stage", low=1, paper="4, 8, 16, 32")
    drop_path: float = parameter("stochastic depth at the last block", low=0, high=1, paper="0.1")
    drop_hidden: float = parameter("dropout of hidden layers", low=0, high=1, paper="0")
    drop_attention: float = parameter("dropout of attention", low=0, high=1, paper="0")
    patch: int = parameter("side of the squares of the spectrogram", default=4, paper="4")
    sample_rate: int = parameter("of the audio it takes", unit="Hz", default=48000, paper="48000")
    filters: str = parameter("mel filters: slaney or htk", default="slaney")
    padding: Literal["ignored", "silent", "repeated"] = parameter(
        "the last ten seconds, where audio ends before them: silence that is no part of the clip, "
        "silence that is, or the audio again", default="ignored",
    )  # fmt: skip
    frozen_stages: int = parameter(
        "lowest stages that never learn; what they make of the clips is stored", low=0, default=0,
        paper="0",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TextTowerConfig:
    """A text encoder as the caption tower."""

    tower: str = parameter("a folder of artifacts/weights: minilm or roberta", paper="roberta")
    pooling: Literal["mean", "pooler", "all", "words"] = parameter(
        "how token vectors become one", paper="pooler"
    )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model: section `network`."""

    audio: YamnetConfig | HtsatConfig = parameter("the audio tower", paper="htsat")
    caption: TextTowerConfig = parameter("the caption tower", paper="roberta")
    dim: int = parameter("dimensions of the shared embedding", low=1, paper="512")
    dropout: float = parameter("dropout of the projections", low=0, high=1, paper="0")
    scale_init: float = parameter("initial logit scale of a caption", above=0, paper="10")
    bias_init: float = parameter("initial logit bias, log-odds of the prior", paper="-8")
    temperature_init: float = parameter(
        "initial temperature of the clip loss", above=0, paper="0.07"
    )
    scale: Literal["per_caption", "shared", "fixed"] = parameter(
        "logit scale: predicted for each caption, one for all, or as it begins", paper="per_caption"
    )
    bias: Literal["per_caption", "shared", "fixed"] = parameter(
        "logit bias, likewise", paper="per_caption"
    )
    clip_projection: Literal["shared", "own"] = parameter(
        "projection of whole clips: that of frames, or one of its own", paper="shared"
    )


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weight of each loss in the objective of a model: section `objectives`."""

    clip: float = parameter("contrastive loss of whole clips", low=0, default=0.0, paper="1")
    clip_sigmoid: float = parameter("the same by sigmoids, as SigLIP's", low=0, default=0.0)
    frame: float = parameter("frame-wise sigmoid loss", low=0, default=0.0, paper="200")
    prior: float = parameter("prior loss, which fits the bias", low=0, default=0.0, paper="1")
    hard: float = parameter("MGA-CLAP: contrastive, hard negatives", low=0, default=0.0)
    even: float = parameter("MGA-CLAP: L1 over L2 norm of the embeddings", low=0, default=0.0)


@dataclass(frozen=True, kw_only=True)
class CodebookConfig:
    """The codebook of MGA-CLAP (arXiv:2408.07919)."""

    n_codes: int = parameter("codewords", low=2)
    code_temperature: float = parameter("temperature of their weights", above=0)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The training loop."""

    n_steps: int = parameter("optimiser steps", low=1, paper="120000, FLAM-Global 50000")
    batch_size: int = parameter("mixtures of a step, over all processes", low=0, paper="512")
    set_weights: dict[str, float] | None = parameter(
        "how often the clips of a step come from which of mix.strong: "
        "{synthetic: 0.8, desed: 0.2}; null: mixtures alone"
    )
    pair_batch_size: int = parameter(
        "single recordings with their captions of a step, over all processes", low=0,
        paper="768 in FLAM-Global",
    )  # fmt: skip
    pair_s: float = parameter("length they are cut to", unit="s", above=0, paper="10")
    pair_background_prob: float = parameter(
        "probability that one is put on a background", low=0, high=1, paper="0"
    )
    n_pair_takes: int | None = parameter(
        "ways in which each recording is presented (place, level, background), drawn once and for "
        "all; null: anew in each step", low=1, paper="null",
    )  # fmt: skip
    max_captions_per_clip: int | None = parameter(
        "captions that a mixture contributes to a step, at most; null: all", low=1, paper="5"
    )
    n_hypernyms: int = parameter("broader captions added to a step", low=0, paper="0")
    n_hard_negatives: int = parameter(
        "captions added that only resemble what sounds", low=0, paper="0"
    )
    wording_prob: float = parameter(
        "probability that a caption is put in other words", low=0, high=1, paper="0"
    )
    caption_noise: float = parameter(
        "noise on the features of a frozen caption tower, relative to their spread", low=0,
        paper="0",
    )  # fmt: skip
    hardness: float = parameter("weighting of MGA-CLAP's hard negatives", low=0)
    lr_audio: float = parameter("peak learning rate of the audio tower", low=0, paper="1e-4")
    lr_caption: float = parameter(
        "peak learning rate of the caption tower; 0: it is frozen", low=0, paper="1e-4"
    )
    lr_heads: float = parameter("peak learning rate of what is new", low=0, paper="1e-4")
    n_warmup: int = parameter("steps of linear warm-up; then a cosine to 0", low=0, paper="3200")
    weight_decay: float = parameter("weight decay of AdamW", low=0, paper="0")
    max_grad_norm: float = parameter("gradients are clipped to this norm", above=0)
    ema_decay: float = parameter(
        "decay a step of the average of the weights, which is what is saved", low=0, high=1,
        paper="0",
    )  # fmt: skip
    n_frozen: int = parameter(
        "lowest convolutions that stay as they are; with tags all of YAMNet's do anyway", low=0,
        paper="0",
    )  # fmt: skip
    init_from: str | None = parameter("folder of a saved model to start from")
    micro_batch: int | None = parameter(
        "clips that a process holds in memory at a time; same gradients, slower; null: all", low=1
    )
    checkpointing: bool = parameter("compute activations twice rather than keep them")
    compile: bool = parameter("run the towers through torch.compile")
    sync_batch_norm: bool = parameter("HTS-AT normalises over all processes; on GPUs", paper="true")
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = parameter(
        "auto: bf16 where the machine is faster with it", paper="no"
    )
    n_processes: int = parameter("processes that share a step", low=1)
    n_workers: int = parameter("processes that prepare audio, for each of these", low=0)
    save_every: int = parameter("steps between saved states, to go on from", low=1)
    keep_last: int = parameter("saved states that are kept", low=1)
    valid_every: int = parameter("steps between validation losses; 0: none", low=0)
    select: Literal["last", "best"] = parameter("which weights are saved; best: by validation loss")
    trust_known: tuple[float, float, float] | None = parameter(
        "[worth of the learned half of the cosine, worth of the classes, shift of the logit] once "
        "FLAM is trained, for captions that it was trained on (flamlib/models/familiarity.py); "
        "null, as trust_novel: every caption is treated alike", paper="null",
    )  # fmt: skip
    trust_novel: tuple[float, float, float] | None = parameter(
        "the same for all others, which get a common prior", paper="null"
    )
    log_every: int = parameter("steps between logged rows", low=1)

    def __post_init__(self):
        if self.select == "best" and not self.valid_every:
            raise ValueError("select: best needs valid_every above 0: there is no validation loss")
        if (self.trust_known is None) != (self.trust_novel is None):
            raise ValueError("trust_known and trust_novel: expected both or, with null, neither")
        for name in ("trust_known", "trust_novel"):
            if min((getattr(self, name) or [1])[:2]) <= 0:
                raise ValueError(f"{name}: expected what the halves are worth above 0")


@dataclass(frozen=True, kw_only=True)
class HearConfig:
    """What a frozen trunk makes of the clips, stored: stage `hear`."""

    max_gb: float = parameter("disk that it may take", unit="GB", above=0)
    shard_clips: int = parameter("clips of a file", low=1)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Evaluation on held-out mixtures: section `evaluate`."""

    n_clips: int = parameter("mixtures of each split, at most", low=1)
    batch_size: int = parameter("mixtures scored at a time", low=1)
    median_frames: int = parameter(
        "frames of the median filter before PSDS and events; odd", low=1, high=MAX_MEDIAN_FRAMES
    )
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

    def __post_init__(self):
        _check_odd("median_frames", self.median_frames)


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
class DetectConfig:
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
        "frames of the median filter; odd", low=1, high=MAX_MEDIAN_FRAMES, default=3
    )
    threshold: float = parameter("score from which a frame is active", low=0, high=1, default=0.9)
    min_duration_s: float = parameter("shorter events are dropped", unit="s", low=0, default=0.0)
    merge_gap_s: float = parameter(
        "shorter gaps between events are closed", unit="s", low=0, default=0.0
    )

    def __post_init__(self):
        _check_odd("median_frames", self.median_frames)


@dataclass(frozen=True, kw_only=True)
class Config:
    """All sections of `params.yaml`."""

    seed: int = parameter("seed of everything drawn at random", low=0)
    audio: AudioConfig = parameter("audio once decoded")
    source: SourceConfig = parameter("which recordings there are")
    variants: VariantsConfig = parameter("augmented copies of training recordings")
    mixture: MixtureConfig = parameter("what mixtures are like")
    mix: MixConfig = parameter("how many mixtures are drawn")
    hear: HearConfig = parameter("the stored output of a frozen trunk")
    network: ModelConfig = parameter("the model")
    objectives: dict[str, LossWeights] = parameter("weights of the losses, by model")
    codebook: CodebookConfig = parameter("the codebook of mga_clap")
    train: TrainConfig = parameter("the training loop")
    evaluate: EvaluationConfig = parameter("evaluation on held-out mixtures")
    ablate: AblationConfig = parameter("the ablation study")
    dependency: DependencyConfig = parameter("two captions that sound together")
    testsets: TestsetsConfig = parameter("public test sets")
    detect: DetectConfig = parameter("detection in one recording")

    def override(self, changes: Mapping[str, Any]) -> "Config":
        """Return the configuration with other values at dotted names, checked again.

        Raises ParameterError for an unknown name or a value that does not fit.
        """
        return parse(Config, override(plain(self), changes))

    def objective(self, model: str) -> LossWeights:
        """Return the weights of a model's losses. Raises ValueError for an unknown model."""
        if model not in self.objectives:
            raise ValueError(f"no model {model!r}; known: {', '.join(self.objectives)}")
        return self.objectives[model]


def _check_odd(name: str, value: int) -> None:
    if value % 2 == 0:
        raise ValueError(f"{name} = {value}: expected an odd number")


def load_config(
    path: str | Path | None = None,
    *,
    small: bool = False,
    overlays: Sequence[str | Path] = (),
    overrides: Mapping[str, Any] | str | None = None,
    given: Mapping[str, Any] | None = None,
) -> Config:
    """Read the experiment's parameters.

    Args:
        path: a file with all sections; None: `params.yaml` in the project's root.
        small: put the sizes of `configs/small.yaml`, beside `path`, in place of those of `path`.
        overlays: files with some sections and keys, which replace those before them.
        overrides: values by dotted name, `{"train.n_steps": 3}`, or as text, "train.n_steps=3".
        given: all names of a notebook; of these, sections of which papermill was given some values,
            `-p train.n_steps 3` or `-y "train: {n_steps: 3}"`, replace just these. Overrides go
            before them.

    Raises:
        ParameterError: naming every unknown name, wrong type and value out of range.
        FileNotFoundError: for a file that is not there, or outside a project.
    """
    path = Path(path) if path else paths.root() / paths.PARAMS
    values = read_yaml(path)
    for overlay in [*([path.parent / SMALL] if small else []), *overlays]:
        values = overlaid(values, read_yaml(overlay), name=str(overlay))
    given = {name: of for name, of in (given or {}).items() if name in values}
    whole = {name: of for name, of in given.items() if isinstance(of, PLAIN)}
    values = overlaid(values, whole, name="parameters of the notebook")
    changes: dict[str, Any] = {}
    for name, of in given.items():
        changes |= of.changes(name) if isinstance(of, Overrides) else {}
    config = parse(Config, override(values, changes | read_overrides(overrides)))
    if problems := list(_unknown_names(config, path.parent)):
        raise ParameterError("\n".join(problems))
    return config


def _unknown_names(config: Config, root: Path) -> Iterator[str]:
    """Say which weights are of a package or of a set that there is not."""
    packages, catalogue = config.mixture.package_weights, root / "catalogue/packages.tsv"
    if packages and catalogue.is_file():
        known = {row["package"] for row in tables.read(catalogue, ("package",), short_rows=True)}
        yield from unknown(packages, {"own", *known}, "mixture.package_weights")
    if sets := config.train.set_weights:
        known = {"synthetic", *(entry["name"] for entry in config.mix.strong)}
        yield from unknown(sets, known, "train.set_weights")


def sections() -> dict[str, Overrides]:
    """Return by its name, for each section of `params.yaml`, an object to set other values in."""
    return {of.name: Overrides() for of in fields(Config) if of.name != "seed"}
