"""HTS-AT as an audio tower: one vector per 0.3125 s of audio, or four times as many.

The encoder of FLAM and of LAION-CLAP (arXiv:2202.00874), a Swin transformer on log-mel images, as
`transformers` has it. It looks at windows of exactly ten seconds: shorter audio is padded with
silence, never stretched, and longer audio is several windows that do not know of each other.

    frames a window = 4 * 256 / (patch * 2^(stages - 1))

    paper    embed 128, depths 2-2-12-2, heads 4-8-16-32, patch 4:   32 frames, 68 million weights
    L = 128  embed 192, depths 2-12-2, heads 8-16-32, patch 2:      128 frames, 38 million weights

No pretrained ones come in packages, so they are random unless `load_weights` is given a checkpoint.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torchaudio.transforms import MelSpectrogram

SAMPLE_RATE = 48_000  # of the published encoders of FLAM and LAION-CLAP
WINDOW_S = 10
HOPS_PER_S = 100
N_MELS = 64
POWER_FLOOR = 1e-10  # silence is -100 dB
HOPS = WINDOW_S * HOPS_PER_S + 1  # of a window; the first and the last are centred on its ends

# By sample rate: samples of the Fourier window, lowest and highest frequency of the mel bands.
FRONT_ENDS = {
    48_000: (1024, 50.0, 14_000.0),
    32_000: (1024, 50.0, 14_000.0),
    16_000: (512, 50.0, 8_000.0),
}

_IMAGE = 256  # side, made of four quarters of a window above each other
_QUARTERS = _IMAGE // N_MELS


class LogMel(nn.Module):
    """Waveform [clip, sample] -> log-mel [clip, window * 1001, mel] in dB, padded to whole windows.

    log_mel[t, m] = 10 log10(max(sum_k |STFT[t, k]|^2 * filter[k, m], 1e-10))

    The filters are Slaney's triangles of unit area or, as "htk", HTK's of unit height.
    Hop t of a window is centred on its time t * 10 ms; its ends are continued by reflection.
    """

    def __init__(self, sample_rate: int = SAMPLE_RATE, filters: str = "slaney") -> None:
        """Raises ValueError for a sample rate that `FRONT_ENDS` does not have, or other filters."""
        super().__init__()
        if sample_rate not in FRONT_ENDS:
            raise ValueError(f"HTS-AT hears {sorted(FRONT_ENDS)} Hz, not {sample_rate}")
        if filters not in ("slaney", "htk"):
            raise ValueError(f'filters are "slaney" or "htk", not {filters!r}')
        n_fft, low_hz, high_hz = FRONT_ENDS[sample_rate]
        self.window_samples = WINDOW_S * sample_rate
        self.mel = MelSpectrogram(
            sample_rate,
            n_fft=n_fft,
            hop_length=sample_rate // HOPS_PER_S,
            f_min=low_hz,
            f_max=high_hz,
            n_mels=N_MELS,
            norm="slaney" if filters == "slaney" else None,
            mel_scale=filters,
        )
        # Constants of the method do not belong among the weights of a model.
        for module in self.mel.modules():
            for name, constant in list(module.named_buffers(recurse=False)):
                module.register_buffer(name, constant, persistent=False)

    def forward(self, waveform: Float[Tensor, "clip sample"]) -> Float[Tensor, "clip hop mel"]:
        n_clips, n_samples = waveform.shape
        n_missing = -n_samples % self.window_samples
        # Outside autocast: the spectrum's range, 100 dB, is more than bf16 can hold.
        with torch.autocast(waveform.device.type, enabled=False):
            windows = F.pad(waveform.float(), (0, n_missing)).reshape(-1, self.window_samples)
            power = self.mel(windows).transpose(1, 2)
            return (10 * power.clamp(min=POWER_FLOOR).log10()).reshape(n_clips, -1, N_MELS)


class HTSAT(nn.Module):
    """Log-mel [clip, hop, mel] -> frame features [clip, frame, width], some frames a window."""

    context_frames = 0  # beyond its window, whose frames divide `dual_encoder.BLOCK_FRAMES`
    n_tags = 0  # it has no classes of its own

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
    ) -> None:
        """An encoder with random weights.

        `embed` is the width of its first stage; each is twice as wide as the one before. `depths`
        and `heads` are the blocks and attention heads of each stage, `patch` is the side of the
        squares of the image that become tokens. `drop_path` is the rate of stochastic depth at the
        last block, `filters` are those of `LogMel`. Raises ValueError unless the heads of each
        stage divide its width and a window has 32, 64 or 128 frames, and for a front end that
        `LogMel` does not have.
        """
        super().__init__()
        n_stages = len(depths)
        widths = [embed * 2**stage for stage in range(n_stages)]
        if n_stages != len(heads) or any(w % n for w, n in zip(widths, heads, strict=True)):
            raise ValueError(
                f"HTS-AT of widths {widths} needs as many numbers of heads, each a divisor; depths "
                f"are {[*depths]}, heads {[*heads]}"
            )
        per_window = _QUARTERS * _IMAGE // (patch * 2 ** max(n_stages - 1, 0))
        if patch not in (2, 4) or per_window not in (32, 64, 128):
            raise ValueError(
                f"patches of {patch} in {n_stages} stages give {per_window} frames a window; 32, "
                "64 and 128 are possible, with patches of 4 or 2"
            )
        # Only here: it takes seconds, and YAMNet does without.
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
        self.log_mel = LogMel(sample_rate, filters)
        self.encoder = ClapAudioModel(config)

    def n_frames(self, n_samples: int) -> int:
        """Frames that cover `n_samples`; the last may reach past the end."""
        return math.ceil(n_samples * self.frames_per_window / self.log_mel.window_samples)

    def enable_checkpointing(self) -> None:
        """From now on compute each block again in the backward pass, rather than keep all of it.

        The names of the weights stay as they are.
        """
        # `transformers` could do so with whole stages, of which one has two thirds of all blocks.
        for stage in self.encoder.audio_encoder.layers:
            stage.blocks = nn.ModuleList(map(checkpoint_wrapper, stage.blocks))

    def load_weights(self, path: str | Path) -> None:
        """Take the audio encoder out of a CLAP checkpoint of `transformers`, in safetensors."""
        prefix = "audio_model."
        tensors = load_file(path)
        self.encoder.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )

    def forward(self, log_mel: Float[Tensor, "clip hop mel"]) -> Float[Tensor, "clip frame dim"]:
        windows = log_mel.reshape(-1, 1, HOPS, N_MELS)
        features = self.encoder(windows).last_hidden_state  # [window, dim, frequency, frame]
        frames = features.mean(dim=2).transpose(1, 2)
        return frames.reshape(log_mel.shape[0], -1, self.width)
