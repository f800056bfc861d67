"""Freed memory is kept or returned to the system; the test counts the pages that the system fills again."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from hw_common.training.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
size = 64 << 20
for _ in range(2):
    np.ones(size, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(size, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_kept_memory_is_not_filled_anew():
    def faults(how):
        done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    kept, given_back = faults("keep"), faults("as usual")
    assert kept < 100
    assert given_back > 100 + 20 * kept
