import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from flamlib.compute import memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "keep":
    memory.keep_freed()
np.ones(2**23)  # 64 MB
before = faults()
for _ in range(10):
    np.ones(2**23)
print(faults() - before)
"""


def faults(how):
    run = [sys.executable, "-c", FAULTS, how]
    return int(subprocess.run(run, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone can be told so")
def test_large_arrays_reuse_the_memory_of_those_before():
    kept = faults("keep")
    assert kept < 100
    assert faults("plain") >= kept
