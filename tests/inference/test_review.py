import numpy as np
import pytest
import soundfile
from heldouts import write_model
from sounds import RATE, noise, tone

from flamlib.experiment.params.trials import DetectConfig
from flamlib.inference import detector, pieces
from flamlib.inference.review import Review
from flamlib.models.flam import FLAM
from flamlib.sound_events import labels, raw_events
from flamlib.sound_events.detection import Detection
from flamlib.sound_events.events import Event, read_events

CAPTIONS = ["a dog barks", "a bell rings"]
CONFIG = DetectConfig(recording="", captions=[], n_absent=0, threshold=0.5, median_frames=3)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model and a recording of seven seconds."""
    folder = tmp_path_factory.mktemp("review")
    write_model(folder / "model")
    sounds = [noise(2.0), tone(300, 1.5), tone(2000, 2.3), noise(1.47, 0.4, seed=1)]
    soundfile.write(folder / "été.wav", np.concatenate(sounds), RATE)
    return FLAM.from_pretrained(folder / "model"), folder / "été.wav"


@pytest.fixture
def review(world):
    """A review in which each caption has an event above the middle of its scores."""
    of = Review(*world, CONFIG)
    of.ask(CAPTIONS)
    for caption, scores in zip(CAPTIONS, of.scores().scores.T, strict=True):
        of.set_threshold(caption, float(scores.min() + scores.max()) / 2)
    return of


def test_it_answers_as_detection_does_however_it_is_cut(world, monkeypatch):
    how = {"method": "unbiased", "smoothing": CONFIG.smoothing}
    whole = detector.score(*world, CAPTIONS, **how)
    monkeypatch.setattr(pieces, "READ_FRAMES", 7)
    cut = Review(*world, CONFIG)
    cut.ask(CAPTIONS[1:])
    cut.ask(CAPTIONS)
    found = cut.scores()
    assert found.scores == pytest.approx(whole.scores, abs=1e-5)
    assert found.frame_edges.tolist() == whole.frame_edges.tolist()
    chosen = detector.choose_thresholds(world[0], CAPTIONS, **how)
    assert [cut.threshold(caption) for caption in CAPTIONS] == [each.threshold for each in chosen]


def test_events_follow_the_threshold_of_their_caption_alone(review):
    before = review.events()
    assert {event.caption for event in before} == set(CAPTIONS)
    review.set_threshold("a dog barks", 1.1)
    assert review.events() == [event for event in before if event.caption == "a bell rings"]
    review.set_threshold("a dog barks", 0.0)
    [whole] = [event for event in review.events() if event.caption == "a dog barks"]
    assert (whole.onset, whole.offset) == (0.0, pytest.approx(7.27))


def test_corrections_stay_until_they_are_undone(review):
    before = review.events()
    first = next(event for event in before if event.caption == "a dog barks")
    moved = review.move(first, 1.0, 1.25)
    assert (moved.onset, moved.offset, moved.caption) == (1.0, 1.25, "a dog barks")
    assert review.move(moved, 1.0, 1.25) == moved
    assert review.events() == sorted([moved, *(e for e in before if e != first)])
    added = review.add("a dog barks", 5.0, 6.5)
    assert added.score == review.scores().scores[:, 0][
        (review.scores().frame_edges[:-1] < 6.5) & (review.scores().frame_edges[1:] > 5.0)
    ].max()  # fmt: skip
    review.delete(moved)
    review.set_threshold("a dog barks", 0.0)
    assert added in review.events()
    assert moved not in review.events()
    review.ask(["a bell rings"])
    review.ask(CAPTIONS)
    assert review.is_corrected("a dog barks")
    assert added in review.events()
    review.reset("a dog barks")
    assert [e.onset for e in review.events() if e.caption == "a dog barks"] == [0.0]


@pytest.mark.parametrize("times", [(-1.0, 1.0), (2.0, 2.0), (3.0, 2.0), (7.0, 8.0), (np.nan, 1.0)])
def test_an_event_outside_the_recording_changes_nothing(review, times):
    before = review.events()
    with pytest.raises(ValueError, match="expected onset before offset"):
        review.move(before[0], *times)
    with pytest.raises(ValueError, match=r"within the 7\.27 s"):
        review.add("a dog barks", *times)
    assert review.events() == before


def test_captions_that_read_the_same_are_refused_and_none_are_fine(review):
    with pytest.raises(ValueError, match="given twice: 'a dog barks' and 'A dog barks'"):
        review.ask(["a dog barks", "A dog  barks"])
    with pytest.raises(ValueError, match="empty"):
        review.ask(["a dog barks", "\u200b"])
    assert review.captions == CAPTIONS
    review.ask([])
    assert review.events() == []
    assert review.scores().scores.shape[1] == 0


def test_an_event_is_heard_with_a_second_around_it(review):
    waveform, rate = review.listen(Event(2.0, 3.5, "a dog barks"))
    assert (len(waveform) / rate, rate) == (3.5, RATE)
    whole, _ = soundfile.read(review.recording)
    assert waveform == pytest.approx(whole[RATE : round(4.5 * RATE)], abs=1e-4)
    near_the_end, _ = review.listen(Detection(7.0, 7.27, "a dog barks", 0.5))
    assert len(near_the_end) / rate == pytest.approx(1.27, abs=0.01)


@pytest.mark.parametrize("name", ["labels.tsv", "labels.csv", "labels.txt"])
def test_labels_are_read_back_and_are_no_detections(review, tmp_path, name):
    for caption in CAPTIONS:
        review.add(caption, 0.25, 3.5)
        review.add(caption, 3.25, 4.123456)
    n = review.save(tmp_path / name)
    file = labels.read(tmp_path / name)
    assert not file.scored
    read, repairs = raw_events.repair(file.of("été.wav"), 7.27)
    assert not repairs
    assert len(read) == n
    for caption in CAPTIONS:
        [event] = [e for e in read if e.caption == caption and e.onset <= 0.25 < e.offset]
        assert event.offset >= 4.123456


def test_a_recording_without_events_is_told_as_such(review, tmp_path):
    for caption in CAPTIONS:
        review.set_threshold(caption, 1.1)
    assert review.save(tmp_path / "labels.tsv") == 0
    assert read_events(tmp_path / "labels.tsv") == {"été.wav": []}
    with pytest.raises(ValueError, match=r"ends in \.tsv"):
        review.save(tmp_path / "labels.wav")
