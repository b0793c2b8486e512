"""Sections of the model: its towers, its embedding and its heads."""

from dataclasses import dataclass
from typing import Literal

from flamlib.experiment.parameters import parameter


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
