"""Beside each import stand the original's embeddings, by `transformers` and by hand."""

import functools

import librosa
import numpy as np
import pytest
import torch
from originals_layout import (
    BASE,
    FLAN_T5,
    SIZES,
    T5,
    TEXT,
    TINY,
    WIDE_TEXT,
    compa_shapes,
    compa_state,
    empty_state,
    laion_shapes,
    laion_state,
    mga_shapes,
    mga_state,
    write_t5_tokenizer,
)
from torch.nn.functional import gelu, layer_norm, normalize
from torch.testing import assert_close
from towers import write_bert, write_roberta
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizer,
    ClapAudioConfig,
    ClapConfig,
    ClapModel,
    T5Config,
    T5EncoderModel,
)

from flamlib.losses.codebook import sparsemax
from flamlib.models import baselines, state_dict
from flamlib.models.importers import originals
from flamlib.models.importers.originals import CLAP
from flamlib.models.interface import AudioTextModel
from flamlib.models.mga_clap import MGACLAP

CAPTIONS = ["a dog barks", "rain", "a bell rings"]
AUDIO = {
    "patch_embeds_hidden_size": SIZES["embed"],
    "hidden_size": 8 * SIZES["embed"],
    "depths": [*SIZES["depths"]],
    "num_attention_heads": [*SIZES["heads"]],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tokenizers, and the checkpoints as training programs leave them."""
    folder = tmp_path_factory.mktemp("originals")
    words = {
        "laion": len(AutoTokenizer.from_pretrained(write_roberta(folder / "roberta"))),
        "mga": len(AutoTokenizer.from_pretrained(write_bert(folder / "bert", max_tokens=512))),
        "compa": len(write_t5_tokenizer(folder / "t5")) + 28,
    }
    training = {"epoch": 7, "name": "htsat", "optimizer": {"state": {}, "lr": np.float64(1e-4)}}
    for name, state in {
        "laion": laion_state(words["laion"]),
        "fused": laion_state(words["laion"], fused=True),
        "compa": compa_state(words["compa"]),
    }.items():
        parallel = {f"module.{key}": tensor for key, tensor in state.items()}
        torch.save(training | {"state_dict": parallel}, folder / f"{name}.pt")
    torch.save(
        {"model": mga_state(words["mga"]), "config": {"seed": 20}, "epoch": 9}, folder / "mga.pt"
    )
    return folder


TOKENIZER = {"laion": "roberta", "fused": "roberta", "compa": "t5", "mga": "bert"}


@pytest.fixture(scope="module")
def read(folder):
    @functools.cache
    def read(name):
        return originals.read(folder / f"{name}.pt", folder / TOKENIZER[name])

    return read


def state_of(folder, name):
    content = torch.load(folder / f"{name}.pt", weights_only=False)
    state = content.get("state_dict") or content["model"]
    return {key.removeprefix("module."): tensor for key, tensor in state.items()}


def noise(seconds, rate, seed=0):
    waveform = np.random.default_rng(seed).standard_normal(round(seconds * rate))
    return (0.1 * waveform * np.linspace(0, 1, len(waveform))).astype(np.float32)


def clap_model(state, words):
    """The state dict in a `ClapModel`, renamed by the rules that its own conversion has."""
    renamed = {}
    for name, tensor in state.items():
        for old, new in {
            "text_branch": "text_model",
            "audio_branch": "audio_model.audio_encoder",
            "attn": "attention.self",
            "self.proj": "output.dense",
            "attention.self_mask": "attn_mask",
            "mlp.fc1": "intermediate.dense",
            "mlp.fc2": "output.dense",
            "norm1": "layernorm_before",
            "norm2": "layernorm_after",
            "bn0": "batch_norm",
            "_projection.0.": "_projection.linear1.",
            "_projection.2.": "_projection.linear2.",
        }.items():
            name = name.replace(old, new)
        if "qkv" in name:
            third = len(tensor) // 3
            for i, part in enumerate(("query", "key", "value")):
                renamed[name.replace("qkv", part)] = tensor[i * third : (i + 1) * third]
        else:
            renamed[name] = tensor
    text = {
        "vocab_size": words, "hidden_size": TEXT["width"], "num_hidden_layers": TEXT["layers"],
        "num_attention_heads": 1, "intermediate_size": TEXT["inner"], "layer_norm_eps": 1e-5,
    }  # fmt: skip
    dim = SIZES["dim"]
    audio = AUDIO | {"projection_hidden_size": dim, "projection_dim": dim}
    config = ClapConfig(
        text_config=text | {"projection_dim": dim}, audio_config=audio, projection_dim=dim
    )
    model = ClapModel(config).eval()
    missing, _ = model.load_state_dict(renamed, strict=False)
    allowed = {"position_ids", "token_type_ids", "relative_position_index"}
    assert not [name for name in missing if name.split(".")[-1] not in allowed]
    return model


def log_mel(waveform, rate, **filters):
    mel = librosa.feature.melspectrogram(
        y=waveform.astype(np.float64), sr=rate, n_fft=1024, hop_length=rate // 100, n_mels=64,
        fmin=50, fmax=14_000, power=2.0, center=True, pad_mode="reflect", **filters,
    )  # fmt: skip
    return torch.tensor(10 * np.log10(np.maximum(mel.T, 1e-10)), dtype=torch.float32)[None, None]


@pytest.mark.parametrize(
    ("name", "filters"), [("laion", {}), ("fused", {"htk": True, "norm": None})]
)
def test_laion_clap_hears_and_reads_as_its_port_does(folder, read, name, filters):
    """A fused one has other mel filters, and what is fused is only what is over ten seconds."""
    ours = read(name)
    assert type(ours) is CLAP
    tokenizer = AutoTokenizer.from_pretrained(folder / "roberta")
    theirs = clap_model(state_of(folder, name), len(tokenizer))
    waveform = noise(10, 48_000)
    with torch.no_grad():
        cells = theirs.audio_model(log_mel(waveform, 48_000, **filters)).last_hidden_state
        frames = cells.mean(dim=2).transpose(1, 2)
        frame_emb = normalize(theirs.audio_projection(frames), dim=2)
        clip_emb = normalize(theirs.audio_projection(frames.mean(dim=1)), dim=1)
        tokens = tokenizer(CAPTIONS, padding="max_length", max_length=77, return_tensors="pt")
        pooled = theirs.text_model(**tokens).pooler_output
        caption_emb = normalize(theirs.text_projection(pooled), dim=1)
    heard, asked = ours.embed_audio(waveform, 48_000), ours.embed_captions(CAPTIONS)
    assert heard.frame_emb.shape == (1, 32, SIZES["dim"])
    assert_close(heard.frame_emb, frame_emb, atol=1e-4, rtol=0)
    assert_close(heard.clip_emb, clip_emb, atol=1e-4, rtol=0)
    assert_close(asked.caption_emb, caption_emb, atol=1e-5, rtol=0)
    assert ours.log_temperature.item() == pytest.approx(2.7)


def test_compa_clap_reads_by_all_places_of_a_t5(folder, read):
    """The mean over 77 of them, padding among them; it hears as LAION-CLAP with fusion."""
    ours, state = read("compa"), state_of(folder, "compa")
    text = {n.removeprefix("text_branch."): t for n, t in state.items() if "text_branch" in n}
    config = T5Config(
        vocab_size=len(text["shared.weight"]), d_model=T5["width"], d_kv=T5["head_width"],
        d_ff=T5["inner"], num_layers=T5["layers"], num_heads=T5["heads"],
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    t5 = T5EncoderModel(config).eval()
    t5.load_state_dict(text)
    tokenizer = AutoTokenizer.from_pretrained(folder / "t5")
    tokens = tokenizer(CAPTIONS, padding="max_length", max_length=77, return_tensors="pt")
    with torch.no_grad():
        out = t5(tokens["input_ids"], tokens["attention_mask"]).last_hidden_state
    by_hand = out.sum(dim=1) / 77
    p = {n.removeprefix("text_projection."): t for n, t in state.items() if "text_proj" in n}
    inner = (by_hand @ p["0.weight"].T + p["0.bias"]).relu()
    expected = normalize(inner @ p["2.weight"].T + p["2.bias"], dim=1)
    assert_close(ours.embed_captions(CAPTIONS).caption_emb, expected, atol=1e-5, rtol=0)
    assert_close(ours.embed_captions(["rain"]).caption_emb, expected[1:2], atol=1e-5, rtol=0)

    heard = ours.embed_audio(noise(10, 48_000), 48_000)
    assert_close(heard.clip_emb, read("fused").embed_audio(noise(10, 48_000), 48_000).clip_emb)


def test_mga_clap_hears_and_reads_by_its_formulas(folder, read):
    """Its whole forward pass: front end, the block that keeps cells apart, codebook."""
    ours, state = read("mga"), state_of(folder, "mga")
    assert type(ours) is MGACLAP
    assert (ours.sample_rate, ours.frame_s) == (32_000, 0.3125)
    dim, codes = SIZES["dim"], state["codebook"]

    def projected(features, name):
        p = {n.removeprefix(f"{name}."): t for n, t in state.items() if n.startswith(name)}
        x = layer_norm(features, features.shape[-1:], p["0.weight"], p["0.bias"])
        x = gelu(x @ p["1.weight"].T + p["1.bias"])
        x = layer_norm(x, (dim,), p["3.weight"], p["3.bias"])
        return x @ p["4.weight"].T + p["4.bias"]

    def mixture(steps, mask):
        affinity = (steps @ codes.T / np.sqrt(dim)) * mask[:, None] / 1000
        return normalize(sparsemax(affinity.amax(dim=0)[None]) @ codes, dim=1)[0]

    waveform = noise(10, 32_000)
    frames = projected(slow_local_frames(state, waveform), "frame_proj")
    heard = ours.embed_audio(waveform, 32_000)
    assert_close(heard.frame_emb[0], normalize(frames, dim=1), atol=1e-4, rtol=0)
    assert_close(heard.clip_emb[0], mixture(frames, torch.ones(32)), atol=1e-4, rtol=0)

    tokenizer = AutoTokenizer.from_pretrained(folder / "bert")
    bert = bert_model(state, len(tokenizer))
    tokens = tokenizer(CAPTIONS, padding="longest", return_tensors="pt")
    with torch.no_grad():
        hidden = bert(**tokens).last_hidden_state[:, 1:]
    # One for words, zero for the mark at the end and for padding.
    mask = (tokens["input_ids"] != tokenizer.sep_token_id) & tokens["attention_mask"].bool()
    for words, is_word, emb in zip(
        projected(hidden, "word_proj"),
        mask[:, 1:].float(),
        ours.embed_captions(CAPTIONS).caption_emb,
        strict=True,
    ):
        assert_close(emb, mixture(words, is_word), atol=1e-5, rtol=0)
    assert ours.log_temperature.exp().item() == pytest.approx(1 / 0.05)


def bert_model(state, words):
    prefix = "text_encoder.text_encoder."
    config = BertConfig(
        vocab_size=words, hidden_size=TEXT["width"], num_hidden_layers=TEXT["layers"],
        num_attention_heads=1, intermediate_size=TEXT["inner"],
    )  # fmt: skip
    bert = BertModel(config, add_pooling_layer=False).eval()
    text = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    bert.load_state_dict({n: t for n, t in text.items() if "position_ids" not in n})
    return bert


def slow_local_frames(state, waveform):
    """An HTS-AT that attends until its last block; that one, by hand; two frequencies, averaged."""
    prefix = "audio_encoder.audio_enc."
    audio = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    named = {f"audio_branch.{n}": t for n, t in audio.items()}
    attending = clap_model_audio(named)
    last = attending.audio_encoder.layers[-1].blocks[-1]
    entered = {}
    last.register_forward_hook(lambda module, args, out: entered.update(x=args[0]))
    with torch.no_grad():
        attending(log_mel(waveform, 32_000))
    block = {
        n.removeprefix("layers.3.blocks.1."): t
        for n, t in audio.items()
        if n.startswith("layers.3.blocks.1.")
    }
    x = entered["x"][0]
    width = x.shape[1]
    unit = layer_norm(x, (width,), block["norm1.weight"], block["norm1.bias"])
    value = unit @ block["attn.qkv.weight"][2 * width :].T + block["attn.qkv.bias"][2 * width :]
    v = x + value @ block["attn.proj.weight"].T + block["attn.proj.bias"]
    out = v + layer_norm(v, (width,), block["norm2.weight"], block["norm2.bias"])
    out = layer_norm(out, (width,), audio["norm.weight"], audio["norm.bias"])
    # Cells by frequency, then time; four quarters of the time lie above each other.
    grid = out.reshape(4, 2, 8, width)
    return grid.mean(dim=1).reshape(32, width)


def clap_model_audio(named):
    """`ClapAudioModel` with an original's tensors; its text part is of no matter here."""
    from transformers import ClapAudioModel

    renamed = {}
    for name, tensor in named.items():
        for old, new in {
            "audio_branch.": "audio_encoder.", "attn": "attention.self",
            "self.proj": "output.dense", "mlp.fc1": "intermediate.dense",
            "mlp.fc2": "output.dense", "norm1": "layernorm_before", "norm2": "layernorm_after",
            "bn0": "batch_norm",
        }.items():  # fmt: skip
            name = name.replace(old, new)
        for i, part in enumerate(("query", "key", "value")):
            third = len(tensor) // 3 if tensor.ndim else 0
            if "qkv" in name:
                renamed[name.replace("qkv", part)] = tensor[i * third : (i + 1) * third]
        if "qkv" not in name:
            renamed[name] = tensor
    model = ClapAudioModel(ClapAudioConfig(**AUDIO)).eval()
    missing, _ = model.load_state_dict(renamed, strict=False)
    assert not [name for name in missing if "relative_position_index" not in name]
    return model


# What they hear beside ten seconds


def test_short_audio_is_repeated_as_often_as_it_fits_and_then_silent(read):
    model, waveform = read("laion"), noise(4.2, 48_000)
    filled = np.zeros(480_000, np.float32)
    filled[: 2 * len(waveform)] = np.tile(waveform, 2)
    short, whole = model.embed_audio(waveform, 48_000), model.embed_audio(filled, 48_000)
    assert short.frame_emb.shape[1] == 14  # of 0.3125 s
    assert_close(short.frame_emb, whole.frame_emb[:, :14])
    assert_close(short.clip_emb, whole.clip_emb)


def test_what_is_left_after_ten_seconds_is_heard_as_a_short_clip_is(read):
    model, waveform = read("laion"), noise(13, 48_000)
    long = model.embed_audio(torch.from_numpy(waveform)[None], 48_000).frame_emb
    rest = model.embed_audio(waveform[480_000:], 48_000).frame_emb
    assert long.shape[1] == 42
    assert_close(long[:, 32:], rest)


def test_mga_clap_aggregates_over_whole_windows(read):
    """As its authors do: the silence after a short clip is part of it."""
    model, waveform = read("mga"), noise(4.2, 32_000)
    filled = np.zeros(320_000, np.float32)
    filled[: len(waveform)] = waveform
    short, whole = model.embed_audio(waveform, 32_000), model.embed_audio(filled, 32_000)
    assert_close(short.clip_emb, whole.clip_emb)
    assert_close(short.frame_emb, whole.frame_emb[:, :14])


@pytest.mark.parametrize("name", ["laion", "mga", "compa"])
def test_all_of_them_are_asked_alike_at_any_rate_and_length(read, name):
    model = read(name)
    assert isinstance(model, AudioTextModel)
    for seconds, rate in ((0.01, 44_100), (1.0, 16_000), (10.0, 8_000)):
        score = model.score(noise(seconds, rate), rate, CAPTIONS)
        n_frames = max(1, int(np.ceil(seconds / model.frame_s - 1e-6)))
        assert score.shape[:2] == (1, 3)
        assert n_frames <= score.shape[2] <= n_frames + 1
        assert ((score >= 0) & (score <= 1)).all()
    with pytest.raises(ValueError, match="not empty"), torch.inference_mode():
        type(model).embed_audio(model, torch.zeros(0), 48_000)


# Files


@pytest.mark.parametrize("name", ["laion", "fused", "compa", "mga"])
def test_an_import_survives_saving_and_is_found_by_its_kind(read, name, tmp_path):
    model, waveform = read(name), noise(1.0, 48_000)
    model.save_pretrained(tmp_path / "ours")
    again = baselines.load(tmp_path / "ours")
    assert type(again) is type(model)
    assert again.provenance["imported from"].endswith(f", {name}.pt")
    assert torch.equal(
        again.score(waveform, 48_000, CAPTIONS), model.score(waveform, 48_000, CAPTIONS)
    )


def save(folder, name, changed, tmp_path):
    torch.save({"state_dict": changed}, tmp_path / f"{name}.pt")
    return tmp_path / f"{name}.pt", folder / TOKENIZER[name]


PUBLISHED = {
    "LAION-CLAP": laion_shapes(50_265, sizes=TINY | {"dim": 512}, text=WIDE_TEXT),
    "LAION-CLAP, fused": laion_shapes(
        50_265, sizes=TINY | {"dim": 512}, text=WIDE_TEXT, fused=True
    ),
    "LAION-CLAP, base": laion_shapes(50_265, sizes=BASE | {"dim": 512}, text=WIDE_TEXT),
    "CompA-CLAP": compa_shapes(32_128, sizes=TINY | {"dim": 512}, t5=FLAN_T5),
    "MGA-CLAP": mga_shapes(30_522, sizes=TINY | {"dim": 1024}, text=WIDE_TEXT, n_codes=4096),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_tensor_of_the_published_sizes_has_its_place(name, tmp_path):
    """Without the numbers, which would be gigabytes: names and shapes, and the real constants."""
    state = empty_state(PUBLISHED[name])
    table = next(
        t for n, t in state.items() if n.endswith(("word_embeddings.weight", "shared.weight"))
    )
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(len(table) - 5))]
    BertTokenizer(vocab={token: i for i, token in enumerate(vocab)}).save_pretrained(tmp_path / "t")
    (tmp_path / "model").mkdir()
    build = originals.build_mga_clap if name == "MGA-CLAP" else originals.build_clap
    state |= {"temp": torch.ones(())} if "temp" in state else {}  # its logarithm is taken
    with torch.device("meta"):
        model = build(tmp_path / "model", state, tmp_path / "t")
    state_dict.check(originals.convert(state, model), model.state_dict(), name)


@pytest.mark.parametrize(
    ("name", "gone", "why"),
    [
        ("laion", "text_projection.2.bias", "1 missing tensors: caption_projection.2.bias"),
        ("laion", "audio_projection.0.weight", "audio_projection.0.weight is missing"),
        (
            "compa",
            "text_branch.encoder.block.0.layer.0.SelfAttention.q.weight",
            "T5 encoder: .* missing",
        ),
        ("mga", "word_proj.4.bias", "1 missing tensors: word_projection.6.bias"),
        (
            "mga",
            "audio_encoder.audio_enc.patch_embed.proj.weight",
            "not an HTS-AT",
        ),
        (
            "mga",
            "text_encoder.text_encoder.embeddings.word_embeddings.weight",
            "not a text encoder",
        ),
    ],
)
def test_a_tensor_that_is_missing_is_named(folder, tmp_path, name, gone, why):
    state = state_of(folder, name)
    del state[gone]
    with pytest.raises(ValueError, match=rf"{name}.pt:? .*{why}"):
        originals.read(*save(folder, name, state, tmp_path))


@pytest.mark.parametrize("name", ["laion", "compa", "mga"])
def test_a_tensor_without_a_place_is_named(folder, tmp_path, name):
    state = state_of(folder, name) | {"gate.weight": torch.ones(2)}
    with pytest.raises(ValueError, match=r"1 unexpected tensors: gate.weight"):
        originals.read(*save(folder, name, state, tmp_path))


def test_another_front_end_is_found_out(folder, tmp_path):
    """MGA-CLAP's filters are for 32 kHz."""
    state = state_of(folder, "mga")
    name = "audio_encoder.audio_enc.audio_feats_extractor.log_trans.melW"
    state[name] = state_of(folder, "laion")["audio_branch.logmel_extractor.melW"]
    with pytest.raises(ValueError, match="melW differs"):
        originals.read(*save(folder, "mga", state, tmp_path))


def test_two_tables_of_words_are_refused(folder, tmp_path):
    state = state_of(folder, "compa")
    state["text_branch.shared.weight"] = state["text_branch.shared.weight"] + 1
    with pytest.raises(ValueError, match=r"shared.weight differs from .*embed_tokens.weight"):
        originals.read(*save(folder, "compa", state, tmp_path))


@pytest.mark.parametrize(
    ("name", "other", "why"),
    [
        ("laion", "bert", "the checkpoint 277: pass RoBERTa's tokenizer"),
        ("mga", "roberta", "the checkpoint 17: pass BERT's tokenizer"),
        ("compa", "roberta", "the checkpoint 61: pass T5's tokenizer"),
    ],
)
def test_the_tokenizer_of_another_encoder_is_refused(folder, name, other, why):
    with pytest.raises(ValueError, match=why):
        originals.read(folder / f"{name}.pt", folder / other)


def test_another_checkpoint_is_refused(folder, tmp_path):
    torch.save({"weight": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="is not a checkpoint of MGA-CLAP, CompA-CLAP, LAION-CLAP"):
        originals.read(tmp_path / "other.pt", folder / "bert")
