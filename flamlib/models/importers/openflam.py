"""The authors' published checkpoint as a model of ours: every tensor has its place or is named.

The file is the user's own copy; neither it nor the authors' code comes with this project. It is a
state dict of 500 tensors, and what becomes of them:

    audio_branch.*             -> audio.encoder, see `htsat_layout`
    text_branch.*              -> caption.encoder (RoBERTa with its pooler)
    audio_projection.{0,2}     -> audio_projection.{1,4}, where dropout stands in between
    text_projection.{0,2}      -> caption_projection.{1,4}
    fc_per_text_logit_scale.*  -> scale_head.layers.*
    fc_per_text_logit_bias.*   -> bias_head.layers.*
    logit_scale_a              -> log_temperature
    aed_logit_scale            -> added to the last bias of the scale head:
                                  exp(aed) * exp(head) = exp(head + aed)

The scores of a ten-second clip at 48 kHz are then those of the original. Elsewhere we differ on
purpose: the original stretches a shorter clip to ten seconds and refuses a longer one, we pad and
go on; it cuts a caption after 77 tokens, we refuse to.
"""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import RobertaConfig

from flamlib.models import checkpoint
from flamlib.models.flam import FLAM
from flamlib.models.htsat import SAMPLE_RATE
from flamlib.models.importers import htsat_layout, text_layout

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
    """The model in the authors' checkpoint at `path`, ready to be asked.

    `tokenizer` is a folder with RoBERTa's tokenizer, or the hub id of one, such as `roberta-base`;
    the hub is asked in that case alone. Raises what `checkpoint.read_tensors` does for the file,
    and ValueError for tensors that are missing, left over or of another shape and for a tokenizer
    whose vocabulary is not the checkpoint's.
    """
    tensors = checkpoint.read_tensors(path)
    try:
        with tempfile.TemporaryDirectory() as folder:
            text = {n.removeprefix(_TEXT): t for n, t in tensors.items() if n.startswith(_TEXT)}
            limits = {"config_class": RobertaConfig, "max_tokens": MAX_TOKENS}
            text_layout.write_bert(Path(folder), text, tokenizer, **limits)
            model = FLAM(
                folder,
                audio={
                    "tower": "htsat",
                    **htsat_layout.settings(_audio(tensors), sample_rate=SAMPLE_RATE),
                },
                caption={"pooling": "pooler"},
                dim=_of(tensors, "audio_projection.0.weight").shape[0],
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
    """The original's state dict as one of `model`, in the names of the table above.

    Raises ValueError for a constant that is not what it should be. A tensor without a place keeps
    its name, so that `checkpoint.check_tensors` says so.
    """
    ours = {
        f"audio.encoder.{name}": tensor
        for name, tensor in htsat_layout.encoder_tensors(_audio(tensors), model.audio).items()
    }
    extra_scale = _of(tensors, "aed_logit_scale")
    for name, tensor in tensors.items():
        if name.startswith(_AUDIO) or name == "aed_logit_scale":
            continue
        if name == _DEFAULT_POSITIONS:
            if not torch.equal(tensor.flatten(), torch.arange(tensor.numel())):
                raise ValueError(f"{name} is not 0, 1, 2, …")
            continue
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        ours[name] = tensor
    last = "scale_head.layers.2.bias"
    if last in ours:
        ours[last] = ours[last] + extra_scale
    return ours


def _audio(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(_AUDIO): t for n, t in tensors.items() if n.startswith(_AUDIO)}


def _of(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise ValueError(f"{name} is missing: no checkpoint of OpenFLAM?")
    return tensors[name]
