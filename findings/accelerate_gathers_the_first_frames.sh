#!/usr/bin/env bash
# Accelerate's gather_for_metrics keeps a few frames of the last batch, in one process, too.
#
# After the last batch `Accelerator.gather_for_metrics` keeps as many rows as that batch has examples,
# because it may have been filled up with others. But a metric of frames wants scores and targets with
# one row a frame: of two clips of 100 frames two frames remain, and of a set that is a single batch as
# many frames as it has clips. Both are cut alike, so that every shape fits. The documentation has it
# drop duplicates "if on a distributed system"; it cuts in one process as well. No error and no warning,
# and nothing is lost where the batch size divides the number of clips. Gather clips, then flatten.
#
# Seen with accelerate 1.15.0 and torch 2.13.0, on Python 3.11: rows of each batch, of 10 clips of 100
# frames
#     1 process, batches of 4: clips [4, 4, 2], frames [400, 400, 2]
#     1 process, batches of 16: clips [10], frames [10]
#     2 processes, batches of 4: clips [8, 2], frames [800, 2]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    accelerate==1.15.0 torch==2.13.0 numpy==2.3.5
cat > try.py <<'PYTHON'
import sys

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

accelerator = Accelerator(cpu=True)
scores = torch.rand(10, 100, generator=torch.manual_seed(0))  # of clips and their frames


def rows(batch_size):
    clips, frames = [], []
    for batch in accelerator.prepare(DataLoader(scores, batch_size=batch_size)):
        clips.append(len(accelerator.gather_for_metrics(batch)))
        frames.append(len(accelerator.gather_for_metrics(batch.flatten())))
    return clips, frames


expected = {
    "1": {4: ([4, 4, 2], [400, 400, 2]), 16: ([10], [10]), 5: ([5, 5], [500, 500])},
    "2": {4: ([8, 2], [800, 2])},
}[sys.argv[1]]
for size, found in expected.items():
    clips, frames = rows(size)
    if accelerator.is_main_process and size != 5:
        name = "1 process" if accelerator.num_processes == 1 else "2 processes"
        print(f"{name}, batches of {size}: clips {clips}, frames {frames}")
    assert (clips, frames) == found, (size, clips, frames)
accelerator.end_training()
PYTHON
venv/bin/python -W ignore try.py 1
venv/bin/torchrun --nproc-per-node 2 try.py 2 2> log || { cat log; exit 1; }
