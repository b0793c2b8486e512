"""Import of LAION-CLAP, CompA-CLAP and MGA-CLAP checkpoints in their authors' own layouts.

A file is the user's own copy: this project contains no weights, and no original checkpoint was
available when this was written. The layouts are taken from the authors' programs; every tensor is
used, known to be unused, or named in an error.

    LAION-CLAP   audio_branch.*           -> audio.encoder.*, see `htsat_layout`
    CompA-CLAP   text_branch.*            -> caption.encoder.* (RoBERTa; CompA: the encoder of a T5)
                 audio_projection.{0,2}   -> audio_projection.{0,2}
                 text_projection.{0,2}    -> caption_projection.{0,2}
                 logit_scale_a            -> log_temperature

    MGA-CLAP     audio_encoder.audio_enc.*        -> audio.encoder.*
                 text_encoder.text_encoder.*      -> caption.encoder.* (BERT)
                 {frame,word}_proj.{0,1,3,4}      -> {frame,word}_projection.{0,2,4,6}
                 codebook, temp                   -> codes, log_temperature (minus its logarithm)

Unused are the classifier of AudioSet's classes, the further layers of the loss, and the fusion of
clips over ten seconds: these are encoded in windows, like all audio here.
"""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import BertConfig, RobertaConfig

from flamlib.models import checkpoint
from flamlib.models.dual_encoder import DualEncoder
from flamlib.models.htsat import HTSAT, SAMPLE_RATE
from flamlib.models.importers import htsat_layout, recognition, text_layout
from flamlib.models.importers.recognition import COMPA_WORDS
from flamlib.models.interface import AudioEmbeddings, CaptionEmbeddings, CosineScoring
from flamlib.models.mga_clap import MGACLAP
from flamlib.models.renaming import add_prefix, rename, require, strip_prefix
from flamlib.models.settings import ClapSettings

CLAP_TOKENS, MGA_TOKENS = 77, 30  # at most in a caption
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


class CLAP(CosineScoring, DualEncoder):
    """LAION-CLAP and CompA-CLAP: FLAM's towers and projections, without scale and bias heads.

        frame_emb[l] = unit(audio_projection(frame feature l))
        clip_emb     = unit(audio_projection(mean over l of frame feature l))
        caption_emb  = unit(caption_projection(caption feature))

    It was trained on clips; comparing projected frames with captions is our extension. As in its
    training, audio that ends within a window is repeated in it: see `HTSAT`.
    """

    kind = "clap"
    settings = ClapSettings

    def __init__(
        self,
        caption_folder: str | Path,
        *,
        audio: dict[str, Any],
        caption: dict[str, Any],
        dim: int,
        temperature_init: float,
    ) -> None:
        """Build a model with random weights; `read` loads those of a checkpoint.

        Args:
            caption_folder: Folder with the caption tower's configuration and tokenizer.
            audio: `tower` ("yamnet" or "htsat") and the arguments of that class.
            caption: Arguments of `TextTower`.
            dim: Dimensions of the embedding space.
            temperature_init: Initial temperature of the clip-level loss, above 0.
        """
        repeated = {"padding": "repeated"} if audio.get("tower") == "htsat" else {}
        super().__init__(
            caption_folder,
            audio=repeated | audio,
            caption=caption,
            dim=dim,
            temperature_init=temperature_init,
        )
        self.audio_projection = _projection(self.audio.width, dim)
        self.caption_projection = _projection(self.caption.width, dim)

    def encode_captions(self, features: Float[Tensor, "caption dim"]) -> CaptionEmbeddings:
        """Embed captions, given the caption tower's features; no scale, no prior."""
        one = torch.ones(len(features), device=features.device)
        return CaptionEmbeddings(
            normalize(self.caption_projection(features).float(), dim=1), one, 0 * one
        )

    def _project(self, frames: Float[Tensor, "clip frame width"]) -> AudioEmbeddings:
        whole = frames.mean(dim=1)
        return AudioEmbeddings(
            normalize(self.audio_projection(frames).float(), dim=2),
            normalize(self.audio_projection(whole).float(), dim=1),
        )


def read(path: str | Path, tokenizer: str | Path) -> CLAP | MGACLAP:
    """Read a checkpoint of LAION-CLAP, CompA-CLAP or MGA-CLAP, in eval mode.

    Args:
        path: The checkpoint; its tensors tell which of the models it is.
        tokenizer: Folder with the text encoder's tokenizer, or a hub id: `roberta-base`,
            `google/flan-t5-large` or `bert-base-uncased`.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A damaged file, none of these models, missing or unexpected tensors, or a
            tokenizer whose vocabulary is not the checkpoint's.
    """
    kind, tensors = recognition.read(path, ["MGA-CLAP", "CompA-CLAP", "LAION-CLAP"])
    try:
        with tempfile.TemporaryDirectory() as folder:
            build = build_mga_clap if kind == "MGA-CLAP" else build_clap
            model = build(Path(folder), tensors, tokenizer)
        ours = convert(tensors, model)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    checkpoint.load_tensors(model, ours, path, f"{kind}, {Path(path).name}")
    return model


def build_clap(folder: Path, tensors: Mapping[str, Tensor], tokenizer: str | Path) -> CLAP:
    """Build a CLAP of the tensors' shapes with random weights; `folder` is an empty folder."""
    text = strip_prefix(tensors, _TEXT)
    if COMPA_WORDS in tensors:
        encoder = strip_prefix(text, "encoder.")
        text_layout.write_t5(folder, encoder, tokenizer, max_tokens=CLAP_TOKENS)
        caption = {"pooling": "all"}
    else:
        limits = {"config_class": RobertaConfig, "max_tokens": CLAP_TOKENS}
        text_layout.write_bert(folder, text, tokenizer, **limits)
        caption = {"pooling": "pooler"}
    audio = strip_prefix(tensors, _AUDIO)
    settings = htsat_layout.settings(audio, sample_rate=SAMPLE_RATE)
    # Models with fusion compute the log-mel outside the network, with HTK's filters.
    fused = any(name.startswith(_FUSION) for name in audio)
    return CLAP(
        folder,
        audio={"tower": "htsat", **settings, "filters": "htk" if fused else "slaney"},
        caption=caption,
        dim=len(require(tensors, "audio_projection.0.weight")),
        temperature_init=0.07,
    )


def build_mga_clap(folder: Path, tensors: Mapping[str, Tensor], tokenizer: str | Path) -> MGACLAP:
    """Build an MGA-CLAP of the tensors' shapes with random weights; see `build_clap`."""
    text = strip_prefix(tensors, _MGA_TEXT)
    limits = {"config_class": BertConfig, "max_tokens": MGA_TOKENS}
    text_layout.write_bert(folder, text, tokenizer, **limits)
    settings = htsat_layout.settings(strip_prefix(tensors, _MGA_AUDIO), sample_rate=MGA_RATE)
    n_codes, dim = require(tensors, "codebook").shape
    return MGACLAP(
        folder,
        # Its authors aggregate over whole windows, their silence included.
        audio={"tower": "htsat", **settings, "padding": "silent"},
        caption={"pooling": "words"},
        dim=dim,
        dropout=0.0,
        temperature_init=0.07,
        n_codes=n_codes,
        code_temperature=MGA_CODE_TEMPERATURE,
        # The final special token counts as a word of affinity zero to every code.
        floor=0.0,
    )


def convert(tensors: Mapping[str, Tensor], model: CLAP | MGACLAP) -> dict[str, Tensor]:
    """Convert the original's state dict to the names of `model`, without unused tensors.

    Unknown tensors keep their names, so that `state_dict.check` reports them. Raises
    ValueError for a constant that differs from ours.
    """
    mga = isinstance(model, MGACLAP)
    used = {name: t for name, t in tensors.items() if not _UNUSED.search(name)}
    ours = _encoder(strip_prefix(used, _MGA_AUDIO if mga else _AUDIO), model)
    for name, tensor in used.items():
        if name.startswith(_MGA_AUDIO if mga else _AUDIO):
            continue
        if name == f"{_TEXT}shared.weight":  # T5's embedding table again, under another name
            if not torch.equal(tensor, require(tensors, COMPA_WORDS)):
                raise ValueError(f"{name} differs from {COMPA_WORDS}; in a T5 they are the same")
            continue
        if name == "temp":
            tensor = -tensor.float().log()
        name = rename(name, _RENAMED[model.kind])
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
    """Convert HTS-AT's tensors to the model's names."""
    other = ("tower", "filters", "padding")
    settings = {k: v for k, v in model.config["audio"].items() if k not in other}
    # An unmodified tower: MGA-CLAP has replaced a block of its own.
    plain = HTSAT(**settings)
    renamed = {_FRONT_END.get(name, name): tensor for name, tensor in tensors.items()}
    encoder = htsat_layout.encoder_tensors(renamed, plain)
    return add_prefix(encoder, "audio.encoder.")


# MGA-CLAP's names of the constants of its front end.
_FRONT_END = {
    f"audio_feats_extractor.{theirs}": usual
    for theirs, usual in {
        "mel_trans.stft.conv_real.weight": "spectrogram_extractor.stft.conv_real.weight",
        "mel_trans.stft.conv_imag.weight": "spectrogram_extractor.stft.conv_imag.weight",
        "log_trans.melW": "logmel_extractor.melW",
    }.items()
}


def _projection(width: int, dim: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, dim), nn.ReLU(), nn.Linear(dim, dim))
