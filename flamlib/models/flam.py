"""FLAM: frame-wise language-audio model (Wu et al., ICML 2025, arXiv:2505.05335)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from flamlib.losses import frame_wise
from flamlib.models import class_features
from flamlib.models.dropout import Dropout
from flamlib.models.dual_encoder import DualEncoder, finite_captions
from flamlib.models.familiarity import Familiarity, Trust
from flamlib.models.heads import build_head
from flamlib.models.interface import AudioEmbeddings, CaptionEmbeddings, Method
from flamlib.models.settings import FlamSettings


class FLAM(DualEncoder):
    """Frame-wise language-audio model.

        frame_emb[l] = unit(audio_projection(frame feature l))
        clip_emb     = unit(audio_projection(mean over l of frame feature l))
        caption_emb  = unit(caption_projection(caption feature))
        logit_scale  = exp(scale_head(caption feature))
        logit_bias   = bias_head(caption feature)

    Frames and clips share one projection, so that a caption can be compared with either. (For
    comparisons, clips may have one of their own, as in FineLAP, arXiv:2604.01155.) Where the
    audio tower has an AudioSet classifier (`tags`), each embedding above is one half of a longer
    unit vector; the other half comes from the classifier: see `class_features`.

    A model that knows which captions it was trained on (`set_known_captions`) weighs the halves
    otherwise, and gives other captions a common prior, when it is in eval mode: see `familiarity`.
    Its embeddings then have a last coordinate that is the same for all frames.
    """

    settings = FlamSettings

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
        clip_projection: str = "shared",
        n_known: int = 0,
    ) -> None:
        """Build a model with random weights; `init.pretrained` loads weights into its towers.

        Args:
            caption_folder: Folder with the caption tower's configuration and tokenizer.
            audio: `tower` ("yamnet" or "htsat") and the arguments of that class.
            caption: Arguments of `TextTower`.
            dim: Dimensions of the embedding space, without those of the classes.
            dropout: Probability before each linear layer of the projections.
            scale_init: Initial logit scale, above 0.
            bias_init: Initial logit bias, the log-odds of the prior.
            temperature_init: Initial temperature of the clip-level loss, above 0.
            scale: "per_caption"; for comparisons, "shared" (one learned number for all captions)
                or "fixed" (the initial number).
            bias: The same for the bias.
            clip_projection: "shared" with frames or, for comparisons, "own".
            n_known: Number of texts of the captions that it was trained on.

        Raises:
            ValueError: Another `scale` or `bias`, an unknown tower, or what a tower refuses.
        """
        super().__init__(
            caption_folder,
            audio=audio,
            caption=caption,
            dim=dim,
            dropout=dropout,
            scale_init=scale_init,
            bias_init=bias_init,
            temperature_init=temperature_init,
            scale=scale,
            bias=bias,
            clip_projection=clip_projection,
            n_known=n_known,
        )
        self.audio_projection = _projection(self.audio.width, dim, dropout)
        own = clip_projection == "own"
        self.clip_projection = _projection(self.audio.width, dim, dropout) if own else None
        self.caption_projection = _projection(self.caption.width, dim, dropout)
        width = self.caption.width
        self.scale_head = build_head("scale", scale, width=width, init=math.log(scale_init))
        self.bias_head = build_head("bias", bias, width=width, init=bias_init)
        self.familiarity = self._familiarity(n_known) if n_known else None
        # Training switches class features off in some steps, for all captions of all processes at
        # once: within a step, captions with and without them would not be comparable.
        self.use_class_features = True
        if self.audio.n_tags:
            # Caption features of the class names, from the tower before training.
            self.register_buffer("tag_names", torch.zeros(self.audio.n_tags, self.caption.width))

    @property
    def context_frames(self) -> int:
        """Number of frames of context, 0 or more; see `DualEncoder.context_frames`."""
        n_classes = class_features.n_context(self.frame_s) if self.audio.n_tags else 0
        return super().context_frames + n_classes

    def set_class_names(self, names: list[str]) -> None:
        """Set the names of the audio tower's classes, in order."""
        self.tag_names.copy_(self.caption.embed([name.lower() for name in names]))

    @torch.no_grad()
    def set_known_captions(
        self,
        captions: Sequence[str],
        trust: Trust,
        frame_emb: Float[Tensor, "frame dim"],
    ) -> None:
        """Say on which texts the model was trained, and how far it is to be trusted.

        Args:
            captions: All of them, in every wording, at least one.
            trust: What the halves of the cosine are worth.
            frame_emb: Embeddings of ordinary frames, by this model when it knew no captions.
        """
        features = self.caption.embed(list(captions))
        self.familiarity = self._familiarity(len(captions)).to(self.device)
        self.config["n_known"] = len(captions)
        bias = self.bias_head(features).float()
        halves = frame_emb.float().split(self._widths(), dim=1)
        unit = [half * len(halves) ** 0.5 for half in halves]
        self.familiarity.learn(features, bias, unit, trust)

    def forget_captions(self) -> None:
        """Treat every caption alike again, as in training."""
        self.config["n_known"], self.familiarity = 0, None

    @torch.inference_mode()
    def known(self, captions: Sequence[str]) -> Float[Tensor, "caption"]:
        """Return how well each caption is known from training, 0 to 1; 1 by a model that trusts
        itself."""
        if self.familiarity is None:
            return torch.ones(len(captions))
        return self.familiarity.known(self.caption.embed(list(captions)))

    @torch.inference_mode()
    def read_captions(
        self, captions: Sequence[str]
    ) -> tuple[CaptionEmbeddings, Float[Tensor, "caption"]]:
        """Return what `embed_captions` and `known` do, having read the captions once."""
        features = self._features(captions)
        if self.familiarity is None:
            known = torch.ones(len(captions))
        else:
            known = self.familiarity.known(features)
        return finite_captions(self.encode_captions(features, known)), known

    def encode_captions(
        self,
        features: Float[Tensor, "caption dim"],
        known: Float[Tensor, "caption"] | None = None,
    ) -> CaptionEmbeddings:
        """Embed captions, given the caption tower's features, with gradients.

        `known` is how well each is known, where that has been computed.
        """
        halves = [_unit(self.caption_projection(features))]
        if self.audio.n_tags:
            asked = class_features.caption_class_vector(features, self.tag_names)
            halves.append(asked if self.use_class_features else 0 * asked)
        scale = self.scale_head(features).float().exp()
        bias = self.bias_head(features).float()
        if self.training or self.familiarity is None:
            return CaptionEmbeddings(class_features.concat_unit(*halves), scale, bias)
        known = self.familiarity.known(features) if known is None else known
        return CaptionEmbeddings(*self.familiarity(known, halves, scale, bias))

    @torch.inference_mode()
    def score_embeddings(
        self, audio: AudioEmbeddings, captions: CaptionEmbeddings, method: Method = "unbiased"
    ) -> Float[Tensor, "clip caption frame"]:
        """Return the score of every caption in every frame, in [0, 1].

        Args:
            audio: From `embed_audio`.
            captions: From `embed_captions`.
            method: One of
                "biased": sigmoid(logit), the probability that the caption sounds, prior included;
                "unbiased": p / (p + prior), see `frame_wise.unbiased_score`; one half means that
                the frame is no evidence for or against the caption;
                "approximate": sigmoid(scale * cosine), the unbiased score in the limit of a very
                rare caption.

        Raises:
            ValueError: Another method.
        """
        if method not in ("unbiased", "biased", "approximate"):
            raise ValueError(
                f'method must be "unbiased", "biased" or "approximate", not {method!r}'
            )
        caption_emb, logit_scale, logit_bias = captions
        bias = torch.zeros_like(logit_bias) if method == "approximate" else logit_bias
        logits = frame_wise.frame_logits(audio.frame_emb, caption_emb, logit_scale, bias)
        if method == "unbiased":
            return frame_wise.unbiased_score(logits, logit_bias)
        return logits.sigmoid()

    def _project(self, frames: Float[Tensor, "clip frame width"]) -> AudioEmbeddings:
        features, evidence = frames.split([self.audio.width, self.audio.n_tags], dim=2)
        shared = self.clip_projection is None
        of_clips = self.audio_projection if shared else self.clip_projection
        clip = self._embed(of_clips(features.mean(dim=1)), evidence.mean(dim=1))
        if self.audio.n_tags:
            evidence = class_features.with_context(evidence, self.frame_s)
        return AudioEmbeddings(self._embed(self.audio_projection(features), evidence), clip)

    def _embed(
        self, projected: Float[Tensor, "*row learned"], evidence: Float[Tensor, "*row cls"]
    ) -> Float[Tensor, "*row dim"]:
        parts = [_unit(projected)]
        if self.audio.n_tags:
            parts.append(class_features.frame_class_vector(evidence))
        if not self.training and self.familiarity is not None:
            parts.append(parts[0].new_ones(*parts[0].shape[:-1], 1))
        return class_features.concat_unit(*parts)

    def _widths(self) -> list[int]:
        """Dimensions of the learned embedding and, if there are classes, of their vectors."""
        return [self.config["dim"]] + ([self.audio.n_tags + 1] if self.audio.n_tags else [])

    def _familiarity(self, n_known: int) -> Familiarity:
        dim, n_tags = [*self._widths(), 0][:2]
        return Familiarity(n_known, self.caption.width, dim, n_tags)


def _projection(width: int, dim: int, dropout: float) -> nn.Module:
    """Build Linear, ReLU, Linear, with dropout before each linear layer."""
    return nn.Sequential(
        Dropout(dropout),
        nn.Linear(width, dim),
        nn.ReLU(),
        Dropout(dropout),
        nn.Linear(dim, dim),
    )


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=-1)
