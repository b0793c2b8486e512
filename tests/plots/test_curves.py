import numpy as np
import pytest

from flamlib.plots import curves

RNG = np.random.default_rng(0)


def test_each_loss_has_axes_of_its_own_and_says_where_it_ended():
    rows = [{"step": s, "loss": 9.0, "frame_nats": 1 / s, "clip_nats": 2.0} for s in range(1, 9)]
    figure = curves.loss_curves(rows)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["total (weighted sum)", "frame", "clip"]
    assert figure.axes[2].get_title("right") == "2"
    logged = figure.axes[1].lines[0].get_xydata()
    np.testing.assert_allclose(logged, [[s, 1 / s] for s in range(1, 9)])


def test_the_validation_loss_stands_beside_the_total():
    rows = [{"step": s, "loss": 9.0, "frame_nats": 1 / s} for s in range(1, 9)]
    rows[3]["valid_loss"], rows[7]["valid_loss"] = 12.0, 11.0
    total, frame = curves.loss_curves(rows).axes
    assert total.lines[-1].get_xydata().tolist() == [[4, 12.0], [8, 11.0]]
    texts = [text.get_text() for text in total.get_legend().get_texts()]
    assert texts == ["training", "validation, 11"]
    assert frame.get_legend() is None


def test_one_step_can_be_drawn():
    [axes] = curves.loss_curves([{"step": 1, "frame_nats": 0.5}]).axes
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[1, 0.5]]] * 2


def test_a_prior_that_is_right_lies_on_the_diagonal():
    """Log-odds of known frames: an unknown clip counts neither way."""
    active = np.zeros((2, 2, 8), bool)
    active[0, 0, :2] = active[1, 0] = True
    active[0, 1, :4] = True
    known = np.array([[True, True], [False, True]])
    bias = np.log([2 / 6, 4 / 12])
    [dots] = curves.priors(bias, active, known).axes[0].collections
    np.testing.assert_allclose(dots.get_offsets(), np.stack([bias, bias], axis=1))


@pytest.mark.parametrize("always", [True, False])
def test_a_caption_without_finite_log_odds_is_left_out(always):
    active = np.full((1, 1, 8), always)
    [dots] = curves.priors(np.zeros(1), active, np.ones((1, 1), bool)).axes[0].collections
    assert len(dots.get_offsets()) == 0


def test_a_score_map_frames_what_is_true():
    scores = RNG.random((2, 5))
    active = np.array([[1, 1, 0, 0, 1], [0, 0, 0, 0, 0]], bool)
    axes = curves.score_map(scores, active, ["a dog barks", "rain"], frame_s=0.5).axes[0]
    spans = [(line.get_xdata().min(), line.get_xdata().max()) for line in axes.lines]
    assert spans == [(0.0, 1.0), (2.0, 2.5)]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a dog barks", "rain"]
