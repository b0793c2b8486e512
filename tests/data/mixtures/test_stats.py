import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamlib.data.mixtures import stats
from flamlib.data.mixtures.recipes import PlacedEvent, Recipe, Segment, to_table
from flamlib.sound_events.events import Event

STEP_S = 0.25  # events begin and end on these, so that steps can be counted
steps = st.integers(0, 40)


def recipe(*labels, index=0):
    placed = tuple(
        PlacedEvent("a", 0, e.caption, e.caption, 6.0 + i, 0.1, (Segment(0, 0, 9),))
        for i, e in enumerate(labels)
    )
    return Recipe(index, "train", 16000, 160000, 160, None, placed, tuple(labels))


@given(st.lists(st.tuples(steps, steps).filter(lambda s: s[0] < s[1]), max_size=6))
def test_the_polyphony_is_that_of_every_moment(spans):
    """The definition, one step at a time."""
    labels = [Event(a * STEP_S, b * STEP_S, f"sound {i}") for i, (a, b) in enumerate(spans)]
    counts = [sum(a <= step < b for a, b in spans) for step in range(40)]
    shares = stats.polyphony(to_table([recipe(), recipe(*labels)]))
    assert shares.sum() == pytest.approx(1)
    counts += [0] * 40  # the clip of silence before it
    np.testing.assert_allclose(shares, np.bincount(counts, minlength=len(shares)) / 80, atol=1e-12)


def test_a_set_of_mixtures_in_numbers():
    bark, rain = Event(0.0, 4.0, "a dog barks"), Event(2.0, 6.0, "rain falls")
    found = stats.summary(to_table([recipe(bark, rain), recipe(bark, index=1), recipe(index=2)]))
    assert found == pytest.approx(
        {
            "n_mixtures": 3,
            "n_events": 3,
            "n_captions": 2,
            "events_per_mixture": 1.0,
            "label_s_median": 4.0,
            "snr_db_median": 6.0,
            "active_share": 10 / 30,
            "polyphony": 12 / 10,
            "caption_events_min": 1,
            "caption_events_max": 2,
            "rare_half": 1 / 3,
            "prior_p10": 4 / 30 + 0.1 * 4 / 30,
            "prior_median": 6 / 30,
            "prior_p90": 8 / 30 - 0.1 * 4 / 30,
        }
    )


def test_silence_alone_is_no_special_case():
    for mixtures in ([], [recipe()]):
        found = stats.summary(to_table(mixtures))
        assert found["active_share"] == found["polyphony"] == found["n_events"] == 0


def test_tables_have_a_row_for_each_event_and_label():
    bark, rain = Event(0.5, 1.5, "a dog barks"), Event(2.0, 6.0, "rain falls")
    mixtures = to_table([recipe(bark, rain), recipe(rain, index=7)])
    assert stats.events(mixtures)["index"].tolist() == [0, 0, 7]
    assert stats.labels(mixtures)["duration_s"].tolist() == [1.0, 4.0, 4.0]
    assert list(stats.events(to_table([]))) == list(stats.EVENT_COLUMNS)


def test_the_prior_of_a_caption_is_its_share_of_all_the_time():
    bark, rain = Event(0.0, 4.0, "a dog barks"), Event(2.0, 6.0, "rain falls")
    found = stats.captions(to_table([recipe(bark, rain), recipe(bark, index=1)]))
    assert found.to_dict("list") == {
        "caption": ["a dog barks", "rain falls"],
        "n_events": [2, 1],
        "seconds": [8.0, 4.0],
        "prior": [8 / 20, 4 / 20],
    }


@pytest.mark.parametrize(
    ("counts", "share"), [([3, 3, 3, 3], 0.5), ([9, 1], 0.1), ([2, 2, 2], 0.5)]
)
def test_the_rarer_half_of_even_captions_is_half_of_the_events(counts, share):
    second = [Event(i, i + 0.5, f"sound {i}") for i in range(len(counts))]
    mixtures = [recipe(e) for e, n in zip(second, counts, strict=True) for _ in range(n)]
    assert stats.summary(to_table(mixtures))["rare_half"] == pytest.approx(share)
