"""The interface of a model that compares audio with captions, and the containers it returns.

FLAM, its baselines and imported checkpoints of others are all `AudioTextModel`s, so that detection
and evaluation work with any of them. Frame l of a clip spans [l, l + 1) * frame_s seconds.
"""

import math
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from flamlib.waveforms.audio import resample

Method = Literal["unbiased", "biased", "approximate"]


class AudioEmbeddings(NamedTuple):
    """Embeddings of audio.

    Attributes:
        frame_emb: A unit vector for each frame.
        clip_emb: A unit vector for each whole clip.
    """

    frame_emb: Float[Tensor, "clip frame dim"]
    clip_emb: Float[Tensor, "clip dim"]


class AudioPiece(NamedTuple):
    """A piece of a recording, between frames of context on either side.

    Attributes:
        waveform: Mono, with the context.
        n_before: Number of frames of context before the piece.
        n_frames: Number of frames of the piece itself.
    """

    waveform: Float[np.ndarray, "sample"]
    n_before: int
    n_frames: int


class CaptionEmbeddings(NamedTuple):
    """Embeddings of captions, with the two numbers that turn a cosine into a logit.

        logit = logit_scale * <frame_emb, caption_emb> + logit_bias

    Attributes:
        caption_emb: A unit vector for each caption.
        logit_scale: Multiplier of the cosine, above 0; 1 for a model without scales.
        logit_bias: Log-odds of the caption's prior; 0 for a model without priors.
    """

    caption_emb: Float[Tensor, "caption dim"]
    logit_scale: Float[Tensor, "caption"]
    logit_bias: Float[Tensor, "caption"]


@runtime_checkable
class AudioTextModel(Protocol):
    """A model that embeds audio and captions, and scores each caption in each frame."""

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio tower in hertz."""

    @property
    def frame_s(self) -> float:
        """Duration of a frame in seconds."""

    @property
    def context_frames(self) -> int:
        """Number of frames of context, 0 or more.

        The output of frame l depends on audio of frames l - context_frames to l + context_frames
        only, so a long recording can be cut into blocks without changing the result.
        """

    def embed_audio(
        self, waveform: Float[Tensor, "clip sample"], sample_rate: int
    ) -> AudioEmbeddings:
        """Return the embeddings of mono audio at any sample rate (Hz)."""

    def embed_captions(self, captions: list[str]) -> CaptionEmbeddings:
        """Return the embeddings of captions."""

    def score_embeddings(
        self, audio: AudioEmbeddings, captions: CaptionEmbeddings, method: Method = "unbiased"
    ) -> Float[Tensor, "clip caption frame"]:
        """Return scores in [0, 1] from embeddings."""

    def score(
        self,
        waveform: Float[Tensor, "clip sample"] | np.ndarray,
        sample_rate: int,
        captions: list[str],
        method: Method = "unbiased",
    ) -> Float[Tensor, "clip caption frame"]:
        """Score every caption in every frame.

        Args:
            waveform: Mono audio, full scale 1.
            sample_rate: Of the waveform, in hertz.
            captions: At least one text.
            method: Kind of score.

        Returns:
            Scores in [0, 1].
        """


@runtime_checkable
class HasTrunk(Protocol):
    """A model whose audio tower begins with a trunk that never learns, so that models with the same
    trunk need its output of a clip only once."""

    def trunk_id(self) -> dict[str, Any] | None:
        """Say which trunk it is, in JSON's types; None for one not worth storing the output of."""

    def embed_features(self, features: Float[Tensor, "clip step width"]) -> AudioEmbeddings:
        """Embed clips, given the output of the trunk."""


Embeddings = TypeVar("Embeddings", AudioEmbeddings, CaptionEmbeddings)


class EmbeddingScoring:
    """`AudioTextModel.score` for a model that has the other methods."""

    @torch.inference_mode()
    def score(
        self,
        waveform: Float[Tensor, "*clip sample"] | np.ndarray,
        sample_rate: int,
        captions: list[str],
        method: Method = "unbiased",
    ) -> Float[Tensor, "clip caption frame"]:
        """Score every caption in every frame; see `score_embeddings` for what a score means.

        Args:
            waveform: Mono audio, `[sample]` or `[clip, sample]`, full scale 1.
            sample_rate: Of the waveform, in hertz.
            captions: At least one text, none of them empty.
            method: Kind of score; models without priors have "unbiased" only.

        Returns:
            Scores in [0, 1], `[clip, caption, frame]`; a single waveform is one clip.

        Raises:
            ValueError: Audio or captions that `embed_audio` or `embed_captions` refuse, or a method
                that the model does not have.
        """
        audio = self.embed_audio(waveform, sample_rate)
        return self.score_embeddings(audio, self.embed_captions(captions), method)


class CosineScoring(EmbeddingScoring):
    """Scores of a model that compares embeddings by their cosine alone, without priors."""

    @torch.inference_mode()
    def score_embeddings(
        self, audio: AudioEmbeddings, captions: CaptionEmbeddings, method: Method = "unbiased"
    ) -> Float[Tensor, "clip caption frame"]:
        """Return the similarity of each frame and each caption in [0, 1]: see `cosine_score`."""
        return cosine_score(audio, captions, method)


def resample_to_model(
    waveform: Float[Tensor, "clip sample"], sample_rate: int, model: AudioTextModel
) -> Float[Tensor, "clip resampled"]:
    """Resample clips to the model's rate, with the resampler that the training data went through.

    Clips shorter than a frame are first padded with zeros to one frame. The result is no shorter
    than the clips, so that a frame which begins before their end is in it.
    """
    if sample_rate == model.sample_rate:
        return waveform
    # A few samples could resample to none.
    n_missing = max(0, math.ceil(model.frame_s * sample_rate) - waveform.shape[1])
    padded = F.pad(waveform, (0, n_missing)).numpy()
    resampled = np.stack([resample(clip, sample_rate, model.sample_rate) for clip in padded])
    # Less than half a sample at the end is rounded away.
    n_least = -(-waveform.shape[1] * model.sample_rate // sample_rate)
    return F.pad(torch.from_numpy(resampled), (0, max(0, n_least - resampled.shape[1])))


def require_finite(embeddings: Embeddings, what: str) -> Embeddings:
    """Return embeddings as they are. Raises ValueError if they hold NaN or infinity.

    `what` names what was embedded, and the likely cause.
    """
    # The ends of the range are NaN if any number is, and take a tenth of the time of `isfinite`.
    ends = (float(end) for part in embeddings if part.numel() for end in part.aminmax())
    if all(map(math.isfinite, ends)):
        return embeddings
    raise ValueError(f"the embeddings of {what} hold NaN or infinity")


def cosine_score(
    audio: AudioEmbeddings, captions: CaptionEmbeddings, method: Method
) -> Float[Tensor, "clip caption frame"]:
    """Compute the score of a model without priors from the cosine of its embeddings.

        score = (1 + <frame_emb[l], caption_emb>) / 2

    As with FLAM's unbiased score, one half means that the frame is no evidence for or against the
    caption. The score is not a probability. Raises ValueError for a method other than "unbiased":
    there is no prior that could be included.
    """
    if method != "unbiased":
        raise ValueError(f"a model without priors has unbiased scores only, no {method!r} scores")
    cosine = torch.einsum("ild,jd->ijl", audio.frame_emb, captions.caption_emb)
    return (1 + cosine) / 2
