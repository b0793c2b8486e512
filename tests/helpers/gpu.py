"""What the tests in tests/gpu share: the device, and that they are skipped where there is none."""

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState

DEVICE = torch.device("cuda")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU for CUDA here")


def forget():
    """That there has been an Accelerator."""
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
