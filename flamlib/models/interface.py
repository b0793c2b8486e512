"""A model that can be asked for captions: what it answers, whoever it is.

FLAM, its baselines and the checkpoints of others are all `AudioTextModel`s, so that detection and
evaluation know of no model in particular.
"""

import math
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from flamlib.audio import resample

Method = Literal["unbiased", "biased", "approximate"]


class AudioEmbeddings(NamedTuple):
    """What the model hears: unit vectors of each frame and of the whole clip."""

    frame_emb: Float[Tensor, "clip frame dim"]
    clip_emb: Float[Tensor, "clip dim"]


class CaptionEmbeddings(NamedTuple):
    """What the model knows of each caption: its unit vector, its multiplier, its prior log-odds."""

    caption_emb: Float[Tensor, "caption dim"]
    logit_scale: Float[Tensor, "caption"]
    logit_bias: Float[Tensor, "caption"]


@runtime_checkable
class AudioTextModel(Protocol):
    """A model that can be asked for captions. Frame l spans [l, l + 1) * frame_s seconds."""

    @property
    def sample_rate(self) -> int: ...

    @property
    def frame_s(self) -> float: ...

    @property
    def context_frames(self) -> int: ...

    def embed_audio(
        self, waveform: Float[Tensor, "clip sample"], sample_rate: int
    ) -> AudioEmbeddings: ...

    def embed_captions(self, captions: list[str]) -> CaptionEmbeddings: ...

    def score(
        self,
        waveform: Float[Tensor, "clip sample"] | np.ndarray,
        sample_rate: int,
        captions: list[str],
        method: Method = "unbiased",
    ) -> Float[Tensor, "clip caption frame"]: ...


class CosineScoring:
    """The score of an `AudioTextModel` that goes by the cosine of its embeddings alone."""

    @torch.inference_mode()
    def score(
        self,
        waveform: Float[Tensor, "*clip sample"] | np.ndarray,
        sample_rate: int,
        captions: list[str],
        method: Method = "unbiased",
    ) -> Float[Tensor, "clip caption frame"]:
        """How alike each frame and each caption are, in [0, 1]: see `cosine_score`."""
        audio = self.embed_audio(waveform, sample_rate)
        return cosine_score(audio, self.embed_captions(captions), method)


def resample_to_model(
    waveform: Float[Tensor, "clip sample"], sample_rate: int, model: AudioTextModel
) -> Float[Tensor, "clip resampled"]:
    """At the model's rate, by the resampler that the training data went through."""
    if sample_rate == model.sample_rate:
        return waveform
    # A few samples could become none, so there is at least a frame of them.
    n_missing = max(0, math.ceil(model.frame_s * sample_rate) - waveform.shape[1])
    padded = F.pad(waveform, (0, n_missing)).numpy()
    return torch.from_numpy(
        np.stack([resample(clip, sample_rate, model.sample_rate) for clip in padded])
    )


def cosine_score(
    audio: AudioEmbeddings, captions: CaptionEmbeddings, method: Method
) -> Float[Tensor, "clip caption frame"]:
    """The score of a model that knows no prior.

        score = (1 + <frame_emb[l], caption_emb>) / 2

    One half says nothing, as in FLAM's unbiased score; it is no probability. Raises ValueError for
    a method other than "unbiased": there is no prior that could be left in.
    """
    if method != "unbiased":
        raise ValueError(f"a model without priors has unbiased scores alone, no {method!r} ones")
    cosine = torch.einsum("ild,jd->ijl", audio.frame_emb, captions.caption_emb)
    return (1 + cosine) / 2
