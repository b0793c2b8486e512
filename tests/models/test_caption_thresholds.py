import json

import own_thresholds
import pytest

from flamlib.models import caption_thresholds
from flamlib.models.caption_thresholds import Chosen
from flamlib.sound_events.smoothing import Smoothing


def make(folder, **changes):
    (folder / "model.safetensors").write_bytes(b"weights")
    captions = {"a dog barks": (0.8, 30), "a bell": (0.1, 2)}
    return own_thresholds.made_for(folder, captions, **{"fallback": 0.6, "novel": 0.2} | changes)


def test_a_known_caption_has_its_own_and_every_other_the_fallback(tmp_path):
    thresholds = make(tmp_path)
    assert thresholds.threshold_for(["A  Dog barks", "a bell", "rain"]) == [
        Chosen("A  Dog barks", 0.8, True, 30),
        Chosen("a bell", 0.6, False, 2),
        Chosen("rain", 0.6, False, 0),
    ]


def test_a_novel_caption_has_the_threshold_of_those(tmp_path):
    chosen = make(tmp_path).threshold_for(
        ["rain", "hail", "snow", "a dog barks"], [1.0, 0.0, 0.5, 0.0]
    )
    assert [each.threshold for each in chosen] == pytest.approx([0.6, 0.2, 0.4, 0.8])


def test_they_are_read_as_they_were_written(tmp_path):
    assert caption_thresholds.read(tmp_path) is None
    thresholds = make(tmp_path)
    caption_thresholds.write(tmp_path, thresholds)
    assert caption_thresholds.read(tmp_path) == thresholds


def test_those_without_hysteresis_are_of_scores_without(tmp_path):
    """As files of the format before have it."""
    caption_thresholds.write(tmp_path, make(tmp_path, hysteresis=0.5, format=2))
    path = tmp_path / "thresholds.json"
    content = json.loads(path.read_text())
    assert caption_thresholds.read(tmp_path).smoothing == Smoothing(3, 0.5)
    del content["hysteresis"]
    path.write_text(json.dumps(content | {"format": 1}))
    assert caption_thresholds.read(tmp_path).smoothing == Smoothing(3)


def test_those_of_another_model_are_refused(tmp_path):
    caption_thresholds.write(tmp_path, make(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"others")
    with pytest.raises(ValueError, match=r"thresholds.json: thresholds of another model \(\w{12}…"):
        caption_thresholds.read(tmp_path)
    with pytest.raises(ValueError, match="is not the model that the thresholds are of"):
        caption_thresholds.write(tmp_path, make(tmp_path, model="0" * 64))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"fallback": 2}, r"fallback = 2.0: expected 0 to 1"),
        ({"format": 3}, "format = 3: expected 1 to 2"),
        ({"captions": {"rain": 0.5}}, "captions.rain: expected names and values"),
        ({"captions": ["rain"]}, r"captions = \['rain'\]: expected names and values"),
        ({"method": "loud"}, "expected one of unbiased"),
        ({"novelty": 1}, "no parameter novelty; did you mean novel"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path, change, why):
    caption_thresholds.write(tmp_path, make(tmp_path))
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=rf"thresholds.json: .*{why}"):
        caption_thresholds.read(tmp_path)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"thresholds.json is not valid JSON"):
        caption_thresholds.read(tmp_path)
