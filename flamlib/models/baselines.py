"""What FLAM is compared with, as models that answer the same calls (`AudioTextModel`).

`embed_audio` gives a vector for each frame and each clip, `embed_captions` one for each caption and
the two numbers that `losses.frame_logits` asks for. Their product, the *evidence*, says how much a
frame speaks for a caption; it is no probability until `heldout.calibrated` has made it one.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flamlib.models import checkpoint
from flamlib.models.class_features import caption_class_vector, frame_class_vector
from flamlib.models.flam import FLAM
from flamlib.models.importers import weights
from flamlib.models.importers.originals import CLAP
from flamlib.models.interface import (
    AudioEmbeddings,
    AudioTextModel,
    CaptionEmbeddings,
    CosineScoring,
    resample_to_model,
)
from flamlib.models.mga_clap import MGACLAP
from flamlib.models.text_tower import TextTower
from flamlib.models.yamnet import YAMNet


class FLAMGlobal(CosineScoring):
    """A FLAM that was trained on whole clips alone hears frames all the same.

        evidence[l] = <frame_emb[l], caption_emb>

    The heads of such a model have learned nothing and are left aside.
    """

    def __init__(self, model: FLAM) -> None:
        self.model = model
        self.sample_rate, self.frame_s = model.sample_rate, model.frame_s
        self.context_frames = model.context_frames

    def embed_audio(
        self, waveform: Float[Tensor, "*clip sample"] | np.ndarray, sample_rate: int
    ) -> AudioEmbeddings:
        return self.model.embed_audio(waveform, sample_rate)

    def embed_captions(self, captions: list[str]) -> CaptionEmbeddings:
        return _unscaled(self.model.embed_captions(captions).caption_emb)


class LabelMatching(CosineScoring):
    """Nothing is trained: a caption is a mixture of the classes whose names resemble it.

        evidence[l] = <frame_class_vector(frame l), caption_class_vector(caption)>

    which is half of what FLAM goes by where it has tags. `tower` is a tagger (YAMNet with its 521
    AudioSet classes, called `names`), `caption_tower` a sentence encoder.
    """

    def __init__(self, tower: YAMNet, names: Sequence[str], caption_tower: TextTower) -> None:
        self.sample_rate, self.frame_s = tower.sample_rate, tower.frame_s
        self.context_frames = tower.context_frames
        self.tower, self.caption_tower = tower.eval(), caption_tower.eval()
        self.names = caption_tower.embed([name.lower() for name in names])

    @classmethod
    def pretrained(cls, folder: str | Path) -> "LabelMatching":
        """From the folder of towers that `weights.build` made."""
        folder = Path(folder)
        tower, caption_tower = YAMNet(tags=True), TextTower(folder / "minilm", pooling="mean")
        tower.load_weights(folder / "yamnet" / weights.WEIGHTS)
        caption_tower.load_weights(folder / "minilm" / weights.WEIGHTS)
        return cls(tower, weights.yamnet_classes(folder / "yamnet"), caption_tower)

    @torch.inference_mode()
    def embed_audio(
        self, waveform: Float[Tensor, "clip sample"] | np.ndarray, sample_rate: int
    ) -> AudioEmbeddings:
        """What the tagger hears in the frames, and on average in the clip."""
        waveform = resample_to_model(torch.as_tensor(waveform).float(), sample_rate, self)
        n_frames = self.tower.n_frames(len(waveform[0]))
        features = self.tower(self.tower.log_mel(waveform))[:, :n_frames]
        evidence = features[..., self.tower.width :]
        return AudioEmbeddings(
            frame_class_vector(evidence),
            frame_class_vector(evidence.mean(dim=1)),
        )

    @torch.inference_mode()
    def embed_captions(self, captions: list[str]) -> CaptionEmbeddings:
        """Shares of the classes."""
        return _unscaled(caption_class_vector(self.caption_tower.embed(captions), self.names))


def load(folder: str | Path) -> AudioTextModel:
    """The model saved to a folder, of whichever kind its `config.json` says.

    A FLAM whose training had no frame-wise loss, or whose heads an import has made anew, comes as
    `FLAMGlobal`. Raises what `from_pretrained` does, and ValueError for a kind that is not known.
    """
    folder, kinds = Path(folder), {cls.kind: cls for cls in (FLAM, MGACLAP, CLAP)}
    kind = checkpoint.read_kind(folder)
    if kind not in kinds:
        raise ValueError(f"{folder} holds a model {kind!r}, which this flamlib does not know")
    model = kinds[kind].from_pretrained(folder)
    if isinstance(model, FLAM):
        about = model.provenance or {}
        objective = about.get("parameters", {}).get("objective")
        if "heads" in about or (objective is not None and not objective.get("frame")):
            return FLAMGlobal(model)
    return model


def _unscaled(caption_emb: Float[Tensor, "caption dim"]) -> CaptionEmbeddings:
    """The captions of a model without heads: a multiplier of one, a shift of zero."""
    one = torch.ones(len(caption_emb))
    return CaptionEmbeddings(caption_emb, one, 0 * one)
