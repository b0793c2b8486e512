"""YAMNet as a fully convolutional audio tower: 16 kHz audio in, one vector per 0.32 s out.

YAMNet is MobileNet v1 over log-mel patches, trained on AudioSet. Run without cutting patches, its
five strides of two turn 10 ms hops into frames of 32 hops. Three things differ from the original:

- the input is shifted by half a frame. Each stride pads only at the end, as the weights expect, so
  the receptive field of frame l is centred on hop 32 l + 31 of what the network is fed; feeding it
  16 hops of silence first centres frame l on its own span, [l, l + 1) * 0.32 s;
- batch normalisation is folded into the convolutions. Its statistics come from AudioSet, and the
  few clips of a small step would only blur them; without it a step is also a third cheaper;
- the two remaining frequency bins are averaged but time is not.

One thing is added. A frame of the last layer sees three seconds, which is right to tell what sounds
and wrong to tell when: a branch from the sixth block, where a step sees half a second, adds what is
local to the frame. It starts at zero and raised the frame AUROC on recordings of unseen packages by
two to three points (docs/EXPERIMENTS.md).

Frames can be a quarter as long, 8 hops (`frame_hops`): the last two strides are then taken in
frequency alone, and what follows them is spread in time by as much (holes, "à trous"), so that the
weights see what they saw before, four times as often.

With `tags` the tower also says what its AudioSet classifier hears. The classifier stands on a copy
of the last two blocks that never learns, and neither do the blocks below, which both share.
"""

import copy
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flamlib.models import class_features

SAMPLE_RATE = 16_000
HOP = 160  # samples: 10 ms
WINDOW = 400
N_FFT = 512
N_MELS = 64
MEL_HZ = (125.0, 7500.0)
LOG_OFFSET = 1e-3
HOPS_PER_FRAME = 32
FRAME_S = HOPS_PER_FRAME * HOP / SAMPLE_RATE
FINE_HOPS = 8  # of the shorter frames
WIDTH = 1024
N_CLASSES = 521
LOCAL_BLOCKS = 6  # the local branch leaves the network behind this block, at half-frame steps
LOCAL_WIDTH = 512
SHARED_BLOCKS = 11  # below the two that a tower with tags has twice

# Stride and output channels of the thirteen depthwise-separable blocks.
BLOCKS = (
    *((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512)),
    *((1, 512),) * 5,
    *((2, 1024), (1, 1024)),
)


def mel_matrix() -> Float[Tensor, "bin mel"]:
    """Triangular filters, linear in mel (HTK): the front end the weights were trained behind.

    torchaudio's filters are linear in hertz, which moves the lowest bands by up to a tenth.
    """

    def mel(hz: Tensor) -> Tensor:
        return 1127.0 * torch.log1p(hz / 700.0)

    bins = mel(torch.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1, dtype=torch.float64))
    low, high = mel(torch.tensor(MEL_HZ, dtype=torch.float64))
    edges = torch.linspace(low, high, N_MELS + 2, dtype=torch.float64)
    rise = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    weights = torch.minimum(rise, fall).clamp(min=0)
    return weights.float()


def n_frames(n_samples: int, *, frame_hops: int = HOPS_PER_FRAME) -> int:
    """Frames that cover `n_samples`; the last may reach past the end."""
    return math.ceil(n_samples / (HOP * frame_hops))


class LogMel(nn.Module):
    """Waveform [clip, sample] -> log-mel [clip, hop, mel], padded to whole frames.

        log_mel[t, m] = log(sum_k |STFT[t, k]| * weights[k, m] + 0.001)

    Hop t is centred on samples [160 t, 160 (t + 1)).
    """

    def __init__(self, *, frame_hops: int = HOPS_PER_FRAME) -> None:
        super().__init__()
        self.frame_hops = frame_hops
        self.register_buffer("weights", mel_matrix(), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def forward(self, waveform: Float[Tensor, "clip sample"]) -> Float[Tensor, "clip hop mel"]:
        # Outside autocast: the spectrum's range, 120 dB, is more than bf16 can hold.
        with torch.autocast(waveform.device.type, enabled=False):
            return self._log_mel(waveform.float())

    def _log_mel(self, waveform: Float[Tensor, "clip sample"]) -> Float[Tensor, "clip hop mel"]:
        n_hops = n_frames(waveform.shape[1], frame_hops=self.frame_hops) * self.frame_hops
        margin = (WINDOW - HOP) // 2
        padded = F.pad(waveform, (margin, n_hops * HOP - waveform.shape[1] + margin))
        windows = padded.unfold(1, WINDOW, HOP) * self.window
        magnitude = torch.fft.rfft(windows, n=N_FFT).abs()
        return torch.log(magnitude @ self.weights + LOG_OFFSET)


class StridedDepthwise(nn.Conv2d):
    """Depthwise 3x3 convolution of stride 2, padded as TensorFlow's SAME does: at the far end only.

    Where a `hole` is given, its stride in time is 1 and its taps lie so many steps apart. Always
    float32: the backward pass of exactly these four layers has no fast bf16 kernel on CPUs, and
    under autocast they took 55 % of a training step.
    """

    def __init__(self, channels: int, *, hole: int | None = None) -> None:
        stride, dilation = (2, 1) if hole is None else ((1, 2), (hole, 1))
        super().__init__(channels, channels, 3, stride=stride, dilation=dilation, groups=channels)
        self.ahead = 1 if hole is None else 2 * hole  # steps that the last tap needs past the end

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(F.pad(x.float(), (0, 1, 0, self.ahead)))


def _depthwise(channels: int, *, hole: int) -> nn.Module:
    """Depthwise 3x3 convolution of stride 1, its taps `hole` steps of time apart."""
    spread = {"padding": (hole, 1), "dilation": (hole, 1)}
    return nn.Conv2d(channels, channels, 3, groups=channels, **spread)


def _blocks(n_in: int, frame_hops: int) -> list[nn.Module]:
    """The thirteen blocks: depthwise, ReLU, pointwise, ReLU."""
    layers, hops, hole = [], 2, 1  # hops of a step so far; steps between the taps
    for stride, n_out in BLOCKS:
        if stride == 1:
            depthwise = _depthwise(n_in, hole=hole)
        elif hops < frame_hops:
            depthwise, hops = StridedDepthwise(n_in), 2 * hops
        else:
            depthwise, hole = StridedDepthwise(n_in, hole=hole), 2 * hole
        layers += [depthwise, nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(n_in, n_out, 1), nn.ReLU(inplace=True)]
        n_in = n_out
    return layers


class YAMNet(nn.Module):
    """Log-mel [clip, hop, mel] -> frame features [clip, frame, 1024], frame = 32 hops.

    With `tags` the evidence of `n_tags` classes stands behind them, see `class_features.evidence`.
    """

    width = WIDTH
    sample_rate = SAMPLE_RATE

    def __init__(
        self, *, dropout: float = 0.0, tags: bool = False, frame_hops: int = HOPS_PER_FRAME
    ) -> None:
        """Raises ValueError unless `frame_hops` is 32 or 8."""
        super().__init__()
        if frame_hops not in (HOPS_PER_FRAME, FINE_HOPS):
            raise ValueError(
                f"a frame has frame_hops {HOPS_PER_FRAME} or {FINE_HOPS}, not {frame_hops}"
            )
        self.frame_hops, self.frame_s = frame_hops, frame_hops * HOP / SAMPLE_RATE
        # On either side of a frame, more than which it does not depend on.
        self.context_frames = 5 * HOPS_PER_FRAME // frame_hops
        self.n_tags = N_CLASSES if tags else 0
        self.keeps_activations = True
        self.log_mel = LogMel(frame_hops=frame_hops)
        layers = [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(1, 32, 3, stride=2), nn.ReLU(inplace=True)]
        layers += _blocks(32, frame_hops)
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        n_local = 3 * BLOCKS[LOCAL_BLOCKS - 1][1]
        self.local = nn.Sequential(
            nn.LayerNorm(n_local),
            nn.Linear(n_local, LOCAL_WIDTH),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(LOCAL_WIDTH, WIDTH),
        )
        # At first the tower is YAMNet as it was trained; the branch learns what to add.
        nn.init.zeros_(self.local[-1].weight)
        nn.init.zeros_(self.local[-1].bias)
        if tags:
            self.tagger = copy.deepcopy(self.layers[_below(SHARED_BLOCKS) :])
            self.classifier = nn.Linear(WIDTH, N_CLASSES)
            for part in (self.layers[: _below(SHARED_BLOCKS)], self.tagger, self.classifier):
                part.requires_grad_(False)

    def n_frames(self, n_samples: int) -> int:
        return n_frames(n_samples, frame_hops=self.frame_hops)

    def enable_checkpointing(self) -> None:
        """From now on compute each block again in the backward pass, rather than keep all of it."""
        self.keeps_activations = False

    def load_weights(self, path: str | Path) -> None:
        """Take the weights that `weights.build` wrote; without tags, all but the classifier's."""
        tensors = load_file(path)

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.layers.load_state_dict(part("layers."))
        if self.n_tags:
            self.tagger.load_state_dict(self.layers[_below(SHARED_BLOCKS) :].state_dict())
            self.classifier.load_state_dict(part("classifier."))

    def forward(self, log_mel: Float[Tensor, "clip hop mel"]) -> Float[Tensor, "clip frame dim"]:
        n_frames = log_mel.shape[1] // self.frame_hops
        shift = HOPS_PER_FRAME - self.frame_hops // 2
        shifted = F.pad(log_mel, (0, 0, shift, 0), value=math.log(LOG_OFFSET))
        x = shifted.unsqueeze(1).contiguous(memory_format=torch.channels_last)
        lower = self._through(self.layers[: _below(LOCAL_BLOCKS)], x)
        shared = self._through(self.layers[_below(LOCAL_BLOCKS) : _below(SHARED_BLOCKS)], lower)
        upper = self._through(self.layers[_below(SHARED_BLOCKS) :], shared)
        upper = _over_time(upper)[:, :n_frames]
        # Of half-frame steps a frame's own are those at its beginning, its middle and its end. A
        # short frame is a step: the one before it, its own and the one after.
        first, step = (0, 2) if self.frame_hops == HOPS_PER_FRAME else (1, 1)
        own = lower.mean(dim=3)[:, :, first:].unfold(2, 3, step).permute(0, 2, 1, 3).flatten(2)
        frames = upper + self.local(own)
        if not self.n_tags:
            return frames
        logits = self.classifier(_over_time(self.tagger(shared)))[:, :n_frames]
        return torch.cat([frames, class_features.evidence(logits)], dim=2)

    def _through(self, layers: nn.Sequential, x: Tensor) -> Tensor:
        if self.keeps_activations or not torch.is_grad_enabled():
            return layers(x)
        first = len(layers) % 4  # of the four layers of a block, but for the stem below the first
        x = layers[:first](x)
        for start in range(first, len(layers), 4):
            block = layers[start : start + 4]
            learns = x.requires_grad or any(p.requires_grad for p in block.parameters())
            x = checkpoint(block, x, use_reentrant=False) if learns else block(x)
        return x


def _below(n_blocks: int) -> int:
    """The number of entries of `YAMNet.layers` up to and with that many blocks."""
    return 3 + 4 * n_blocks


def _over_time(x: Float[Tensor, "clip dim frame mel"]) -> Float[Tensor, "clip frame dim"]:
    return x.mean(dim=3).transpose(1, 2)


def fold(checkpoint: dict[str, Float[Tensor, "..."]]) -> dict[str, Float[Tensor, "..."]]:
    """The published variables, in network order, as a state dict of `YAMNet` and its classifier.

    Batch normalisation without a gain, epsilon 1e-4, becomes part of the convolution before it:

        weight = kernel / sqrt(variance + epsilon),  bias = beta - mean / sqrt(variance + epsilon)

    Keys of `checkpoint`: "{i}.kernel", "{i}.mean", "{i}.variance", "{i}.beta" for convolution i,
    "classifier.kernel", "classifier.bias". Kernels are [time, frequency, in, out], and depthwise
    ones [time, frequency, channel, 1].
    """
    state = {}
    convolutions = [n for n, m in YAMNet().layers.named_modules() if isinstance(m, nn.Conv2d)]
    for i, name in enumerate(convolutions):
        depthwise = i % 2 == 1
        kernel = checkpoint[f"{i}.kernel"].permute((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        gain = (checkpoint[f"{i}.variance"] + 1e-4).rsqrt()
        state[f"layers.{name}.weight"] = (kernel * gain[:, None, None, None]).contiguous()
        state[f"layers.{name}.bias"] = checkpoint[f"{i}.beta"] - checkpoint[f"{i}.mean"] * gain
    state["classifier.weight"] = checkpoint["classifier.kernel"].T.contiguous()
    state["classifier.bias"] = checkpoint["classifier.bias"]
    return state
