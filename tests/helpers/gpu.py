"""What the tests in tests/gpu share: the device, and that they are skipped where there is none."""

import pytest
import torch

DEVICE = torch.device("cuda")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU for CUDA here")
