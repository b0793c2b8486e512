#!/usr/bin/env bash
# Within torch.compile a jaxtyping annotation refuses arrays that are as annotated.
#
# A function that is checked by jaxtyping with beartype accepts an array when it is called, and
# refuses the same array once it is compiled: the error names as "actual value" just what was
# expected, here f32[2,3] for Float[Tensor, "a b"]. torch traces into the check itself, and what it
# makes of it is false. Earlier versions stopped with an error of torch's own, which is known; this
# one looks like a wrong shape in the caller's code. Code that has its annotations checked in tests
# alone works compiled, and its tests of compilation fail. `typing.no_type_check` on what is compiled
# helps.
#
# Seen with torch 2.13.0, jaxtyping 0.3.11, beartype 0.23.1, on Python 3.11:
#     called: [2, 3]
#     compiled: TypeCheckError, Actual value: f32[2,3](torch)
#     compiled, without the check: [2, 3]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    torch==2.13.0 jaxtyping==0.3.11 beartype==0.23.1 numpy==2.3.5
cat > try.py <<'PYTHON'
import logging
import re
from typing import no_type_check

import torch
from beartype import beartype
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

logging.disable()


@jaxtyped(typechecker=beartype)
def twice(x: Float[Tensor, "a b"]) -> Float[Tensor, "a b"]:
    return 2 * x


@jaxtyped(typechecker=beartype)
@no_type_check
def unchecked(x: Float[Tensor, "a b"]) -> Float[Tensor, "a b"]:
    return 2 * x


def seen(function):
    try:
        return str(list(function(torch.ones(2, 3)).shape))
    except TypeCheckError as error:
        return f"TypeCheckError, {re.search(r'Actual value: .*', str(error)).group().rstrip('.')}"


found = {
    "called": seen(twice),
    "compiled": seen(torch.compile(twice, backend="eager")),
    "compiled, without the check": seen(torch.compile(unchecked, backend="eager")),
}
for name, said in found.items():
    print(f"{name}: {said}")
assert list(found.values()) == [
    "[2, 3]",
    "TypeCheckError, Actual value: f32[2,3](torch)",
    "[2, 3]",
], found
PYTHON
venv/bin/python -W ignore try.py 2> log || { cat log >&2; exit 1; }
