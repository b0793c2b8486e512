#!/usr/bin/env bash
# numkong's names of types: "u1", which its documentation lists as one bit, packs whole bytes.
#
# The docstring of `dots_pack` has 'i8', 'u8', 'i4', 'u4' and 'u1' as supported values of `dtype`, in
# bits, as 'bf16' and 'f32' are. "u1" is read as NumPy reads it, in bytes: packed vectors of bits are
# multiplied as bytes, and nobody is told. "i8" and "u8" are refused for the same reason, as 64 bits.
# What works are "uint1", "int8" and "uint8".
#
# Seen with numkong 7.8.6, on Python 3.11:
#     bits 1 0 0 ... times bits 1 1 0 ...: 'u1' gives 3, 'uint1' gives 1
#     'u8': Input dtype 'B' does not match target dtype 'L'.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check numkong==7.8.6 numpy==2.3.5
cat > try.py <<'PYTHON'
import numkong
import numpy as np

one, other = (np.array([[byte] + [0] * 7], np.uint8) for byte in (1, 3))  # 64 bits each
assert "'u4', 'u1'." in numkong.dots_pack.__doc__, "documented otherwise now"


def product(dtype):
    return int(np.asarray(numkong.dots_packed(one, numkong.dots_pack(other, dtype=dtype)))[0, 0])


bits, documented = product("uint1"), product("u1")
print(f"bits 1 0 0 ... times bits 1 1 0 ...: 'u1' gives {documented}, 'uint1' gives {bits}")
assert (bits, documented) == (1, 3), "'u1' is another type now"
try:
    product("u8")
except TypeError as error:
    print("'u8':", error)
else:
    raise AssertionError("'u8' is bytes now")
PYTHON
venv/bin/python try.py
