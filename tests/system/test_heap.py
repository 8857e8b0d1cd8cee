"""Freed memory is kept while a model encodes, and returned when it is unloaded."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import re, resource, sys
from harness.system.heap import keep_freed_memory, trim_heap

def resident():
    return int(re.search(r"VmRSS:\\s*(\\d+)", open("/proc/self/status").read())[1]) >> 10

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        both = [bytearray(b"x") * (20 << 20) for _ in range(2)]
        del both
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    keep_freed_memory()
faults()
print(faults())
kept = resident()
trim_heap()
print(kept - resident())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="memory is kept with glibc")
def test_freed_memory_is_kept_until_it_is_returned() -> None:
    """Four times two blocks of 20 MB are 40,960 pages of 4 kB."""
    found = {}
    for how in ("keep", "default"):
        done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
        found[how] = [int(line) for line in done.stdout.split()]
    (faults, returned), (usual, _) = found["keep"], found["default"]
    assert faults < 1000 < usual
    assert returned >= 35
