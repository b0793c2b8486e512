"""Beside the import stands the original's forward pass, restated with loops."""

import hashlib
import pickle

import librosa
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from openflam_layout import PUBLISHED, attn_mask, random_state, relative_position_index, shapes
from torch.testing import assert_close
from towers import write_roberta

from flamlib.models import state_dict
from flamlib.models.flam import FLAM
from flamlib.models.importers import openflam

CAPTIONS = ["a dog barks", "rain", "a bell rings twice"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return write_roberta(tmp_path_factory.mktemp("roberta"))


@pytest.fixture(scope="module")
def state(tokenizer):
    """The published layout, small: shifted windows, two heads of text, every kind of tensor."""
    from transformers import RobertaTokenizer

    words = len(RobertaTokenizer.from_pretrained(tokenizer))
    text = {"words": words, "width": 128, "layers": 2, "inner": 96, "positions": 514}
    return random_state(embed=8, depths=(2, 2, 3, 2), heads=(1, 2, 2, 4), text=text, dim=12)


@pytest.fixture(scope="module")
def file(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "open_flam.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def model(file, tokenizer):
    return openflam.read(file, tokenizer)


@pytest.fixture(scope="module")
def waveform():
    """Ten seconds in which something changes."""
    made = np.random.default_rng(0)
    loud = np.linspace(0, 1, 480_000) * (np.arange(480_000) % 96_000 < 50_000)
    tone = np.sin(2 * np.pi * 700 * np.arange(480_000) / 48_000)
    return (0.1 * loud * (tone + made.standard_normal(480_000))).astype(np.float32)


# The original, slowly


def slow_log_mel(waveform):
    mel = librosa.feature.melspectrogram(
        y=waveform.astype(np.float64), sr=48_000, n_fft=1024, hop_length=480, n_mels=64,
        fmin=50, fmax=14_000, power=2.0, center=True, pad_mode="reflect",
    )  # fmt: skip
    return torch.tensor(10 * np.log10(np.maximum(mel.T, 1e-10)), dtype=torch.float64)


def slow_bn0(log_mel, state):
    p = {k: state[f"audio_branch.bn0.{k}"].double() for k in
         ("weight", "bias", "running_mean", "running_var")}  # fmt: skip
    unit = (log_mel - p["running_mean"]) / (p["running_var"] + 1e-5).sqrt()
    return unit * p["weight"] + p["bias"]


def slow_resize(hops, n_out=1024):
    """Cubic convolution with a = -0.75; the first and last hop stay first and last."""
    a, n_in = -0.75, len(hops)

    def weight(x):
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a

    out = torch.zeros(n_out, hops.shape[1], dtype=torch.float64)
    for i in range(n_out):
        place = i * (n_in - 1) / (n_out - 1)
        for tap in range(int(place) - 1, int(place) + 3):
            out[i] += weight(place - tap) * hops[min(max(tap, 0), n_in - 1)]
    return out


def slow_fold(hops):
    image = torch.empty(256, 256, dtype=torch.float64)
    for quarter in range(4):
        for mel in range(64):
            image[64 * quarter + mel] = hops[256 * quarter : 256 * (quarter + 1), mel]
    return image


def slow_patches(image, state):
    kernel = state["audio_branch.patch_embed.proj.weight"].double()
    tokens = torch.empty(64, 64, len(kernel), dtype=torch.float64)
    for row in range(64):
        for column in range(64):
            patch = image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            tokens[row, column] = (kernel[:, 0] * patch).sum(dim=(1, 2))
    tokens += state["audio_branch.patch_embed.proj.bias"].double()
    return norm(tokens, state, "audio_branch.patch_embed.norm")


def norm(x, state, name):
    return F.layer_norm(
        x, x.shape[-1:], state[f"{name}.weight"].double(), state[f"{name}.bias"].double(), 1e-5
    )


def linear(x, state, name):
    bias = state.get(f"{name}.bias")
    return F.linear(x, state[f"{name}.weight"].double(), None if bias is None else bias.double())


def slow_attention(grid, state, name, *, shift):
    """Each window of 8 x 8 tokens for itself, each head for itself."""
    side, _, width = grid.shape
    n_heads = state[f"{name}.relative_position_bias_table"].shape[1]
    table = state[f"{name}.relative_position_bias_table"].double()
    bias = table[relative_position_index()]  # [query, key, head]
    rolled = torch.roll(grid, (-shift, -shift), (0, 1))
    out = torch.empty_like(rolled)
    for number in range((side // 8) ** 2):
        top, left = number // (side // 8) * 8, number % (side // 8) * 8
        window = rolled[top : top + 8, left : left + 8].reshape(64, width)
        query, key, value = linear(window, state, f"{name}.qkv").split(width, dim=1)
        heads = []
        for head in range(n_heads):
            own = slice(head * width // n_heads, (head + 1) * width // n_heads)
            score = query[:, own] @ key[:, own].T / (width // n_heads) ** 0.5 + bias[..., head]
            if shift:
                score = score + attn_mask(side)[number]
            heads.append(score.softmax(dim=1) @ value[:, own])
        done = linear(torch.cat(heads, dim=1), state, f"{name}.proj")
        out[top : top + 8, left : left + 8] = done.reshape(8, 8, width)
    return torch.roll(out, (shift, shift), (0, 1))


def slow_block(grid, state, name, *, shift):
    normed = norm(grid, state, f"{name}.norm1")
    grid = grid + slow_attention(normed, state, f"{name}.attn", shift=shift)
    inner = F.gelu(linear(norm(grid, state, f"{name}.norm2"), state, f"{name}.mlp.fc1"))
    return grid + linear(inner, state, f"{name}.mlp.fc2")


def slow_merge(grid, state, name):
    side = len(grid) // 2
    four = torch.stack([
        torch.cat([grid[2 * r, 2 * c], grid[2 * r + 1, 2 * c],
                   grid[2 * r, 2 * c + 1], grid[2 * r + 1, 2 * c + 1]])
        for r in range(side) for c in range(side)
    ])  # fmt: skip
    four = norm(four, state, f"{name}.norm")
    return linear(four, state, f"{name}.reduction").reshape(side, side, -1)


def slow_encode(log_mel, state, depths):
    """Frame features [32, width]."""
    grid = slow_patches(slow_fold(slow_resize(slow_bn0(log_mel, state))), state)
    for i, depth in enumerate(depths):
        for j in range(depth):
            shift = 4 if j % 2 and len(grid) > 8 else 0
            grid = slow_block(grid, state, f"audio_branch.layers.{i}.blocks.{j}", shift=shift)
        if i + 1 < len(depths):
            grid = slow_merge(grid, state, f"audio_branch.layers.{i}.downsample")
    grid = norm(grid, state, "audio_branch.norm")
    frames = [
        (grid[2 * quarter, place] + grid[2 * quarter + 1, place]) / 2
        for quarter in range(4)
        for place in range(8)
    ]
    return torch.stack(frames)


def slow_project(x, state, name):
    x = linear(F.relu(linear(x, state, f"{name}.0")), state, f"{name}.2")
    return x / x.norm(dim=-1, keepdim=True)


def slow_read(ids, state):
    """RoBERTa's summary of one caption, of its tokens alone; positions count from two."""
    name = "text_branch.embeddings"
    x = state[f"{name}.word_embeddings.weight"].double()[ids]
    x = x + state[f"{name}.position_embeddings.weight"].double()[2 : 2 + len(ids)]
    x = norm(x + state[f"{name}.token_type_embeddings.weight"].double()[0], state,
             f"{name}.LayerNorm")  # fmt: skip
    for i in range(2):
        layer = f"text_branch.encoder.layer.{i}"
        query, key, value = (
            linear(x, state, f"{layer}.attention.self.{p}") for p in ("query", "key", "value")
        )
        heads = []
        for own in (slice(0, 64), slice(64, 128)):
            heads.append((query[:, own] @ key[:, own].T / 8).softmax(dim=1) @ value[:, own])
        done = linear(torch.cat(heads, dim=1), state, f"{layer}.attention.output.dense")
        x = norm(x + done, state, f"{layer}.attention.output.LayerNorm")
        inner = F.gelu(linear(x, state, f"{layer}.intermediate.dense"))
        done = linear(inner, state, f"{layer}.output.dense")
        x = norm(x + done, state, f"{layer}.output.LayerNorm")
    return linear(x[0], state, "text_branch.pooler.dense").tanh()


def slow_head(features, state, name):
    return linear(F.gelu(linear(features, state, f"{name}.0")), state, f"{name}.2").squeeze(1)


# The layout


def test_the_layout_is_the_published_one():
    """Its 500 names and shapes, by their checksum."""
    listing = "".join(f"{name} {[*shape]}\n" for name, shape in sorted(shapes(**PUBLISHED).items()))
    assert listing.count("\n") == 500
    expected = "03fb87f2c85235e846490410b71dbee6f4a5f5555c0b1a2e432c051b4ec8ec5b"
    assert hashlib.sha256(listing.encode()).hexdigest() == expected


def test_every_published_tensor_has_its_place(tmp_path, monkeypatch):
    """At full size, without the memory: nothing is left over, nothing missing, every shape fits."""
    from openflam_layout import constants
    from transformers import RobertaConfig

    wanted = shapes(**PUBLISHED)
    state = {name: torch.zeros(()).expand(shape) for name, shape in wanted.items()}
    state |= constants(wanted)
    folder = write_roberta(tmp_path / "roberta")
    RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1).save_pretrained(
        folder
    )
    audio = {
        "tower": "htsat", "embed": 128, "depths": [2, 2, 12, 2], "heads": [4, 8, 16, 32],
        "drop_path": 0.0, "drop_hidden": 0.0, "drop_attention": 0.0,
    }  # fmt: skip
    with torch.device("meta"):
        model = FLAM(
            folder, audio=audio, caption={"pooling": "pooler"}, dim=512, dropout=0.0,
            scale_init=10.0, bias_init=-8.0, temperature_init=0.07,
        )  # fmt: skip
    ours = openflam.convert(state, model)
    state_dict.check(ours, model.state_dict(), "the published layout")


def test_the_size_is_read_off_the_tensors(model):
    assert model.config["audio"] == {
        "tower": "htsat", "embed": 8, "depths": [2, 2, 3, 2], "heads": [1, 2, 2, 4], "patch": 4,
        "sample_rate": 48_000, "drop_path": 0.0, "drop_hidden": 0.0, "drop_attention": 0.0,
    }  # fmt: skip
    assert model.config["dim"] == 12
    assert not model.training


# Piece by piece


def test_the_mel_front_end_is_librosas(model, waveform):
    found = model.audio.log_mel(torch.tensor(waveform)[None])[0]
    assert found.shape == (1001, 64)
    np.testing.assert_allclose(found, slow_log_mel(waveform), atol=2e-3)


def test_bn0_resizing_and_folding_are_the_originals(model, state, waveform):
    encoder = model.audio.encoder.audio_encoder
    log_mel = slow_log_mel(waveform)
    with torch.no_grad():
        normed = encoder.batch_norm(log_mel.float()[None, :, :, None].transpose(1, 2))
        found = encoder.reshape_mel2img(normed.permute(0, 3, 2, 1))
    expected = slow_fold(slow_resize(slow_bn0(log_mel, state)))
    assert_close(found[0, 0].double(), expected, atol=1e-3, rtol=1e-3)


def test_patches_are_the_originals(model, state):
    image = torch.randn(256, 256, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = model.audio.encoder.audio_encoder.patch_embed(image[None, None])
    expected = slow_patches(image.double(), state).reshape(1, 4096, -1)
    assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("stage", "block"), [(0, 0), (0, 1), (1, 1), (2, 1), (2, 2), (3, 1)])
def test_blocks_are_the_originals(model, state, stage, block):
    """Relative positions, shifted windows and their masks, the last stage without any."""
    side, width = 64 // 2**stage, 8 * 2**stage
    grid = torch.randn(side, side, width, generator=torch.Generator().manual_seed(2))
    layer = model.audio.encoder.audio_encoder.layers[stage].blocks[block]
    with torch.no_grad():
        [found] = layer(grid.reshape(1, -1, width), (side, side))[:1]
    name = f"audio_branch.layers.{stage}.blocks.{block}"
    expected = slow_block(grid.double(), state, name, shift=4 if block == 1 and stage < 3 else 0)
    assert_close(found[0].double(), expected.reshape(-1, width), atol=1e-4, rtol=1e-4)


def test_merging_is_the_originals(model, state):
    grid = torch.randn(64, 64, 8, generator=torch.Generator().manual_seed(3))
    stage = model.audio.encoder.audio_encoder.layers[0]
    with torch.no_grad():
        found = stage.downsample(grid.reshape(1, -1, 8), (64, 64))
    expected = slow_merge(grid.double(), state, "audio_branch.layers.0.downsample")
    assert_close(found[0].double(), expected.reshape(-1, 16), atol=1e-4, rtol=1e-4)


def test_captions_are_read_as_the_original_reads_them(model, state):
    found = model.embed_captions(CAPTIONS)
    tokens = [model.caption.tokenizer(caption)["input_ids"] for caption in CAPTIONS]
    features = torch.stack([slow_read(ids, state) for ids in tokens])
    scale = slow_head(features, state, "fc_per_text_logit_scale")
    scale = (scale + state["aed_logit_scale"].double()).exp()
    bias = slow_head(features, state, "fc_per_text_logit_bias")
    emb = slow_project(features, state, "text_projection")
    for one, other in zip(found, (emb, scale, bias), strict=True):
        assert_close(one.double(), other, atol=1e-4, rtol=1e-4)
    assert model.log_temperature.item() == pytest.approx(2.7)


@pytest.fixture(scope="module")
def slow_frames(waveform, state):
    return slow_encode(slow_log_mel(waveform), state, (2, 2, 3, 2))


def test_embeddings_of_audio_are_the_originals(model, state, waveform, slow_frames):
    frame_emb, clip_emb = model.embed_audio(waveform, 48_000)
    expected = slow_project(slow_frames, state, "audio_projection")
    assert_close(frame_emb[0].double(), expected, atol=1e-4, rtol=1e-4)
    expected = slow_project(slow_frames.mean(dim=0), state, "audio_projection")
    assert_close(clip_emb[0].double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", ["unbiased", "approximate"])
def test_scores_are_the_originals(model, state, waveform, slow_frames, method):
    tokens = [model.caption.tokenizer(caption)["input_ids"] for caption in CAPTIONS]
    features = torch.stack([slow_read(ids, state) for ids in tokens])
    frames = slow_project(slow_frames, state, "audio_projection")
    cosine = slow_project(features, state, "text_projection") @ frames.T
    scale = slow_head(features, state, "fc_per_text_logit_scale").exp()
    scale = state["aed_logit_scale"].double().exp() * scale
    bias = slow_head(features, state, "fc_per_text_logit_bias")
    evidence = scale[:, None] * cosine
    if method == "unbiased":
        p, prior = (evidence + bias[:, None]).sigmoid(), bias.sigmoid()
        expected = p / (p + prior[:, None])
    else:
        expected = evidence.sigmoid()
    found = model.score(waveform, 48_000, CAPTIONS, method)[0]
    assert expected.std() > 0.01
    assert_close(found.double(), expected, atol=1e-4, rtol=1e-3)


def test_an_import_is_saved_and_read_like_any_model(model, tmp_path):
    model.save_pretrained(tmp_path / "ours")
    again = FLAM.from_pretrained(tmp_path / "ours")
    assert torch.equal(again.embed_captions(CAPTIONS)[0], model.embed_captions(CAPTIONS)[0])
    assert again.provenance["imported from"] == "OpenFLAM's open_flam.pth"
    assert len(again.provenance["sha256"]) == 64


def test_a_caption_that_the_original_would_cut_is_refused(model):
    with pytest.raises(ValueError, match="the encoder accepts at most 77"):
        model.embed_captions(["x " * 100])


# Other files


def changed(state, path, **changes):
    new = {**state, **{name.replace("__", "."): value for name, value in changes.items()}}
    torch.save({name: value for name, value in new.items() if value is not None}, path)
    return path


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"audio_projection__2__bias": None}, "1 missing tensors: audio_projection.4.bias"),
        ({"audio_branch__patch_embed__proj__weight": None}, "HTS-AT: tensor patch_embed"),
        ({"text_branch__embeddings__word_embeddings__weight": None}, "not a text encoder"),
        ({"aed_logit_scale": None}, "aed_logit_scale is missing"),
        ({"queue": torch.ones(1)}, "1 unexpected tensors: queue"),
        ({"audio_branch__tscam_conv__bias": torch.ones(1)}, r"audio_encoder\.tscam_conv\.bias"),
        ({"audio_branch__logmel_extractor__melW": torch.ones(513, 64)}, "melW differs"),
        ({"audio_branch__layers__0__blocks__1__attn_mask": torch.zeros(64, 64, 64)}, "attn_mask"),
        ({"audio_projection__0__bias": torch.ones(3)}, r"has shape \[3\], .* expects \[12\]"),
        ({"text_branch__embeddings__position_ids": torch.ones(1, 9)}, "is not 0, 1, 2"),
    ],
)  # fmt: skip
def test_what_does_not_map_is_named(state, tokenizer, tmp_path, changes, why):
    path = changed(state, tmp_path / "other.pth", **changes)
    with pytest.raises(ValueError, match=why) as error:
        openflam.read(path, tokenizer)
    assert str(path) in str(error.value)


def test_the_positions_of_other_versions_are_no_obstacle(state, file, tokenizer, tmp_path):
    positions = {"text_branch__embeddings__position_ids": torch.arange(514)[None]}
    found = openflam.read(changed(state, tmp_path / "other.pth", **positions), tokenizer)
    expected = openflam.read(file, tokenizer).state_dict()
    assert found.state_dict().keys() == expected.keys()
    assert all(torch.equal(found.state_dict()[name], x) for name, x in expected.items())


def test_another_tokenizer_is_refused(file, tmp_path):
    other = write_roberta(tmp_path / "other")
    from transformers import RobertaTokenizer

    tokenizer = RobertaTokenizer.from_pretrained(other)
    tokenizer.add_tokens(["bark"])
    tokenizer.save_pretrained(other)
    with pytest.raises(ValueError, match=r"has \d+ tokens, the checkpoint \d+"):
        openflam.read(file, other)


RAN = []


class Malicious:
    def __reduce__(self):
        return (RAN.append, ("ran",))


def test_code_in_a_checkpoint_does_not_run(tokenizer, tmp_path):
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"weight": Malicious()}))
    with pytest.raises(ValueError, match=r"is refused: .* could run code"):
        openflam.read(path, tokenizer)
    assert RAN == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_checkpoint_of_half_precision_is_the_model_of_its_rounded_numbers(
    state, tokenizer, tmp_path, dtype
):
    half = {n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()}
    torch.save(half, tmp_path / "half.pth")
    found = openflam.read(tmp_path / "half.pth", tokenizer).state_dict()
    assert {t.dtype for t in found.values() if t.is_floating_point()} == {torch.float32}
    name = "audio_projection.1.weight"
    assert torch.equal(found[name], half["audio_projection.0.weight"].float())
    last, extra = half["fc_per_text_logit_scale.2.bias"], half["aed_logit_scale"]
    assert torch.equal(found["scale_head.layers.2.bias"], last.float() + extra.float())
