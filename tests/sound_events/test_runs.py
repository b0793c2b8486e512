import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flamlib.sound_events.runs import every_run, runs_of

# Few different values, so that ties are the rule.
scores = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 9), st.integers(1, 3)),
    elements=st.sampled_from([-np.inf, 0.0, 0.25, 0.5, 1.0]),
)


def slow_runs_of(active):
    """The definition, one frame at a time."""
    runs, start = [], None
    for frame, is_active in enumerate([*active, False]):
        if is_active and start is None:
            start = frame
        if not is_active and start is not None:
            runs.append([start, frame])
            start = None
    return runs


@given(st.lists(st.booleans(), max_size=12))
def test_it_agrees_with_the_definition(active):
    assert runs_of(np.array(active, dtype=bool)).tolist() == slow_runs_of(active)


@given(scores)
def test_at_every_threshold_the_changes_add_up_to_the_runs_there_are(score):
    runs = every_run(score)
    # Any number of a run will do; this one is different for every run of up to nine frames.
    change = runs.change(10 * runs.start + runs.stop)
    for column in range(score.shape[1]):
        for threshold in np.unique(score[:, column]):
            there = slow_runs_of(score[:, column] >= threshold)
            passed = runs.threshold[:, column] >= threshold
            assert change[passed, column].sum() == sum(10 * a + b for a, b in there)


@given(scores, st.data())
def test_columns_do_not_know_of_one_another(score, data):
    some = st.lists(st.integers(0, score.shape[1] - 1), min_size=1, max_size=4)
    chosen = np.array(data.draw(some))
    picked, alone = every_run(score).of_columns(chosen), every_run(score[:, chosen])
    for ours, expected in zip(picked, alone, strict=True):
        assert ours.tolist() == expected.tolist()
