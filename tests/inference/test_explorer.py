import json
import warnings

import ipywidgets
import numpy as np
import pytest
import soundfile
import torch
from sounds import RATE, noise

from flamlib.experiment.params.trials import DetectConfig
from flamlib.inference.explorer import Explorer
from flamlib.models.interface import AudioEmbeddings, CaptionEmbeddings, CosineScoring
from flamlib.models.text_tower import UnknownWords
from flamlib.sound_events.events import read_events

CONFIG = DetectConfig(recording="", captions=[], n_absent=0, median_frames=3, hysteresis=0.0)
CAPTIONS = ["a dog barks", "雨 <b>"]


class Noise(CosineScoring):
    """A model of frames of half a second that hears noise: as little to be packed as can be."""

    sample_rate, frame_s, context_frames = RATE, 0.5, 0

    def embed_audio(self, waveform, sample_rate):
        n = int(np.ceil(len(waveform) / sample_rate / self.frame_s - 1e-6))
        seeded = torch.Generator().manual_seed(0)
        frames = torch.rand((1, n, 8), generator=seeded) * 2 - 1
        return AudioEmbeddings(frames, frames.mean(dim=1))

    def embed_captions(self, captions):
        if odd := [caption for caption in captions if "☃" in caption]:
            warnings.warn(f"cannot read ☃ in {odd}", UnknownWords, stacklevel=2)
        emb = torch.eye(8)[[len(caption) % 8 for caption in captions]]
        return CaptionEmbeddings(emb, torch.ones(len(emb)), torch.zeros(len(emb)))


@pytest.fixture
def explorer(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(20.0), RATE)
    soundfile.write(tmp_path / "b.wav", noise(5.0), RATE)
    made = Explorer(Noise(), tmp_path / "a.wav", CAPTIONS, CONFIG, labels=tmp_path / "labels")
    for slider in made.sliders.children:
        slider.value = 0.6
    return made


def test_what_is_typed_and_moved_is_shown(explorer):
    assert [slider.description for slider in explorer.sliders.children] == CAPTIONS
    assert explorer.caption.options == tuple(CAPTIONS)
    n_found, before = len(explorer.events.options), explorer.near.value
    assert n_found == len(explorer.review.events()) > 0
    explorer.sliders.children[0].value = 0.3
    assert len(explorer.review.events()) != n_found
    assert explorer.near.value != before
    explorer.captions.value = "\na cow moos \n"
    assert explorer.review.captions == ["a cow moos"]
    assert len(explorer.sliders.children) == 1


def test_an_event_is_played_corrected_and_saved(explorer, tmp_path):
    assert explorer.sound.value == b""
    explorer.events.index = 1
    chosen = explorer.review.events()[1]
    assert len(explorer.sound.value) > 1000
    assert (explorer.onset.value, explorer.offset.value) == (chosen.onset, chosen.offset)
    explorer.onset.value, explorer.offset.value = 2.25, 2.75
    explorer.buttons["move"].click()
    moved = explorer.review.events()[explorer.events.index]
    assert moved[:3] == (2.25, 2.75, chosen.caption)
    slider = next(s for s in explorer.sliders.children if s.description == chosen.caption)
    assert slider.disabled
    explorer.onset.value, explorer.offset.value = 18.0, 19.0
    explorer.caption.value = "雨 <b>"
    explorer.buttons["add"].click()
    explorer.buttons["save"].click()
    [saved] = read_events(tmp_path / "labels/a.tsv").values()
    assert (2.25, 2.75, chosen.caption) in saved
    assert any(e.onset <= 18 and e.offset >= 19 and e.caption == "雨 <b>" for e in saved)
    explorer.buttons["delete"].click()
    assert explorer.events.index is None
    explorer.caption.value = chosen.caption
    explorer.buttons["reset"].click()
    assert not slider.disabled


def test_mistakes_are_told_and_change_nothing(explorer, tmp_path):
    before = explorer.review.events()
    for act in (
        lambda: explorer.buttons["move"].click(),
        lambda: setattr(explorer.captions, "value", "rain\nRain"),
        lambda: setattr(explorer.file, "value", str(tmp_path / "<i>.wav")),
        lambda: setattr(explorer.path, "value", "x.wav") or explorer.buttons["save"].click(),
    ):
        explorer.message.value = ""
        act()
        assert "#b00020" in explorer.message.value
        assert "<i>" not in explorer.message.value
        assert explorer.review.events() == before


@pytest.mark.parametrize("wrong", ["notes.wav", "missing.wav", "", " "])
def test_after_a_file_that_cannot_be_opened_the_one_that_is_shown_is_named(
    explorer, tmp_path, wrong
):
    (tmp_path / "notes.wav").write_text("no sound at all")
    explorer.file.value = str(tmp_path / wrong) if wrong.strip() else wrong
    assert wrong in explorer.message.value
    assert "#b00020" in explorer.message.value
    assert explorer.file.value == str(tmp_path / "a.wav") == str(explorer.review.recording)


def test_a_path_is_taken_as_it_is_pasted(explorer, tmp_path):
    explorer.file.value = f" {tmp_path / 'b.wav'} "
    assert explorer.review.recording == tmp_path / "b.wav"


def test_what_the_model_cannot_read_is_told(explorer):
    explorer.captions.value = "rain\na ☃"
    assert "cannot read ☃" in explorer.message.value
    assert "event" in explorer.message.value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explorer.captions.value = "rain"
    assert "☃" not in explorer.message.value


def test_what_is_missing_of_a_recording_is_told(explorer, tmp_path):
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    explorer.file.value = str(tmp_path / "cut.wav")
    assert "in 10.0 s" in explorer.message.value
    assert "cut off" in explorer.message.value


def test_without_captions_they_are_asked_for(explorer):
    explorer.captions.value = " \n"
    assert "caption" in explorer.message.value
    assert explorer.events.options == ()
    explorer.captions.value = "\n".join(CAPTIONS)
    assert explorer.caption.value == CAPTIONS[0]
    explorer.onset.value, explorer.offset.value = 18.0, 19.0
    explorer.buttons["add"].click()
    assert explorer.review.is_corrected(CAPTIONS[0])


def test_one_is_one(explorer):
    explorer.captions.value = "wind"
    explorer.sliders.children[0].value = 1.0
    for event in explorer.review.events():
        explorer.review.delete(event)
    explorer.onset.value, explorer.offset.value = 1.0, 2.0
    explorer.buttons["add"].click()
    assert "1 event in 20.0 s" in explorer.message.value
    explorer.buttons["save"].click()
    assert "1 label saved" in explorer.message.value


def test_another_file_is_opened(explorer, tmp_path):
    assert explorer.file.options == tuple(str(tmp_path / name) for name in ("a.wav", "b.wav"))
    explorer.events.index = 0
    explorer.file.value = str(tmp_path / "b.wav")
    assert explorer.review.duration_s == 5.0
    assert explorer.path.value == str(tmp_path / "labels/b.tsv")
    assert explorer.events.index is None
    assert "5.0 s" in explorer.message.value


def test_an_hour_and_its_widgets_fit_a_notebook(tmp_path):
    """Of what is shown a notebook stores at most a megabyte, also with 20 captions of noise."""
    soundfile.write(tmp_path / "hour.wav", np.tile(noise(60.0, rate=4000), 60), 4000)
    before = set(ipywidgets.Widget.get_manager_state()["state"])
    captions = [f"a sound of kind {i:0{i + 1}}" for i in range(20)]
    explorer = Explorer(Noise(), tmp_path / "hour.wav", captions, CONFIG, labels=tmp_path)
    for slider in explorer.sliders.children[:2]:
        slider.value = 0.5
    explorer.length.value = 300.0
    explorer.events.index = 400
    assert explorer.start.value > 0
    assert explorer.overview.value
    state = ipywidgets.Widget.get_manager_state()["state"]
    mine = {name: of for name, of in state.items() if name not in before}
    assert 10_000 < len(json.dumps(mine)) < 1e6
