"""HTS-AT as an audio tower: 48 kHz audio in, one vector per 0.3125 s out (arXiv:2202.00874).

The encoder of FLAM and of LAION-CLAP, a Swin transformer on log-mel images, as `transformers` has
it. It looks at windows of exactly ten seconds: shorter audio is padded with silence, never
stretched, and longer audio is several windows that do not know of each other. At the paper's size
(embed 128, depths 2-2-12-2, heads 4-8-16-32) it has 68 million parameters; no pretrained ones come
in packages, so here they are random unless `load_weights` is given a checkpoint.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

SAMPLE_RATE = 48_000
WINDOW_SAMPLES = 10 * SAMPLE_RATE
HOP = 480  # samples: 10 ms
N_FFT = 1024
N_MELS = 64
MEL_HZ = (50.0, 14_000.0)
POWER_FLOOR = 1e-10  # silence is -100 dB
HOPS = WINDOW_SAMPLES // HOP + 1  # of a window; the first and the last are centred on its ends
N_FRAMES = 32  # of a window
FRAME_S = WINDOW_SAMPLES / SAMPLE_RATE / N_FRAMES

_IMAGE = 256  # side, made of four quarters of a window above each other
_N_STAGES = 4


class LogMel(nn.Module):
    """Waveform [clip, sample] -> log-mel [clip, window * 1001, mel] in dB, padded to whole windows.

    log_mel[t, m] = 10 log10(max(sum_k |STFT[t, k]|^2 * slaney[k, m], 1e-10))

    Hop t of a window is centred on its sample 480 t; its ends are continued by reflection.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mel = MelSpectrogram(
            SAMPLE_RATE,
            n_fft=N_FFT,
            hop_length=HOP,
            f_min=MEL_HZ[0],
            f_max=MEL_HZ[1],
            n_mels=N_MELS,
            norm="slaney",
            mel_scale="slaney",
        )
        # Constants of the method do not belong among the weights of a model.
        for module in self.mel.modules():
            for name, constant in list(module.named_buffers(recurse=False)):
                module.register_buffer(name, constant, persistent=False)

    def forward(self, waveform: Float[Tensor, "clip sample"]) -> Float[Tensor, "clip hop mel"]:
        n_clips, n_samples = waveform.shape
        n_missing = -n_samples % WINDOW_SAMPLES
        # Outside autocast: the spectrum's range, 100 dB, is more than bf16 can hold.
        with torch.autocast(waveform.device.type, enabled=False):
            windows = F.pad(waveform.float(), (0, n_missing)).reshape(-1, WINDOW_SAMPLES)
            power = self.mel(windows).transpose(1, 2)
            return (10 * power.clamp(min=POWER_FLOOR).log10()).reshape(n_clips, -1, N_MELS)


class HTSAT(nn.Module):
    """Log-mel [clip, hop, mel] -> frame features [clip, frame, width], 32 frames a window."""

    sample_rate = SAMPLE_RATE
    frame_s = FRAME_S
    context_frames = 0  # beyond its window, whose 32 frames divide `model.BLOCK_FRAMES`

    def __init__(
        self,
        *,
        embed: int,
        depths: Sequence[int],
        heads: Sequence[int],
        drop_path: float,
        drop_hidden: float,
        drop_attention: float,
    ) -> None:
        """An encoder with random weights.

        `embed` is the width of its first stage; each of the four is twice as wide as the one
        before. `depths` and `heads` are the blocks and attention heads of each stage. `drop_path`
        is the rate of stochastic depth at the last block. Raises ValueError unless there are four
        stages whose heads divide their width.
        """
        super().__init__()
        widths = [embed * 2**stage for stage in range(_N_STAGES)]
        if not len(depths) == len(heads) == _N_STAGES or any(
            width % n for width, n in zip(widths, heads, strict=True)
        ):
            raise ValueError(
                f"HTS-AT has four stages, of widths {widths}, each divisible by its number of "
                f"heads; depths are {[*depths]}, heads {[*heads]}"
            )
        # Only here: it takes seconds, and YAMNet does without.
        from transformers import ClapAudioConfig, ClapAudioModel

        config = ClapAudioConfig(
            patch_embeds_hidden_size=embed,
            hidden_size=widths[-1],
            depths=[*depths],
            num_attention_heads=[*heads],
            spec_size=_IMAGE,
            num_mel_bins=N_MELS,
            enable_fusion=False,
            drop_path_rate=drop_path,
            hidden_dropout_prob=drop_hidden,
            attention_probs_dropout_prob=drop_attention,
        )
        self.width = widths[-1]
        self.log_mel = LogMel()
        self.encoder = ClapAudioModel(config)

    def n_frames(self, n_samples: int) -> int:
        """Frames that cover `n_samples`; the last may reach past the end."""
        return math.ceil(n_samples * N_FRAMES / WINDOW_SAMPLES)

    def load_weights(self, path: str | Path) -> None:
        """Take the audio encoder out of a CLAP checkpoint of `transformers`, in safetensors."""
        prefix = "audio_model."
        tensors = load_file(path)
        self.encoder.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )

    def forward(self, log_mel: Float[Tensor, "clip hop mel"]) -> Float[Tensor, "clip frame dim"]:
        windows = log_mel.reshape(-1, 1, HOPS, N_MELS)
        features = self.encoder(windows).last_hidden_state  # [window, dim, 2 frequencies, frame]
        frames = features.mean(dim=2).transpose(1, 2)
        return frames.reshape(len(log_mel), -1, self.width)
