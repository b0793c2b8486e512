#!/usr/bin/env bash
# torch: AdamW(fused=True) changes weights in place, and their version stays as it was.
#
# Every change of a tensor in place raises its version (`Tensor._version`). Autograd goes by it: a
# backward pass refuses to use a tensor that was changed since the forward pass ("one of the
# variables needed for gradient computation has been modified by an inplace operation"), and a cache of
# something derived from weights may. A step of AdamW, also with foreach=True, raises it; a step with
# fused=True, on a CPU, does not. So the same loop that is refused without it runs with it, and its
# gradient is that of other weights than those of the forward pass; and such a cache is stale.
#
# Seen with torch 2.13.0, on Python 3.11:
#     foreach=True: version 0 -> 1, the backward pass after the step is refused
#     fused=True: version 0 -> 0, the backward pass after the step gives a gradient of 1.4, that of the
#     weight after the step; of the forward pass it is 2.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.3.5
cat > try.py <<'PYTHON'
import torch


def try_it(**how):
    """The gradient of w * x after a step of w: it is w, of the forward pass."""
    w = torch.nn.Parameter(torch.tensor([2.0]))
    x = torch.tensor([1.0], requires_grad=True)
    optimizer = torch.optim.AdamW([w], lr=0.6, weight_decay=0.0, **how)
    y = w * x  # saves w
    before, w.grad = w._version, torch.ones(1)
    optimizer.step()
    try:
        y.backward()
        gradient = round(x.grad.item(), 3)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error), error
        gradient = "refused"
    return before, w._version, round(w.item(), 3), gradient


for how in ({"foreach": True}, {"fused": True}):
    print(how, "version before, after; weight; gradient of x:", *try_it(**how))
_, after, weight, gradient = try_it(foreach=True)
assert after > 0 and gradient == "refused", "a step tells of itself"
before, after, weight, gradient = try_it(fused=True)
assert (before, after) == (0, 0), "a fused step raises the version now"
assert gradient == weight == 1.4, "the gradient is by the weights after the step"
PYTHON
venv/bin/python try.py
