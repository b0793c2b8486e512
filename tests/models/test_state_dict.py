import pickle
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.testing import assert_close

from flamlib.models import state_dict

RAN = []


class Malicious:
    def __reduce__(self):
        return (RAN.append, ("ran",))


@pytest.fixture
def tensors():
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}


@pytest.mark.parametrize("kind", ["safetensors", "pth", "ckpt"])
def test_tensors_are_read_whatever_wrote_them(tensors, tmp_path, kind):
    path = tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors if kind == "pth" else {"epoch": 3, "state_dict": tensors}, path)
    found = state_dict.read(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert_close(found[name], tensor)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_with_code_inside_is_refused_and_does_not_run(tmp_path, legacy):
    path = tmp_path / "evil.pth"
    torch.save({"a": Malicious()}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r"evil.pth is refused: .* could run code"):
        state_dict.read(path)
    path.write_bytes(pickle.dumps(Malicious(), protocol=2))
    with pytest.raises(ValueError, match="is refused"):
        state_dict.read(path)
    assert RAN == []


@pytest.mark.parametrize("n_bytes", [0, 3, 400, -9])
@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
def test_a_truncated_file_is_said_to_be(tensors, tmp_path, name, n_bytes):
    path = tmp_path / name
    (save_file if path.suffix == ".safetensors" else torch.save)(
        {"a": torch.zeros(999), **tensors}, path
    )
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match=rf"{name} (cannot be read .*truncated|is refused)"):
        state_dict.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.pth is missing"):
        state_dict.read(tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([1, 2], "contains no state dict, but list"),
        ({}, "contains no state dict"),
        ({"optimizer": {"lr": 0.1}, "a": torch.ones(1)}, "'optimizer' is not a tensor"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content, why):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=why):
        state_dict.read(tmp_path / "other.pth")


def test_misfits_are_named(tensors):
    state_dict.check(tensors, dict(tensors), "file")
    with pytest.raises(ValueError, match="file: 1 missing tensors: b"):
        state_dict.check({"a.weight": tensors["a.weight"]}, tensors, "file")
    with pytest.raises(ValueError, match=r"file: 2 unexpected tensors: x, y"):
        state_dict.check({**tensors, "y": tensors["b"], "x": tensors["b"]}, tensors, "file")
    with pytest.raises(ValueError, match=r"file: b has shape \[1\], .* expects \[\]"):
        state_dict.check({**tensors, "b": torch.ones(1)}, tensors, "file")


@pytest.mark.parametrize(
    ("dtype", "said"),
    [
        (torch.int32, "int32"),
        (torch.complex64, "complex64"),
        (torch.bool, "bool"),
        (torch.uint8, "uint8"),
        (torch.float8_e4m3fn, "float8_e4m3fn"),
    ],
)
def test_weights_of_another_type_are_refused_and_not_cast(dtype, said):
    expected = {"a.weight": torch.ones(2, 3)}
    with pytest.raises(ValueError, match=rf"file: a.weight is {said}, expected float32"):
        state_dict.check({"a.weight": torch.ones(2, 3).to(dtype)}, expected, "file")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_the_same_weights(dtype):
    layer = torch.nn.Linear(3, 2)
    found = {name: torch.ones_like(t).to(dtype) for name, t in layer.state_dict().items()}
    state_dict.check(found, layer.state_dict(), "file")
    layer.load_state_dict(found)
    assert layer.weight.dtype == torch.float32
    assert (layer.weight == 1).all()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_named(tensors, wrong):
    damaged = tensors | {"a.weight": tensors["a.weight"].clone()}
    damaged["a.weight"][1, 2] = wrong
    with pytest.raises(ValueError, match=r"file: a.weight holds NaN or infinite"):
        state_dict.check(damaged, tensors, "file")


def test_weights_beyond_float32_are_infinite(tensors):
    large = tensors | {"a.weight": torch.full((2, 3), 1e300, dtype=torch.float64)}
    with pytest.raises(ValueError, match=r"a.weight holds NaN or infinite"):
        state_dict.check(large, tensors, "file")


def test_constants_are_the_models_own_and_counters_are_free():
    expected = {"index": torch.arange(4), "norm.num_batches_tracked": torch.tensor(0)}
    state_dict.check(expected | {"norm.num_batches_tracked": torch.tensor(7)}, expected, "file")
    with pytest.raises(ValueError, match="file: index is a constant and has other values"):
        state_dict.check(expected | {"index": torch.tensor([0, 1, 2, 9])}, expected, "file")
    with pytest.raises(ValueError, match="file: index is float32, expected int64"):
        state_dict.check(expected | {"index": torch.ones(4)}, expected, "file")


def test_a_model_of_shapes_alone_is_compared_by_them():
    """So that one that claims an absurd size is refused before memory is taken for it."""
    expected = {"a": torch.empty(10**9, 10**6, device="meta")}
    with pytest.raises(ValueError, match=r"a has shape \[2\], the model expects \[1000000000"):
        state_dict.check({"a": torch.ones(2)}, expected, "file")


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(OSError, match=r"model.safetensors is a folder"):
        state_dict.read(tmp_path / "model.safetensors")


def test_a_tensor_without_numbers_is_refused(tmp_path):
    for strange in (torch.empty(3, device="meta"), torch.eye(3).to_sparse()):
        torch.save({"a": strange}, tmp_path / "a.pth")
        with pytest.raises(ValueError, match=r"a.pth"):
            state_dict.read(tmp_path / "a.pth")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("content", "name"), [(Malicious(), "list.append"), (np.zeros(3), "_reconstruct")]
)
def test_what_was_refused_is_named(tmp_path, legacy, content, name):
    """And torch's advice, to read the file all the same, is not passed on."""
    path = tmp_path / "evil.pth"
    torch.save({"a": content}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match="is refused") as caught:
        state_dict.read(path)
    said = str(caught.value)
    assert "PyTorch 2.6" not in said
    assert "weights_only" not in said
    assert re.search(r": it names \S+$", said)


@given(damage=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8),
       cut=st.integers(0, 10**6), kind=st.sampled_from(["safetensors", "pth"]))  # fmt: skip
def test_a_damaged_file_is_refused_or_read(damage, cut, kind, tmp_path_factory):
    path = tmp_path_factory.mktemp("damaged") / f"model.{kind}"
    content = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}
    (save_file if kind == "safetensors" else torch.save)(content, path)
    data = bytearray(path.read_bytes())
    for at, byte in damage:
        data[at % len(data)] = byte
    path.write_bytes(data[: len(data) - cut % len(data)])
    said = str(path)
    try:
        state_dict.check(state_dict.read(path), content, path)
    except ValueError as error:
        said = str(error)
    assert str(path) in said


@given(st.text(alphabet="ab .!\n", max_size=600))
def test_a_reason_is_one_line_of_whole_words(text):
    said = state_dict.reason(ValueError(text))
    assert "\n" not in said
    if text.strip():
        assert " ".join(text.split()).startswith(said.removesuffix(" …"))
    else:
        assert said == "ValueError"


def test_a_long_reason_ends_with_a_sentence():
    error = OSError("404 Client Error. Repository not found for url: x.y/z. " + "Make sure. " * 30)
    assert state_dict.reason(error).endswith(". …")
