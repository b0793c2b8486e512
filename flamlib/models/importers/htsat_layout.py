"""HTS-AT in its authors' layout, converted to the names that `transformers` and we use.

The published encoders of AudioSet, LAION-CLAP and OpenFLAM share one layout with three kinds of
tensors: weights, which are renamed; constants (the windowed Fourier matrix, the mel filters, the
masks of shifted windows), which are compared with ours and dropped, so that a different front end
is an error and not silently replaced; and the classifier of AudioSet's 527 classes, which is not
part of the encoder.

    bn0                      -> batch_norm
    norm1, norm2             -> layernorm_before, layernorm_after
    attn.qkv                 -> attention.self.query, .key, .value: its three thirds in this order
    attn.relative_position_* -> attention.self.relative_position_*
    attn.proj                -> attention.output.dense
    mlp.fc1, mlp.fc2         -> intermediate.dense, output.dense
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flamlib.models import htsat
from flamlib.models.htsat import HTSAT
from flamlib.models.renaming import add_prefix, rename

CLASSIFIER = ("tscam_conv.", "head.")

_RENAMED = (
    (r"^bn0\.", "batch_norm."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.relative_position_", ".attention.self.relative_position_"),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
_QKV = ".attn.qkv."
_FOURIER = "spectrogram_extractor.stft.conv_{}.weight"
_MEL = "logmel_extractor.melW"


def settings(tensors: Mapping[str, Tensor], *, sample_rate: int) -> dict[str, Any]:
    """Infer the arguments of `HTSAT` from the shapes of an encoder's tensors, without dropout.

    Raises ValueError if a tensor needed for that is missing.
    """
    try:
        kernel = tensors["patch_embed.proj.weight"]
        depths, heads = [], []
        while any(name.startswith(f"layers.{len(depths)}.") for name in tensors):
            stage = f"layers.{len(depths)}.blocks"
            table = tensors[f"{stage}.0.attn.relative_position_bias_table"]
            blocks = {m[1] for name in tensors if (m := re.match(rf"{stage}\.(\d+)\.", name))}
            depths.append(len(blocks))
            heads.append(table.shape[1])
    except KeyError as error:
        raise ValueError(f"not an HTS-AT: tensor {error.args[0]} is missing") from error
    return {
        "embed": kernel.shape[0],
        "depths": depths,
        "heads": heads,
        "patch": kernel.shape[2],
        "sample_rate": sample_rate,
        "drop_path": 0.0,
        "drop_hidden": 0.0,
        "drop_attention": 0.0,
    }


def sample_rate(tensors: Mapping[str, Tensor]) -> int:
    """Return the sample rate in hertz of the front end, found by its mel filters.

    Raises ValueError if they are missing or not those of any rate in `htsat.FRONT_ENDS`.
    """
    if _MEL not in tensors:
        raise ValueError(f"tensor {_MEL} is missing: the sample rate is found by it")
    for rate in htsat.FRONT_ENDS:
        if _same(tensors[_MEL], htsat.LogMel(rate).mel.mel_scale.fb):
            return rate
    raise ValueError(f"{_MEL} does not match the mel filters of {sorted(htsat.FRONT_ENDS)} Hz")


def encoder_tensors(tensors: Mapping[str, Tensor], tower: HTSAT) -> dict[str, Tensor]:
    """Convert the original's encoder tensors to a state dict of `tower.encoder`.

    Unknown names are kept, so that `state_dict.check` reports them. Raises ValueError
    naming a constant that differs from the tower's.
    """
    constants = _constants(tower)
    renamed = {}
    for name, tensor in tensors.items():
        if name in constants:
            if not _same(tensor, constants[name]):
                raise ValueError(
                    f"{name} differs from the constant of HTS-AT as LAION-CLAP has it: another "
                    "front end, or other windows"
                )
        elif _QKV in name:
            parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
            for part, third in parts:
                renamed[name.replace(_QKV, f".attention.self.{part}.")] = third
        else:
            renamed[rename(name, _RENAMED)] = tensor
    return add_prefix(renamed, "audio_encoder.")


def _constants(tower: HTSAT) -> dict[str, Tensor]:
    """Compute the constants that the original keeps among its weights.

    real[k, n] = hann[n] cos(2 pi k n / N),  imaginary[k, n] = -hann[n] sin(2 pi k n / N)
    """
    spectrogram = tower.log_mel.mel.spectrogram
    n_fft = spectrogram.n_fft
    bins, samples = torch.arange(n_fft // 2 + 1)[:, None], torch.arange(n_fft)
    angle = 2 * torch.pi * (bins * samples % n_fft).double() / n_fft
    window = torch.hann_window(n_fft, dtype=torch.float64)
    constants = {
        _FOURIER.format("real"): (window * angle.cos())[:, None],
        _FOURIER.format("imag"): (-window * angle.sin())[:, None],
        _MEL: tower.log_mel.mel.mel_scale.fb,
    }
    encoder = tower.encoder.audio_encoder
    for i, (stage, grid) in enumerate(zip(encoder.layers, encoder.input_resolutions, strict=True)):
        for j, block in enumerate(stage.blocks):
            block.set_shift_and_window_size(grid)
            mask = block.get_attn_mask(*grid, dtype=torch.float32, device=torch.device("cpu"))
            if mask is not None:
                constants[f"layers.{i}.blocks.{j}.attn_mask"] = mask
    return constants


def _same(found: Tensor, ours: Tensor) -> bool:
    """Compare constants at the precision in which the file has them."""
    if found.shape != ours.shape or not found.is_floating_point():
        return False
    rounded = ours.cpu().to(found.dtype).double()
    # The mel filters of two libraries differ in the last digits, which may round to another number.
    rtol = max(1e-4, torch.finfo(found.dtype).eps)
    return torch.allclose(found.double(), rounded, rtol=rtol, atol=1e-5)
