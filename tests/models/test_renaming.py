import pytest
import torch

from flamlib.models import renaming

TENSORS = {"text.a": torch.ones(1), "text.b.text.c": torch.ones(2), "audio.a": torch.ones(3)}


def test_patterns_apply_one_after_the_other():
    patterns = ((r"^text\.", "caption."), (r"^caption\.a", "caption.first"))
    assert renaming.rename("text.a", patterns) == "caption.first"
    assert renaming.rename("audio.text.a", patterns) == "audio.text.a"


def test_a_prefix_goes_once_and_selects():
    found = renaming.strip_prefix(TENSORS, "text.")
    assert found.keys() == {"a", "b.text.c"}
    assert found["a"] is TENSORS["text.a"]


def test_adding_a_prefix_is_undone_by_stripping_it():
    assert renaming.strip_prefix(renaming.add_prefix(TENSORS, "x."), "x.") == TENSORS


def test_a_missing_tensor_is_named():
    assert renaming.require(TENSORS, "audio.a") is TENSORS["audio.a"]
    with pytest.raises(ValueError, match=r"tensor audio.b is missing"):
        renaming.require(TENSORS, "audio.b")
