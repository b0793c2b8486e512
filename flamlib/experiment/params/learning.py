"""Sections of training: the losses, the loop, and what a frozen trunk stores for it."""

from dataclasses import dataclass
from typing import Literal

from flamlib.experiment.parameters import parameter


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
        "clips that a process holds in memory at a time; slower, with the same gradients but for "
        "HTS-AT's first layer, which normalises over them; null: all",
        low=1,
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
        if self.batch_size % self.n_processes:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be shared evenly by {self.n_processes} "
                "processes: each counts the same in the gradient"
            )
        if self.ema_decay == 1:
            raise ValueError("ema_decay: expected less than 1, with which no step would count")
        if (self.trust_known is None) != (self.trust_novel is None):
            raise ValueError("trust_known and trust_novel: expected both or, with null, neither")
        for name in ("trust_known", "trust_novel"):
            if min((getattr(self, name) or [1])[:2]) <= 0:
                raise ValueError(f"{name}: expected what the halves are worth above 0")


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """What a frozen trunk makes of the clips, stored: stage `features`."""

    max_gb: float = parameter("disk that it may take", unit="GB", above=0)
    shard_clips: int = parameter("clips of a file", low=1)
