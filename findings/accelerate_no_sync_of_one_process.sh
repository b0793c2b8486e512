#!/usr/bin/env bash
# Accelerate's `no_sync` does nothing in a launch of one process, though the model is wrapped in DDP.
#
# `torchrun --nproc-per-node 1` makes `Accelerator.prepare` return a DistributedDataParallel, but
# `Accelerator.no_sync` asks whether there is more than one process. So a step whose first part does
# not touch all weights, as in gradient caching, stops with DDP's error about unfinished reduction.
# With two processes, or with DDP's own `no_sync`, the same step runs.
#
# Seen with accelerate 1.15.0 and torch 2.13.0, on Python 3.11:
#     wrapped in DistributedDataParallel, processes: 1
#     accelerator.no_sync: Expected to have finished reduction in the prior iteration
#     DDP's no_sync: fine
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    accelerate==1.15.0 torch==2.13.0 numpy==2.3.5
cat > try.py <<'PYTHON'
import torch
from accelerate import Accelerator
from torch import nn


class TwoParts(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)])

    def forward(self, x, part):
        return self.parts[part](x).sum()


accelerator = Accelerator(cpu=True)
net, x = accelerator.prepare(TwoParts()), torch.ones(3, 2)
print("wrapped in", type(net).__name__ + ", processes:", accelerator.num_processes)
assert isinstance(net, nn.parallel.DistributedDataParallel)

try:
    with accelerator.no_sync(net):
        net(x, 0).backward()
    net(x, 1).backward()
    found = "fine"
except RuntimeError as error:
    found = str(error).split(" before ")[0]
print("accelerator.no_sync:", found)
assert found == "Expected to have finished reduction in the prior iteration", found

again = nn.parallel.DistributedDataParallel(TwoParts())
with again.no_sync():
    again(x, 0).backward()
again(x, 1).backward()
print("DDP's no_sync: fine")
PYTHON
venv/bin/torchrun --nproc-per-node 1 try.py 2> log || { cat log; exit 1; }
