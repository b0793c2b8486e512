#!/usr/bin/env bash
# onnxruntime's Sigmoid has no small probabilities, and torch exports logsigmoid as its logarithm.
#
# In float32 a probability of 1e-30 is a number like any other. onnxruntime's Sigmoid on a CPU is right to
# about 1e-7 in absolute terms alone: half a percent off at -12, 17 % at -15, half at -16, and 0 from -18
# down; a lower logit can have the higher probability. Scores of rare events, which are such, lose
# their order, and thresholds of log-odds their meaning. torch exports `logsigmoid`, and with it the
# logarithm of any such score, as Log of Sigmoid: minus infinity where torch has -20. No error and no
# warning. As an ONNX model write -Softplus(-x), or give out logits.
#
# Seen with onnxruntime 1.32.0, onnx 1.23.2, onnxscript 0.7.2, torch 2.13.0, on Python 3.11: by how much
# the probability is off, its logarithm as exported, that of -Softplus(-x), and what torch has
#     -8.0: 0.0 %, -8.0, -8.0, -8.0
#     -15.0: 16.9 %, -14.8, -15.0, -15.0
#     -20.0: 100.0 %, -inf, -20.0, -20.0
#     -80.0: 100.0 %, -inf, -80.0, -80.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    onnxruntime==1.32.0 onnx==1.23.2 onnxscript==0.7.2 torch==2.13.0 numpy==2.3.5
cat > try.py <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from torch import nn

LOGITS = torch.tensor([[-8.0, -15.0, -20.0, -80.0]])


def run(model, x=LOGITS):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0][0]


def of(*kinds):
    """A model of operators, one after the other."""
    names = [f"t{i}" for i in range(len(kinds) + 1)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (names[0], names[-1])]
    nodes = [helper.make_node(kind, [a], [b]) for kind, a, b in zip(kinds, names, names[1:])]
    graph = helper.make_graph(nodes, "of", ends[:1], ends[1:])
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


torch.onnx.export(nn.LogSigmoid().eval(), (LOGITS,), "log.onnx", dynamo=True, verbose=False)
assert [node.op_type for node in onnx.load("log.onnx").graph.node] == ["Sigmoid", "Log"]
exact = torch.sigmoid(LOGITS.double()).numpy()[0]
off = 100 * np.abs(run(of("Sigmoid")) / exact - 1)
exported, softplus = run("log.onnx"), run(of("Neg", "Softplus", "Neg"))
torchs = nn.functional.logsigmoid(LOGITS)[0].numpy()
for values in zip(LOGITS[0], off, exported, softplus, torchs):
    print("{:.1f}: {:.1f} %, {:.1f}, {:.1f}, {:.1f}".format(*values))
assert off[0] < 0.1 and off[1] > 1 and (off[2:] == 100).all(), off
assert np.isneginf(exported[2:]).all(), exported
assert np.allclose(softplus, torchs, rtol=1e-5) and np.allclose(torchs, LOGITS[0], atol=0.1)

rising = torch.linspace(-18, -14, 401)[None]
assert (np.diff(run(of("Sigmoid"), rising)) < 0).any()  # less for a higher logit
assert (np.diff(torch.sigmoid(rising)[0].numpy()) > 0).all()
PYTHON
venv/bin/python try.py 2> warnings.txt || (cat warnings.txt && exit 1)
