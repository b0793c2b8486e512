import inspect
import json
import shutil

import pytest
import torch
from heldouts import CLASSES, write_mga_clap, write_model, write_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sounds import RATE, noise
from towers import HTSAT, MGA_CLAP, SETTINGS, write_bert, write_roberta

from flamlib.losses import frame_wise
from flamlib.models import baselines, class_features
from flamlib.models.baselines import FLAMGlobal, LabelMatching
from flamlib.models.flam import FLAM
from flamlib.models.interface import AudioTextModel
from flamlib.models.mga_clap import MGACLAP


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("baselines")
    write_model(folder / "flam_global")
    write_weights(folder / "weights")
    return folder


@pytest.fixture(scope="module")
def waveform():
    return torch.from_numpy(noise(1.28)).float()[None]


def evidence(model, waveform, captions, rate=RATE):
    heard, asked = model.embed_audio(waveform, rate), model.embed_captions(captions)
    return frame_wise.frame_logits(heard.frame_emb, *asked)


def test_flam_global_hears_the_cosine(folder, waveform):
    model = FLAM.from_pretrained(folder / "flam_global")
    captions = ["a dog barks", "rain falls"]
    heard, asked = model.embed_audio(waveform, RATE), model.embed_captions(captions)
    cosine = heard.frame_emb @ asked.caption_emb.T
    said = evidence(FLAMGlobal(model), waveform, captions)
    assert torch.allclose(said, cosine.transpose(1, 2), atol=1e-6)


def test_labels_are_weighted_by_how_much_their_names_resemble_the_caption(folder, waveform):
    """The definition, one caption, one frame and one class at a time."""
    model = LabelMatching.pretrained(folder / "weights")
    captions = ["a dog barks", "rain", "a bell rings"]
    said = evidence(model, waveform, captions)
    features = model.tower(model.tower.trunk(waveform))[0, : said.shape[2], : model.tower.width]
    unit = torch.nn.functional.normalize
    names = [unit(model.caption_tower.embed([n.lower()])[0], dim=0) for n in CLASSES]
    for j, caption in enumerate(captions):
        text = unit(model.caption_tower.embed([caption])[0], dim=0)
        likeness = torch.stack([(text @ name / class_features.TEMPERATURE).exp() for name in names])
        # The local branch of a new tower adds nothing.
        own = torch.sigmoid(model.tower.classifier(features)) ** class_features.POWER
        for at in range(len(features)):
            near = own[max(0, at - 4) : at + 5]
            heard = (own[at] + near.amax(dim=0)) / 2
            heard -= heard.mean()
            length = torch.sqrt(heard.square().sum() + class_features.SLACK**2)
            expected = (heard / length) @ (likeness / likeness.norm())
            assert torch.allclose(said[0, j, at], expected, rtol=1e-3, atol=1e-4)


def test_a_clip_is_what_is_heard_on_average(folder, waveform):
    model = LabelMatching.pretrained(folder / "weights")
    heard = model.embed_audio(waveform, RATE)
    frames = model.tower(model.tower.trunk(waveform))[:, :4, model.tower.width :]
    assert torch.allclose(heard.clip_emb, class_features.frame_class_vector(frames.mean(dim=1)))
    assert heard.frame_emb.shape == (1, 4, len(CLASSES) + 1)


@pytest.mark.parametrize("wrong", [float("nan"), 3e38])
def test_no_model_gives_embeddings_that_are_no_numbers(folder, wrong):
    """Neither of samples that are none, nor of those too large for the arithmetic."""
    loud = wrong * torch.ones(1, RATE)
    loud[:, ::2] *= -1
    for model in (
        LabelMatching.pretrained(folder / "weights"),
        FLAMGlobal(FLAM.from_pretrained(folder / "flam_global")),
    ):
        with pytest.raises(ValueError, match="NaN"):
            model.embed_audio(loud, RATE)


def test_audio_at_another_rate_is_resampled(folder):
    """The same tone, sampled three times as densely, is heard as the same tone."""
    model = LabelMatching.pretrained(folder / "weights")

    def heard(rate):
        tone = 0.1 * torch.sin(2 * torch.pi * 440 * torch.arange(2 * rate) / rate)
        return evidence(model, tone[None], ["rain", "a bell rings"], rate)

    assert heard(RATE).shape == heard(3 * RATE).shape
    # The ends of a recording are where resampling shows.
    assert torch.allclose(heard(RATE)[..., 1:-1], heard(3 * RATE)[..., 1:-1], atol=2e-2)


def test_all_of_them_are_asked_in_the_same_way(folder, waveform):
    model = FLAM.from_pretrained(folder / "flam_global")
    others = FLAMGlobal(model), LabelMatching.pretrained(folder / "weights")
    for listener in (model, *others):
        assert isinstance(listener, AudioTextModel)
        assert (listener.sample_rate, listener.frame_s) == (model.sample_rate, model.frame_s)
        classes = 4 if isinstance(listener, LabelMatching) else 0
        assert listener.context_frames == model.context_frames + classes
        score = listener.score(waveform, RATE, ["rain", "a bell rings"])
        assert torch.equal(score, listener.score(waveform.numpy(), RATE, ["rain", "a bell rings"]))
        assert torch.equal(score, listener.score(waveform[0], RATE, ["rain", "a bell rings"]))
        assert score.shape == (1, 2, 4)
        assert ((score >= 0) & (score <= 1)).all()


def test_scores_rise_with_the_evidence(folder, waveform):
    """One half is where a frame says nothing: a cosine, or a logit, of zero."""
    model = FLAM.from_pretrained(folder / "flam_global")
    others = FLAMGlobal(model), LabelMatching.pretrained(folder / "weights")
    for listener in others:
        said = evidence(listener, waveform, ["rain", "a dog barks"]).flatten()
        score = listener.score(waveform, RATE, ["rain", "a dog barks"]).flatten()
        assert (score[said.argsort()].diff() >= 0).all()
        assert torch.equal(score > 0.5, said > 0)


def test_without_a_prior_none_can_be_left_in(folder, waveform):
    model = FLAM.from_pretrained(folder / "flam_global")
    others = FLAMGlobal(model), LabelMatching.pretrained(folder / "weights")
    for listener in others:
        with pytest.raises(ValueError, match="no 'biased' scores"), torch.inference_mode():
            inspect.unwrap(type(listener).score)(listener, waveform, RATE, ["rain"], "biased")


def test_a_folder_says_which_kind_of_model_it_holds(folder, tmp_path):
    write_mga_clap(tmp_path / "mga_clap")
    assert type(baselines.load(tmp_path / "mga_clap")) is MGACLAP
    assert type(baselines.load(folder / "flam_global")) is FLAM, "nothing says how it was trained"
    frames, clips = {"clip": 1.0, "frame": 9.0}, {"clip": 1.0, "frame": 0.0}
    for about, kind in (
        ({"parameters": {"objective": clips}, "history": []}, FLAMGlobal),
        ({"parameters": {"objective": frames}, "history": []}, FLAM),
        ({"imported from": "CLAP", "heads": "new: they have learned nothing"}, FLAMGlobal),
    ):
        trained = FLAM.from_pretrained(folder / "flam_global")
        trained.save_pretrained(tmp_path / "flam", provenance=about)
        assert type(baselines.load(tmp_path / "flam")) is kind


def places(document, place=()):
    """Every place in nested lists and dicts, the first of a long list only."""
    yield place
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(items)[:20]:
        if isinstance(value, dict | list):
            yield from places(value, (*place, key))
        else:
            yield (*place, key)


def changed(document, place, value, how):
    """A copy of a document with another value, no value, or another key at a place."""
    if not place:
        return value
    copy = json.loads(json.dumps(document))
    *path, last = place
    inner = copy
    for key in path:
        inner = inner[key]
    if how == "value":
        inner[last] = value
    else:
        old = inner.pop(last)
        if how == "key" and isinstance(inner, dict):
            inner[f"{last}x"] = old
    return copy


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small model of each kind of tower, and MGA-CLAP."""
    folder = tmp_path_factory.mktemp("saved")
    bert, roberta = write_bert(folder / "bert"), write_roberta(folder / "roberta")
    torch.manual_seed(0)
    pooler = SETTINGS | {"audio": HTSAT, "caption": {"pooling": "pooler"}}
    about = {"parameters": {"objective": {"frame": 1.0}}, "history": [{"step": 1, "loss": 0.5}]}
    FLAM(bert, **SETTINGS).save_pretrained(folder / "flam", provenance=about)
    FLAM(roberta, **pooler).save_pretrained(folder / "htsat")
    MGACLAP(bert, **MGA_CLAP).save_pretrained(folder / "mga_clap")
    return folder


FILES = [
    *("config.json", "training.json", "caption_tower/config.json", "model.safetensors"),
    *("caption_tower/tokenizer.json", "caption_tower/tokenizer_config.json"),
]
VALUES = st.sampled_from(
    [None, True, 0, -1, 1.5, 10**9, 10**30, "512", "", [], [1], {}, {"a": 1}, float("nan"), 1e308]
)


@settings(max_examples=100)
@given(kind=st.sampled_from(["flam", "htsat", "mga_clap"]), name=st.sampled_from(FILES),
       data=st.data())  # fmt: skip
def test_a_changed_folder_is_a_model_or_refused_by_name(saved, kind, name, data, tmp_path_factory):
    """Whatever is changed in it: a value at any depth, a byte, or where the file ends."""
    folder = tmp_path_factory.mktemp("changed") / "model"
    shutil.copytree(saved / kind, folder)
    path = folder / name
    if not path.exists():
        return
    content = path.read_bytes()
    if path.suffix == ".json" and data.draw(st.booleans()):
        document = json.loads(content)
        place = data.draw(st.sampled_from(list(places(document))))
        how = data.draw(st.sampled_from(["value", "gone", "key"]))
        path.write_text(json.dumps(changed(document, place, data.draw(VALUES), how)))
    else:
        at = data.draw(st.integers(0, min(len(content), 9000) - 1))
        byte = data.draw(st.binary(min_size=1, max_size=3))
        end = data.draw(st.sampled_from([len(content), at]))
        path.write_bytes((content[:at] + byte + content[at + len(byte) :])[:end])
    try:
        model = baselines.load(folder)
    except (ValueError, OSError) as error:
        assert str(folder) in str(error)  # noqa: PT017
        return
    score = model.score(noise(0.5).astype("float32"), RATE, ["a dog barks"])
    assert score.isfinite().all()


def test_weights_of_half_precision_are_float32_when_read(saved, tmp_path):
    shutil.copytree(saved / "flam", tmp_path / "half")
    tensors = load_file(saved / "flam/model.safetensors")
    half = {name: t.half() for name, t in tensors.items()}
    save_file(half, tmp_path / "half/model.safetensors")
    model = FLAM.from_pretrained(tmp_path / "half")
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, half[name].float())


@pytest.mark.parametrize("dtype", [torch.int32, torch.complex64])
def test_a_weight_of_another_type_is_refused(saved, tmp_path, dtype):
    shutil.copytree(saved / "flam", tmp_path / "model")
    tensors = load_file(saved / "flam/model.safetensors")
    tensors["audio_projection.1.weight"] = tensors["audio_projection.1.weight"].to(dtype)
    save_file(tensors, tmp_path / "model/model.safetensors")
    with pytest.raises(
        ValueError, match=r"safetensors: audio_projection.1.weight is \w+, expected"
    ):
        baselines.load(tmp_path / "model")


@pytest.mark.parametrize("about", ["[]", '{"parameters": 1}', '{"parameters": {"objective": []}}'])
def test_a_provenance_of_another_layout_is_refused(saved, tmp_path, about):
    shutil.copytree(saved / "flam", tmp_path / "model")
    (tmp_path / "model/training.json").write_text(about)
    with pytest.raises(ValueError, match=r"training.json: .*expected names and values"):
        baselines.load(tmp_path / "model")


def test_a_folder_of_an_unknown_kind_is_refused(tmp_path):
    write_mga_clap(tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    (tmp_path / "model/config.json").write_text(json.dumps(config | {"model": "whisper"}))
    with pytest.raises(ValueError, match="unknown kind of model 'whisper'"):
        baselines.load(tmp_path / "model")
    with pytest.raises(FileNotFoundError, match=r"config.json is missing"):
        baselines.load(tmp_path / "nothing")
