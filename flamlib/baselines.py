"""What FLAM is compared with, as models that answer the same calls (`Listener`).

`embed_audio` gives a vector for each frame and each clip, `embed_captions` one for each caption and
the two numbers that `losses.frame_logits` asks for. Their product, the *evidence*, says how much a
frame speaks for a caption; it is no probability until `evaluation.calibrated` has made it one.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from flamlib import checkpoint, losses, weights
from flamlib.captions import CaptionTower
from flamlib.mgaclap import MGACLAP
from flamlib.model import FLAM, Audio, Captions, Listener, Method, cosine_score
from flamlib.originals import CLAP
from flamlib.yamnet import YAMNet


class FLAMGlobal:
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
    ) -> Audio:
        return self.model.embed_audio(waveform, sample_rate)

    def embed_captions(self, captions: list[str]) -> Captions:
        return _unscaled(self.model.embed_captions(captions).caption_emb)

    def score(
        self,
        waveform: Float[Tensor, "*clip sample"] | np.ndarray,
        sample_rate: int,
        captions: list[str],
        method: Method = "unbiased",
    ) -> Float[Tensor, "clip caption frame"]:
        """See `model.cosine_score`."""
        heard, asked = self.embed_audio(waveform, sample_rate), self.embed_captions(captions)
        return cosine_score(heard, asked, method)


class LabelMatching:
    """Nothing is trained: a caption is a mixture of the classes whose names resemble it.

        evidence[l] = sum over classes c of  weight[c] * class_logit[l, c]
        weight      = softmax over c of  <text_emb(caption), text_emb(name of c)> / temperature

    `tower` and its classifier are those of a tagger (YAMNet with its 521 AudioSet classes),
    `caption_tower` is a sentence encoder.
    """

    def __init__(
        self,
        tower: YAMNet,
        weight: Float[Tensor, "class dim"],
        bias: Float[Tensor, "class"],
        names: Sequence[str],
        caption_tower: CaptionTower,
        *,
        temperature: float,
    ) -> None:
        self.sample_rate, self.frame_s = tower.sample_rate, tower.frame_s
        self.context_frames = tower.context_frames
        self.tower, self.weight, self.bias = tower.eval(), weight, bias
        self.caption_tower, self.temperature = caption_tower.eval(), temperature
        self.names_emb = self._text_emb([name.lower() for name in names])

    @classmethod
    def pretrained(cls, folder: str | Path, *, temperature: float) -> "LabelMatching":
        """From the folder of towers that `weights.build` made."""
        folder = Path(folder)
        tower, caption_tower = YAMNet(), CaptionTower(folder / "minilm", pooling="mean")
        tower.load_weights(folder / "yamnet" / weights.WEIGHTS)
        caption_tower.load_weights(folder / "minilm" / weights.WEIGHTS)
        classifier = weights.yamnet_classifier(folder / "yamnet")
        return cls(tower, *classifier, caption_tower, temperature=temperature)

    @torch.inference_mode()
    def embed_audio(self, waveform: Float[Tensor, "clip sample"], sample_rate: int) -> Audio:
        """Class logits of the frames, and their mean for the clip."""
        if sample_rate != self.sample_rate:
            raise ValueError(
                f"audio at {sample_rate} Hz, but the tower hears {self.sample_rate} Hz"
            )
        frames = self.tower(self.tower.log_mel(waveform))[
            :, : self.tower.n_frames(len(waveform[0]))
        ]
        logits = F.linear(frames, self.weight, self.bias)
        return Audio(logits, logits.mean(dim=1))

    @torch.inference_mode()
    def embed_captions(self, captions: list[str]) -> Captions:
        """Weights of the classes."""
        cosine = self._text_emb(captions) @ self.names_emb.T
        return _unscaled(torch.softmax(cosine / self.temperature, dim=1))

    @torch.inference_mode()
    def score(
        self,
        waveform: Float[Tensor, "clip sample"] | np.ndarray,
        sample_rate: int,
        captions: list[str],
        method: Method = "unbiased",
    ) -> Float[Tensor, "clip caption frame"]:
        """How probable the tagger holds the classes that resemble the caption: sigmoid(evidence).

        Raises ValueError for a method other than "unbiased", the one there is.
        """
        if method != "unbiased":
            raise ValueError(f"label matching has one kind of score, no {method!r} one")
        waveform = torch.as_tensor(waveform).float()
        heard, asked = self.embed_audio(waveform, sample_rate), self.embed_captions(captions)
        return losses.frame_logits(heard.frame_emb, *asked).sigmoid()

    def _text_emb(self, texts: list[str]) -> Float[Tensor, "caption dim"]:
        return F.normalize(self.caption_tower.embed(texts), dim=1)


def load(folder: str | Path) -> Listener:
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


def _unscaled(caption_emb: Float[Tensor, "caption dim"]) -> Captions:
    """The captions of a model without heads: a multiplier of one, a shift of zero."""
    one = torch.ones(len(caption_emb))
    return Captions(caption_emb, one, 0 * one)
