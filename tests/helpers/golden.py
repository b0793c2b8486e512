"""Stored curves of trainings, and their comparison with those of today.

Where a change is meant, this writes them anew; say in the commit why they changed:

    RENEW_GOLDEN=1 make test ARGS="tests/training/test_golden.py tests/test_rehearsal.py"
"""

import hashlib
import os
import platform
import re
from pathlib import Path

import numpy as np
import pandas as pd
import torch

GOLDEN = Path(__file__).parents[1] / "training/golden"
# Kernels of another processor add in another order. Without AVX-512, or AVX2 either, the largest
# difference in 100 steps was 4e-5, but 3e-3 in the rehearsal of the paper's recipe.
ACROSS_MACHINES = {"rehearsal_paper": 1e-2}


def compare(history, name):
    """Compare a training's history with the stored one of that name, or store it.

    A processor like the one that wrote it, with the same torch and threads, repeats each digit.
    """
    found, path = pd.DataFrame(history), GOLDEN / f"{name}.tsv"
    if os.environ.get("RENEW_GOLDEN"):
        path.write_text(f"# {_machine()}\n" + found.to_csv(sep="\t", index=False, na_rep="nan"))
    stored = pd.read_csv(path, sep="\t", comment="#", float_precision="round_trip")
    assert [*found] == [*stored]
    same = path.read_text().startswith(f"# {_machine()}\n")
    rtol = 0 if same else ACROSS_MACHINES.get(name, 1e-3)
    np.testing.assert_allclose(found.astype(float), stored, rtol=rtol, err_msg=__doc__)


def _machine():
    """What the order of additions depends on. A virtual machine may name its processor vaguely, so
    family, model and what it can do are asked, too."""
    cpuinfo = Path("/proc/cpuinfo")
    info = cpuinfo.read_text() if cpuinfo.is_file() else ""
    one = dict(re.findall(r"^([^:\n]*?)\s*: (.*)$", info.split("\n\n")[0], re.M))
    named = [one.get(key, "") for key in ("model name", "cpu family", "model", "stepping")]
    named = " ".join(named).strip() or platform.processor()
    can = hashlib.sha256(one.get("flags", "").encode()).hexdigest()[:8]
    kernels, n = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    return f"{named} ({can}), {kernels}, torch {torch.__version__}, {n} threads"
