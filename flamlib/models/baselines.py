"""Baselines that FLAM is compared with, each an `AudioTextModel`, and loading of any saved model.

The logit of a baseline (`frame_wise.frame_logits` of its embeddings, with scale 1 and bias 0) is a
cosine, called *evidence* here. It is not a probability; evaluation makes it one by Platt scaling.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flamlib.models import checkpoint
from flamlib.models.checkpoint import WEIGHTS
from flamlib.models.class_features import (
    caption_class_vector,
    frame_class_vector,
    n_context,
    with_context,
)
from flamlib.models.flam import FLAM
from flamlib.models.interface import (
    AudioEmbeddings,
    AudioPiece,
    AudioTextModel,
    CaptionEmbeddings,
    CosineScoring,
    require_finite,
    resample_to_model,
)
from flamlib.models.mga_clap import MGACLAP
from flamlib.models.text_tower import TextTower
from flamlib.models.yamnet import YAMNet, read_class_names


class FLAMGlobal(CosineScoring):
    """FLAM-Global: a FLAM trained on whole clips only, applied to frames.

        evidence[l] = <frame_emb[l], caption_emb>

    The scale and bias heads of such a model are untrained and not used.
    """

    def __init__(self, model: FLAM) -> None:
        self.model = model
        self.sample_rate, self.frame_s = model.sample_rate, model.frame_s
        self.context_frames = model.context_frames

    def embed_audio(
        self, waveform: Float[Tensor, "*clip sample"] | np.ndarray, sample_rate: int
    ) -> AudioEmbeddings:
        """Return the embeddings of the FLAM."""
        return self.model.embed_audio(waveform, sample_rate)

    def trunk_id(self) -> dict[str, Any] | None:
        """Say which trunk the FLAM has."""
        return self.model.trunk_id()

    def embed_features(self, features: Float[Tensor, "clip step width"]) -> AudioEmbeddings:
        """Return the embeddings of the FLAM, given the output of its trunk."""
        return self.model.embed_features(features)

    def embed_pieces(self, pieces: Iterable[AudioPiece], sample_rate: int) -> AudioEmbeddings:
        """Return the embeddings of the FLAM of a recording that comes in pieces."""
        return self.model.embed_pieces(pieces, sample_rate)

    def embed_captions(self, captions: list[str]) -> CaptionEmbeddings:
        """Return the embeddings of the FLAM, with scale 1 and bias 0."""
        return _unscaled(self.model.embed_captions(captions).caption_emb)


class LabelMatching(CosineScoring):
    """Label matching, without training: a caption is a mixture of similarly named classes.

        evidence[l] = <frame_class_vector(frame l), caption_class_vector(caption)>

    This is the class half of FLAM's cosine, see `class_features`.
    """

    def __init__(self, tower: YAMNet, names: Sequence[str], caption_tower: TextTower) -> None:
        """Combine an audio classifier, the names of its classes and a sentence encoder.

        `tower` is a YAMNet with `tags`, `names` are those of its 521 AudioSet classes, in order.
        """
        self.sample_rate, self.frame_s = tower.sample_rate, tower.frame_s
        self.context_frames = tower.context_frames + n_context(tower.frame_s)
        self.tower, self.caption_tower = tower.eval(), caption_tower.eval()
        self.names = caption_tower.embed([name.lower() for name in names])

    @classmethod
    def pretrained(cls, folder: str | Path) -> "LabelMatching":
        """Load the towers from a folder that `weights.build` made."""
        folder = Path(folder)
        tower, caption_tower = YAMNet(tags=True), TextTower(folder / "minilm", pooling="mean")
        tower.load_weights(folder / "yamnet" / WEIGHTS)
        caption_tower.load_weights(folder / "minilm" / WEIGHTS)
        return cls(tower, read_class_names(folder / "yamnet"), caption_tower)

    @torch.inference_mode()
    def embed_audio(
        self, waveform: Float[Tensor, "*clip sample"] | np.ndarray, sample_rate: int
    ) -> AudioEmbeddings:
        """Return the class vector of each frame, and of the clip's mean evidence.

        Args:
            waveform: `[sample]` or `[clip, sample]`, mono, full scale 1.
            sample_rate: In hertz.
        """
        clips = torch.as_tensor(waveform).float().reshape(-1, waveform.shape[-1])
        waveform = resample_to_model(clips, sample_rate, self)
        n_frames = self.tower.n_frames(len(waveform[0]))
        return self._embed(self.tower(self.tower.trunk(waveform))[:, :n_frames])

    def trunk_id(self) -> dict[str, Any] | None:
        """Say which trunk the tower has."""
        return self.tower.trunk_id()

    @torch.inference_mode()
    def embed_features(self, features: Float[Tensor, "clip step width"]) -> AudioEmbeddings:
        """Return what `embed_audio` does, given the output of the tower's trunk."""
        return self._embed(self.tower(features))

    def _embed(self, features: Float[Tensor, "clip frame dim"]) -> AudioEmbeddings:
        evidence = features[..., self.tower.width :]
        found = AudioEmbeddings(
            frame_class_vector(with_context(evidence, self.frame_s)),
            frame_class_vector(evidence.mean(dim=1)),
        )
        return require_finite(found, "audio whose samples are no numbers, or far above full scale,")

    @torch.inference_mode()
    def embed_captions(self, captions: list[str]) -> CaptionEmbeddings:
        """Return the class vector of each caption."""
        return _unscaled(caption_class_vector(self.caption_tower.embed(captions), self.names))


def load(folder: str | Path) -> AudioTextModel:
    """Load a saved model of any kind; `config.json` says which.

    A FLAM whose heads are untrained (no frame-wise loss, or imported from a CLAP) is wrapped in
    `FLAMGlobal`. Raises what `from_pretrained` does, and ValueError for an unknown kind.
    """
    folder, kinds = Path(folder), {cls.kind: cls for cls in (FLAM, MGACLAP)}
    kind = checkpoint.read_kind(folder)
    if kind not in kinds:
        # Imported here: it brings `transformers`, which the others need not wait for.
        from flamlib.models.importers.originals import CLAP

        kinds[CLAP.kind] = CLAP
    if kind not in kinds:
        raise ValueError(f"{folder}: unknown kind of model {kind!r}; is it of a newer flamlib?")
    model = kinds[kind].from_pretrained(folder)
    if isinstance(model, FLAM):
        about = model.provenance or {}
        objective = about.get("parameters", {}).get("objective")
        if "heads" in about or (objective is not None and not objective.get("frame")):
            return FLAMGlobal(model)
    return model


def _unscaled(caption_emb: Float[Tensor, "caption dim"]) -> CaptionEmbeddings:
    """Return caption embeddings with scale 1 and bias 0, for a model without heads."""
    one = caption_emb.new_ones(len(caption_emb))
    return CaptionEmbeddings(caption_emb, one, 0 * one)
