"""FLAM: two towers that meet in one space, and the two numbers that a caption carries with it."""

import json
import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchaudio.functional import resample

from flamlib import losses, project
from flamlib.captions import CaptionTower
from flamlib.yamnet import YAMNet

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CAPTION_FOLDER = "caption_tower"
FORMAT = 1  # of a saved folder; a reader refuses a newer one

Method = Literal["unbiased", "biased", "approximate"]


class Audio(NamedTuple):
    """What the model hears: unit vectors of each frame and of the whole clip."""

    frame_emb: Float[Tensor, "clip frame dim"]
    clip_emb: Float[Tensor, "clip dim"]


class Captions(NamedTuple):
    """What the model knows of each caption: its unit vector, its multiplier, its prior log-odds."""

    caption_emb: Float[Tensor, "caption dim"]
    logit_scale: Float[Tensor, "caption"]
    logit_bias: Float[Tensor, "caption"]


class Step(NamedTuple):
    """One forward pass of training; what was not asked for is None."""

    heard: Audio | None
    captions: Captions | None
    pair_heard: Audio | None
    pair_captions: Captions | None
    log_temperature: Float[Tensor, ""]


CaptionInput = Float[Tensor, "caption dim"] | dict[str, Tensor]


class Head(nn.Module):
    """One number from a caption's features: Linear, GELU, Linear."""

    def __init__(self, width: int, *, init: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        with torch.no_grad():
            self.layers[2].bias += init

    def forward(self, features: Float[Tensor, "caption dim"]) -> Float[Tensor, "caption"]:
        # squeeze(1) and not squeeze(): a single caption is still a list of captions.
        return self.layers(features).squeeze(1)


class FLAM(nn.Module):
    """Frame-wise language-audio model.

        frame_emb[l] = unit(audio_projection(frame feature l))
        clip_emb     = unit(audio_projection(mean over l of frame feature l))
        caption_emb  = unit(caption_projection(caption feature))
        logit_scale  = exp(scale_head(caption feature))
        logit_bias   = bias_head(caption feature)

    One projection serves frames and clips, so that a caption means the same to both.
    """

    def __init__(
        self,
        caption_folder: str | Path,
        *,
        audio: dict[str, Any],
        caption: dict[str, Any],
        dim: int,
        dropout: float,
        scale_init: float,
        bias_init: float,
        temperature_init: float,
    ) -> None:
        """A model with random weights; `training.pretrained` gives its towers theirs.

        `caption_folder` holds the caption tower's configuration and tokenizer. `scale_init` and
        `bias_init` are where a caption's multiplier and prior log-odds start.
        """
        super().__init__()
        self.config = dict(
            audio=audio,
            caption=caption,
            dim=dim,
            dropout=dropout,
            scale_init=scale_init,
            bias_init=bias_init,
            temperature_init=temperature_init,
        )
        self.audio = audio_tower(**audio)
        self.caption = CaptionTower(Path(caption_folder), **caption)
        self.audio_projection = _projection(self.audio.width, dim, dropout)
        self.caption_projection = _projection(self.caption.width, dim, dropout)
        self.scale_head = Head(self.caption.width, init=math.log(scale_init))
        self.bias_head = Head(self.caption.width, init=bias_init)
        self.log_temperature = nn.Parameter(torch.tensor(-math.log(temperature_init)))

    @property
    def sample_rate(self) -> int:
        """Of the audio tower, in hertz; `embed_audio` resamples to it."""
        return self.audio.sample_rate

    @property
    def frame_s(self) -> float:
        """Duration of a frame in seconds."""
        return self.audio.frame_s

    @property
    def device(self) -> torch.device:
        return self.log_temperature.device

    def hear(self, waveform: Float[Tensor, "clip sample"]) -> Audio:
        """Embeddings of audio at the tower's own sample rate, with gradients."""
        frames = self.audio(self.audio.log_mel(waveform))
        whole = frames.mean(dim=1)
        return Audio(_unit(self.audio_projection(frames)), _unit(self.audio_projection(whole)))

    def read(self, features: Float[Tensor, "caption dim"]) -> Captions:
        """Embeddings and heads from the caption tower's features, with gradients."""
        return Captions(
            _unit(self.caption_projection(features)),
            self.scale_head(features).float().exp(),
            self.bias_head(features).float(),
        )

    def forward(
        self,
        waveform: Float[Tensor, "clip sample"] | None,
        captions: CaptionInput | None,
        pair_waveform: Float[Tensor, "pair pair_sample"] | None,
        pair_captions: CaptionInput | None,
    ) -> Step:
        """All that a training step needs, in one call so that gradients are synchronised once.

        Captions come as features of a frozen caption tower or as tokens for one that learns.
        """

        def read(x: CaptionInput) -> Captions:
            return self.read(self.caption(**x) if isinstance(x, dict) else x)

        return Step(
            None if waveform is None else self.hear(waveform),
            None if captions is None else read(captions),
            None if pair_waveform is None else self.hear(pair_waveform),
            None if pair_captions is None else read(pair_captions),
            # Passed through, not read off the module: the loss must not need to unwrap it.
            self.log_temperature * 1,
        )

    @torch.inference_mode()
    def embed_audio(
        self, waveform: Float[Tensor, "*clip sample"] | np.ndarray, sample_rate: int
    ) -> Audio:
        """Unit vectors of every frame and of every clip of mono audio, `[sample]` or `[clip, sample]`.

        Frame l spans [l, l + 1) * frame_s seconds; the last one may reach past the end. Raises
        ValueError for audio that is empty, not finite or of more than two axes.
        """
        waveform = torch.as_tensor(np.asarray(waveform), dtype=torch.float32)
        waveform = waveform.unsqueeze(0) if waveform.ndim == 1 else waveform
        if waveform.ndim != 2 or waveform.shape[1] == 0:
            raise ValueError(f"audio is [sample] or [clip, sample] and not empty; this is {tuple(waveform.shape)}")
        if not waveform.isfinite().all():
            raise ValueError("the audio holds NaN or infinite samples: a damaged file?")
        if sample_rate != self.sample_rate:
            waveform = resample(waveform, sample_rate, self.sample_rate)
        return self.hear(waveform.to(self.device))

    @torch.inference_mode()
    def embed_captions(self, captions: list[str]) -> Captions:
        """Unit vector, multiplier and prior log-odds of each caption.

        Raises ValueError for no captions, an empty one, or one longer than the tower reads.
        """
        if isinstance(captions, str) or not captions:
            raise ValueError("captions are a list of at least one text")
        return self.read(self.caption.embed(list(captions)))

    @torch.inference_mode()
    def score(
        self,
        waveform: Float[Tensor, "*clip sample"] | np.ndarray,
        sample_rate: int,
        captions: list[str],
        method: Method = "unbiased",
    ) -> Float[Tensor, "clip caption frame"]:
        """How surely each caption sounds in each frame, in [0, 1].

            biased:      sigmoid(logit), the probability that it does, prior included
            unbiased:    p / (p + prior), see `losses.unbiased_score`; one half says nothing
            approximate: sigmoid(scale * cosine), the unbiased score of a very rare caption
        """
        if method not in ("unbiased", "biased", "approximate"):
            raise ValueError(f"method is unbiased, biased or approximate, not {method!r}")
        frame_emb, _ = self.embed_audio(waveform, sample_rate)
        caption_emb, logit_scale, logit_bias = self.embed_captions(captions)
        bias = torch.zeros_like(logit_bias) if method == "approximate" else logit_bias
        logits = losses.frame_logits(frame_emb, caption_emb, logit_scale, bias)
        if method == "unbiased":
            return losses.unbiased_score(logits, logit_bias)
        return logits.sigmoid()


def audio_tower(*, tower: str, **kwargs: Any) -> nn.Module:
    """The audio tower of that name. Raises ValueError for another."""
    towers = {"yamnet": YAMNet}
    if tower not in towers:
        raise ValueError(f"no audio tower {tower!r}; there are {', '.join(towers)}")
    return towers[tower](**kwargs)


def _projection(width: int, dim: int, dropout: float) -> nn.Module:
    """Linear, ReLU, Linear; dropout before each."""
    return nn.Sequential(
        nn.Dropout(dropout), nn.Linear(width, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim)
    )


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=-1)
