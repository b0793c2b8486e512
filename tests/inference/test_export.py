import json

import numpy as np
import onnx
import pytest
import torch
from torch.nn.functional import normalize
from towers import MEAN, SETTINGS, YAMNET, write_bert, write_roberta
from transformers import AutoTokenizer

from flamlib.inference import export
from flamlib.models.class_features import concat_unit
from flamlib.models.familiarity import Trust
from flamlib.models.flam import FLAM

# The exporter takes a quarter of a minute for each model, and minutes on a busy machine.
pytestmark = pytest.mark.timeout(600)

HTSAT = {
    "tower": "htsat",
    "embed": 8,
    "depths": [1, 2, 1, 1],
    "heads": [1, 2, 2, 4],
    "drop_path": 0.0,
    "drop_hidden": 0.0,
    "drop_attention": 0.0,
}
TOWERS = {
    "default": (write_bert, {"audio": YAMNET | {"tags": True}, "caption": MEAN}),
    "fine": (write_bert, {"audio": YAMNET | {"frame_hops": 8}, "caption": MEAN}),  # no tags
    "paper": (write_roberta, {"audio": HTSAT, "caption": {"pooling": "pooler"}}),
}


def give_tags(model):
    """Classes with names, of which some are heard in noise and some are not."""
    for layer in model.audio.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    sounds = ("dog", "bell", "rain", "tone")
    doings = ("barks", "rings", "falls")
    names = [f"the {sound} {doing}" for sound in sounds for doing in doings]
    model.set_class_names([names[i % len(names)] for i in range(model.audio.n_tags)])
    with torch.no_grad():  # of most classes a trained classifier is all but sure that they are not
        model.audio.classifier.bias[::2] -= torch.linspace(0, 60, model.audio.n_tags)[::2]


def give_familiarity(model):
    """Captions that it knows, and ordinary frames, in which anything may sound."""
    halves = noise(300, SETTINGS["dim"]), noise(300, model.audio.n_tags + 1)
    frames = concat_unit(*(normalize(half, dim=1) for half in halves))
    trust = Trust(known=(1.0, 1.0, -0.5), novel=(0.5, 1.5, -0.2))
    model.set_known_captions(["a dog barks", "the bell rings"], trust, frames)


@pytest.fixture(scope="module", params=TOWERS)
def exported(request, tmp_path_factory):
    write, settings = TOWERS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    model = FLAM(write(folder / "tiny_text"), **SETTINGS | settings).eval()
    if model.audio.n_tags:
        give_tags(model)
        give_familiarity(model)
    about = export.export(model, folder / "onnx", clip_s=2.0)
    return model, folder / "onnx", about


def noise(*shape):
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("exported", ["default"], indirect=True)
def test_tags_are_a_third_of_what_is_exported(exported):
    """Beside what was learned and a constant. They tell frames, and captions, apart."""
    model, folder, about = exported
    n_tags = model.audio.n_tags
    assert n_tags > 0
    waveform = noise(1, round(about["clip_s"] * about["sample_rate"])) * torch.tensor(10.0)
    frame_emb, _ = export.run(folder / "audio.onnx", waveform=waveform.numpy())
    tokens = model.caption.tokenize(["a dog barks", "rain falls"])
    caption_emb, *_ = export.run(
        folder / "captions.onnx", **{k: v.numpy() for k, v in tokens.items()}
    )
    assert frame_emb.shape[-1] == caption_emb.shape[-1] == SETTINGS["dim"] + n_tags + 2
    third = frame_emb[0, :, SETTINGS["dim"] : -1]
    np.testing.assert_allclose((third**2).sum(axis=1), 1 / 3, atol=1e-5)
    for emb in (third, caption_emb[:, SETTINGS["dim"] : -1]):
        assert emb.std(axis=0).max() > 1e-3


@pytest.mark.parametrize("n_clips", [1, 3])
def test_onnxruntime_hears_what_the_model_hears(exported, n_clips):
    model, folder, about = exported
    waveform = noise(n_clips, round(about["clip_s"] * about["sample_rate"]))
    frame_emb, clip_emb = export.run(folder / "audio.onnx", waveform=waveform.numpy())
    expected = model.embed_audio(waveform, about["sample_rate"])
    np.testing.assert_allclose(frame_emb, expected.frame_emb, atol=1e-4)
    np.testing.assert_allclose(clip_emb, expected.clip_emb, atol=1e-4)
    assert frame_emb.shape[1] == pytest.approx(about["clip_s"] / about["frame_s"])


@pytest.mark.parametrize("captions", [["rain"], ["a dog barks", "the bell rings", "rain", "犬"]])
def test_onnxruntime_reads_what_the_model_reads(exported, captions):
    """With the tokenizer that lies beside it."""
    model, folder, _ = exported
    tokenizer = AutoTokenizer.from_pretrained(folder / "caption_tower")
    tokens = tokenizer(captions, padding=True, return_tensors="np")
    tokens = {k: tokens[k].astype(np.int64) for k in ("input_ids", "attention_mask")}
    found = export.run(folder / "captions.onnx", **tokens)
    for one, other in zip(found, model.embed_captions(captions), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_what_was_measured_is_written(exported):
    _, folder, about = exported
    assert json.loads((folder / "export.json").read_text()) == about
    assert about["difference"] <= export.TOLERANCE
    assert about["score_difference"] <= export.TOLERANCE
    assert 0 < about["int8_score_difference"] < 0.2


def cosine(one, other):
    return (
        (one * other).sum(axis=-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)
    )


def test_eight_bits_are_fewer_and_not_the_same(exported):
    """The clip dies away by 60 dB: int8 keeps what is quiet."""
    model, folder, about = exported
    assert about["int8_bytes"] < about["float_bytes"]
    tokens = {k: v.numpy() for k, v in model.caption.tokenize(["a dog barks"]).items()}
    caption_emb, _, _ = export.run(folder / "captions.int8.onnx", **tokens)
    expected = model.embed_captions(["a dog barks"]).caption_emb.numpy()
    assert not np.array_equal(caption_emb, expected)
    assert cosine(caption_emb, expected).min() > 0.99
    n_samples = round(about["clip_s"] * about["sample_rate"])
    waveform = noise(1, n_samples) * torch.logspace(0, -3, n_samples)
    frame_emb, _ = export.run(folder / "audio.int8.onnx", waveform=waveform.numpy())
    expected = model.embed_audio(waveform, about["sample_rate"]).frame_emb.numpy()
    assert not np.array_equal(frame_emb, expected)
    assert cosine(frame_emb, expected).min() > 0.99


def quantised(path):
    """The int8 matrices of a file by name, and by what they are multiplied."""
    graph = onnx.load(path).graph
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMulInteger"]
    for node in products:
        zero_point = constants[node.input[3]]
        assert not zero_point.any()
    return {node.input[1]: constants[node.input[1]] for node in products}


def largest_pair(weights):
    """Largest sum of two products that a CPU without VNNI adds in int16.

    vpmaddubsw multiplies the uint8 activations of two neighbouring rows with their int8 weights;
    the worst activations are 255 for the weights of one sign and 0 for the others.
    """
    weights = weights.astype(int)
    weights = np.pad(weights, ((0, len(weights) % 2), (0, 0))).reshape(-1, 2, weights.shape[1])
    return 255 * max(weights.clip(min=0).sum(axis=1).max(), -weights.clip(max=0).sum(axis=1).min())


@pytest.mark.parametrize("part", ["audio", "captions"])
def test_int8_products_cannot_saturate_on_any_cpu(exported, part):
    """Saturated sums made embeddings differ between CPUs: cosine 0.89 instead of 0.9996."""
    matrices = quantised(exported[1] / f"{part}.int8.onnx")
    assert matrices
    for name, weights in matrices.items():
        assert weights.dtype == np.int8, name
        assert largest_pair(weights) <= np.iinfo(np.int16).max, name
    assert max(np.abs(weights).max() for weights in matrices.values()) > 60  # 7 bits are used


def test_mel_filters_stay_in_float(exported):
    folder = exported[1]
    assert not [name for name in quantised(folder / "audio.int8.onnx") if "log_mel" in name]
    for kind in ("", ".int8"):
        constants = onnx.load(folder / f"audio{kind}.onnx").graph.initializer
        assert [c.name for c in constants if c.name.startswith(export._MEL_FILTERS)]


@pytest.mark.parametrize("exported", ["default"], indirect=True)
def test_statistics_of_frames_stay_in_float(exported):
    model, folder, _ = exported
    n_tags = model.audio.n_tags + 1
    assert model.familiarity.class_covariance.shape == (n_tags, n_tags)
    assert (n_tags, n_tags) not in {
        m.shape for m in quantised(folder / "captions.int8.onnx").values()
    }


def test_a_file_that_computes_something_else_is_not_kept(exported, tmp_path, monkeypatch):
    model = exported[0]
    monkeypatch.setattr(export, "_write", lambda *a, **k: None)
    monkeypatch.setattr(export, "_quantise", lambda *a: None)
    monkeypatch.setattr(export, "_differences", lambda *a: {"difference": 0.01})
    with pytest.raises(export.ExportMismatch, match=r"differ from torch's by 0.01"):
        export.export(model, tmp_path / "onnx")
    assert list(tmp_path.iterdir()) == []


def test_nothing_else_is_replaced(exported, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="something else than an export"):
        export.export(exported[0], tmp_path)
    with pytest.raises(ValueError, match="clip_s must be above 0"):
        export.export(exported[0], tmp_path / "onnx", clip_s=0.0)
