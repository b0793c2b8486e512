"""FLAM: two towers that meet in one space, and the two numbers that a caption carries with it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from flamlib.losses import frame_wise
from flamlib.models import class_features
from flamlib.models.dual_encoder import DualEncoder
from flamlib.models.heads import build_head
from flamlib.models.interface import AudioEmbeddings, CaptionEmbeddings, Method


class FLAM(DualEncoder):
    """Frame-wise language-audio model.

        frame_emb[l] = unit(audio_projection(frame feature l))
        clip_emb     = unit(audio_projection(mean over l of frame feature l))
        caption_emb  = unit(caption_projection(caption feature))
        logit_scale  = exp(scale_head(caption feature))
        logit_bias   = bias_head(caption feature)

    One projection serves frames and clips, so that a caption means the same to both. Where the
    audio tower has tags, frame_emb, clip_emb and caption_emb are half of a longer unit vector, and
    what a tagger makes of sound and caption is the other half: see `tags`.

    `scale` and `bias` say of what there is one: "per_caption", as above; "shared", one number that
    all captions learn together; or "fixed", that number as it begins. They are for comparisons.
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
        scale: str = "per_caption",
        bias: str = "per_caption",
    ) -> None:
        """A model with random weights; `init.pretrained` gives its towers theirs.

        `caption_folder` holds the caption tower's configuration and tokenizer. `scale_init` and
        `bias_init` are where a caption's multiplier and prior log-odds start. Raises ValueError
        for another `scale` or `bias` than those above.
        """
        config = dict(
            audio=audio,
            caption=caption,
            dim=dim,
            dropout=dropout,
            scale_init=scale_init,
            bias_init=bias_init,
            temperature_init=temperature_init,
            scale=scale,
            bias=bias,
        )
        super().__init__(caption_folder, config)
        self.audio_projection = _projection(self.audio.width, dim, dropout)
        self.caption_projection = _projection(self.caption.width, dim, dropout)
        width = self.caption.width
        self.scale_head = build_head("scale", scale, width=width, init=math.log(scale_init))
        self.bias_head = build_head("bias", bias, width=width, init=bias_init)
        # Training leaves tags out in some steps, of all captions of all processes at once: to a
        # clip that chooses among captions, those with tags would seem nearer.
        self.use_class_features = True
        if self.audio.n_tags:
            # Features of the classes' names, from the caption tower as it was when they were named.
            self.register_buffer("tag_names", torch.zeros(self.audio.n_tags, self.caption.width))

    def set_class_names(self, names: list[str]) -> None:
        """Tell the model what its audio tower's tags are called, in order."""
        self.tag_names.copy_(self.caption.embed([name.lower() for name in names]))

    def encode_captions(self, features: Float[Tensor, "caption dim"]) -> CaptionEmbeddings:
        """Embeddings and heads from the caption tower's features, with gradients."""
        caption_emb = _unit(self.caption_projection(features))
        if self.audio.n_tags:
            asked = class_features.caption_class_vector(features, self.tag_names)
            caption_emb = class_features.concat_unit(
                caption_emb, asked if self.use_class_features else 0 * asked
            )
        return CaptionEmbeddings(
            caption_emb,
            self.scale_head(features).float().exp(),
            self.bias_head(features).float(),
        )

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
        logits = frame_wise.frame_logits(frame_emb, caption_emb, logit_scale, bias)
        if method == "unbiased":
            return frame_wise.unbiased_score(logits, logit_bias)
        return logits.sigmoid()

    def _project(self, frames: Float[Tensor, "clip frame width"]) -> AudioEmbeddings:
        return AudioEmbeddings(self._embed(frames), self._embed(frames.mean(dim=1)))

    def _embed(self, features: Float[Tensor, "*row width"]) -> Float[Tensor, "*row dim"]:
        width = self.audio.width
        learned = _unit(self.audio_projection(features[..., :width]))
        if not self.audio.n_tags:
            return learned
        return class_features.concat_unit(
            learned, class_features.frame_class_vector(features[..., width:])
        )


def _projection(width: int, dim: int, dropout: float) -> nn.Module:
    """Linear, ReLU, Linear; dropout before each."""
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(width, dim),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(dim, dim),
    )


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=-1)
