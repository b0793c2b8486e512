"""YAMNet as a fully convolutional audio tower: 16 kHz audio in, one vector per 0.32 s out.

YAMNet is MobileNet v1 on log-mel patches, trained on AudioSet. Applied to a whole spectrogram
instead of patches, its five strides of two turn hops of 10 ms into frames of 32 hops. Differences
from the original:

- the input is shifted by half a frame. Each stride pads only at the end, as the weights expect, so
  the receptive field of frame l is centred on hop 32 l + 31 of the network's input; 16 hops of
  silence before it centre frame l on its own span, [l, l + 1) * 0.32 s;
- batch normalisation is folded into the convolutions. Its statistics come from AudioSet, small
  batches would only blur them, and a training step is a third cheaper without it;
- the two remaining frequency bins are averaged, time is not;
- a branch from the sixth block is added (`local`). A frame of the last layer sees three seconds,
  good for what sounds and bad for when; a step of the sixth block sees half a second. The branch
  starts at zero; it raised the frame AUROC on recordings of unseen packages by two to three points
  (docs/EXPERIMENTS.md).

With `frame_hops` 8 frames are a quarter as long: the last two strides are then taken in frequency
only, and the convolutions after them are dilated in time by as much ("à trous"), so that each frame
has the receptive field of before.

With `tags` the tower also returns the evidence of its AudioSet classifier, and of the pretrained
layers none learns: what the classifier knows is kept, and what they make of a clip never changes
(docs/decisions/093-the-whole-of-yamnet-is-the-trunk.md).

The tower has two parts. The *trunk* (`YAMNet.trunk`) is what never learns: with `tags` all layers
and the classifier, else the log-mel. The *top* (`YAMNet.forward`) is the rest. So the trunk's
output can be computed once and stored.
"""

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flamlib.models import class_features, state_dict
from flamlib.models.convolutions import Chain, StridedDepthwise
from flamlib.models.dropout import Dropout
from flamlib.models.renaming import strip_prefix

SAMPLE_RATE = 16_000
HOP = 160  # samples, 10 ms
WINDOW = 400  # samples, 25 ms
N_FFT = 512
ROWS = 512  # spectra that are computed at once: a cache holds them
N_MELS = 64
MEL_HZ = (125.0, 7500.0)
LOG_OFFSET = 1e-3
HOPS_PER_FRAME = 32
FRAME_S = HOPS_PER_FRAME * HOP / SAMPLE_RATE
FINE_HOPS = 8  # hops of the shorter frames
WIDTH = 1024
N_CLASSES = 521
CLASSES = "classes.txt"  # beside the weights: the names of the classes, one a line
LOCAL_BLOCKS = 6  # the local branch starts after this block, where a step is half a frame
LOCAL_WIDTH = 512

# Stride and output channels of the thirteen depthwise-separable blocks.
BLOCKS = (
    *((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512)),
    *((1, 512),) * 5,
    *((2, 1024), (1, 1024)),
)
LOWER_WIDTH = BLOCKS[LOCAL_BLOCKS - 1][1]
LOCAL_STEPS = 3  # of a frame


def mel_matrix() -> Float[Tensor, "bin mel"]:
    """Return the mel filters the weights were trained with: triangles, linear in HTK's mel scale.

    On the CPU, whatever torch's device is: on "meta", on which a saved model is built first, this
    arithmetic would import torch's compiler, three seconds of it.

    torchaudio's triangles are linear in hertz, which changes the lowest bands by up to 10 %.
    """

    def mel(hz: Tensor) -> Tensor:
        return 1127.0 * torch.log1p(hz / 700.0)

    kind = {"dtype": torch.float64, "device": "cpu"}
    bins = mel(torch.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1, **kind))
    low, high = mel(torch.tensor(MEL_HZ, **kind))
    edges = torch.linspace(low, high, N_MELS + 2, **kind)
    rise = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    weights = torch.minimum(rise, fall).clamp(min=0)
    return weights.float()


def read_class_names(folder: str | Path) -> list[str]:
    """Return the names of YAMNet's AudioSet classes, in order, from its folder of weights.

    Raises ValueError for another number of them.
    """
    path = Path(folder) / CLASSES
    names = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    if len(names) != N_CLASSES:
        raise ValueError(f"{path}: {len(names)} names of classes, expected {N_CLASSES}: cut off?")
    return names


def n_frames(n_samples: int, *, frame_hops: int = HOPS_PER_FRAME) -> int:
    """Return the number of frames that cover `n_samples`; the last may reach past the end."""
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
        window = F.pad(torch.hann_window(WINDOW, device="cpu"), (0, N_FFT - WINDOW))
        self.register_buffer("window", window, persistent=False)

    def forward(self, waveform: Float[Tensor, "clip sample"]) -> Float[Tensor, "clip hop mel"]:
        """Return the log-mel spectrogram."""
        # Outside autocast: the spectrum's range, 120 dB, is more than bf16 can hold.
        with torch.autocast(waveform.device.type, enabled=False):
            return self._log_mel(waveform.float())

    def _log_mel(self, waveform: Float[Tensor, "clip sample"]) -> Float[Tensor, "clip hop mel"]:
        n_hops = n_frames(waveform.shape[1], frame_hops=self.frame_hops) * self.frame_hops
        margin = (WINDOW - HOP) // 2
        after = n_hops * HOP - waveform.shape[1] + margin + N_FFT - WINDOW
        hops = F.pad(waveform, (margin, after)).unfold(1, N_FFT, HOP)
        if torch.compiler.is_compiling():  # of any number of clips
            return self._of_hops(hops)
        n_at_once = max(1, ROWS // max(1, len(hops)))
        return torch.cat([self._of_hops(part) for part in hops.split(n_at_once, dim=1)], dim=1)

    def _of_hops(self, hops: Float[Tensor, "clip hop window"]) -> Float[Tensor, "clip hop mel"]:
        parts = torch.view_as_real(torch.fft.rfft(hops * self.window)).square()
        # Not abs(): torch's takes twice as long as the transform.
        magnitude = (parts[..., 0] + parts[..., 1]).sqrt()
        return torch.log(magnitude @ self.weights + LOG_OFFSET)


def _depthwise(channels: int, *, hole: int) -> nn.Module:
    """Build a depthwise 3x3 convolution of stride 1 with dilation `hole` in time."""
    spread = {"padding": (hole, 1), "dilation": (hole, 1)}
    return nn.Conv2d(channels, channels, 3, groups=channels, **spread)


def _blocks(n_in: int, frame_hops: int) -> list[nn.Module]:
    """Build the thirteen blocks: depthwise, ReLU, pointwise, ReLU."""
    layers, hops, hole = [], 2, 1  # hops per step so far; dilation in time
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


class _Local(nn.Sequential):
    """A normalisation, a linear layer and whatever follows, the first two as one.

        weight (gain * unit(x) + shift) + bias = (weight * gain) unit(x) + (weight shift + bias)

    What is normalised does not learn where the trunk is frozen, and so needs no gradient: a third
    of the matrix products of the layer after it.
    """

    def forward(self, x: Tensor) -> Tensor:
        norm, linear, *rest = self
        unit = F.layer_norm(x, norm.normalized_shape, eps=norm.eps)
        x = F.linear(unit, linear.weight * norm.weight, linear.weight @ norm.bias + linear.bias)
        for layer in rest:
            x = layer(x)
        return x


class YAMNet(nn.Module):
    """Output of the trunk [clip, step, width] -> frame features [clip, frame, 1024].

    With `tags` the evidence of `n_tags` classes is appended, see `class_features.evidence`.

    Attributes:
        width: Dimensions of the features, without those of the classes.
        sample_rate: In hertz.
        frame_s: Duration of a frame in seconds.
        context_frames: Frames before and after a frame on which its features depend.
        n_tags: Number of classes, 0 without `tags`.
        pads_clips: False: padding is no part of a clip.
    """

    width = WIDTH
    sample_rate = SAMPLE_RATE
    pads_clips = False

    def __init__(
        self, *, dropout: float = 0.0, tags: bool = False, frame_hops: int = HOPS_PER_FRAME
    ) -> None:
        """Build a tower with random weights.

        Args:
            dropout: Probability in the local branch.
            tags: Whether to add the AudioSet classifier.
            frame_hops: Hops of 10 ms per frame, 32 or 8; ValueError for another number.
        """
        super().__init__()
        if frame_hops not in (HOPS_PER_FRAME, FINE_HOPS):
            raise ValueError(
                f"frame_hops must be {HOPS_PER_FRAME} or {FINE_HOPS}, not {frame_hops}"
            )
        self.frame_hops, self.frame_s = frame_hops, frame_hops * HOP / SAMPLE_RATE
        self.context_frames = 5 * HOPS_PER_FRAME // frame_hops
        self.n_tags = N_CLASSES if tags else 0
        self.keeps_activations = True
        self.log_mel = LogMel(frame_hops=frame_hops)
        layers = [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(1, 32, 3, stride=2), nn.ReLU(inplace=True)]
        layers += _blocks(32, frame_hops)
        self.layers = Chain(*layers).to(memory_format=torch.channels_last)
        n_local = LOCAL_STEPS * LOWER_WIDTH
        self.local = _Local(
            nn.LayerNorm(n_local),
            nn.Linear(n_local, LOCAL_WIDTH),
            nn.ReLU(),
            Dropout(dropout),
            nn.Linear(LOCAL_WIDTH, WIDTH),
        )
        # The tower starts as the pretrained YAMNet: the branch adds nothing yet.
        nn.init.zeros_(self.local[-1].weight)
        nn.init.zeros_(self.local[-1].bias)
        if tags:
            self.classifier = nn.Linear(WIDTH, N_CLASSES)
            for part in (self.layers, self.classifier):
                part.requires_grad_(False)

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames that cover `n_samples`."""
        return n_frames(n_samples, frame_hops=self.frame_hops)

    def enable_checkpointing(self) -> None:
        """Recompute the activations of each block in the backward pass, to save memory."""
        self.keeps_activations = False

    def load_weights(self, path: str | Path) -> None:
        """Load a file that `weights` wrote; the classifier's weights only with tags.

        Raises FileNotFoundError, and ValueError for what `state_dict.read` and `check` refuse.
        """
        tensors = state_dict.read(path)

        def load(part: nn.Module, prefix: str) -> None:
            found = strip_prefix(tensors, prefix)
            state_dict.check(found, part.state_dict(), f"{path}: {prefix}*")
            part.load_state_dict(found)

        load(self.layers, "layers.")
        if self.n_tags:
            load(self.classifier, "classifier.")

    def trunk(self, waveform: Float[Tensor, "clip sample"]) -> Float[Tensor, "clip step width"]:
        """Return what `forward` takes, as much of the tower as never learns.

        Without tags it is the log-mel: a step is a hop. With tags a step is a frame, and its row
        holds the last layer's features, the local branch's input and the class evidence.
        """
        log_mel = self.log_mel(waveform)
        if not self.n_tags:
            return log_mel
        features, local = self._layers(log_mel)
        evidence = class_features.evidence(self.classifier(features))
        return torch.cat([part.float() for part in (features, local, evidence)], dim=2)

    def trunk_id(self) -> dict[str, Any] | None:
        """Say which trunk this is: its settings, and the SHA-256 of its weights.

        None without tags: then the trunk has no weights, and nothing is gained by storing its
        output.
        """
        if not self.n_tags:
            return None
        return {
            "tower": "yamnet",
            "frame_hops": self.frame_hops,
            "evidence": f"p ** {class_features.POWER}",
            "sha256": state_dict.digest([self.layers, self.classifier]),
        }

    def forward(
        self, trunk_features: Float[Tensor, "clip step width"]
    ) -> Float[Tensor, "clip frame dim"]:
        """Return the features of frames, given the output of `trunk`: the top of the tower.

        Without tags, any log-mel whose number of hops is a multiple of `frame_hops`.
        """
        if not self.n_tags:
            features, local = self._layers(trunk_features)
            return features + self.local(local)
        n_local = LOCAL_STEPS * LOWER_WIDTH
        features, local, evidence = trunk_features.float().split([WIDTH, n_local, N_CLASSES], dim=2)
        return torch.cat([features + self.local(local), evidence], dim=2)

    def _layers(
        self, log_mel: Float[Tensor, "clip hop mel"]
    ) -> tuple[Float[Tensor, "clip frame dim"], Float[Tensor, "clip frame local"]]:
        """The last layer's features of each frame, and three steps of the sixth block's, which is
        averaged over frequency.

        The three are at the beginning, the middle and the end of a frame of two steps; or they are
        a frame of one step, the one before and the one after.
        """
        shift = HOPS_PER_FRAME - self.frame_hops // 2
        shifted = F.pad(log_mel, (0, 0, shift, 0), value=math.log(LOG_OFFSET))
        x = shifted.unsqueeze(1).contiguous(memory_format=torch.channels_last)
        lower = self._through(self.layers[: _below(LOCAL_BLOCKS)], x)
        features = _over_time(self._through(self.layers[_below(LOCAL_BLOCKS) :], lower))
        first, step = (0, 2) if self.frame_hops == HOPS_PER_FRAME else (1, 1)
        local = _over_time(lower)[:, first:].unfold(1, LOCAL_STEPS, step).flatten(2)
        return features[:, : local.shape[1]], local

    def _through(self, layers: nn.Sequential, x: Tensor) -> Tensor:
        if self.keeps_activations or not torch.is_grad_enabled():
            return layers(x)
        first = len(layers) % 4  # the stem; blocks have four layers
        x = layers[:first](x)
        for start in range(first, len(layers), 4):
            block = layers[start : start + 4]
            learns = x.requires_grad or any(p.requires_grad for p in block.parameters())
            x = checkpoint(block, x, use_reentrant=False) if learns else block(x)
        return x


def _below(n_blocks: int) -> int:
    """Return the number of entries of `YAMNet.layers` in the stem and the first blocks."""
    return 3 + 4 * n_blocks


def _over_time(x: Float[Tensor, "clip dim frame mel"]) -> Float[Tensor, "clip frame dim"]:
    # Summed in the order in which channels-last memory has them: ten times as fast as dim 3.
    return x.permute(0, 2, 3, 1).mean(dim=2)


def fold(checkpoint: dict[str, Float[Tensor, "..."]]) -> dict[str, Float[Tensor, "..."]]:
    """Convert the published variables to a state dict of `YAMNet` and its classifier.

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
