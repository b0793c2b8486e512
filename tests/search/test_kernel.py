import numpy as np
import pytest
from unit_frames import unit_frames, write_index

from flamlib.search import codes, kernel


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    recordings = {f"{k}.wav": unit_frames(3 + 40 * k, 37, k) for k in range(5)}
    return write_index(tmp_path_factory.mktemp("index"), recordings).parts


@pytest.mark.parametrize("n_threads", [1, 2, None])
def test_products_are_those_of_what_is_stored(parts, n_threads):
    vectors = unit_frames(3, 37, 9) * [[1.0], [0.01], [50.0]]
    frames = np.concatenate([codes.decode(part.coded) for part in parts])
    fast = kernel.products(parts, vectors.astype(np.float32), n_threads=n_threads)
    assert fast.dtype == np.float32
    # Half a fine step in every coordinate, and what float32 rounds.
    step = np.abs(vectors).max(axis=1, keepdims=True) / 127 / 254
    assert (np.abs(fast - vectors @ frames.T) <= step * np.abs(frames).sum(axis=1)).all()


def test_blocks_change_nothing(parts, monkeypatch):
    vectors = unit_frames(1, 37, 9)
    whole = kernel.products(parts, vectors)
    monkeypatch.setattr(kernel, "_ROWS", 7)
    np.testing.assert_array_equal(kernel.products(parts, vectors), whole)


def test_a_vector_of_zeros_and_no_parts(parts):
    assert not kernel.products(parts, np.zeros((1, 37), np.float32)).any()
    assert kernel.products([], unit_frames(2, 37, 0)).shape == (2, 0)
