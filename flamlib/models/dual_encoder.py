"""Two towers whose features meet in one space: what all our models have in common."""

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from huggingface_hub import ModelHubMixin
from jaxtyping import Float
from torch import Tensor, nn

from flamlib.models import card, checkpoint
from flamlib.models.checkpoint import CAPTION_FOLDER, CONFIG, WEIGHTS
from flamlib.models.htsat import HTSAT
from flamlib.models.interface import (
    AudioEmbeddings,
    CaptionEmbeddings,
    CosineScoring,
    resample_to_model,
)
from flamlib.models.text_tower import TextTower
from flamlib.models.yamnet import YAMNet

BLOCK_FRAMES = 128  # long audio is heard in pieces of this many frames, about 40 s
MAX_CHANNELS = 8  # as many samples are no clip, but what [sample, channel] would look like


class ModelOutput(NamedTuple):
    """One forward pass of training; what was not asked for is None."""

    audio: AudioEmbeddings | None
    captions: CaptionEmbeddings | None
    pair_audio: AudioEmbeddings | None
    log_temperature: Float[Tensor, ""]


CaptionInput = Float[Tensor, "caption *word dim"] | dict[str, Tensor]


class DualEncoder(CosineScoring, nn.Module, ModelHubMixin, library_name="flamlib"):
    """An audio tower and a caption tower whose features meet in one space.

    What `FLAM` and the models that it is compared with have in common: audio of any rate and
    length, captions as text, a folder to be saved to. Each kind of model has its own `read` and
    `_project`, which make embeddings of the towers' features.
    """

    kind: str | None = None  # in `config.json`; FLAM's has none

    def __init__(self, caption_folder: str | Path, config: dict[str, Any]) -> None:
        """Towers with random weights; `config` are the other arguments of the kind of model."""
        super().__init__()
        self.config = config
        self.provenance: dict[str, Any] | None = None  # how it was made, if that is known
        self.audio = audio_tower(**config["audio"])
        self.caption = TextTower(Path(caption_folder), **config["caption"])
        self.log_temperature = nn.Parameter(torch.tensor(-math.log(config["temperature_init"])))

    @property
    def sample_rate(self) -> int:
        """Of the audio tower, in hertz; `embed_audio` resamples to it."""
        return self.audio.sample_rate

    @property
    def frame_s(self) -> float:
        """Duration of a frame in seconds."""
        return self.audio.frame_s

    @property
    def context_frames(self) -> int:
        """On either side of a frame, more than which it does not depend on."""
        return self.audio.context_frames

    @property
    def device(self) -> torch.device:
        return self.log_temperature.device

    def encode_audio(self, waveform: Float[Tensor, "clip sample"]) -> AudioEmbeddings:
        """Embeddings of audio at the tower's own sample rate, with gradients."""
        return self._project(self._frames(waveform))

    def encode_captions(self, features: Float[Tensor, "caption *word dim"]) -> CaptionEmbeddings:
        """What the model knows of captions, from the caption tower's features, with gradients."""
        raise NotImplementedError

    def forward(
        self,
        waveform: Float[Tensor, "clip sample"] | None,
        captions: CaptionInput | None,
        pair_waveform: Float[Tensor, "pair pair_sample"] | None,
    ) -> ModelOutput:
        """All that a training step needs, in one call so that gradients are synchronised once.

        Captions come as features of a frozen caption tower or as tokens for one that learns.
        """

        if isinstance(captions, dict):
            captions = self.caption(**captions)
        return ModelOutput(
            None if waveform is None else self.encode_audio(waveform),
            None if captions is None else self.encode_captions(captions),
            None if pair_waveform is None else self.encode_audio(pair_waveform),
            # Passed through, not read off the module: the loss must not need to unwrap it.
            self.log_temperature * 1,
        )

    @torch.inference_mode()
    def embed_audio(
        self, waveform: Float[Tensor, "*clip sample"] | np.ndarray, sample_rate: int
    ) -> AudioEmbeddings:
        """Unit vectors of each frame and each clip of mono audio, `[sample]` or `[clip, sample]`.

        Frame l spans [l, l + 1) * frame_s seconds; the last one may reach past the end. Audio of
        any length and sample rate will do: it is never stretched, and long audio takes no more
        memory than `BLOCK_FRAMES` frames of it. Raises ValueError for audio that is empty, not
        finite, of more than two axes, of channels, or in integers.
        """
        if not isinstance(waveform, Tensor):
            waveform = torch.from_numpy(np.array(waveform, order="C"))  # reversed, read-only, …
        waveform = waveform.cpu()
        if waveform.ndim not in (1, 2) or waveform.numel() == 0:
            raise ValueError(
                f"audio is [sample] or [clip, sample] and not empty; this is {[*waveform.shape]}"
            )
        if waveform.ndim == 2 and waveform.shape[1] <= MAX_CHANNELS < waveform.shape[0]:
            raise ValueError(
                f"audio is [clip, sample]; this is {[*waveform.shape]}, as if [sample, channel]: "
                f"give the mean of its channels, waveform.mean(1)"
            )
        if not waveform.is_floating_point():
            raise ValueError(f"audio is in floats, full scale 1; these are {waveform.dtype}")
        if not waveform.isfinite().all():
            raise ValueError("the audio holds NaN or infinite samples: a damaged file?")
        clips = waveform.float().reshape(-1, waveform.shape[-1])
        return self._project(self._frames_by_blocks(resample_to_model(clips, sample_rate, self)))

    @torch.inference_mode()
    def embed_captions(self, captions: list[str]) -> CaptionEmbeddings:
        """Unit vector, multiplier and prior log-odds of each caption.

        Raises ValueError for no captions, an empty one, or one longer than the tower reads.
        """
        if isinstance(captions, str) or not captions:
            raise ValueError("captions are a list of at least one text")
        return self.encode_captions(self.caption.embed(list(captions)))

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        provenance: Mapping[str, Any] | None = None,
        config: None = None,
        model_card_kwargs: None = None,
    ) -> None:
        """Write all that `from_pretrained` needs, the caption tower included; all of it or nothing.

            config.json        format and settings      caption_tower/  shape and tokenizer
            model.safetensors  every tensor             training.json   `provenance`, if known
            README.md          the model card

        Without `provenance`, that of the folder this model was read from stays with it. An older
        model in `folder` is replaced. `config` and `model_card_kwargs` are what `push_to_hub`
        passes along; here both come from the model. Raises FileExistsError rather than replace a
        folder that holds anything else.
        """
        provenance = self.provenance if provenance is None else provenance
        checkpoint.write(
            folder,
            kind=self.kind,
            config=self.config,
            tensors=self.state_dict(),
            save_captions=self.caption.save_config_and_tokenizer,
            provenance=provenance,
            card=card.text(
                self.config,
                kind=self.kind,
                sample_rate=self.sample_rate,
                frame_s=self.frame_s,
                n_parameters=sum(p.numel() for p in self.parameters()),
                provenance=provenance,
            ),
        )

    @classmethod
    def from_pretrained(cls, folder: str | Path, **hub: Any) -> "DualEncoder":
        """The model that `save_pretrained` wrote to a folder, ready to be asked (in eval mode).

        `folder` may also be the id of a repository on the Hugging Face hub, `owner/name`, if there
        is no such folder; `hub` are then arguments of `huggingface_hub.snapshot_download`, such as
        `revision` or `local_files_only`. For a folder no hub is contacted. Raises
        FileNotFoundError for a folder or file that is missing and a repository that cannot be had,
        and ValueError for a newer format, for another kind of model, for settings or tensors other
        than the model's own, and for a damaged file.
        """
        folder = checkpoint.resolve_source(folder, **hub)
        for path in (folder, folder / CONFIG, folder / WEIGHTS, folder / CAPTION_FOLDER):
            if not path.exists():
                raise FileNotFoundError(f"{path} is missing: give a folder that FLAM was saved to")
        settings = list(inspect.signature(cls.__init__).parameters.values())[2:]
        needed = {p.name for p in settings if p.default is p.empty}
        known = {p.name for p in settings}
        config = checkpoint.read_config(folder / CONFIG, needed, known, kind=cls.kind)
        model = cls(folder / CAPTION_FOLDER, **config)
        tensors = checkpoint.read_tensors(folder / WEIGHTS)
        checkpoint.check_tensors(tensors, model.state_dict(), folder / WEIGHTS)
        model.load_state_dict(tensors)
        model.provenance = checkpoint.read_provenance(folder)
        return model.eval()

    def _frames(self, waveform: Float[Tensor, "clip sample"]) -> Float[Tensor, "clip frame width"]:
        """Features of the frames that the waveform reaches, however far the tower pads it."""
        n_frames = self.audio.n_frames(waveform.shape[1])
        return self.audio(self.audio.log_mel(waveform))[:, :n_frames]

    def _frames_by_blocks(
        self, waveform: Float[Tensor, "clip sample"]
    ) -> Float[Tensor, "clip frame width"]:
        """What `_frames` says, in the memory that `BLOCK_FRAMES` frames take.

        A block is computed together with the frames on either side of it that its own depend on.
        """
        n_per_frame = round(self.frame_s * self.sample_rate)
        context = self.audio.context_frames
        blocks = []
        for first in range(0, self.audio.n_frames(waveform.shape[1]), BLOCK_FRAMES):
            begin, end = max(0, first - context), first + BLOCK_FRAMES + context
            part = waveform[:, begin * n_per_frame : end * n_per_frame].to(self.device)
            blocks.append(self._frames(part)[:, first - begin :][:, :BLOCK_FRAMES])
        return torch.cat(blocks, dim=1)

    def _project(self, frames: Float[Tensor, "clip frame width"]) -> AudioEmbeddings:
        """Embeddings from the audio tower's features, with gradients."""
        raise NotImplementedError


def audio_tower(*, tower: str, **kwargs: Any) -> nn.Module:
    """The audio tower of that name. Raises ValueError for another."""
    towers = {"yamnet": YAMNet, "htsat": HTSAT}
    if tower not in towers:
        raise ValueError(f"no audio tower {tower!r}; there are {', '.join(towers)}")
    return towers[tower](**kwargs)
