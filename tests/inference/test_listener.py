import numpy as np
import pytest
import torch
from heldouts import write_model
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import noise

from flamlib.inference import detector
from flamlib.inference.listener import Listener
from flamlib.inference.questions import Question, Questions
from flamlib.models.flam import FLAM
from flamlib.models.interface import AudioEmbeddings
from flamlib.sound_events.smoothing import Smoothing


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "flam"
    write_model(folder)
    return FLAM.from_pretrained(folder)


def questions(thresholds, **how):
    captions = [Question(caption=f"caption {k}", **asked) for k, asked in enumerate(thresholds)]
    return Questions(format=1, model="", captions=captions, **how)


def listen(listener, waveform, size):
    found = []
    for at in range(0, len(waveform), size):
        found += listener.feed(waveform[at : at + size])
    return sorted(found + listener.finish())


@pytest.mark.parametrize(
    ("rate", "seconds"), [(16000, 9.0), (44100, 5.3), (8000, 0.1), (48000, 2.56 + 1 / 48000)]
)
@pytest.mark.parametrize("size", [1000, 100_000])
def test_what_is_heard_live_is_what_detect_finds(model, rate, seconds, size, monkeypatch):
    """Scores to 1e-5, and the events of these scores, however the audio is cut."""
    waveform = noise(seconds + 0.1, rate=rate)[: round(seconds * rate)].astype(np.float32)
    heard = []
    spot = Listener._spot

    def keep(self, *, last):
        first = self._n_scored - self._scores.shape[1]
        heard.append((first, self._scores))
        return spot(self, last=last)

    monkeypatch.setattr(Listener, "_spot", keep)
    asked = questions([{"threshold": 0.0}], median_frames=1)
    [event] = listen(Listener(model, asked, rate), waveform, size)
    scores = detector.score(
        model, (waveform, rate), ["caption 0"], method="unbiased", smoothing=Smoothing()
    )
    live = np.full_like(scores.scores.T, np.nan)
    for first, part in heard:
        live[:, first : first + part.shape[1]] = part
    np.testing.assert_allclose(live, scores.scores.T, atol=1e-5)
    [expected] = asked.events(scores)
    assert event[:2] == pytest.approx(expected[:2])
    assert event.score == pytest.approx(expected.score, abs=1e-5)


class Told:
    """A model whose scores are given, a frame a second, one sample each."""

    frame_s, sample_rate, context_frames = 1.0, 1, 2

    def __init__(self, scores):
        self.scores = np.asarray(scores, np.float32)

    def embed_captions(self, captions):
        return captions

    def embed_audio(self, waveform, sample_rate):
        numbers = torch.from_numpy(waveform)[None, :, None].float()
        return AudioEmbeddings(numbers, numbers.mean(dim=1))

    def score_embeddings(self, audio, captions, method):
        frames = audio.frame_emb[0, :, 0].int().numpy()
        return torch.from_numpy(self.scores[frames].T[None].copy())

    def score(self, *_):
        raise NotImplementedError


SCORES = st.lists(st.tuples(*[st.sampled_from([0.1, 0.3, 0.5, 0.7])] * 2), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(
    SCORES,
    st.sampled_from([1, 3, 5]),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    st.sampled_from([0.0, 1.0, 3.0]),
    st.integers(1, 50),
)
def test_events_are_those_of_the_whole(scores, median_frames, hysteresis, merge_gap_s, size):
    """With filter, hysteresis, merging and a minimum duration, on any scores."""
    asked = questions(
        [
            {"threshold": 0.5, "off_threshold": 0.3},
            {"threshold": 0.6, "min_duration_s": 2.0, "label": "two"},
        ],
        median_frames=median_frames,
        hysteresis=hysteresis,
        merge_gap_s=merge_gap_s,
    )
    model = Told(scores)
    found = listen(Listener(model, asked, 1), np.arange(len(scores), dtype=np.float32), size)
    whole = detector.score(
        model,
        (np.arange(len(scores), dtype=np.float32), 1),
        [each.caption for each in asked.captions],
        method="unbiased",
        smoothing=asked.smoothing,
    )
    assert found == asked.events(whole)


def test_memory_is_that_of_the_look_ahead_and_events_come_in_time():
    scores = np.tile([[0.9], [0.1], [0.1]], (4000, 1))
    listener = Listener(Told(scores), questions([{"threshold": 0.5}]), 1)
    n_told = 0
    for at in range(len(scores)):
        n_told += len(listener.feed(np.array([at], np.float32)))
        assert listener._samples.nbytes + listener._scores.nbytes < 200
        assert at + 1 - listener.n_smoothed <= listener.latency_s
