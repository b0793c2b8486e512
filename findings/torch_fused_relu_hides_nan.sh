#!/usr/bin/env bash
# On a CPU, torch's ReLU by oneDNN makes 0 of NaN; torch's own ReLU keeps NaN.
#
# A network that is optimised for inference computes a convolution and the ReLU after it in one call
# of oneDNN. So audio or weights that are no numbers give finite scores there, and a check of the
# result for NaN, which works on the network as it was trained, finds nothing. The same happens under
# torch.compile with torch._inductor.config.freezing (not run here: it needs a C++ compiler).
#
# Seen with torch 2.13.0, on Python 3.11, x86-64:
#     relu: [nan, 0.0, 2.0] by oneDNN: [0.0, 0.0, 2.0]
#     network: [nan, nan] optimised for inference: [0.0, 0.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.3.5
cat > try.py <<'PYTHON'
import math

import torch
from torch import nn

x = torch.tensor([[math.nan, -1.0, 2.0]])
plain, fused = x.relu()[0].tolist(), x.to_mkldnn().relu().to_dense()[0].tolist()
print("relu:", plain, "by oneDNN:", fused)
assert math.isnan(plain[0]) and plain[1:] == [0.0, 2.0]
assert fused == [0.0, 0.0, 2.0], fused

network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU()).eval()
nn.init.ones_(network[0].weight)
optimised = torch.jit.optimize_for_inference(torch.jit.script(network))
numbers = torch.full((1, 1, 1, 2), math.nan)
with torch.inference_mode():
    before = network(numbers).flatten().tolist()
    after = [optimised(numbers).flatten().tolist() for _ in range(3)][-1]
print("network:", before, "optimised for inference:", after)
assert all(map(math.isnan, before)), before
assert after == [0.0, 0.0], after
PYTHON
venv/bin/python -W ignore try.py
