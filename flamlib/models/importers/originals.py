"""LAION-CLAP, CompA-CLAP and MGA-CLAP out of the files that their authors' programs write.

A file is the user's own copy: no weights come with this project, and none of these were at hand
when it was written. What their programs say of the layout is what is read, and every tensor has its
place, is known to be of no use, or is named in an error.

    LAION-CLAP   audio_branch.*           -> audio.encoder.*, see `htsat_layout`
    CompA-CLAP   text_branch.*            -> caption.encoder.* (RoBERTa; CompA: the encoder of a T5)
                 audio_projection.{0,2}   -> audio_projection.{0,2}
                 text_projection.{0,2}    -> caption_projection.{0,2}
                 logit_scale_a            -> log_temperature

    MGA-CLAP     audio_encoder.audio_enc.*        -> audio.encoder.*
                 text_encoder.text_encoder.*      -> caption.encoder.* (BERT)
                 {frame,word}_proj.{0,1,3,4}      -> {frame,word}_projection.{0,2,4,6}
                 codebook, temp                   -> codes, log_temperature (minus its logarithm)

No use is made of the classifier of AudioSet's classes, of the loss's further layers, and of the
fusion of clips over ten seconds: those are heard in windows, as all audio here.
"""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import BertConfig, RobertaConfig

from flamlib.events import count_frames
from flamlib.models import checkpoint
from flamlib.models.dual_encoder import DualEncoder
from flamlib.models.htsat import HTSAT, SAMPLE_RATE, WINDOW_S
from flamlib.models.importers import htsat_layout, text_layout
from flamlib.models.interface import AudioEmbeddings, CaptionEmbeddings
from flamlib.models.mga_clap import MGACLAP

CLAP_TOKENS, MGA_TOKENS = 77, 30  # that a caption may have
MGA_RATE = 32_000
MGA_CODE_TEMPERATURE = 1000.0

_AUDIO, _TEXT = "audio_branch.", "text_branch."
_MGA_AUDIO, _MGA_TEXT = "audio_encoder.audio_enc.", "text_encoder.text_encoder."
_FUSION = "patch_embed.mel_conv2d."
_UNUSED = re.compile(
    r"^logit_scale_t$|^(audio|text)_transform\.|(^|\.)embeddings\.(position_ids|token_type_ids)$"
    rf"|^({re.escape(_AUDIO)}|{re.escape(_MGA_AUDIO)})"
    r"(tscam_conv|head|patch_embed\.mel_conv2d|patch_embed\.fusion_model)\."
)


class CLAP(DualEncoder):
    """LAION-CLAP and its like: FLAM's towers and projections, without its heads.

        frame_emb[l] = unit(audio_projection(frame feature l))
        clip_emb     = unit(audio_projection(mean over l of frame feature l))
        caption_emb  = unit(caption_projection(caption feature))

    It was trained on clips. That a projected frame can be compared with a caption, too, is our use.
    """

    kind = "clap"

    def __init__(
        self,
        caption_folder: str | Path,
        *,
        audio: dict[str, Any],
        caption: dict[str, Any],
        dim: int,
        temperature_init: float,
    ) -> None:
        """A model with random weights; `read` gives it those of a checkpoint."""
        config = dict(audio=audio, caption=caption, dim=dim, temperature_init=temperature_init)
        super().__init__(caption_folder, config)
        self.audio_projection = _projection(self.audio.width, dim)
        self.caption_projection = _projection(self.caption.width, dim)

    def encode_captions(self, features: Float[Tensor, "caption dim"]) -> CaptionEmbeddings:
        """Embeddings from the caption tower's features; no scale, no prior."""
        one = torch.ones(len(features), device=features.device)
        return CaptionEmbeddings(
            normalize(self.caption_projection(features).float(), dim=1), one, 0 * one
        )

    @torch.inference_mode()
    def embed_audio(
        self, waveform: Float[Tensor, "*clip sample"] | np.ndarray, sample_rate: int
    ) -> AudioEmbeddings:
        """As `DualEncoder.embed_audio`, with whole windows: audio of less than ten seconds, or what
        is left after the last ten, is repeated as often as it fits and then silent, as the model
        was trained. A clip is all of that; of its frames those are given that it reaches itself.
        """
        n_window = WINDOW_S * sample_rate
        n_samples = waveform.shape[-1] if waveform.ndim else 0
        n_rest = n_samples % n_window
        if n_rest == 0:
            return super().embed_audio(waveform, sample_rate)
        if not isinstance(waveform, Tensor):
            waveform = torch.from_numpy(np.array(waveform, order="C"))
        rest = waveform[..., n_samples - n_rest :]
        n_times = n_window // n_rest - 1  # after the first, which is there
        silence = torch.zeros_like(waveform[..., :1]).expand(
            *waveform.shape[:-1], n_window - (n_times + 1) * n_rest
        )
        filled = torch.cat([waveform, *[rest] * n_times, silence], dim=-1)
        heard = super().embed_audio(filled, sample_rate)
        n_reached = count_frames(n_samples / sample_rate, self.frame_s)
        return AudioEmbeddings(heard.frame_emb[:, :n_reached], heard.clip_emb)

    def _project(self, frames: Float[Tensor, "clip frame width"]) -> AudioEmbeddings:
        whole = frames.mean(dim=1)
        return AudioEmbeddings(
            normalize(self.audio_projection(frames).float(), dim=2),
            normalize(self.audio_projection(whole).float(), dim=1),
        )


def read(path: str | Path, tokenizer: str | Path) -> CLAP | MGACLAP:
    """The model in a checkpoint of LAION-CLAP, CompA-CLAP or MGA-CLAP, ready to be asked.

    Which of them it is, its tensors tell. `tokenizer` is a folder with the text encoder's tokenizer
    or the hub id of one: `roberta-base`, `google/flan-t5-large`, `bert-base-uncased`. Raises what
    `checkpoint.read_tensors` does, and ValueError for tensors that are missing, left over or of
    another shape and for a tokenizer that is not the checkpoint's.
    """
    tensors = checkpoint.read_tensors(path)
    if all(name.startswith("module.") for name in tensors):  # of several processes
        tensors = {name.removeprefix("module."): t for name, t in tensors.items()}
    kind = next((kind for kind, sign in _SIGNS.items() if sign in tensors), None)
    if kind is None:
        raise ValueError(f"{path} is no checkpoint of {', '.join(_SIGNS)}: it has none of their "
                         f"tensors {', '.join(_SIGNS.values())}")  # fmt: skip
    try:
        with tempfile.TemporaryDirectory() as folder:
            build = build_mga_clap if kind == "MGA-CLAP" else build_clap
            model = build(Path(folder), tensors, tokenizer)
        ours = convert(tensors, model)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    checkpoint.load_tensors(model, ours, path, f"{kind}, {Path(path).name}")
    return model


# What only the one has. A T5 has it in two places, of which the first is enough.
_SIGNS = {
    "MGA-CLAP": "codebook",
    "CompA-CLAP": f"{_TEXT}encoder.embed_tokens.weight",
    "LAION-CLAP": f"{_TEXT}embeddings.word_embeddings.weight",
}


def build_clap(folder: Path, tensors: Mapping[str, Tensor], tokenizer: str | Path) -> CLAP:
    """A CLAP of the shape that the tensors have, with random weights; `folder` is an empty one."""
    text = _part(tensors, _TEXT)
    if _SIGNS["CompA-CLAP"] in tensors:
        encoder = _part(text, "encoder.")
        text_layout.write_t5(folder, encoder, tokenizer, max_tokens=CLAP_TOKENS)
        caption = {"pooling": "all"}
    else:
        limits = {"config_class": RobertaConfig, "max_tokens": CLAP_TOKENS}
        text_layout.write_bert(folder, text, tokenizer, **limits)
        caption = {"pooling": "pooler"}
    audio = _part(tensors, _AUDIO)
    settings = htsat_layout.settings(audio, sample_rate=SAMPLE_RATE)
    # With fusion the log-mel is another library's, outside the network, and has other filters.
    fused = any(name.startswith(_FUSION) for name in audio)
    return CLAP(
        folder,
        audio={"tower": "htsat", **settings, "filters": "htk" if fused else "slaney"},
        caption=caption,
        dim=len(_of(tensors, "audio_projection.0.weight")),
        temperature_init=0.07,
    )


def build_mga_clap(folder: Path, tensors: Mapping[str, Tensor], tokenizer: str | Path) -> MGACLAP:
    """An MGA-CLAP of the shape that the tensors have, with random weights; see `build_clap`."""
    text = _part(tensors, _MGA_TEXT)
    limits = {"config_class": BertConfig, "max_tokens": MGA_TOKENS}
    text_layout.write_bert(folder, text, tokenizer, **limits)
    settings = htsat_layout.settings(_part(tensors, _MGA_AUDIO), sample_rate=MGA_RATE)
    n_codes, dim = _of(tensors, "codebook").shape
    return MGACLAP(
        folder,
        audio={"tower": "htsat", **settings},
        caption={"pooling": "words"},
        dim=dim,
        dropout=0.0,
        temperature_init=0.07,
        n_codes=n_codes,
        code_temperature=MGA_CODE_TEMPERATURE,
        # The mark at the end of every caption counts as a word of affinity zero to every code.
        floor=0.0,
    )


def convert(tensors: Mapping[str, Tensor], model: CLAP | MGACLAP) -> dict[str, Tensor]:
    """The original's state dict in the names of `model`, those of no use left out.

    Raises ValueError for a constant that is not what it should be. A tensor without a place keeps
    its name, so that `checkpoint.check_tensors` says so.
    """
    mga = isinstance(model, MGACLAP)
    used = {name: t for name, t in tensors.items() if not _UNUSED.search(name)}
    ours = _encoder(_part(used, _MGA_AUDIO if mga else _AUDIO), model)
    for name, tensor in used.items():
        if name.startswith(_MGA_AUDIO if mga else _AUDIO):
            continue
        if name == f"{_TEXT}shared.weight":  # the same table as the encoder's, by another name
            if not torch.equal(tensor, _of(tensors, _SIGNS["CompA-CLAP"])):
                raise ValueError(f"{name} is not {_SIGNS['CompA-CLAP']}, as in a T5")
            continue
        if name == "temp":
            tensor = -tensor.log()
        for pattern, replacement in _RENAMED[model.kind]:
            name = re.sub(pattern, replacement, name)
        ours[name] = tensor.reshape(()) if name == "log_temperature" else tensor
    return ours


_RENAMED = {
    "clap": (
        (r"^text_branch\.encoder\.(?=block|embed_tokens|final_layer_norm)", "caption.encoder."),
        (r"^text_branch\.", "caption.encoder."),
        (r"^text_projection\.", "caption_projection."),
        (r"^logit_scale_a$", "log_temperature"),
    ),
    "mga_clap": (
        (r"^text_encoder\.text_encoder\.", "caption.encoder."),
        (r"^(frame|word)_proj\.0\.", r"\1_projection.0."),
        (r"^(frame|word)_proj\.1\.", r"\1_projection.2."),
        (r"^(frame|word)_proj\.3\.", r"\1_projection.4."),
        (r"^(frame|word)_proj\.4\.", r"\1_projection.6."),
        (r"^codebook$", "codes"),
        (r"^temp$", "log_temperature"),
    ),
}


def _encoder(tensors: Mapping[str, Tensor], model: DualEncoder) -> dict[str, Tensor]:
    """HTS-AT's tensors in the model's names."""
    settings = {k: v for k, v in model.config["audio"].items() if k not in ("tower", "filters")}
    # A tower of the original's own kind, whatever the model has changed about its own.
    plain = HTSAT(**settings)
    renamed = {_FRONT_END.get(name, name): tensor for name, tensor in tensors.items()}
    encoder = htsat_layout.encoder_tensors(renamed, plain)
    return {f"audio.encoder.{name}": tensor for name, tensor in encoder.items()}


# What MGA-CLAP calls the constants of its front end.
_FRONT_END = {
    f"audio_feats_extractor.{theirs}": usual
    for theirs, usual in {
        "mel_trans.stft.conv_real.weight": "spectrogram_extractor.stft.conv_real.weight",
        "mel_trans.stft.conv_imag.weight": "spectrogram_extractor.stft.conv_imag.weight",
        "log_trans.melW": "logmel_extractor.melW",
    }.items()
}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _of(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise ValueError(f"{name} is missing")
    return tensors[name]


def _projection(width: int, dim: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, dim), nn.ReLU(), nn.Linear(dim, dim))
