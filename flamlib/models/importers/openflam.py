"""Import of the FLAM authors' published checkpoint (OpenFLAM).

The file is the user's own copy; neither it nor the authors' code is part of this project. It is a
state dict of 500 tensors. Every tensor is used, or named in an error:

    audio_branch.*             -> audio.encoder, see `htsat_layout`
    text_branch.*              -> caption.encoder (RoBERTa with its pooler)
    audio_projection.{0,2}     -> audio_projection.{1,4}: ours has dropout layers in between
    text_projection.{0,2}      -> caption_projection.{1,4}
    fc_per_text_logit_scale.*  -> scale_head.layers.*
    fc_per_text_logit_bias.*   -> bias_head.layers.*
    logit_scale_a              -> log_temperature
    aed_logit_scale            -> added to the last bias of the scale head:
                                  exp(aed) * exp(head) = exp(head + aed)

The scores of a ten-second clip at 48 kHz equal those of the original. Two differences are
deliberate: the original stretches shorter clips to ten seconds and refuses longer ones, we pad and
use several windows; it truncates captions at 77 tokens, we refuse them.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import RobertaConfig

from flamlib.models import checkpoint
from flamlib.models.flam import FLAM
from flamlib.models.htsat import SAMPLE_RATE
from flamlib.models.importers import htsat_layout, recognition, text_layout
from flamlib.models.renaming import add_prefix, rename, require, strip_prefix

MAX_TOKENS = 77
_AUDIO = "audio_branch."
_TEXT = "text_branch."
_DEFAULT_POSITIONS = "text_branch.embeddings.position_ids"  # 0, 1, 2, … in some versions

_RENAMED = (
    (r"^text_branch\.", "caption.encoder."),
    (r"^audio_projection\.0\.", "audio_projection.1."),
    (r"^audio_projection\.2\.", "audio_projection.4."),
    (r"^text_projection\.0\.", "caption_projection.1."),
    (r"^text_projection\.2\.", "caption_projection.4."),
    (r"^fc_per_text_logit_scale\.", "scale_head.layers."),
    (r"^fc_per_text_logit_bias\.", "bias_head.layers."),
    (r"^logit_scale_a$", "log_temperature"),
)


def read(path: str | Path, tokenizer: str | Path) -> FLAM:
    """Read the authors' checkpoint as a FLAM, in eval mode.

    Args:
        path: The .pth file.
        tokenizer: Folder with RoBERTa's tokenizer, or a hub id such as `roberta-base`; the hub is
            contacted only for an id.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A damaged file, a checkpoint of another kind, missing or unexpected tensors, or
            a tokenizer whose vocabulary is not the checkpoint's.
    """
    _, tensors = recognition.read(path, ["OpenFLAM"])
    try:
        with tempfile.TemporaryDirectory() as folder:
            text = strip_prefix(tensors, _TEXT)
            limits = {"config_class": RobertaConfig, "max_tokens": MAX_TOKENS}
            text_layout.write_bert(Path(folder), text, tokenizer, **limits)
            model = FLAM(
                folder,
                audio={
                    "tower": "htsat",
                    **htsat_layout.settings(strip_prefix(tensors, _AUDIO), sample_rate=SAMPLE_RATE),
                },
                caption={"pooling": "pooler"},
                dim=require(tensors, "audio_projection.0.weight").shape[0],
                dropout=0.0,
                scale_init=10.0,
                bias_init=-8.0,
                temperature_init=0.07,
            )
        ours = convert(tensors, model)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    checkpoint.load_tensors(model, ours, path, f"OpenFLAM's {Path(path).name}")
    return model


def convert(tensors: Mapping[str, Tensor], model: FLAM) -> dict[str, Tensor]:
    """Convert the original's state dict to one of `model`, by the table above.

    Unknown tensors keep their names, so that `state_dict.check` reports them. Raises
    ValueError for a constant that differs from ours.
    """
    encoder = htsat_layout.encoder_tensors(strip_prefix(tensors, _AUDIO), model.audio)
    ours = add_prefix(encoder, "audio.encoder.")
    extra_scale = require(tensors, "aed_logit_scale")
    for name, tensor in tensors.items():
        if name.startswith(_AUDIO) or name == "aed_logit_scale":
            continue
        if name == _DEFAULT_POSITIONS:
            if not torch.equal(tensor.flatten(), torch.arange(tensor.numel())):
                raise ValueError(f"{name} is not 0, 1, 2, …")
            continue
        ours[rename(name, _RENAMED)] = tensor
    last = "scale_head.layers.2.bias"
    if last in ours:
        ours[last] = ours[last].float() + extra_scale.float()
    return ours
