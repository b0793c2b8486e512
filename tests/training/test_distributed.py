import os
from datetime import timedelta
from types import SimpleNamespace

import pytest
import ranks
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

from flamlib.training import distributed


@pytest.fixture(autouse=True)
def alone():
    """No Accelerator of an earlier test."""
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx2": True, "avx512_f": False, "avx512_bf16": False, "amx_bf16": False}, "no"),
        ({"avx2": True, "avx512_f": True, "avx512_vnni": True, "avx512_bf16": False}, "no"),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": True}, "bf16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16"),
        ({"architecture": "aarch64"}, "no"),
    ],
)
def test_bf16_is_chosen_on_cpus_that_multiply_it(monkeypatch, features, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert distributed.precision("auto") == expected


@pytest.mark.parametrize(("generation", "expected"), [(7, "no"), (8, "bf16"), (9, "bf16")])
def test_bf16_is_chosen_on_gpus_that_multiply_it(monkeypatch, generation, expected):
    """V100 and T4 are of generation 7, on which torch emulates bf16."""
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    about = SimpleNamespace(major=generation, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: about)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    assert distributed.precision("auto") == expected


@pytest.mark.parametrize(
    ("cap", "expected"), [("AVX2", "no"), ("avx512_core", "no"), ("ALL", "bf16")]
)
def test_without_leave_to_use_them_bf16_units_are_of_no_use(monkeypatch, cap, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
    assert distributed.precision("auto") == expected
    assert distributed.precision("fp16") == "fp16"


def test_a_process_that_would_train_alone_is_refused():
    with pytest.raises(RuntimeError, match="2 processes are to share the training, but 1 take"):
        distributed.accelerator("no", 2)


def counted(folder):
    """One process of two: who computes, and what each is told."""
    accelerator = distributed.accelerator("no", 2)
    rank = accelerator.process_index

    def compute():
        (folder / f"computed{rank}").touch()
        return {"by": rank, "thousand": [10**3]}

    told = distributed.once(accelerator, compute)
    (folder / f"told{rank}").write_text(repr(told))
    mean = distributed.means(accelerator, {"a": torch.tensor(2.0 + rank), "b": torch.tensor(0.5)})
    (folder / f"mean{rank}").write_text(repr(mean))
    # The main process may take long over what the others wait for.
    timeout = torch.distributed.distributed_c10d._get_default_timeout
    assert distributed.PATIENCE > timeout("gloo") >= timedelta(minutes=1)


def test_what_is_computed_once_is_known_to_all(tmp_path):
    ranks.launched(2, counted, tmp_path)
    assert (tmp_path / "computed0").exists()
    assert not (tmp_path / "computed1").exists()
    for rank in range(2):
        assert (tmp_path / f"told{rank}").read_text() == "{'by': 0, 'thousand': [1000]}"
        assert (tmp_path / f"mean{rank}").read_text() == "{'a': 2.5, 'b': 0.5}"


def compared(folder):
    accelerator = distributed.accelerator("no", 2)
    distributed.check_same(accelerator, 7, "steps")
    with pytest.raises(RuntimeError, match=r"steps \(7, 8\)"):
        distributed.check_same(accelerator, 7 + accelerator.process_index, "steps")
    (folder / f"told{accelerator.process_index}").touch()


def test_numbers_that_differ_are_told_in_every_process(tmp_path):
    ranks.launched(2, compared, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"told0", "told1"}


def test_one_process_computes_for_itself():
    accelerator = Accelerator(cpu=True)
    assert distributed.once(accelerator, os.getpid) == os.getpid()
    assert distributed.means(accelerator, {"a": torch.tensor(2.0)}) == {"a": 2.0}
