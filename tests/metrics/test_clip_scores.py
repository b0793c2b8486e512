import numpy as np
import pytest
from scored_frames import located

from flamlib.metrics.clip_scores import frame_edges


def test_a_frame_counts_if_it_begins_before_the_clip_ends():
    edges = frame_edges(32, 0.32, 10.0)
    assert edges[-2:] == pytest.approx([9.92, 10.0])
    rows = located().by_frame
    assert len(rows.score) == len(rows.active) == len(rows.clip) == 5 * 32 + 20
    assert (rows.clip == 1).sum() == 20


def test_scores_that_do_not_fit_or_are_no_numbers_are_refused():
    scores = located().scores
    with pytest.raises(ValueError, match=r"clip '0': scores of \(31, 3\), expected \(32, 3\)"):
        located(scores=[scores[0][1:], *scores[1:]])
    broken = scores[2].copy()
    broken[4, 1] = np.nan
    with pytest.raises(ValueError, match=r"clip '2': the score of 'caption 1' is NaN in frame 4"):
        located(scores=[*scores[:2], broken, *scores[3:]])
