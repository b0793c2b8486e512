"""HTS-AT as an audio tower: 32, 64 or 128 vectors per window of ten seconds.

The audio encoder of FLAM and of LAION-CLAP (HTS-AT, arXiv:2202.00874), a Swin transformer on
log-mel images, as implemented in `transformers`. Its input is exactly ten seconds: shorter audio is
padded, never stretched, and longer audio is several windows that are encoded independently. Audio
that reaches less than half a frame into another window has none for that.

    frames per window = 4 * 256 / (patch * 2^(stages - 1))

    paper    embed 128, depths 2-2-12-2, heads 4-8-16-32, patch 4:   32 frames, 68 million weights
    L = 128  embed 192, depths 2-12-2, heads 8-16-32, patch 2:      128 frames, 38 million weights

No package contains pretrained weights, so they are random unless `load_weights` reads a checkpoint.

With `frozen_stages` the log-mel and the lowest stages are the trunk, which never learns: its output
can be computed once and stored. With all stages frozen that is the frames themselves.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flamlib.models import state_dict
from flamlib.models.renaming import add_prefix, strip_prefix

SAMPLE_RATE = 48_000  # of the published encoders of FLAM and LAION-CLAP
WINDOW_S = 10
HOPS_PER_S = 100
N_MELS = 64
MAX_BLOCKS = 1000  # building more would not end
POWER_FLOOR = 1e-10  # silence is -100 dB
HOPS = WINDOW_S * HOPS_PER_S + 1  # per window; the first and last are centred on its ends

# By sample rate: samples of the Fourier window, lowest and highest frequency of the mel bands.
FRONT_ENDS = {
    48_000: (1024, 50.0, 14_000.0),
    32_000: (1024, 50.0, 14_000.0),
    16_000: (512, 50.0, 8_000.0),
}

_IMAGE = 256  # side of the input image: four quarters of a window, stacked along frequency
_QUARTERS = _IMAGE // N_MELS


class LogMel(nn.Module):
    """Waveform [clip, sample] -> log-mel [clip, window * 1001, mel] in dB, in whole windows.

    log_mel[t, m] = 10 log10(max(sum_k |STFT[t, k]|^2 * filter[k, m], 1e-10))

    The filters are Slaney's triangles of unit area or, with "htk", HTK's of unit height. Hop t of a
    window is centred on t * 10 ms; its ends are padded by reflection.
    """

    def __init__(
        self,
        sample_rate: int = SAMPLE_RATE,
        filters: str = "slaney",
        *,
        repeats: bool = False,
        n_dropped: float = 0,
    ) -> None:
        """Build a front end.

        Args:
            sample_rate: In hertz.
            filters: "slaney" or "htk".
            repeats: Whether what is left for the last window is repeated in it as often as it fits,
                before silence.
            n_dropped: Fewer samples than this are no window, if there is one before.

        Raises:
            ValueError: A sample rate not in `FRONT_ENDS`, or other filters.
        """
        super().__init__()
        if sample_rate not in FRONT_ENDS:
            raise ValueError(
                f"HTS-AT: sample_rate must be one of {sorted(FRONT_ENDS)} Hz, not {sample_rate}"
            )
        if filters not in ("slaney", "htk"):
            raise ValueError(f'filters must be "slaney" or "htk", not {filters!r}')
        self.window_samples = WINDOW_S * sample_rate
        self.repeats, self.n_dropped = repeats, n_dropped
        # On the CPU even where a model of shapes alone is built: it looks into its filters.
        with torch.device("cpu"):
            self.mel = self._mel(sample_rate, filters)
        # Constants do not belong in the state dict.
        for module in self.mel.modules():
            for name, constant in list(module.named_buffers(recurse=False)):
                module.register_buffer(name, constant, persistent=False)

    @staticmethod
    def _mel(sample_rate: int, filters: str) -> nn.Module:
        # Imported here: models of another tower need not wait for it.
        from torchaudio.transforms import MelSpectrogram

        n_fft, low_hz, high_hz = FRONT_ENDS[sample_rate]
        return MelSpectrogram(
            sample_rate,
            n_fft=n_fft,
            hop_length=sample_rate // HOPS_PER_S,
            f_min=low_hz,
            f_max=high_hz,
            n_mels=N_MELS,
            norm="slaney" if filters == "slaney" else None,
            mel_scale=filters,
        )

    def forward(self, waveform: Float[Tensor, "clip sample"]) -> Float[Tensor, "clip hop mel"]:
        """Return the log-mel spectrogram of each window, one after the other."""
        waveform = self._in_windows(waveform)
        # Outside autocast: the spectrum's range, 100 dB, is more than bf16 can hold.
        with torch.autocast(waveform.device.type, enabled=False):
            windows = waveform.float().reshape(-1, self.window_samples)
            power = self.mel(windows).transpose(1, 2)
            # Not len(): torch.export would take the number of clips for a constant.
            log_mel = 10 * power.clamp(min=POWER_FLOOR).log10()
            return log_mel.reshape(waveform.shape[0], -1, N_MELS)

    def _in_windows(self, waveform: Float[Tensor, "clip sample"]) -> Float[Tensor, "clip filled"]:
        """Drop or fill what is left after the last whole window."""
        n_samples = waveform.shape[1]
        n_rest = n_samples % self.window_samples
        if n_rest < n_samples and n_rest < self.n_dropped:
            return waveform[:, : n_samples - n_rest]
        if self.repeats and n_rest:
            n_times = self.window_samples // n_rest - 1
            waveform = torch.cat([waveform, *[waveform[:, -n_rest:]] * n_times], dim=1)
        return F.pad(waveform, (0, -waveform.shape[1] % self.window_samples))


class HTSAT(nn.Module):
    """Output of the trunk, log-mel [clip, hop, mel] or tokens [clip, token, width] of the first
    stage that learns -> frame features [clip, frame, width].

    Attributes:
        width: Dimensions of the features.
        sample_rate: In hertz.
        frames_per_window: Number of frames in ten seconds.
        frame_s: Duration of a frame in seconds.
        context_frames: 0: windows are independent, and blocks of `dual_encoder.BLOCK_FRAMES` frames
            are whole windows.
        n_tags: Number of classes, none.
        pads_clips: Whether what fills the last window is part of a clip.
    """

    context_frames = 0
    n_tags = 0

    def __init__(
        self,
        *,
        embed: int,
        depths: Sequence[int],
        heads: Sequence[int],
        drop_path: float,
        drop_hidden: float,
        drop_attention: float,
        patch: int = 4,
        sample_rate: int = SAMPLE_RATE,
        filters: str = "slaney",
        padding: str = "ignored",
        frozen_stages: int = 0,
    ) -> None:
        """Build an encoder with random weights.

        Args:
            embed: Width of the first stage; each stage is twice as wide as the one before.
            depths: Number of blocks of each stage.
            heads: Number of attention heads of each stage.
            drop_path: Stochastic depth: probability to skip the last block; lower ones are skipped
                less often.
            drop_hidden: Dropout probability of hidden layers.
            drop_attention: Dropout probability of attention weights.
            patch: Side of the squares of the image that become tokens, 2 or 4.
            sample_rate: In hertz, one of `FRONT_ENDS`.
            filters: Mel filters, "slaney" or "htk", see `LogMel`.
            padding: What fills the last window: "ignored", silence, whose frames are no part of a
                clip; "silent", silence, whose frames are, as in MGA-CLAP; "repeated", the audio as
                often as it fits and then silence, all part of the clip, as in LAION-CLAP.
            frozen_stages: How many of the lowest stages never learn, and so belong to the trunk.

        Raises:
            ValueError: More frozen stages than there are, heads that do not divide the width of
                their stage, a number of frames per window other than 32, 64 or 128, another
                `padding`, or a front end that `LogMel` does not have.
        """
        super().__init__()
        if sum(depths) > MAX_BLOCKS:
            raise ValueError(f"HTS-AT: {sum(depths)} blocks in depths, at most {MAX_BLOCKS}")
        n_stages = len(depths)
        widths = [embed * 2**stage for stage in range(n_stages)]
        if n_stages != len(heads) or any(w % n for w, n in zip(widths, heads, strict=True)):
            raise ValueError(
                f"HTS-AT with stages of widths {widths} needs one number of heads per stage that "
                f"divides its width; depths are {[*depths]}, heads {[*heads]}"
            )
        per_window = _QUARTERS * _IMAGE // (patch * 2 ** max(n_stages - 1, 0))
        if patch not in (2, 4) or per_window not in (32, 64, 128):
            raise ValueError(
                f"patch {patch} and {n_stages} stages give {per_window} frames per window; "
                "possible are 32, 64 and 128, with patch 4 or 2"
            )
        if padding not in ("ignored", "silent", "repeated"):
            raise ValueError(f'padding must be "ignored", "silent" or "repeated", not {padding!r}')
        if not 0 <= frozen_stages <= n_stages:
            raise ValueError(f"frozen_stages = {frozen_stages}: HTS-AT has {n_stages} stages here")
        # Imported here: it takes seconds, and YAMNet does not need it.
        from transformers import ClapAudioConfig, ClapAudioModel

        config = ClapAudioConfig(
            patch_embeds_hidden_size=embed,
            hidden_size=widths[-1],
            depths=[*depths],
            num_attention_heads=[*heads],
            patch_size=patch,
            patch_stride=[patch, patch],
            spec_size=_IMAGE,
            num_mel_bins=N_MELS,
            enable_fusion=False,
            drop_path_rate=drop_path,
            hidden_dropout_prob=drop_hidden,
            attention_probs_dropout_prob=drop_attention,
        )
        self.width = widths[-1]
        self.sample_rate = sample_rate
        self.frames_per_window = per_window
        self.frame_s = WINDOW_S / per_window
        self.pads_clips = padding != "ignored"
        self.log_mel = LogMel(
            sample_rate,
            filters,
            repeats=padding == "repeated",
            n_dropped=WINDOW_S * sample_rate / per_window / 2,
        )
        self.encoder = ClapAudioModel(config)
        self.frozen_stages = frozen_stages
        self._front_end = {"sample_rate": sample_rate, "filters": filters, "padding": padding}
        for part in self._trunk():
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> "HTSAT":
        """Set the mode as torch does, but for the trunk: without dropout and batch statistics."""
        super().train(mode)
        for part in self._trunk():
            part.eval()
        return self

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames that cover `n_samples`; the last may reach past the end."""
        return math.ceil(n_samples * self.frames_per_window / self.log_mel.window_samples)

    def enable_checkpointing(self) -> None:
        """Recompute the activations of each block in the backward pass, to save memory."""
        # `transformers` does so with whole stages, one of which has two thirds of all blocks.
        for stage in self.encoder.audio_encoder.layers:
            for block in stage.blocks:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)

    def load_weights(self, path: str | Path) -> None:
        """Load the audio encoder of a CLAP checkpoint of `transformers`, in safetensors.

        Raises FileNotFoundError, and ValueError for what `state_dict.read` and `check` refuse, and
        for weights that were trained with another front end, as `save_weights` says it: their
        shapes would not tell.
        """
        found = strip_prefix(state_dict.read(path), "audio_model.")
        for name, said in state_dict.read_metadata(path).items():
            if name in self._front_end and said != (own := str(self._front_end[name])):
                raise ValueError(f"{path} was trained with {name} {said}, this HTS-AT has {own}")
        state_dict.check(found, self.encoder.state_dict(), f"{path}: audio_model.*")
        self.encoder.load_state_dict(found)

    def save_weights(self, path: str | Path) -> None:
        """Write what `load_weights` reads. Raises OSError if it cannot be written."""
        tensors = {name: t.contiguous() for name, t in self.encoder.state_dict().items()}
        front_end = {name: str(self._front_end[name]) for name in ("sample_rate", "filters")}
        state_dict.write(add_prefix(tensors, "audio_model."), path, **front_end)

    def trunk(self, waveform: Float[Tensor, "clip sample"]) -> Float[Tensor, "clip step width"]:
        """Return what `forward` takes, as much of the tower as never learns.

        That is the log-mel; with frozen stages, tokens of the first one that learns, a square grid
        of them for each window; with all stages frozen, the features of frames.
        """
        log_mel = self.log_mel(waveform)
        if not self.frozen_stages:
            return log_mel
        net = self.encoder.audio_encoder
        with torch.no_grad():
            windows = log_mel.reshape(-1, 1, HOPS, N_MELS)
            normal = net.batch_norm(windows.transpose(1, 3)).transpose(1, 3)
            tokens = self._stages(net.patch_embed(net.reshape_mel2img(normal)), trunk=True)
            steps = tokens if self.frozen_stages < len(net.layers) else self._frames(tokens)
        return steps.reshape(len(waveform), -1, steps.shape[-1])

    def trunk_id(self) -> dict[str, Any] | None:
        """Say which trunk this is: its settings, and the SHA-256 of its weights.

        None without frozen stages: then the trunk has no weights, and nothing is gained by storing
        its output.
        """
        if not self.frozen_stages:
            return None
        settings = {"tower": "htsat", "frozen_stages": self.frozen_stages, **self._front_end}
        return settings | {"sha256": state_dict.digest(self._trunk())}

    def forward(
        self, trunk_features: Float[Tensor, "clip step width"]
    ) -> Float[Tensor, "clip frame dim"]:
        """Return the features of all windows, one after the other, given the output of `trunk`."""
        net = self.encoder.audio_encoder
        if not self.frozen_stages:
            windows = trunk_features.reshape(-1, 1, HOPS, N_MELS)
            features = self.encoder(windows).last_hidden_state  # [window, dim, frequency, frame]
            frames = features.mean(dim=2).transpose(1, 2)
        elif self.frozen_stages < len(net.layers):
            n_tokens = math.prod(net.input_resolutions[self.frozen_stages])
            tokens = trunk_features.float().reshape(-1, n_tokens, trunk_features.shape[2])
            frames = self._frames(self._stages(tokens, trunk=False))
        else:
            frames = trunk_features.float()
        return frames.reshape(trunk_features.shape[0], -1, self.width)

    def _trunk(self) -> Iterator[nn.Module]:
        """The parts with weights that never learn."""
        if not self.frozen_stages:
            return
        net = self.encoder.audio_encoder
        yield from (net.batch_norm, net.patch_embed, *net.layers[: self.frozen_stages])
        if self.frozen_stages == len(net.layers):
            yield net.norm

    def _stages(
        self, tokens: Float[Tensor, "window token dim"], *, trunk: bool
    ) -> Float[Tensor, "window fewer wider"]:
        """Apply the stages of the trunk, or the others."""
        net = self.encoder.audio_encoder
        stages = [*zip(net.layers, net.input_resolutions, strict=True)]
        chosen = stages[: self.frozen_stages] if trunk else stages[self.frozen_stages :]
        for stage, resolution in chosen:
            tokens = stage(tokens, resolution)[0]
        return tokens

    def _frames(
        self, tokens: Float[Tensor, "window token dim"]
    ) -> Float[Tensor, "window frame dim"]:
        """The last stage's tokens, normalised, as frames: the mean over frequency in each quarter
        of a window, the quarters one after the other."""
        net = self.encoder.audio_encoder
        n_wide = net.input_resolutions[-1][1]  # tokens of a quarter in time
        grid = net.norm(tokens).reshape(len(tokens), _QUARTERS, -1, n_wide, self.width)
        return grid.mean(dim=2).reshape(len(tokens), -1, self.width)
