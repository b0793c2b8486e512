"""An adapter: captions of a FLAM that were fitted to a user's recordings, on top of the model.

    adapter.json         format, the model that it is of, how it was made, and how good it is
    adapter.safetensors  `weights` [caption, dim + 1]: of each fitted caption
    thresholds.json      thresholds of the fitted captions and of others, see `caption_thresholds`

The logit of a fitted caption without its prior, scale * cosine in the model, becomes

    <frame_emb, weights[:-1]> + weights[-1]

and its prior stays. Every other caption scores as before. So that this is a cosine again, with
which embeddings can be stored and searched, audio embeddings get one coordinate more:

    frame_emb'   = [frame_emb, 1] / sqrt(2)
    caption_emb' = weights / |weights|
    logit_scale' = sqrt(2) * |weights|
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flamlib import texts
from flamlib.experiment.parameters import plain
from flamlib.models import baselines, caption_thresholds, state_dict
from flamlib.models.caption_thresholds import CaptionThresholds
from flamlib.models.checkpoint import THRESHOLDS, WEIGHTS, read_json, write_json
from flamlib.models.flam import FLAM
from flamlib.models.interface import (
    AudioEmbeddings,
    CaptionEmbeddings,
    EmbeddingScoring,
    Method,
)
from flamlib.storage import files

FORMAT = 1
ABOUT, TENSORS = "adapter.json", "adapter.safetensors"


class Adapted(EmbeddingScoring):
    """A FLAM with captions of its own, an `AudioTextModel`.

    Attributes:
        base: the FLAM.
        captions: those that were fitted.
        weights: of each of them, see the module's docstring.
        thresholds: by caption, of its scores.
    """

    def __init__(
        self,
        base: FLAM,
        captions: Sequence[str],
        weights: Float[Tensor, "caption dim"],
        *,
        thresholds: CaptionThresholds | None = None,
    ) -> None:
        """Put fitted captions on top of a model.

        Args:
            base: the model.
            captions: those that were fitted.
            weights: of each of them, and as the last one its shift.
            thresholds: by caption, of the adapted scores.
        """
        self.base, self.captions = base, list(captions)
        self.weights = weights.to(base.device)
        self.thresholds = thresholds
        self.sample_rate, self.frame_s = base.sample_rate, base.frame_s
        self.context_frames = base.context_frames
        self._rows = {texts.key(caption): row for row, caption in enumerate(self.captions)}

    @torch.inference_mode()
    def embed_audio(
        self, waveform: Float[Tensor, "*clip sample"] | np.ndarray, sample_rate: int
    ) -> AudioEmbeddings:
        """Return the embeddings of the FLAM, with one coordinate more."""
        return _longer(self.base.embed_audio(waveform, sample_rate))

    @torch.inference_mode()
    def embed_captions(self, captions: list[str]) -> CaptionEmbeddings:
        """Return the embeddings of captions, fitted where they were; any spelling is found."""
        return self._fitted(captions, self.base.embed_captions(captions))

    def _fitted(self, captions: Sequence[str], found: CaptionEmbeddings) -> CaptionEmbeddings:
        caption_emb, scale, bias = found
        weights = torch.nn.functional.pad(caption_emb * scale[:, None], (0, 1))
        for i, caption in enumerate(captions):
            if (row := self._rows.get(texts.key(caption))) is not None:
                weights[i] = self.weights[row]
        length = weights.norm(dim=1).clamp(min=1e-12)
        return CaptionEmbeddings(weights / length[:, None], 2**0.5 * length, bias)

    def score_embeddings(
        self, audio: AudioEmbeddings, captions: CaptionEmbeddings, method: Method = "unbiased"
    ) -> Float[Tensor, "clip caption frame"]:
        """Return the scores of the FLAM from these embeddings."""
        return self.base.score_embeddings(audio, captions, method)

    def known(self, captions: Sequence[str]) -> Float[Tensor, "caption"]:
        """Return how well each caption is known, 0 to 1; fitted ones are."""
        return self._known(captions, self.base.known(captions))

    def read_captions(
        self, captions: Sequence[str]
    ) -> tuple[CaptionEmbeddings, Float[Tensor, "caption"]]:
        """Return what `embed_captions` and `known` do, having read the captions once."""
        found, known = self.base.read_captions(captions)
        return self._fitted(captions, found), self._known(captions, known)

    def _known(
        self, captions: Sequence[str], of_base: Float[Tensor, "caption"]
    ) -> Float[Tensor, "caption"]:
        known = of_base.clone()
        known[[texts.key(caption) in self._rows for caption in captions]] = 1.0
        return known


def save(
    folder: str | Path,
    model_folder: str | Path,
    captions: Sequence[str],
    weights: Float[np.ndarray, "caption dim"],
    thresholds: CaptionThresholds,
    about: dict[str, Any],
) -> None:
    """Write an adapter atomically; an older one in the folder is replaced.

    Args:
        folder: where to write.
        model_folder: of the model that it is of.
        captions: those that were fitted; none for thresholds alone.
        weights: of each of them.
        thresholds: of its scores; their `model` is set to the digest of the tensors.
        about: what else is to be known of it, in JSON's types.

    Raises:
        FileExistsError: the folder contains anything but an adapter.
    """
    check_place(folder)
    with files.atomic_folder(folder) as partial:
        state_dict.write(
            {"weights": torch.from_numpy(weights.astype(np.float32))}, partial / TENSORS
        )
        digest = files.sha256(partial / TENSORS)
        write_json(partial / THRESHOLDS, plain(thresholds) | {"model": digest})
        written = {
            "format": FORMAT,
            "model": files.sha256(Path(model_folder) / WEIGHTS),
            "tensors": digest,
            "captions": list(captions),
        }
        write_json(partial / ABOUT, written | about)


def check_place(folder: str | Path) -> None:
    """Raise FileExistsError if a folder holds anything but an adapter, or is a file.

    OSError, too, where nothing can be written: before minutes of work.
    """
    folder = Path(folder)
    if folder.is_file():
        raise FileExistsError(f"{folder} is a file: name a folder for the adapter")
    if folder.exists() and {p.name for p in folder.iterdir()} - {ABOUT, TENSORS, THRESHOLDS}:
        raise FileExistsError(f"{folder} contains more than an adapter: nothing written")
    files.check_file(folder / ABOUT)


def load(model_folder: str | Path, folder: str | Path) -> Adapted:
    """Load a model with an adapter on top.

    Raises FileNotFoundError for a missing file, and ValueError, naming the file, for an adapter of
    another model, of a newer format, or that is damaged.
    """
    folder, model_folder = Path(folder), Path(model_folder)
    for name in (ABOUT, TENSORS, THRESHOLDS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing: pass what `flam adapt` wrote")
    about = read_json(folder / ABOUT)
    captions = about.get("captions") if isinstance(about, dict) else None
    if not isinstance(captions, list) or not all(isinstance(each, str) for each in captions):
        raise ValueError(f"{folder / ABOUT}: not an adapter, captions must be a list of texts")
    if about.get("format") != FORMAT:
        raise ValueError(f"{folder / ABOUT}: format {about.get('format')!r}, expected {FORMAT}")
    if about.get("model") != files.sha256(model_folder / WEIGHTS):
        raise ValueError(
            f"{folder / ABOUT}: an adapter of another model than {model_folder}: pass the one that "
            "it is of with --model, or adapt this one"
        )
    if about.get("tensors") != files.sha256(folder / TENSORS):
        raise ValueError(f"{folder / TENSORS}: damaged, it differs from what {ABOUT} says")
    weights = state_dict.read(folder / TENSORS).get("weights")
    base = base_of(model_folder)
    dim = base.embed_captions(["a sound"]).caption_emb.shape[1]
    if weights is None or tuple(weights.shape) != (len(captions), dim + 1):
        raise ValueError(f"{folder / TENSORS}: not weights of {len(captions)} captions")
    thresholds = caption_thresholds.read_file(folder / THRESHOLDS, folder / TENSORS)
    return Adapted(base, captions, weights.float(), thresholds=thresholds)


def base_of(model_folder: str | Path) -> FLAM:
    """Load a model that can be adapted: a FLAM with a scale and a prior for each caption.

    Raises ValueError for another.
    """
    model = baselines.load(model_folder)
    if not isinstance(model, FLAM):
        raise ValueError(
            f"{model_folder}: {type(model).__name__} has no scales and priors to fit; adapt a "
            "FLAM, or choose thresholds alone with `flam thresholds`"
        )
    return model


def _longer(audio: AudioEmbeddings) -> AudioEmbeddings:
    return AudioEmbeddings(
        *(torch.nn.functional.pad(emb, (0, 1), value=1.0) * 0.5**0.5 for emb in audio)
    )
