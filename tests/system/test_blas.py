"""Stored numbers have the same digits with any number of BLAS threads, for every kernel this processor has."""

from __future__ import annotations

import os
import subprocess
import sys
from threading import Thread

import pytest

from harness.system import blas
from harness.system.blas import single_threaded, thread_pool
from harness.system.environment import features

KERNELS = {"": "", "Nehalem": "", "Haswell": "avx2", "Zen": "avx2", "SkylakeX": "avx512f"}
"""OpenBLAS's name of a set of kernels -> the processor's feature that it needs; the empty name is its own choice."""
PROGRAM = """
import json, numpy as np
from threadpoolctl import threadpool_info, threadpool_limits
import harness.system.blas, harness.metrics.moments
from harness.metrics.bootstrap import resample
from harness.metrics.correlation import profile_test, stratified
from harness.metrics.geometry import measure_geometry
from harness.metrics.moments import Moments
from harness.metrics.significance import difference_interval, randomisation_test
from harness.types import PluginError
from harness.embeddings.transform import Affine, fit, multiplied
from harness_plugins.transforms import load_whiten

rng = np.random.default_rng(0)
x = (rng.normal(size=(6000, 300)) * np.linspace(0.1, 3, 300) + 1).astype(np.float32)
scores = [rng.random(20_001) for _ in range(3)]

class Step:
    label = "whiten"
    transform = load_whiten({"similarity": "member", "exponent": 1.0})

def everything():
    state = Moments(300)
    state.update(x)
    affine = fit([Step()], state.mean, state.scatter / (state.n - 1))
    yield json.dumps(measure_geometry([x[:5000], x[5000:]], 6000))
    yield multiplied(x, affine).tobytes()
    yield resample([[scores[0]], [scores[1]]], 500, 0).tobytes()
    yield stratified([(scores[0], scores[1])])
    yield profile_test(x[:12].T.astype(float)[:40], x[12:24].T.astype(float)[:40], samples=100)
    yield difference_interval([scores[0]], [scores[1]], samples=500)
    yield randomisation_test(scores[0] - scores[1], samples=200)

def run(threads):
    harness.metrics.moments.cores = harness.system.blas.cores = lambda: threads
    with threadpool_limits(threads, user_api="blas"):
        return list(everything())

first = run(1)
for threads in (2, 3, 5):
    for number, (one, other) in enumerate(zip(first, run(threads), strict=True)):
        assert one == other, (number, threads)
print({one.get("architecture") for one in threadpool_info()})
"""


@pytest.mark.parametrize("kernels", KERNELS)
def test_no_digit_depends_on_the_number_of_threads(kernels: str) -> None:
    if KERNELS[kernels] and KERNELS[kernels] not in features():
        pytest.skip(f"this processor lacks {KERNELS[kernels]}")
    chosen = {"OPENBLAS_CORETYPE": kernels} if kernels else {}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, **chosen}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    if kernels and kernels.lower() not in done.stdout.lower():
        pytest.skip(f"this BLAS has no kernels for {kernels}: {done.stdout}")


def threads() -> list[int]:
    return [one["num_threads"] for one in blas._controller().info()]


def test_blocks_of_several_threads_do_not_undo_each_other() -> None:
    before, inside = threads(), []

    def work() -> None:
        with single_threaded(), thread_pool() as pool:
            inside.extend(pool.map(lambda _: threads(), range(3)))

    crowd = [Thread(target=work) for _ in range(8)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert inside == [[1] * len(before)] * 24
    assert threads() == before
