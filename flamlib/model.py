"""FLAM: two towers that meet in one space, and the two numbers that a caption carries with it."""

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import ModelHubMixin
from jaxtyping import Float
from torch import Tensor, nn

from flamlib import card, checkpoint, losses, tags
from flamlib.audio import resample
from flamlib.captions import CaptionTower
from flamlib.checkpoint import CAPTION_FOLDER, CONFIG, WEIGHTS
from flamlib.htsat import HTSAT
from flamlib.yamnet import YAMNet

BLOCK_FRAMES = 128  # long audio is heard in pieces of this many frames, about 40 s

Method = Literal["unbiased", "biased", "approximate"]


class Audio(NamedTuple):
    """What the model hears: unit vectors of each frame and of the whole clip."""

    frame_emb: Float[Tensor, "clip frame dim"]
    clip_emb: Float[Tensor, "clip dim"]


class Captions(NamedTuple):
    """What the model knows of each caption: its unit vector, its multiplier, its prior log-odds."""

    caption_emb: Float[Tensor, "caption dim"]
    logit_scale: Float[Tensor, "caption"]
    logit_bias: Float[Tensor, "caption"]


@runtime_checkable
class Listener(Protocol):
    """A model that can be asked for captions. Frame l spans [l, l + 1) * frame_s seconds."""

    @property
    def sample_rate(self) -> int: ...

    @property
    def frame_s(self) -> float: ...

    @property
    def context_frames(self) -> int: ...

    def embed_audio(self, waveform: Float[Tensor, "clip sample"], sample_rate: int) -> Audio: ...

    def embed_captions(self, captions: list[str]) -> Captions: ...

    def score(
        self,
        waveform: Float[Tensor, "clip sample"] | np.ndarray,
        sample_rate: int,
        captions: list[str],
        method: Method = "unbiased",
    ) -> Float[Tensor, "clip caption frame"]: ...


class ByCosine:
    """The score of a `Listener` that goes by the cosine of its embeddings alone."""

    @torch.inference_mode()
    def score(
        self,
        waveform: Float[Tensor, "*clip sample"] | np.ndarray,
        sample_rate: int,
        captions: list[str],
        method: Method = "unbiased",
    ) -> Float[Tensor, "clip caption frame"]:
        """How alike each frame and each caption are, in [0, 1]: see `cosine_score`."""
        heard, asked = self.embed_audio(waveform, sample_rate), self.embed_captions(captions)
        return cosine_score(heard, asked, method)


class Step(NamedTuple):
    """One forward pass of training; what was not asked for is None."""

    heard: Audio | None
    captions: Captions | None
    pair_heard: Audio | None
    log_temperature: Float[Tensor, ""]


CaptionInput = Float[Tensor, "caption *word dim"] | dict[str, Tensor]


class Head(nn.Module):
    """One number from a caption's features: Linear, GELU, Linear."""

    def __init__(self, width: int, *, init: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        with torch.no_grad():
            self.layers[2].bias += init

    def forward(self, features: Float[Tensor, "caption dim"]) -> Float[Tensor, "caption"]:
        # squeeze(1) and not squeeze(): a single caption is still a list of captions.
        return self.layers(features).squeeze(1)


class Shared(nn.Module):
    """One number for all captions, in the place of a `Head`; one that is fixed does not learn.

    It is a head that is told nothing of the caption, so that it learns as fast as a head does: a
    single parameter would move by no more than the learning rate in a step.
    """

    def __init__(self, width: int, *, init: float, learns: bool) -> None:
        super().__init__()
        self.head = Head(width, init=0.0)
        nn.init.zeros_(self.head.layers[2].weight)
        nn.init.constant_(self.head.layers[2].bias, init)
        self.head.requires_grad_(learns)
        self.register_buffer("nothing", torch.ones(1, width), persistent=False)

    def forward(self, features: Float[Tensor, "caption dim"]) -> Float[Tensor, "caption"]:
        return self.head(self.nothing).expand(len(features))


class TwoTowers(ByCosine, nn.Module, ModelHubMixin, library_name="flamlib"):
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
        self.caption = CaptionTower(Path(caption_folder), **config["caption"])
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

    def hear(self, waveform: Float[Tensor, "clip sample"]) -> Audio:
        """Embeddings of audio at the tower's own sample rate, with gradients."""
        return self._project(self._frames(waveform))

    def read(self, features: Float[Tensor, "caption *word dim"]) -> Captions:
        """What the model knows of captions, from the caption tower's features, with gradients."""
        raise NotImplementedError

    def forward(
        self,
        waveform: Float[Tensor, "clip sample"] | None,
        captions: CaptionInput | None,
        pair_waveform: Float[Tensor, "pair pair_sample"] | None,
    ) -> Step:
        """All that a training step needs, in one call so that gradients are synchronised once.

        Captions come as features of a frozen caption tower or as tokens for one that learns.
        """

        if isinstance(captions, dict):
            captions = self.caption(**captions)
        return Step(
            None if waveform is None else self.hear(waveform),
            None if captions is None else self.read(captions),
            None if pair_waveform is None else self.hear(pair_waveform),
            # Passed through, not read off the module: the loss must not need to unwrap it.
            self.log_temperature * 1,
        )

    @torch.inference_mode()
    def embed_audio(
        self, waveform: Float[Tensor, "*clip sample"] | np.ndarray, sample_rate: int
    ) -> Audio:
        """Unit vectors of each frame and each clip of mono audio, `[sample]` or `[clip, sample]`.

        Frame l spans [l, l + 1) * frame_s seconds; the last one may reach past the end. Audio of
        any length and sample rate will do: it is never stretched, and long audio takes no more
        memory than `BLOCK_FRAMES` frames of it. Raises ValueError for audio that is empty, not
        finite, of more than two axes, or in integers.
        """
        if not isinstance(waveform, Tensor):
            waveform = torch.from_numpy(np.array(waveform, order="C"))  # reversed, read-only, …
        waveform = waveform.cpu()
        if waveform.ndim not in (1, 2) or waveform.numel() == 0:
            raise ValueError(
                f"audio is [sample] or [clip, sample] and not empty; this is {[*waveform.shape]}"
            )
        if not waveform.is_floating_point():
            raise ValueError(f"audio is in floats, full scale 1; these are {waveform.dtype}")
        if not waveform.isfinite().all():
            raise ValueError("the audio holds NaN or infinite samples: a damaged file?")
        clips = waveform.float().reshape(-1, waveform.shape[-1])
        return self._project(self._frames_by_blocks(resampled(clips, sample_rate, self)))

    @torch.inference_mode()
    def embed_captions(self, captions: list[str]) -> Captions:
        """Unit vector, multiplier and prior log-odds of each caption.

        Raises ValueError for no captions, an empty one, or one longer than the tower reads.
        """
        if isinstance(captions, str) or not captions:
            raise ValueError("captions are a list of at least one text")
        return self.read(self.caption.embed(list(captions)))

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
            save_captions=self.caption.save_tokenizer,
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
    def from_pretrained(cls, folder: str | Path, **hub: Any) -> "TwoTowers":
        """The model that `save_pretrained` wrote to a folder, ready to be asked (in eval mode).

        `folder` may also be the id of a repository on the Hugging Face hub, `owner/name`, if there
        is no such folder; `hub` are then arguments of `huggingface_hub.snapshot_download`, such as
        `revision` or `local_files_only`. For a folder no hub is contacted. Raises
        FileNotFoundError for a folder or file that is missing and a repository that cannot be had,
        and ValueError for a newer format, for another kind of model, for settings or tensors other
        than the model's own, and for a damaged file.
        """
        folder = checkpoint.fetched(folder, **hub)
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

    def _project(self, frames: Float[Tensor, "clip frame width"]) -> Audio:
        """Embeddings from the audio tower's features, with gradients."""
        raise NotImplementedError


class FLAM(TwoTowers):
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
        """A model with random weights; `initialising.pretrained` gives its towers theirs.

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
        self.scale_head = _head("scale", scale, width=width, init=math.log(scale_init))
        self.bias_head = _head("bias", bias, width=width, init=bias_init)
        # Training leaves tags out in some steps, of all captions of all processes at once: to a
        # clip that chooses among captions, those with tags would seem nearer.
        self.asks_tags = True
        if self.audio.n_tags:
            # Features of the classes' names, from the caption tower as it was when they were named.
            self.register_buffer("tag_names", torch.zeros(self.audio.n_tags, self.caption.width))

    def name_tags(self, names: list[str]) -> None:
        """Tell the model what its audio tower's tags are called, in order."""
        self.tag_names.copy_(self.caption.embed([name.lower() for name in names]))

    def read(self, features: Float[Tensor, "caption dim"]) -> Captions:
        """Embeddings and heads from the caption tower's features, with gradients."""
        caption_emb = _unit(self.caption_projection(features))
        if self.audio.n_tags:
            asked = tags.asked(features, self.tag_names)
            caption_emb = tags.beside(caption_emb, asked if self.asks_tags else 0 * asked)
        return Captions(
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
        logits = losses.frame_logits(frame_emb, caption_emb, logit_scale, bias)
        if method == "unbiased":
            return losses.unbiased_score(logits, logit_bias)
        return logits.sigmoid()

    def _project(self, frames: Float[Tensor, "clip frame width"]) -> Audio:
        return Audio(self._embed(frames), self._embed(frames.mean(dim=1)))

    def _embed(self, features: Float[Tensor, "*row width"]) -> Float[Tensor, "*row dim"]:
        width = self.audio.width
        learned = _unit(self.audio_projection(features[..., :width]))
        if not self.audio.n_tags:
            return learned
        return tags.beside(learned, tags.heard(features[..., width:]))


def resampled(
    waveform: Float[Tensor, "clip sample"], sample_rate: int, model: Listener
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
    heard: Audio, asked: Captions, method: Method
) -> Float[Tensor, "clip caption frame"]:
    """The score of a model that knows no prior.

        score = (1 + <frame_emb[l], caption_emb>) / 2

    One half says nothing, as in FLAM's unbiased score; it is no probability. Raises ValueError for
    a method other than "unbiased": there is no prior that could be left in.
    """
    if method != "unbiased":
        raise ValueError(f"a model without priors has unbiased scores alone, no {method!r} ones")
    cosine = torch.einsum("ild,jd->ijl", heard.frame_emb, asked.caption_emb)
    return (1 + cosine) / 2


def audio_tower(*, tower: str, **kwargs: Any) -> nn.Module:
    """The audio tower of that name. Raises ValueError for another."""
    towers = {"yamnet": YAMNet, "htsat": HTSAT}
    if tower not in towers:
        raise ValueError(f"no audio tower {tower!r}; there are {', '.join(towers)}")
    return towers[tower](**kwargs)


def _head(name: str, kind: str, *, width: int, init: float) -> nn.Module:
    if kind == "per_caption":
        return Head(width, init=init)
    if kind in ("shared", "fixed"):
        return Shared(width, init=init, learns=kind == "shared")
    raise ValueError(f"{name} is per_caption, shared or fixed, not {kind!r}")


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
