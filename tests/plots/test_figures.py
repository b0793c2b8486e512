import numpy as np
import pandas as pd
import pytest

from flamlib.metrics import calibration
from flamlib.metrics.spans import SpanCurve
from flamlib.plots import figures, style

THRESHOLDS = np.linspace(0.1, 0.9, 9)


def texts(figure):
    return {text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))}


def captions(n, part="seen_captions", seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "part": part,
            "caption": [f"caption number {i}" for i in range(n)],
            "n_clips": rng.integers(1, 20, n),
            "log_odds": rng.normal(-4, 1, n),
            "logit_bias": rng.normal(-4, 1, n),
            "auroc_flam": rng.uniform(0.4, 1, n),
            "auroc_flam_global": rng.uniform(0.4, 1, n),
        }
    )


def test_the_best_threshold_is_marked():
    best = {"flam": (0.7, 0.6), "flam_global": (0.3, 0.2)}
    curves = {
        name: {"threshold": THRESHOLDS, "f1_macro": f1 - np.abs(THRESHOLDS - at)}
        for name, (at, f1) in best.items()
    }
    figure = figures.f1_curves(curves)
    points = [line.get_xydata()[line.get_markevery()[0]] for line in figure.axes[0].lines]
    assert np.allclose(sorted(map(tuple, points)), sorted(best.values()))
    assert {"FLAM, best 0.60", "FLAM-Global, best 0.20"} <= texts(figure)


def test_recall_is_drawn_up_to_the_most_false_spans_of_a_model():
    curve = SpanCurve(np.array([np.inf, 0.9, 0.5]), np.array([0, 0.5, 4]), np.array([0, 0.2, 0.7]))
    empty = SpanCurve(np.array([np.inf]), np.array([0.0]), np.array([0.0]))
    figure = figures.recall_curves({"flam": curve, "mga_clap": empty})
    assert {"FLAM, at 1: 0.20", "MGA-CLAP, at 1: 0.00"} <= texts(figure)
    rates, recall = figure.axes[0].lines[0].get_data()
    assert 3.8 < rates.max() <= 4
    assert set(recall.tolist()) == {0.0, 0.2}


@pytest.mark.parametrize("n", [1, 2, 7, 90])
def test_every_caption_is_named_once_and_in_order(n):
    table = captions(n)
    figure = figures.per_caption(table)
    named = [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    ordered = table.sort_values("auroc_flam", ascending=False)["caption"].tolist()
    assert [name for name in named if name] == ordered


def test_a_caption_without_a_ranking_is_left_out():
    table = captions(5)
    table.loc[2, "auroc_flam_global"] = np.nan
    assert "caption number 2" not in texts(figures.per_caption(table))


def test_a_prior_that_is_right_lies_on_the_diagonal():
    table = pd.concat([captions(9), captions(9, "unseen_captions", seed=1)])
    table["logit_bias"] = table["log_odds"]
    table.iloc[0, table.columns.get_loc("log_odds")] = -np.inf  # never active: no log-odds
    figure = figures.bias_against_prior(table)
    points = np.concatenate([c.get_offsets() for c in figure.axes[0].collections])
    assert len(points) == 17
    assert np.allclose(points[:, 0], points[:, 1])
    assert {"seen captions, ρ = 1.00", "unseen captions, ρ = 1.00"} <= texts(figure)


@pytest.mark.filterwarnings("error")
def test_a_prior_that_all_captions_share_has_no_rank():
    table = captions(9)
    table["logit_bias"] = -4.0
    assert "seen captions, the same for all" in texts(figures.bias_against_prior(table))


def test_a_calibrated_model_lies_on_the_diagonal():
    prob = np.repeat(np.linspace(0.05, 0.95, 10), 100)
    active = np.arange(1000) % 100 < 100 * prob - 0.5
    figure = figures.reliability({"flam": calibration.reliability(prob, active, 10)})
    [_, line] = figure.axes[0].lines
    assert np.allclose(line.get_xdata(), line.get_ydata())
    counts = figure.axes[1].patches[0].get_data().values
    assert counts.tolist() == [100] * 10


def test_every_figure_can_be_written(tmp_path):
    drawn = {
        "f1": figures.f1_curves({"flam": {"threshold": THRESHOLDS, "f1_macro": THRESHOLDS}}),
        "captions": figures.per_caption(captions(3)),
        "bias": figures.bias_against_prior(captions(3)),
        "none": figures.bias_against_prior(captions(0)),
    }
    for name, figure in drawn.items():
        style.save(figure, tmp_path / f"{name}.svg")
        assert (tmp_path / f"{name}.svg").read_text().startswith("<?xml")
