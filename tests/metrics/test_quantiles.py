import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_frames import seeds

from flamlib.metrics.quantiles import quantiles


@settings(max_examples=40, deadline=None)
@given(
    seeds,
    st.integers(1, 5),
    st.sampled_from([1, 3, 50, 1000]),
    st.sampled_from([1, 2, 6]),
    st.sampled_from([np.float32, np.float64]),
)
def test_of_blocks_they_are_those_of_numpy_to_the_bit(seed, n_blocks, stride, digits, dtype):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 60, n_blocks) + (np.arange(n_blocks) == 0)
    values = [rng.normal(size=n).round(digits).astype(dtype) for n in sizes]
    shares = np.concatenate([[0.0, 1.0, 0.5], 1 - np.geomspace(1e-4, 1, 9), rng.random(5)])
    found = quantiles(lambda: (block.copy() for block in values), shares, stride=stride)
    np.testing.assert_array_equal(found, np.quantile(np.concatenate(values), shares))


def test_a_number_that_is_most_of_them_is_one_bin():
    values = [np.zeros(500, np.float32), np.full(3, 2.0, np.float32), np.zeros(400, np.float32)]
    found = quantiles(lambda: (block.copy() for block in values), np.array([0.5, 0.9989]))
    assert found == pytest.approx([0.0, np.quantile(np.concatenate(values), 0.9989)])
