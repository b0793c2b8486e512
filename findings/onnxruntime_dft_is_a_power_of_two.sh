#!/usr/bin/env bash
# onnxruntime's DFT is off the more, the longer it is, unless its length is a power of two.
#
# The operator DFT of ONNX is what torch exports `torch.fft.rfft` as, of a convolution, a correlation
# or a resampling. Where its length is no power of two, as of whole seconds at any usual rate, its
# error grows in proportion to the length: 1 % of the spectrum for 10 s at 16 kHz, 11 % for 30 s at
# 48 kHz, where SciPy in float32 has less than a millionth. A window of 25 ms at 32 kHz (800 samples)
# is 40 dB worse than one of 1024. No error and no warning. Pad to a power of two.
#
# Seen with onnxruntime 1.32.0, onnx 1.23.2, scipy 1.17.1, numpy 2.3.5, on Python 3.11: error of the
# spectrum of noise, in dB of that spectrum, by onnxruntime and by SciPy in float32
#     800 samples: -84 and -139 dB, 1024 samples: -127 and -139 dB
#     160000 samples: -38 and -136 dB, 262144 samples: -122 and -136 dB
#     1440000 samples: -19 and -135 dB, 2097152 samples: -120 and -136 dB
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    onnxruntime==1.32.0 onnx==1.23.2 scipy==1.17.1 numpy==2.3.5
cat > try.py <<'PYTHON'
import numpy as np
import onnxruntime
import scipy.fft
from onnx import TensorProto, helper

x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
node = helper.make_node("DFT", ["x"], ["y"], axis=1, onesided=1)
model = helper.make_model(
    helper.make_graph([node], "dft", [x], [y]),
    opset_imports=[helper.make_opsetid("", 18)],
    ir_version=10,
)
session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]
)
noise = np.random.default_rng(0).standard_normal(2**21).astype(np.float32)


def errors(n):
    """In dB of the spectrum of n samples, by onnxruntime and by SciPy; both take and give float32."""
    exact = np.fft.rfft(noise[:n].astype(np.float64))
    parts = session.run(None, {"x": noise[None, :n, None]})[0][0]
    found = (parts[:, 0] + 1j * parts[:, 1], scipy.fft.rfft(noise[:n]))
    assert all(spectrum.dtype == np.complex64 for spectrum in found)
    return [
        20 * np.log10(np.linalg.norm(spectrum - exact) / np.linalg.norm(exact)) for spectrum in found
    ]


for other, power in ((800, 1024), (160_000, 2**18), (1_440_000, 2**21)):
    (bad, scipys), (good, same) = errors(other), errors(power)
    print(
        f"{other} samples: {bad:.0f} and {scipys:.0f} dB, "
        f"{power} samples: {good:.0f} and {same:.0f} dB"
    )
    assert max(good, scipys, same) < -115, (good, scipys, same)
    assert bad > good + 30, (other, bad, good)
assert errors(160_000)[0] > -50 and errors(1_440_000)[0] > -30
PYTHON
venv/bin/python try.py
