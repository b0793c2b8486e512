import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize
from torch.testing import assert_close
from towers import sensitive_model, write_bert

from flamlib.models import interface
from flamlib.models.interface import AudioEmbeddings, AudioTextModel, CaptionEmbeddings


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return sensitive_model(write_bert(tmp_path_factory.mktemp("bert")))


def embeddings(n_clips, n_frames, n_captions, dim=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    frames, clips, captions = (
        normalize(torch.randn(*shape, dim, generator=g), dim=-1)
        for shape in ((n_clips, n_frames), (n_clips,), (n_captions,))
    )
    one = torch.ones(n_captions)
    return AudioEmbeddings(frames, clips), CaptionEmbeddings(captions, one, 0 * one)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(0, 9))
def test_the_score_without_priors_goes_by_the_cosine(n_clips, n_frames, n_captions, seed):
    heard, asked = embeddings(n_clips, n_frames, n_captions, seed=seed)
    score = interface.cosine_score(heard, asked, "unbiased")
    assert score.shape == (n_clips, n_captions, n_frames)
    for i in range(n_clips):
        for j in range(n_captions):
            for k in range(n_frames):
                cosine = heard.frame_emb[i, k] @ asked.caption_emb[j]
                assert_close(score[i, j, k], (1 + cosine) / 2)


def test_a_frame_that_is_the_caption_scores_one_its_opposite_none_and_the_rest_half():
    axis = torch.eye(3)
    heard = AudioEmbeddings(torch.stack([axis[0], -axis[0], axis[1]])[None], axis[:1])
    asked = CaptionEmbeddings(axis[:1], torch.ones(1), torch.zeros(1))
    assert interface.cosine_score(heard, asked, "unbiased")[0, 0].tolist() == [1.0, 0.0, 0.5]


@pytest.mark.parametrize("method", ["biased", "approximate"])
def test_there_is_no_prior_to_leave_in(method):
    with pytest.raises(ValueError, match="a model without priors"):
        interface.cosine_score(*embeddings(1, 1, 1), method)


def test_flam_is_a_listener_and_its_towers_alone_are_not(net):
    assert isinstance(net, AudioTextModel)
    assert not isinstance(net.audio, AudioTextModel)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_audio_comes_to_the_models_rate_and_has_at_least_a_frame(net, rate):
    heard = interface.resample_to_model(torch.randn(2, rate), rate, net)
    assert heard.shape == (2, pytest.approx(net.sample_rate, abs=1))
    few = interface.resample_to_model(torch.randn(1, 3), rate, net)
    assert few.shape[1] >= (3 if rate == net.sample_rate else round(net.frame_s * net.sample_rate))
