import json

import ipywidgets
import numpy as np
import pytest
import soundfile
import torch
from sounds import RATE, noise

from flamlib.events import read_events
from flamlib.inference.explorer import Explorer
from flamlib.models.interface import AudioEmbeddings, CaptionEmbeddings, CosineScoring
from flamlib.params.trials import DetectConfig

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
