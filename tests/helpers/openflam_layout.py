"""The layout of the authors' checkpoint at any size, and random numbers in it."""

from functools import lru_cache

import librosa
import numpy as np
import torch

PUBLISHED = {
    "embed": 128,
    "depths": (2, 2, 12, 2),
    "heads": (4, 8, 16, 32),
    "text": {"words": 50265, "width": 768, "layers": 12, "inner": 3072, "positions": 514},
    "dim": 512,
}


def shapes(*, embed, depths, heads, text, dim):
    """Every name of the state dict with its shape."""
    found = {"logit_scale_a": (), "aed_logit_scale": ()}

    def linear(name, n_in, n_out, bias=True):
        found[f"{name}.weight"] = (n_out, n_in)
        if bias:
            found[f"{name}.bias"] = (n_out,)

    def norm(name, width):
        found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)

    audio = "audio_branch"
    for part in ("real", "imag"):
        found[f"{audio}.spectrogram_extractor.stft.conv_{part}.weight"] = (513, 1, 1024)
    found[f"{audio}.logmel_extractor.melW"] = (513, 64)
    norm(f"{audio}.bn0", 64)
    found[f"{audio}.bn0.running_mean"] = found[f"{audio}.bn0.running_var"] = (64,)
    found[f"{audio}.bn0.num_batches_tracked"] = ()
    found[f"{audio}.patch_embed.proj.weight"] = (embed, 1, 4, 4)
    found[f"{audio}.patch_embed.proj.bias"] = (embed,)
    norm(f"{audio}.patch_embed.norm", embed)
    for i, (depth, n_heads) in enumerate(zip(depths, heads, strict=True)):
        width, grid = embed * 2**i, 64 // 2**i
        for j in range(depth):
            block = f"{audio}.layers.{i}.blocks.{j}"
            if j % 2 and grid > 8:
                found[f"{block}.attn_mask"] = ((grid // 8) ** 2, 64, 64)
            norm(f"{block}.norm1", width)
            found[f"{block}.attn.relative_position_bias_table"] = (225, n_heads)
            found[f"{block}.attn.relative_position_index"] = (64, 64)
            linear(f"{block}.attn.qkv", width, 3 * width)
            linear(f"{block}.attn.proj", width, width)
            norm(f"{block}.norm2", width)
            linear(f"{block}.mlp.fc1", width, 4 * width)
            linear(f"{block}.mlp.fc2", 4 * width, width)
        if i + 1 < len(depths):
            linear(f"{audio}.layers.{i}.downsample.reduction", 4 * width, 2 * width, bias=False)
            norm(f"{audio}.layers.{i}.downsample.norm", 4 * width)
    norm(f"{audio}.norm", width)
    linear("audio_projection.0", width, dim)
    linear("audio_projection.2", dim, dim)

    wide = text["width"]
    embeddings = "text_branch.embeddings"
    found[f"{embeddings}.word_embeddings.weight"] = (text["words"], wide)
    found[f"{embeddings}.token_type_embeddings.weight"] = (1, wide)
    norm(f"{embeddings}.LayerNorm", wide)
    found[f"{embeddings}.position_embeddings.weight"] = (text["positions"], wide)
    for i in range(text["layers"]):
        layer = f"text_branch.encoder.layer.{i}"
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}", wide, wide)
        linear(f"{layer}.attention.output.dense", wide, wide)
        norm(f"{layer}.attention.output.LayerNorm", wide)
        linear(f"{layer}.intermediate.dense", wide, text["inner"])
        linear(f"{layer}.output.dense", text["inner"], wide)
        norm(f"{layer}.output.LayerNorm", wide)
    linear("text_branch.pooler.dense", wide, wide)
    linear("text_projection.0", wide, dim)
    linear("text_projection.2", dim, dim)
    for head in ("fc_per_text_logit_bias", "fc_per_text_logit_scale"):
        linear(f"{head}.0", wide, wide)
        linear(f"{head}.2", wide, 1)
    return found


def constants(names):
    """Those of the names that are no weights: Fourier matrix, mel filters, masks and indices."""
    found = {}
    for name in names:
        if "stft.conv" in name:
            bins = np.arange(513)[:, None] * np.arange(1024)
            wave = np.cos if "real" in name else lambda x: -np.sin(x)
            hann = librosa.filters.get_window("hann", 1024)
            value = (hann * wave(2 * np.pi * bins / 1024))[:, None]
            found[name] = torch.tensor(value, dtype=torch.float32)
        elif name.endswith("melW"):
            filters = librosa.filters.mel(sr=48_000, n_fft=1024, n_mels=64, fmin=50, fmax=14_000)
            found[name] = torch.tensor(filters.T)
        elif name.endswith("relative_position_index"):
            found[name] = relative_position_index()
        elif name.endswith("attn_mask"):
            found[name] = attn_mask(64 // 2 ** int(name.split(".")[2]))
        elif name.endswith("num_batches_tracked"):
            found[name] = torch.tensor(7)
    return found


def relative_position_index():
    """Row of the table for a pair of places in a window: 15 * (7 + rows apart) + 7 + columns."""
    index = torch.empty(64, 64, dtype=torch.int64)
    for i in range(64):
        for j in range(64):
            index[i, j] = (i // 8 - j // 8 + 7) * 15 + (i % 8 - j % 8 + 7)
    return index


@lru_cache
def attn_mask(grid):
    """-100 between places that were no neighbours before the grid was rolled by four."""

    def region(x):
        return 0 if x < grid - 8 else 1 if x < grid - 4 else 2

    mask = torch.zeros((grid // 8) ** 2, 64, 64)
    for window in range(len(mask)):
        top, left = window // (grid // 8) * 8, window % (grid // 8) * 8
        of = [(region(top + p // 8), region(left + p % 8)) for p in range(64)]
        for i in range(64):
            for j in range(64):
                if of[i] != of[j]:
                    mask[window, i, j] = -100.0
    return mask


def random_state(seed=0, **sizes):
    """Numbers large enough that no part of the model could be left out unseen."""
    made = torch.Generator().manual_seed(seed)
    wanted = shapes(**sizes)
    state = constants(wanted)
    for name, shape in wanted.items():
        if name in state:
            continue
        noise = torch.randn(shape, generator=made)
        if name.endswith("running_mean"):
            state[name] = -40 + 5 * noise
        elif name.endswith("running_var"):
            state[name] = 100 + 20 * noise.abs()
        elif "norm" in name.lower() or "bn0" in name:
            state[name] = (1.0 if name.endswith("weight") else 0.0) + 0.2 * noise
        elif len(shape) > 1 and "table" not in name and "embeddings" not in name:
            state[name] = noise / np.sqrt(np.prod(shape[1:]))
        else:
            state[name] = 0.5 * noise
    state["logit_scale_a"] = torch.tensor(2.7)
    state["aed_logit_scale"] = torch.tensor(0.3)  # zero in the published one; it has its meaning
    return {name: state[name] for name in wanted}
