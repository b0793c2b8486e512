"""Export of a model to ONNX: audio half and caption half as files that run without torch.

    audio.onnx       waveform [clip, sample]                 -> frame_emb, clip_emb
    captions.onnx    input_ids, attention_mask [caption, token]
                                       -> caption_emb, logit_scale, logit_bias
    *.int8.onnx      the same with the weight matrices in int8
    caption_tower/   the tokenizer that makes input_ids
    export.json      sample rate (Hz), durations of a clip and of a frame (s), and measured
                     differences between onnxruntime and torch, in float32 and in int8

        logit = logit_scale * <frame_emb, caption_emb> + logit_bias

Clips have a fixed length; the number of clips, the number of captions and their lengths are free.
The files are run in onnxruntime and compared with torch before they get their final names.
"""

import json
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxscript import opset18
from torch import Tensor, nn

from flamlib.losses import frame_wise
from flamlib.models import checkpoint
from flamlib.models.flam import FLAM
from flamlib.storage import files

TOLERANCE = 1e-4  # absolute for embeddings and below 1, else relative
CAPTIONS = ["a dog barks", "rain"]  # for the comparison: more and fewer tokens
ABOUT = "export.json"
OPSET = 18
_PARTS = ("audio", "captions")
# The exporter says of each operation of torchvision that it is not installed; no model needs one.
logging.getLogger("torch.onnx._internal.exporter._registration").addFilter(
    lambda record: "torchvision" not in record.getMessage()
)
# As the exporter names the buffers of all audio towers, and those of `familiarity`.
_MEL_FILTERS, _STATISTICS = "model.audio.log_mel.", "model.familiarity."


class ExportMismatch(ValueError):
    """The exported files do not compute what the model computes."""


class AudioEncoder(nn.Module):
    """The audio half of a model: waveforms of one length to embeddings."""

    def __init__(self, model: FLAM) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Return `frame_emb` and `clip_emb`."""
        frame_emb, clip_emb = self.model.encode_audio(waveform)
        return frame_emb, clip_emb


class CaptionEncoder(nn.Module):
    """The caption half of a model: tokens to embeddings, logit scale and logit bias."""

    def __init__(self, model: FLAM) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return `caption_emb`, `logit_scale` and `logit_bias`."""
        features = self.model.caption(input_ids, attention_mask)
        caption_emb, logit_scale, logit_bias = self.model.encode_captions(features)
        return caption_emb, logit_scale, logit_bias


def export(model: FLAM, folder: str | Path, *, clip_s: float = 10.0) -> dict[str, Any]:
    """Write the files above atomically and return the content of export.json.

    Args:
        model: The model.
        folder: Where to write; an older export there is replaced.
        clip_s: Duration of a clip in seconds, rounded up to whole frames.

    Raises:
        ExportMismatch: Embeddings of onnxruntime and torch differ by more than `TOLERANCE`, for
            `CAPTIONS` in steady and in decaying noise.
        FileExistsError: `folder` contains something else than an export.
        ValueError: `clip_s` is not above 0.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / ABOUT).is_file() and any(folder.iterdir()):
        raise FileExistsError(
            f"{folder} contains something else than an export: nothing was written"
        )
    if clip_s <= 0:
        raise ValueError(f"clip_s must be above 0, got {clip_s}")
    model = model.eval()
    n_frames = model.audio.n_frames(round(clip_s * model.sample_rate))
    n_samples = round(n_frames * model.frame_s * model.sample_rate)  # whole frames
    noise = 0.1 * torch.randn(2, n_samples, generator=torch.Generator().manual_seed(0))
    noise[1] *= torch.logspace(0, -3, n_samples)  # decay by 60 dB: quiet parts must survive int8
    tokens = model.caption.tokenize(CAPTIONS)
    with files.atomic_folder(folder) as partial:
        _write(
            AudioEncoder(model),
            partial / "audio.onnx",
            {"waveform": noise},
            ["frame_emb", "clip_emb"],
            {"waveform": {0: torch.export.Dim("clip")}},
        )
        several = {k: v.repeat(2, 1) for k, v in tokens.items()}
        axes = {0: torch.export.Dim("caption"), 1: torch.export.Dim("token", max=512)}
        _write(
            CaptionEncoder(model),
            partial / "captions.onnx",
            several,
            ["caption_emb", "logit_scale", "logit_bias"],
            {name: axes for name in several},
        )
        for part in _PARTS:
            _quantise(partial / f"{part}.onnx", partial / f"{part}.int8.onnx")
        about = {
            "sample_rate": model.sample_rate,
            "clip_s": n_samples / model.sample_rate,
            "frame_s": model.frame_s,
            "opset": OPSET,
            **_differences(model, partial, noise, tokens),
        }
        if about["difference"] > TOLERANCE:
            raise ExportMismatch(
                f"onnxruntime's embeddings differ from torch's by {about['difference']:.2g}, "
                f"more than {TOLERANCE}"
            )
        model.caption.save_config_and_tokenizer(partial / checkpoint.CAPTION_FOLDER)
        (partial / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return about


def run(path: str | Path, **inputs: np.ndarray) -> list[np.ndarray]:
    """Run one of the files in onnxruntime; return its outputs in the order of the table above."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def _write(
    module: nn.Module,
    path: Path,
    inputs: dict[str, Tensor],
    outputs: list[str],
    dynamic: dict[str, Any],
) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations in the exporter itself
        torch.onnx.export(
            module.eval(),
            (),
            str(path),
            kwargs=inputs,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=dynamic,
            opset_version=OPSET,
            dynamo=True,
            custom_translation_table={torch.ops.aten.log_sigmoid.default: _log_sigmoid},
            external_data=False,
            verbose=False,
        )


def _log_sigmoid(x: Any) -> Any:
    """For the exporter, whose own is log(Sigmoid(x)): onnxruntime's sigmoid is 0 from -17 down."""
    return opset18.Neg(opset18.Softplus(opset18.Neg(x)))


def _quantise(path: Path, out: Path) -> None:
    """Quantise weights to int8 with a scale per column, activations to uint8 with one per call.

    Weights use 7 of the 8 bits (`reduce_range`). CPUs without VNNI add pairs of products in int16,
    where 2 * 255 * 127 saturates and 2 * 255 * 64 does not: with all 8 bits the embeddings depend
    on the CPU. The mel filters stay in float32: magnitudes of a spectrum span far more than the
    256 levels of uint8, so that all quiet bands would become zero. So do mean and covariance of
    frames (`familiarity`), which no one trained, and of which onnxruntime refuses the mean.
    """
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.onnx"
        quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
        nodes = onnx.load(ready).graph.node
        in_float = (_MEL_FILTERS, _STATISTICS)
        kept = [n.name for n in nodes if any(i.startswith(in_float) for i in n.input)]
        quantize_dynamic(
            str(ready),
            str(out),
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=kept,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )


@torch.inference_mode()
def _differences(
    model: FLAM, folder: Path, noise: Tensor, tokens: dict[str, Tensor]
) -> dict[str, float]:
    """Measure the largest differences between torch and the files, for one and for several inputs.

    Returns:
        `difference` of embeddings, biases and scales (relative above 1) in float32,
        `score_difference` and `int8_score_difference` of unbiased scores in float32 and int8,
        `float_bytes` and `int8_bytes`, the sizes of the files.
    """
    worst, scores = 0.0, {}
    for n in (1, len(noise)):
        first = {k: v[:n] for k, v in tokens.items()}
        expected = [*model.encode_audio(noise[:n]), *model.encode_captions(model.caption(**first))]
        scores["torch"] = _scores(expected)
        for kind in ("", ".int8"):
            found = run(folder / f"audio{kind}.onnx", waveform=noise[:n].numpy())
            found += run(
                folder / f"captions{kind}.onnx", **{k: v.numpy() for k, v in first.items()}
            )
            tensors = [torch.from_numpy(x) for x in found]
            scores[kind] = _scores(tensors)
            if not kind:
                for one, other in zip(expected, tensors, strict=True):
                    relative = (one - other).abs() / other.abs().clamp(min=1)
                    worst = max(worst, relative.max().item())
    sizes = {
        f"{kind}_bytes": sum((folder / f"{part}{suffix}.onnx").stat().st_size for part in _PARTS)
        for kind, suffix in (("float", ""), ("int8", ".int8"))
    }
    return {
        "difference": worst,
        "score_difference": (scores["torch"] - scores[""]).abs().max().item(),
        "int8_score_difference": (scores["torch"] - scores[".int8"]).abs().max().item(),
        **sizes,
    }


def _scores(outputs: list[Tensor]) -> Tensor:
    frame_emb, _, caption_emb, logit_scale, logit_bias = outputs
    logits = frame_wise.frame_logits(frame_emb, caption_emb, logit_scale, logit_bias)
    return frame_wise.unbiased_score(logits, logit_bias)
