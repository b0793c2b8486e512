import numpy as np
import pytest
from scored_frames import clip_scores

from flamlib.metrics.clip_scores import ClipScores
from flamlib.sound_events.events import Event


def test_a_frame_counts_if_it_begins_before_the_clip_ends():
    frames = clip_scores().by_frame
    assert len(frames.scores) == len(frames.active) == len(frames.clip) == 5 * 32 + 20
    assert (frames.clip == 1).sum() == 20


def test_what_lasts_to_the_end_of_a_clip_is_active_in_its_last_frame():
    """Of 32 frames of 0.32 s a clip of ten seconds has but a quarter of the last."""
    events, known = [Event(5.0, 10.0, "rain")], np.ones((1, 1), bool)
    clips = ClipScores(["a"], ["rain"], 0.32, [10.0], [np.zeros((32, 1))], [events], known)
    assert clips.by_frame.active[:, 0].tolist() == [False] * 16 + [True] * 16


def test_scores_that_do_not_fit_or_are_no_numbers_are_refused():
    scores = clip_scores().scores
    with pytest.raises(
        ValueError, match=r"clip '0': scores of shape \(31, 3\), expected \(32, 3\)"
    ):
        clip_scores(scores=[scores[0][1:], *scores[1:]])
    broken = scores[2].copy()
    broken[4, 1] = np.nan
    with pytest.raises(ValueError, match=r"clip '2': the score of 'caption 1' is NaN in frame 4"):
        clip_scores(scores=[*scores[:2], broken, *scores[3:]])
