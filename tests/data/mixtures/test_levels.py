import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import RATE, variants_config, write_data

from flamlib.data.mixtures import bank, levels, sources
from flamlib.waveforms import decibels

HOP = round(sources.HOP_S * RATE)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    settings = {"seed": 0, "sample_rate": RATE, "clip_s": 10.0, "variants": variants_config()}
    bank.build(write_data(folder / "data"), folder / "bank", **settings, n_jobs=1, progress=False)
    return bank.Bank.open(folder / "bank")


def slow_levels(opened, i, start, n_samples, n_fade):
    """The definition: the whole source, silent outside the piece, measured from its beginning."""
    heard = np.zeros_like(opened[i])
    piece = opened[i][start : start + n_samples].copy()
    n_fade = min(n_fade, n_samples // 2)
    piece[:n_fade] *= levels.fade(n_fade)
    piece[n_samples - n_fade :] *= levels.fade(n_fade)[::-1]
    heard[start : start + n_samples] = piece
    profile = decibels.a_weighted_db(heard, opened.sample_rate)
    return profile[start // HOP : -(-(start + n_samples) // HOP)]


@settings(max_examples=60)
@given(st.data())
def test_a_piece_has_the_levels_of_what_is_left_of_it(sounds, data):
    i = data.draw(st.integers(0, len(sounds) - 1))
    n_fade = data.draw(st.sampled_from([0, 160, 1000]))
    start = data.draw(st.integers(0, sounds.get(i, "n_samples") - 1))
    n_samples = data.draw(st.integers(1, sounds.get(i, "n_samples") - start))
    found = levels.levels(sounds, i, start, n_samples, n_fade)
    expected = slow_levels(sounds, i, start, n_samples, n_fade)
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_a_piece_is_loud_only_inside_itself(sounds):
    i = sounds.row("tone-a", 0)
    start, n_samples = 4001, 3210
    [(a, b)] = levels.loud_spans(sounds, i, start, n_samples, 160, -60.0)
    assert (a, b) == (start, start + n_samples)
    assert levels.loud_spans(sounds, i, start, n_samples, 160, 0.0) == []


def test_a_fade_of_more_than_the_sound_is_half_of_it(sounds):
    i = sounds.row("tick", 0)
    n = sounds.get(i, "n_samples")
    heard = levels.levels(sounds, i, 0, n, 10 * n)
    assert np.isfinite(heard).all()
    assert heard.max() <= sounds.levels(i).max() + 1e-3


@given(st.lists(st.floats(0, 10), max_size=12), st.floats(0, 1), st.floats(0, 1))
def test_smoothing_fills_gaps_and_drops_spikes(times, fill_gaps_below_s, drop_activity_below_s):
    times = sorted(set(times))
    spans = [list(span) for span in zip(times[::2], times[1::2], strict=False)]
    found = levels.smooth([list(span) for span in spans], fill_gaps_below_s, drop_activity_below_s)
    assert bool(found) == bool(spans)
    for (_, offset), (onset, _) in itertools.pairwise(found):
        assert onset - offset >= fill_gaps_below_s
    if any(b - a >= drop_activity_below_s for a, b in found):
        assert all(b - a >= drop_activity_below_s for a, b in found)
    for a, b in found:
        assert any(a == onset for onset, _ in spans)
        assert any(b == offset for _, offset in spans)
