"""The layouts of LAION-CLAP's, CompA-CLAP's and MGA-CLAP's checkpoints, and random numbers in them.

Their HTS-AT and RoBERTa are named as OpenFLAM's, which descends from LAION-CLAP.
"""

import librosa
import openflam_layout
import torch
from transformers import T5Tokenizer

SIZES = {"embed": 8, "depths": (2, 1, 1, 2), "heads": (1, 2, 2, 4), "dim": 12}
TEXT = {"width": 64, "layers": 2, "inner": 24}
T5 = {"width": 16, "layers": 2, "inner": 24, "heads": 2, "head_width": 8}
N_CODES = 40

TINY = {"embed": 96, "depths": (2, 2, 6, 2), "heads": (4, 8, 16, 32)}
BASE = {"embed": 128, "depths": (2, 2, 12, 2), "heads": (4, 8, 16, 32)}
WIDE_TEXT = {"width": 768, "layers": 12, "inner": 3072}
FLAN_T5 = {"width": 1024, "layers": 24, "inner": 2816, "heads": 16}


def laion_shapes(words, *, sizes, text, fused=False):
    """As `630k-audioset-best.pt`, or with fusion; without the training's own entries."""
    text = {"words": words, "positions": 514, **text}
    shapes = openflam_layout.shapes(**sizes, text=text)
    shapes = {n: s for n, s in shapes.items() if not n.startswith(("fc_per_text", "aed_"))}
    shapes["text_branch.embeddings.position_ids"] = (1, 514)
    embed, dim = sizes["embed"], sizes["dim"]
    shapes |= {"logit_scale_t": (), **classifier_shapes("audio_branch.", 8 * embed)}
    for transform in ("audio_transform", "text_transform"):
        for i in (0, 3):
            shapes[f"{transform}.sequential.{i}.weight"] = (dim, dim)
            shapes[f"{transform}.sequential.{i}.bias"] = (dim,)
    if fused:
        shapes["audio_branch.patch_embed.mel_conv2d.weight"] = (embed, 1, 4, 12)
        shapes["audio_branch.patch_embed.mel_conv2d.bias"] = (embed,)
        shapes["audio_branch.patch_embed.fusion_model.local_att.0.weight"] = (embed, embed, 1, 1)
    return shapes


def classifier_shapes(prefix, width):
    """Of AudioSet's 527 classes, which no embedding needs."""
    return {
        f"{prefix}tscam_conv.weight": (527, width, 2, 3),
        f"{prefix}tscam_conv.bias": (527,),
        f"{prefix}head.weight": (527, 527),
        f"{prefix}head.bias": (527,),
    }


def compa_shapes(words, *, sizes, t5):
    """LAION-CLAP with fusion, its text encoder that of a T5."""
    shapes = laion_shapes(9, sizes=sizes, text=TEXT, fused=True)
    shapes = {n: s for n, s in shapes.items() if not n.startswith("text_branch")}
    shapes["text_projection.0.weight"] = (sizes["dim"], t5["width"])
    return shapes | {f"text_branch.{n}": s for n, s in t5_shapes(words=words, **t5).items()}


def t5_shapes(*, words, width, layers, inner, heads, head_width=64, buckets=32):
    """Of the encoder of a T5 v1.1, such as flan-t5-large."""
    shapes = {"shared.weight": (words, width), "encoder.embed_tokens.weight": (words, width)}
    for i in range(layers):
        block = f"encoder.block.{i}.layer"
        for part in "qkv":
            shapes[f"{block}.0.SelfAttention.{part}.weight"] = (heads * head_width, width)
        shapes[f"{block}.0.SelfAttention.o.weight"] = (width, heads * head_width)
        if i == 0:
            shapes[f"{block}.0.SelfAttention.relative_attention_bias.weight"] = (buckets, heads)
        shapes[f"{block}.0.layer_norm.weight"] = (width,)
        for part in ("wi_0", "wi_1"):
            shapes[f"{block}.1.DenseReluDense.{part}.weight"] = (inner, width)
        shapes[f"{block}.1.DenseReluDense.wo.weight"] = (width, inner)
        shapes[f"{block}.1.layer_norm.weight"] = (width,)
    return shapes | {"encoder.final_layer_norm.weight": (width,)}


def mga_shapes(words, *, sizes, text, n_codes):
    """As the `model` of the released file."""
    text = {"words": words, "positions": 512, **text}
    shapes = {}
    for name, shape in openflam_layout.shapes(**sizes, text=text).items():
        name = name.replace("spectrogram_extractor.", "audio_feats_extractor.mel_trans.")
        name = name.replace("logmel_extractor.", "audio_feats_extractor.log_trans.")
        if name.startswith("audio_branch."):
            shapes[name.replace("audio_branch.", "audio_encoder.audio_enc.")] = shape
        elif name.startswith("text_branch.") and "pooler" not in name:
            shapes[name.replace("text_branch.", "text_encoder.text_encoder.")] = shape
    embeddings = "text_encoder.text_encoder.embeddings"
    shapes[f"{embeddings}.token_type_embeddings.weight"] = (2, text["width"])
    shapes[f"{embeddings}.position_ids"] = (1, 512)
    dim, width = sizes["dim"], 8 * sizes["embed"]
    for name, n in (("frame_proj", width), ("word_proj", text["width"])):
        shapes |= {
            f"{name}.0.weight": (n,), f"{name}.0.bias": (n,),
            f"{name}.1.weight": (dim, n), f"{name}.1.bias": (dim,),
            f"{name}.3.weight": (dim,), f"{name}.3.bias": (dim,),
            f"{name}.4.weight": (dim, dim), f"{name}.4.bias": (dim,),
        }  # fmt: skip
    shapes |= classifier_shapes("audio_encoder.audio_enc.", width)
    return shapes | {"codebook": (n_codes, dim), "temp": ()}


def constants(shapes):
    """Those of the names that are no weights."""
    usual = {
        "audio_encoder.audio_enc.": "audio_branch.",
        "audio_feats_extractor.mel_trans.": "spectrogram_extractor.",
        "audio_feats_extractor.log_trans.": "logmel_extractor.",
    }
    found = {}
    for name, shape in shapes.items():
        known = name
        for theirs, ours in usual.items():
            known = known.replace(theirs, ours)
        for tensor in openflam_layout.constants([known]).values():
            found[name] = tensor
        if name.endswith("position_ids"):
            found[name] = torch.arange(shape[1])[None]
        if name.endswith("log_trans.melW"):  # MGA-CLAP's front end is for 32 kHz
            filters = librosa.filters.mel(sr=32_000, n_fft=1024, n_mels=64, fmin=50, fmax=14_000)
            found[name] = torch.tensor(filters.T)
    return found


def random_state(shapes):
    """Numbers large enough that no part of the model could be left out unseen."""
    state = constants(shapes)
    for i, (name, shape) in enumerate(shapes.items()):
        if name in state:
            continue
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(i))
        if name.endswith("running_mean"):
            state[name] = -40 + 5 * noise
        elif name.endswith("running_var"):
            state[name] = 100 + 20 * noise.abs()
        elif name == "codebook":
            # Far apart, so that a temperature of a thousand leaves some codewords out.
            state[name] = 300 * noise
        elif "norm" in name.lower() or "bn0" in name:
            state[name] = (1.0 if name.endswith("weight") else 0.0) + 0.2 * noise
        else:
            state[name] = 0.3 * noise
    if "temp" in state:
        state["temp"] = torch.tensor(0.05)
    if "logit_scale_a" in state:
        state["logit_scale_a"] = torch.tensor(2.7)
    if "text_branch.shared.weight" in state:
        state["text_branch.shared.weight"] = state["text_branch.encoder.embed_tokens.weight"]
    return {name: state[name] for name in shapes}


def laion_state(words, *, fused=False):
    return random_state(laion_shapes(words, sizes=SIZES, text=TEXT, fused=fused))


def compa_state(words):
    return random_state(compa_shapes(words, sizes=SIZES, t5=T5))


def mga_state(words):
    return random_state(mga_shapes(words, sizes=SIZES, text=TEXT, n_codes=N_CODES))


def empty_state(shapes):
    """Zeros that take no memory, at any size; the constants are real."""
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()} | constants(
        shapes
    )


def write_t5_tokenizer(folder):
    """One that knows letters and a few words."""
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), ("▁", -2.0)]
    vocab += [(letter, -5.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    vocab += [("▁a", -1.5), ("▁dog", -1.0), ("▁rain", -1.0)]
    tokenizer = T5Tokenizer(vocab=vocab, extra_ids=0)
    tokenizer.save_pretrained(folder)
    return tokenizer
