from contextlib import suppress

import checkpoints
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flamlib.models.tensorbundle import read_bundle

WIDE = {
    f"model/layer-{i}/{part}/.ATTRIBUTES/VARIABLE_VALUE": np.full(shape, i + 0.5, np.float32)
    for i in range(12)
    for part, shape in (("bias", (3,)), ("kernel", (2, 300)))
}

names = st.text("abkernl/-_0129", min_size=1, max_size=30)
arrays = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))


@given(st.dictionaries(names, arrays, max_size=9), st.integers(1, 5))
def test_what_was_written_is_read(tensors, per_block):
    found = read_bundle(*checkpoints.write(tensors, per_block=per_block))
    assert found.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_names_that_share_their_beginning_are_told_apart():
    found = read_bundle(*checkpoints.write(WIDE, per_block=100))
    assert found.keys() == WIDE.keys()
    assert {name: array[(0,) * array.ndim] for name, array in found.items()} == {
        name: array[(0,) * array.ndim] for name, array in WIDE.items()
    }


def test_what_is_not_float_is_left_out():
    step = {"step": np.array(7, np.int32), "weight": np.ones(2, np.float32)}
    assert list(read_bundle(*checkpoints.write(step))) == ["weight"]


def test_the_index_must_be_one():
    index, data = checkpoints.write(WIDE)
    for wrong in (b"", b"PK", index[:-1], index + b"\0", data):
        with pytest.raises(ValueError, match="not a TensorFlow checkpoint index"):
            read_bundle(wrong, data)


def test_a_truncated_index_is_said_to_be():
    index, data = checkpoints.write(WIDE)
    with pytest.raises(ValueError, match="past the end of the checkpoint index: truncated"):
        read_bundle(index[:20] + index[-48:], data)


def test_truncated_data_name_the_tensor_that_is_lost():
    index, data = checkpoints.write(WIDE)
    with pytest.raises(ValueError, match=r"'model/layer-11/kernel/.*' lies past the end"):
        read_bundle(index, data[:-1])


def test_a_compressed_index_is_refused():
    index, data = checkpoints.write(WIDE, compression=1)
    with pytest.raises(ValueError, match="compressed"):
        read_bundle(index, data)


def test_bytes_of_another_kind_never_hang_or_crash():
    """Any damage is a ValueError, so that the caller can name the package."""
    index, data = checkpoints.write(WIDE)
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(index)
        for place in rng.integers(len(index) - 8, size=3):
            damaged[place] = rng.integers(256)
        with suppress(ValueError):
            read_bundle(bytes(damaged), data)
