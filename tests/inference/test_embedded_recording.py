import numpy as np
import pytest
import soundfile
from heldouts import write_model
from sounds import RATE, noise, tone

from flamlib.experiment.params.trials import DetectConfig
from flamlib.inference import detector
from flamlib.inference.embedded_recording import EmbeddedRecording
from flamlib.models.flam import FLAM

CONFIG = DetectConfig(recording="", captions=[], n_absent=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return FLAM.from_pretrained(folder)


def test_samples_are_as_good_as_their_file(model, tmp_path):
    samples = np.concatenate([noise(2.0), tone(300, 1.5)]).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    asked = {}
    for recording in (tmp_path / "a.wav", (samples, RATE)):
        embedded = EmbeddedRecording(model, recording, CONFIG)
        embedded.ask(["a bell", "rain"])
        asked[type(recording)] = embedded.scores()
        assert embedded.duration_s == len(samples) / RATE
    one, other = asked.values()
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.frame_edges, other.frame_edges)


def test_a_caption_is_scored_as_it_is_by_itself(model):
    embedded = EmbeddedRecording(model, (noise(3.0), RATE), CONFIG)
    embedded.ask(["a bell"])
    before = embedded.scores().scores
    embedded.ask(["rain", "a bell"])
    assert embedded.scores().captions == ["rain", "a bell"]
    np.testing.assert_array_equal(embedded.scores().scores[:, 1], before[:, 0])
    how = {"method": CONFIG.method, "smoothing": CONFIG.smoothing}
    expected = detector.score(model, (noise(3.0), RATE), ["rain"], **how)
    np.testing.assert_allclose(embedded.scores().scores[:, :1], expected.scores, atol=1e-6)


def test_without_captions_there_are_frames_and_no_scores(model):
    embedded = EmbeddedRecording(model, (noise(1.0), RATE), CONFIG)
    assert embedded.scores().scores.shape == (len(embedded.scores().frame_edges) - 1, 0)


@pytest.mark.parametrize("captions", [[""], ["rain", "rain"], [" "]])
def test_captions_are_neither_empty_nor_given_twice(model, captions):
    embedded = EmbeddedRecording(model, (noise(1.0), RATE), CONFIG)
    with pytest.raises(ValueError, match=r"an empty caption|given twice|rain"):
        embedded.ask(captions)
