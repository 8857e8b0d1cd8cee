"""Versions, git state and hardware, recorded with every result. They are not part of any key."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import harness

PACKAGES = (
    "retrieval-harness",
    "numpy",
    "ir-measures",
    "pytrec-eval-terrier",
    "torch",
    "transformers",
    "tokenizers",
    "sentence-transformers",
    "faiss-cpu",
    "faiss-gpu",
    "bm25s",
    "pyserini",
)


@cache
def environment() -> dict[str, Any]:
    """Versions, git state and hardware of this process."""
    return {"versions": versions(), "git": git_state(Path(harness.__file__).parent), "machine": machine()}


def versions() -> dict[str, str]:
    """Installed versions of the packages that can influence a result, from their metadata, without importing them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_state(folder: Path) -> dict[str, Any]:
    """The commit, and whether tracked files differ from it; {} outside a checkout or without git."""
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit, "dirty": bool(changes)}


def cores() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Processor, cores, memory and GPUs, as far as /proc tells."""
    lines = _read("/proc/cpuinfo").splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    total = next((line.split()[1] for line in _read("/proc/meminfo").splitlines() if line.startswith("MemTotal")), "0")
    gpus = [_read(str(file)) for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": model,
        "cores": cores(),
        "features": sorted(features()),
        "memory_bytes": int(total) * 1024,
        "gpus": [
            line.partition(":")[2].strip() for text in gpus for line in text.splitlines() if line.startswith("Model")
        ],
    }


FEATURES = frozenset({"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8"})


def features() -> frozenset[str]:
    """The `FEATURES` that the processor has; empty if the system does not tell."""
    lines = _read("/proc/cpuinfo").splitlines()
    return FEATURES & {*next((line for line in lines if line.startswith("flags")), "").split()}


def multiplies_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 matrices faster than float32 ones."""
    return bool(features() & {"avx512_bf16", "amx_bf16"})


def has_amx() -> bool:
    """Whether the processor has tiles for bfloat16 products, which need larger batches than AVX-512 does."""
    return "amx_bf16" in features()


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def peak_memory() -> int:
    """Peak resident memory of this process in bytes."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
