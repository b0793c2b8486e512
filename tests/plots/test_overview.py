import numpy as np
import pandas as pd
import pytest

from flamlib.data.mixtures import stats
from flamlib.data.mixtures.recipes import PlacedEvent, Recipe, Segment, to_table
from flamlib.plots import overview
from flamlib.sound_events.events import Event


def clips(n):
    """A table of n foregrounds in every split and one background."""
    rows = [
        (f"{split}-{i}", "foreground", f"caption {i}", split, 0.5 + i, 44100, "CC0")
        for split in ("train", "valid", "seen_captions", "unseen_captions")
        for i in range(n)
    ]
    rows.append(("rain", "background", "rain", "heldout", 30.0, 8000, "GPL-2+"))
    columns = ["clip_id", "role", "caption", "split", "duration_s", "sample_rate", "licence"]
    return pd.DataFrame(rows, columns=columns)


def mixtures():
    placed = [
        PlacedEvent("a", 0, "a dog barks", "dog", snr_db, 0.1, (Segment(0, 0, 9),))
        for snr_db in (6, 9.0)
    ]
    labels = (Event(0.0, 4.0, "a dog barks"), Event(2.0, 6.0, "rain falls"))
    recipe = Recipe(0, "train", 16000, 160000, 160, None, tuple(placed), labels)
    return [recipe, recipe._replace(index=1, events=tuple(placed[:1]))]


def drawn(recipes):
    made = to_table(recipes)
    tables = stats.events(made), stats.labels(made), stats.captions(made)
    return overview.mixtures_overview(*tables, stats.polyphony(made))


def test_every_split_of_a_corpus_is_counted():
    figure = overview.corpus_overview(clips(3))
    widths = [patch.get_width() for patch in figure.axes[0].patches]
    assert sorted(w for w in widths if w) == [1, 3, 3, 3, 3]


def test_a_corpus_of_one_recording_can_be_drawn():
    figure = overview.corpus_overview(clips(1).iloc[:1])
    for axes in (figure.axes[i] for i in (0, 1, 4, 5)):  # one split, one rate, one licence
        assert [patch.get_width() for patch in axes.patches] == [1]


def test_the_shares_of_mixtures_are_shares():
    number, at_once, seconds, snr, often, prior = drawn(mixtures()).axes
    assert [patch.get_height() for patch in number.patches] == [0.5, 0.5]
    np.testing.assert_allclose([p.get_height() for p in at_once.patches], [0.4, 0.4, 0.2])
    assert often.lines[0].get_ydata().tolist() == [3, 0]
    np.testing.assert_allclose(prior.lines[0].get_ydata(), [8 / 20, 8 / 20])
    assert (seconds.get_xlabel(), snr.get_xlabel()) == ("seconds", "dB above the background")


@pytest.mark.parametrize("n", [0, 1])
def test_hardly_any_mixtures_can_be_drawn(n):
    number, *_, prior = drawn(mixtures()[:n]).axes
    assert [patch.get_height() for patch in number.patches] == [1.0] * n
    assert len(prior.lines[0].get_ydata()) == 2 * n
