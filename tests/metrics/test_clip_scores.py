import numpy as np
import pytest
from scored_frames import clip_scores


def test_a_frame_counts_if_it_begins_before_the_clip_ends():
    frames = clip_scores().by_frame
    assert len(frames.scores) == len(frames.active) == len(frames.clip) == 5 * 32 + 20
    assert (frames.clip == 1).sum() == 20


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
