import inspect
import json

import pytest
import torch
from heldouts import CLASSES, write_mga_clap, write_model, write_weights
from sounds import RATE, noise

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
    features = model.tower(model.tower.log_mel(waveform))[0, : said.shape[2], : model.tower.width]
    unit = torch.nn.functional.normalize
    names = [unit(model.caption_tower.embed([n.lower()])[0], dim=0) for n in CLASSES]
    for j, caption in enumerate(captions):
        text = unit(model.caption_tower.embed([caption])[0], dim=0)
        likeness = torch.stack([(text @ name / class_features.TEMPERATURE).exp() for name in names])
        for at, feature in enumerate(features):  # the local branch of a new tower adds nothing
            prob = torch.sigmoid(model.tower.classifier(feature))
            heard = torch.log(1 + prob / class_features.FLOOR)
            length = torch.sqrt(heard.square().sum() + class_features.SLACK**2)
            expected = (heard / length) @ (likeness / likeness.norm())
            assert torch.allclose(said[0, j, at], expected, rtol=1e-3, atol=1e-4)


def test_a_clip_is_what_is_heard_on_average(folder, waveform):
    model = LabelMatching.pretrained(folder / "weights")
    heard = model.embed_audio(waveform, RATE)
    frames = model.tower(model.tower.log_mel(waveform))[:, :4, model.tower.width :]
    assert torch.allclose(heard.clip_emb, class_features.frame_class_vector(frames.mean(dim=1)))
    assert heard.frame_emb.shape == (1, 4, len(CLASSES) + 1)


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
        assert listener.context_frames == model.context_frames
        score = listener.score(waveform, RATE, ["rain", "a bell rings"])
        assert torch.equal(score, listener.score(waveform.numpy(), RATE, ["rain", "a bell rings"]))
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


def test_a_folder_of_an_unknown_kind_is_refused(tmp_path):
    write_mga_clap(tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    (tmp_path / "model/config.json").write_text(json.dumps(config | {"model": "whisper"}))
    with pytest.raises(ValueError, match="unknown kind of model 'whisper'"):
        baselines.load(tmp_path / "model")
    with pytest.raises(FileNotFoundError, match=r"config.json is missing"):
        baselines.load(tmp_path / "nothing")
