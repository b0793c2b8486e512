"""A dual encoder: an audio tower and a caption tower whose features share one embedding space."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from flamlib.models import card, checkpoint, saved, settings
from flamlib.models.caption_thresholds import CaptionThresholds
from flamlib.models.htsat import HTSAT
from flamlib.models.interface import (
    AudioEmbeddings,
    AudioPiece,
    CaptionEmbeddings,
    EmbeddingScoring,
    require_finite,
    resample_to_model,
)
from flamlib.models.text_tower import TextTower
from flamlib.models.yamnet import YAMNet
from flamlib.sound_events.events import frame_blocks

BLOCK_FRAMES = 128  # long audio is encoded in blocks of this many frames, about 40 s
MAX_CHANNELS = 8  # a second axis this short is taken for channels, which audio here has none of


class ModelOutput(NamedTuple):
    """Output of one forward pass of training; None for inputs that were None.

    Attributes:
        audio: Embeddings of the mixtures.
        captions: Embeddings of the captions.
        pair_audio: Embeddings of the recordings that are paired with captions.
        log_temperature: Logarithm of the multiplier of the clip-level contrastive loss.
    """

    audio: AudioEmbeddings | None
    captions: CaptionEmbeddings | None
    pair_audio: AudioEmbeddings | None
    log_temperature: Float[Tensor, ""]


# Waveforms, or the output of the audio tower's trunk, which is stored where it never changes.
AudioInput = Float[Tensor, "clip sample"] | Float[Tensor, "clip step width"]
PairInput = Float[Tensor, "pair pair_sample"] | Float[Tensor, "pair pair_step width"]
CaptionInput = Float[Tensor, "caption *word dim"] | dict[str, Tensor]


class DualEncoder(EmbeddingScoring, nn.Module):
    """An audio tower and a caption tower whose features share one embedding space.

    The base class of `FLAM` and of the models it is compared with: audio of any rate and length,
    captions as text, saving to a folder and loading from it. A subclass adds `encode_captions` and
    `_project`, which turn features of the towers into embeddings, and `score_embeddings`.

    Attributes:
        config: The arguments of the subclass, as saved to config.json.
        provenance: How the model was made (training.json), None if unknown.
        thresholds: Its thresholds by caption (thresholds.json), None if they were not computed.
        audio: The audio tower.
        caption: The caption tower.
    """

    kind: str | None = None  # "model" in config.json; FLAM has none
    settings: type  # what `config` may be, one of `settings`

    def __init__(self, caption_folder: str | Path, **config: Any) -> None:
        """Build the towers with random weights.

        Args:
            caption_folder: Folder with the caption tower's configuration and tokenizer.
            config: The other arguments of the subclass; of these, `audio` and `caption` are the
                arguments of the towers, `temperature_init` is the initial temperature.

        Raises:
            ParameterError: Naming what is not as `settings` says.
        """
        super().__init__()
        self.config = config = settings.check(self.settings, config)
        self.provenance: dict[str, Any] | None = None
        self.thresholds: CaptionThresholds | None = None
        self.audio = audio_tower(**config["audio"])
        self.caption = TextTower(Path(caption_folder), **config["caption"])
        self.log_temperature = nn.Parameter(torch.tensor(-math.log(config["temperature_init"])))

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio tower in hertz; `embed_audio` resamples to it."""
        return self.audio.sample_rate

    @property
    def frame_s(self) -> float:
        """Duration of a frame in seconds."""
        return self.audio.frame_s

    @property
    def context_frames(self) -> int:
        """Number of frames of context, 0 or more.

        The output of frame l depends on audio of frames l - context_frames to l + context_frames
        only. Used to cut long recordings into blocks without changing the result.
        """
        return self.audio.context_frames

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.log_temperature.device

    def encode_audio(self, audio: AudioInput) -> AudioEmbeddings:
        """Embed audio with gradients: waveforms at the tower's own sample rate, or what its trunk
        made of them."""
        if audio.ndim == 3:
            frames = self.audio(audio)
            return self._embeddings(frames, frames.shape[1])
        return self._embeddings(
            self.audio(self.audio.trunk(audio)), self.audio.n_frames(audio.shape[1])
        )

    def encode_captions(self, features: Float[Tensor, "caption *word dim"]) -> CaptionEmbeddings:
        """Embed captions, given the caption tower's features, with gradients."""
        raise NotImplementedError

    def forward(
        self,
        audio: AudioInput | None,
        captions: CaptionInput | None,
        pair_audio: PairInput | None,
    ) -> ModelOutput:
        """Encode all inputs of a training step in one call, so that gradients synchronise once.

        Args:
            audio: Mixtures, as `encode_audio` takes them, or None.
            captions: Features of a frozen caption tower, tokens for one that is trained, or None.
            pair_audio: Recordings that are paired with captions, or None.
        """
        if isinstance(captions, dict):
            captions = self.caption(**captions)
        return ModelOutput(
            None if audio is None else self.encode_audio(audio),
            None if captions is None else self.encode_captions(captions),
            None if pair_audio is None else self.encode_audio(pair_audio),
            # Returned, not read off the module: the loss must not need to unwrap it from DDP.
            self.log_temperature * 1,
        )

    @torch.inference_mode()
    def embed_audio(
        self, waveform: Float[Tensor, "*clip sample"] | np.ndarray, sample_rate: int
    ) -> AudioEmbeddings:
        """Embed each frame and each clip of mono audio of any length and sample rate.

        Frame l spans [l, l + 1) * frame_s seconds; the last one may reach past the end. Audio is
        resampled, never stretched; HTS-AT's `padding` says what fills its last window. The
        activations of at most `BLOCK_FRAMES` frames, and their context, are in memory at once.

        Args:
            waveform: `[sample]` or `[clip, sample]`, floats, full scale 1.
            sample_rate: In hertz.

        Raises:
            ValueError: Audio that is empty, not finite, has more than two axes or a channel axis,
                or is in integers; or so loud that its embeddings are no numbers.
        """
        clips = _as_clips(waveform)
        resampled = resample_to_model(clips, sample_rate, self)
        n_frames = self.audio.n_frames(resampled.shape[1])
        audio = self._embeddings(self._frames_by_blocks(resampled), n_frames)
        return _require_finite(audio, float(clips.abs().max()))

    def trunk_id(self) -> dict[str, Any] | None:
        """Say which trunk the audio tower has; None for one whose output is not worth storing."""
        return self.audio.trunk_id()

    @torch.inference_mode()
    def embed_features(self, features: Float[Tensor, "clip step width"]) -> AudioEmbeddings:
        """Embed what the audio tower's trunk made of whole clips, as `embed_audio` does clips.

        Raises ValueError for what `embed_audio` refuses.
        """
        found = self.encode_audio(features.to(self.device))
        return require_finite(found, "what the trunk of the audio tower made of audio")

    @torch.inference_mode()
    def embed_pieces(self, pieces: Iterable[AudioPiece], sample_rate: int) -> AudioEmbeddings:
        """Embed a recording that comes in pieces, as `embed_audio` does the whole of it: one clip.

        Of a piece only the features of its frames stay in memory.

        Args:
            pieces: All of the recording, in order, at least one.
            sample_rate: In hertz.

        Raises:
            ValueError: What `embed_audio` raises.
        """
        features, ends, peak = [], [], 0.0
        for waveform, n_before, n_frames in pieces:
            clip = _as_clips(waveform)
            peak = max(peak, float(clip.abs().max()))
            resampled = resample_to_model(clip, sample_rate, self)
            features.append(self._frames_by_blocks(resampled)[:, n_before:])
            ends.append(n_frames)
            n_last = self.audio.n_frames(resampled.shape[1]) - n_before
        # What the last one has beyond its frames is the tower's padding, of the others context.
        parts = [frames[:, :n] for frames, n in zip(features[:-1], ends[:-1], strict=True)]
        frames = torch.cat([*parts, features[-1]], dim=1)
        return _require_finite(self._embeddings(frames, sum(ends[:-1]) + n_last), peak)

    @torch.inference_mode()
    def embed_captions(self, captions: list[str]) -> CaptionEmbeddings:
        """Return the unit vector, logit scale and logit bias of each caption.

        Raises ValueError for no captions, an empty one, or one with more tokens than the tower
        accepts.
        """
        return finite_captions(self.encode_captions(self._features(captions)))

    def _features(self, captions: Sequence[str]) -> Float[Tensor, "caption *word dim"]:
        """Read captions. Raises what `embed_captions` raises."""
        if isinstance(captions, str) or not captions:
            raise ValueError("captions must be a list of at least one text")
        return self.caption.embed(list(captions))

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        provenance: Mapping[str, Any] | None = None,
        config: None = None,
        model_card_kwargs: None = None,
    ) -> None:
        """Write everything `from_pretrained` needs, atomically: all files or none.

            config.json        format and settings      caption_tower/  configuration, tokenizer
            model.safetensors  every tensor             training.json   `provenance`, if known
            README.md          the model card

        An older model in `folder` is replaced.

        Args:
            folder: Where to write.
            provenance: How the model was made, JSON types. Default: that of the folder it was
                loaded from.
            config: Passed by `push_to_hub`, ignored: the model knows its own.
            model_card_kwargs: Passed by `push_to_hub`, ignored.

        Raises:
            FileExistsError: `folder` contains anything but a saved model.
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

    def push_to_hub(self, repo_id: str, **hub: Any) -> Any:
        """Save the model to a repository on the Hugging Face hub.

        Args:
            repo_id: `owner/name`; made if it is not there.
            hub: Arguments of `huggingface_hub.ModelHubMixin.push_to_hub`, such as `private`.

        Returns:
            What that returns, about the commit.
        """
        # Imported here, and no base class: it takes a quarter of a second.
        from huggingface_hub import ModelHubMixin

        return ModelHubMixin.push_to_hub(self, repo_id, **hub)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **hub: Any) -> "DualEncoder":
        """Load a saved model, in eval mode.

        Args:
            folder: Folder of the model or, if there is no such folder, the name of one that is
                `released`, such as "flam-small", or the id of a repository on the Hugging Face hub,
                `owner/name`. The hub is never contacted for a folder or a name.
            hub: Arguments of `huggingface_hub.snapshot_download`, such as `revision` or
                `local_files_only`.

        Raises:
            FileNotFoundError: A missing folder or file, or a repository or the package of a tower
                that cannot be downloaded.
            ValueError: A newer format, another kind of model, settings or tensors other than the
                model's own, weights that are no numbers, a caption tower that needs code of its
                own, or a damaged file; naming the file and what is wrong in it.
        """
        return saved.load(cls, folder, **hub)

    def _frames_by_blocks(
        self, waveform: Float[Tensor, "clip sample"]
    ) -> Float[Tensor, "clip frame width"]:
        """Compute the audio tower's features in blocks of `BLOCK_FRAMES` frames, to bound memory.

        Each block is computed with `context_frames` frames on either side, so cutting changes
        nothing. The last one keeps what the tower pads.
        """
        n_per_frame = round(self.frame_s * self.sample_rate)
        context = self.audio.context_frames
        duration_s = waveform.shape[1] / self.sample_rate
        *firsts, last = frame_blocks(duration_s, self.frame_s, BLOCK_FRAMES)
        blocks = []
        for part in (*firsts, last):
            begin, end = max(0, part.start - context), part.stop + context
            block = waveform[:, begin * n_per_frame : end * n_per_frame].to(self.device)
            frames = self.audio(self.audio.trunk(block))[:, part.start - begin :]
            blocks.append(frames if part is last else frames[:, : len(part)])
        return torch.cat(blocks, dim=1)

    def _embeddings(
        self, frames: Float[Tensor, "clip padded width"], n_frames: int
    ) -> AudioEmbeddings:
        """Embed audio that reaches `n_frames` frames, given those of the tower, padding included.

        Where padding is part of a clip, the clip's embedding is of it, too. A last frame that the
        audio hardly reaches, so that the tower has none for it, is as the one before.
        """
        frame_emb, clip_emb = self._project(
            frames if self.audio.pads_clips else frames[:, :n_frames]
        )
        frame_emb = frame_emb[:, :n_frames]
        n_missing = n_frames - frame_emb.shape[1]
        if n_missing:
            frame_emb = torch.cat([frame_emb, frame_emb[:, -1:].expand(-1, n_missing, -1)], dim=1)
        return AudioEmbeddings(frame_emb, clip_emb)

    def _project(self, frames: Float[Tensor, "clip frame width"]) -> AudioEmbeddings:
        """Embed audio, given the audio tower's features, with gradients."""
        raise NotImplementedError


def _as_clips(waveform: Any) -> Float[Tensor, "clip sample"]:
    """Return audio as clips. Raises ValueError for what `embed_audio` refuses."""
    if not isinstance(waveform, Tensor):
        waveform = torch.from_numpy(np.array(waveform, order="C"))  # reversed, read-only, …
    waveform = waveform.cpu()
    if waveform.ndim not in (1, 2) or waveform.numel() == 0:
        raise ValueError(
            f"audio must be [sample] or [clip, sample] and not empty, got {[*waveform.shape]}"
        )
    if waveform.ndim == 2 and waveform.shape[1] <= MAX_CHANNELS < waveform.shape[0]:
        raise ValueError(
            f"audio must be [clip, sample], got {[*waveform.shape]}, which looks like "
            f"[sample, channel]: pass the mean of the channels, waveform.mean(1)"
        )
    if not waveform.is_floating_point():
        raise ValueError(f"audio must be floats, full scale 1, got {waveform.dtype}")
    if not waveform.isfinite().all():
        raise ValueError("the audio contains NaN or infinite samples: a damaged file?")
    return waveform.float().reshape(-1, waveform.shape[-1])


def finite_captions(embeddings: CaptionEmbeddings) -> CaptionEmbeddings:
    """Return embeddings as they are. Raises ValueError if they hold NaN or infinity."""
    return require_finite(embeddings, "captions, by weights too large for float32,")


def _require_finite(audio: AudioEmbeddings, peak: float) -> AudioEmbeddings:
    return require_finite(audio, f"audio with samples up to {peak:.3g} (full scale is 1)")


def audio_tower(*, tower: str, **kwargs: Any) -> nn.Module:
    """Build the audio tower called `tower`, "yamnet" or "htsat", with these arguments.

    Raises ValueError for another name.
    """
    towers = {"yamnet": YAMNet, "htsat": HTSAT}
    if tower not in towers:
        raise ValueError(f"no audio tower {tower!r}, choose one of {', '.join(towers)}")
    return towers[tower](**kwargs)
