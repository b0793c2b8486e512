import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit_frames import unit_frames

from flamlib.search import codes


@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 10**6))
def test_no_coordinate_is_off_by_more_than_half_a_step(n, dim, seed):
    frames = unit_frames(n, dim, seed)
    cut = [frames[: n // 2], frames[n // 2 :]]
    coded = codes.encode([block for block in cut if len(block)])
    assert coded.codes.dtype == np.int8
    assert (np.abs(codes.decode(coded) - frames) <= coded.scale[:, None] / 2 + 1e-6).all()


def test_an_inner_product_is_off_by_a_thousandth():
    frames, asked = unit_frames(200, 512, 0), unit_frames(3, 512, 1)
    there = codes.decode(codes.encode([frames]))
    assert there @ asked.T == pytest.approx(frames @ asked.T, abs=2e-3)


def test_what_all_vectors_share_costs_nothing():
    """A coordinate that is 0.9 in each of them would take nearly the whole range."""
    frames = unit_frames(50, 20, 0) * np.sqrt(1 - 0.9**2)
    shared = np.hstack([frames, np.full((50, 1), 0.9, np.float32)])
    assert codes.encode([shared]).scale == pytest.approx(codes.encode([frames]).scale, rel=1e-4)


def test_vectors_that_are_all_alike_and_a_single_one_are_exact():
    for frames in (np.tile(unit_frames(1, 8, 0), (5, 1)), unit_frames(1, 8, 0)):
        assert codes.decode(codes.encode([frames])) == pytest.approx(frames, abs=1e-6)
