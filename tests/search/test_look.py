import numpy as np
import pytest
import soundfile
from sounds import RATE, noise

from flamlib.models import baselines
from flamlib.search import look
from flamlib.search.query import Hit
from flamlib.sound_events.detection import Detection
from flamlib.waveforms import audio


@pytest.fixture
def hit(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(5.0), RATE, subtype="FLOAT")
    return Hit(tmp_path / "a.wav", Detection(1.0, 1.5, "rain falls", 0.87654), True)


def test_an_excerpt_has_what_is_around_and_stays_inside(hit):
    heard = look.excerpt(hit, 0.25)
    assert heard.start_s == 0.75
    assert np.allclose(heard.waveform, noise(5.0)[round(0.75 * RATE) : round(1.75 * RATE)])
    late = hit._replace(detection=Detection(0.5, 5.0, "rain falls", 0.9))
    assert look.excerpt(late, 2.0).start_s == 0.0
    assert len(look.excerpt(late, 2.0).waveform) == 5 * RATE
    with pytest.raises(audio.Unreadable):
        look.excerpt(hit._replace(path=hit.path.with_name("gone.wav")))


def test_a_table_and_a_picture(here, hit):
    [row] = look.table([hit]).to_dict("records")
    assert row == {
        "recording": "a.wav", "onset": 1.0, "offset": 1.5, "looked for": "rain falls",
        "score": 0.877,
    }  # fmt: skip
    model = baselines.load(here / "artifacts/checkpoints/flam")
    figure = look.picture(model, hit, look.excerpt(hit), caption="rain falls")
    above, below = figure.axes
    assert above.get_xlim() == below.get_xlim() == (0.0, 3.5)
    assert [label.get_text() for label in below.get_yticklabels()] == ["rain falls"]
