import numpy as np
import pytest
from sounds import RATE, noise, tone

from flamlib.data.mixtures.recipes import Background, PlacedEvent, Recipe, Segment
from flamlib.plots import spectrograms, style
from flamlib.sound_events.detection import Detection
from flamlib.sound_events.events import Event

WAVEFORM = np.concatenate([noise(1.0), tone(2000, 1.0)]).astype(np.float32)
EDGES = np.linspace(0, 2, 9)
CAPTIONS = ["a tone", "a dog barks"]
SCORES = np.stack([np.repeat([0.1, 0.9], 4), np.full(8, 0.2)], axis=1)


def texts(figure):
    return {text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))}


def row_names(figure):
    return figure.axes[1].get_yticklabels()


def test_the_sound_is_where_it_is():
    """The tone of 2 kHz is the brightest of its second, at its height."""
    above = spectrograms.detection_map(WAVEFORM, RATE, SCORES, EDGES, CAPTIONS).axes[0]
    [image] = above.images
    level = np.asarray(image.get_array())
    left, right, low, high = image.get_extent()
    column = int(1.5 / (right - left) * level.shape[1])
    mel = low + (level[:, column].argmax() + 0.5) / level.shape[0] * (high - low)
    assert mel == pytest.approx(2595 * np.log10(1 + 2000 / 700), rel=0.03)
    assert (left, right) == (0, 2)


def test_every_caption_has_a_row():
    figure = spectrograms.detection_map(WAVEFORM, RATE, SCORES, EDGES, CAPTIONS)
    assert [name.get_text() for name in row_names(figure)] == CAPTIONS
    assert "absent" not in texts(figure)
    assert not {"ground truth", "detected", "threshold"} & texts(figure)


def test_what_does_not_sound_is_marked_absent():
    figure = spectrograms.detection_map(
        WAVEFORM,
        RATE,
        SCORES,
        EDGES,
        CAPTIONS,
        ground_truth=[Event(1.0, 2.0, "a tone")],
        detections=[Detection(1.0, 2.0, "a tone", 0.9)],
        threshold=0.5,
    )
    sounding, silent = row_names(figure)
    assert (sounding.get_style(), silent.get_style()) == ("normal", "italic")
    assert {"absent", "ground truth", "detected", "threshold", "score"} <= texts(figure)


@pytest.mark.parametrize(
    "waveform", [np.zeros(RATE, np.float32), np.float32([0.5]), WAVEFORM[:100]]
)
def test_silence_and_a_single_sample_can_be_seen(tmp_path, waveform):
    edges = np.array([0.0, len(waveform) / RATE])
    scores = np.array([[0.5]])
    figure = spectrograms.detection_map(waveform, RATE, scores, edges, ["a tone"])
    style.save(figure, tmp_path / "figure.png")
    [image] = figure.axes[0].images
    assert np.isfinite(np.asarray(image.get_array())).all()
    assert image.get_extent()[1] == len(waveform) / RATE


def test_silence_is_darker_than_sound():
    edges, scores = np.array([0.0, 2.0]), np.array([[0.5]])
    brightness = {}
    for name, waveform in (("silence", np.zeros_like(WAVEFORM)), ("sound", WAVEFORM)):
        figure = spectrograms.detection_map(waveform, RATE, scores, edges, ["a tone"])
        [image] = figure.axes[0].images
        brightness[name] = image.norm(image.get_array()).max()
    assert brightness["silence"] == pytest.approx(0, abs=1e-3)
    assert brightness["sound"] == 1


def test_an_hour_is_drawn_in_minutes():
    hour = np.zeros(3600 * 1000, np.float32)
    figure = spectrograms.detection_map(
        hour, 1000, np.zeros((2, 1)), np.array([0.0, 1, 3600]), ["rain"]
    )
    assert "time (min:s)" in texts(figure)
    assert figure.axes[0].images[0].get_array().shape[1] < 2500


@pytest.mark.parametrize(
    ("start_s", "stop_s", "round_to"),
    [(0, 200, 10), (0, 3600, 300), (1780.84, 1810.84, 1), (0, 90_000, 3600), (3000, 3300, 10)],
)
def test_times_of_a_long_recording_are_round_in_minutes(start_s, stop_s, round_to):
    edges = np.array([start_s, stop_s], float)
    figure = spectrograms.score_map(np.zeros((1, 1)), edges, ["rain"], events=[])
    [axes] = figure.axes
    ticks = [tick for tick in axes.get_xticks() if start_s <= tick <= stop_s]
    assert 4 <= len(ticks) <= 11
    assert all(tick % round_to == 0 for tick in ticks)


def test_a_long_caption_takes_two_lines():
    caption = "an old wooden door with rusty hinges creaks open in the distance"
    figure = spectrograms.detection_map(WAVEFORM, RATE, SCORES[:, :1], EDGES, [caption])
    [name] = row_names(figure)
    assert name.get_text().count("\n") == 1


def test_a_mixture_shows_its_events_and_their_levels():
    first = PlacedEvent("clip", 0, "a tone", "tone", 12.0, 1.0, (Segment(0, 0, 8000),))
    second = first._replace(snr_db=7.0, segments=(Segment(16000, 0, 8000),))
    recipe = Recipe(
        index=0,
        split="train",
        sample_rate=RATE,
        n_samples=len(WAVEFORM),
        n_fade=160,
        background=Background("rain", 0, 0, 1.0, -50.0),
        events=(first, second),
        labels=(Event(0.0, 0.4, "a tone"), Event(1.0, 1.4, "a tone")),
    )
    figure = spectrograms.mixture(WAVEFORM, recipe)
    assert {"+12 dB", "+7 dB"} <= texts(figure)
    # Of the two labels of one caption each stands in its event's row.
    bars = [c.get_paths()[0].get_extents() for c in figure.axes[1].collections if c.get_paths()]
    narrow = [b for b in bars if 0.3 < b.height < 0.35]
    assert [(round(b.x0, 1), int(b.y0)) for b in narrow] == [(0.0, 0), (1.0, 1)]


def test_a_heat_map_shows_every_score_and_marks_what_is_absent():
    captions, edges = ["a dog barks", "rain"], np.linspace(0, 2, 5)
    scores = np.array([[0.1, 0.2], [0.9, 0.3], [0.8, 0.4], [0.0, 1.0]])
    truth = [Event(0.5, 1.5, "a dog barks")]
    waveform = np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32)
    figure = spectrograms.heat_map(waveform, 16000, scores, edges, captions, ground_truth=truth)
    _, below, _ = figure.axes
    [mesh] = [c for c in below.collections if c.get_array() is not None and c.get_array().size == 8]
    assert np.asarray(mesh.get_array()).reshape(2, 4) == pytest.approx(scores.T)
    names = [label.get_text() for label in below.get_yticklabels()]
    assert names == captions
    assert [t.get_text() for t in below.texts] == ["absent"]


def test_a_stretch_of_a_recording_keeps_the_recordings_times():
    figure = spectrograms.detection_map(WAVEFORM, RATE, SCORES, EDGES + 600, CAPTIONS)
    above, below = figure.axes
    assert above.images[0].get_extent()[:2] == [600, 602]
    assert below.get_xlim() == (600, 602)


@pytest.mark.parametrize("n_frames", [1, 8, 11250])
def test_a_timeline_shows_the_highest_score_of_any_frame_in_bounded_steps(n_frames):
    scores = np.zeros((n_frames, 2))
    scores[n_frames // 2, 0] = 0.8
    edges = np.arange(n_frames + 1) * 0.32
    found = [Detection(0.0, 0.32, "a tone", 0.8)]
    figure = spectrograms.timeline(scores, edges, CAPTIONS, detections=found, threshold=0.5)
    [axes] = figure.axes
    assert axes.get_xlim() == (0, pytest.approx(edges[-1]))
    drawn = [patch.get_data() for patch in axes.patches]
    assert all(len(one.values) <= spectrograms.N_STEPS for one in drawn)
    heights = [one.values.min() for one in drawn]  # upside down: the first row's top is at 0
    expected = spectrograms.SCORE_FOOT - (spectrograms.SCORE_FOOT - 0.08) * 0.8
    assert min(heights) == pytest.approx(expected)


def test_a_score_map_shows_peaks_of_a_long_recording_and_the_selected_event():
    edges, scores = np.arange(20_001) / 2, np.zeros((20_000, 1))
    scores[777] = 0.9
    events = [Detection(388.5, 389.0, "a tone", 0.9), Detection(5.0, 6.0, "another", 0.5)]
    view = {"selected": events[0], "view": (380.0, 400.0)}
    figure = spectrograms.score_map(scores, edges, ["a tone"], events=events, **view)
    [mesh] = [c for c in figure.axes[0].collections if c.get_array() is not None]
    assert mesh.get_array().max() == 0.9
    assert mesh.get_array().size <= spectrograms.N_STEPS
    near = spectrograms.score_map(
        SCORES, EDGES + 4, CAPTIONS, events=[Event(3.0, 5.0, "a tone")], sound=(WAVEFORM, RATE)
    )
    assert near.axes[1].get_xlim() == (4.0, 6.0)
    assert [name.get_text() for name in row_names(near)] == CAPTIONS


def test_a_score_map_without_captions_is_an_empty_one():
    figure = spectrograms.score_map(np.zeros((8, 0)), EDGES, [], events=[], sound=(WAVEFORM, RATE))
    figure.draw_without_rendering()
    assert row_names(figure) == []
