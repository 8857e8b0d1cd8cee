"""``python -m tests.robustness.fuzz [TARGET ...] [--seconds N] [--folder DIR]``: hostile files for every parser.

With atheris (``pip install atheris``, Linux) the changes follow what code they reach; without it they are random. Each
target runs in a process of its own, in bounded memory, each input in a bounded time. What is found (an exception that
is no sentence, a sentence that is none, a file elsewhere) is kept in DIR/found/TARGET and run first the next time.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random

from tabulate import tabulate

from tests.robustness.fuzz_seeds import spoilt
from tests.robustness.fuzz_targets import GOOD, TARGETS

PACKAGES = ("harness", "harness_plugins", "harness_reports", "harness_training")
MEMORY = 4 << 30
"""Bytes of address space beyond what the imports took."""
LIMIT = 20
"""Seconds for one input; a thousandth of it is usual."""
ROOM = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())


class Hang(BaseException):
    """One input took longer than `LIMIT`."""


def examine(name: str, data: bytes) -> str:
    """What is wrong with how a target takes these bytes; empty: nothing."""
    outer = Path(tempfile.mkdtemp(prefix="fuzz-", dir=ROOM))
    inner = outer / "inner"
    inner.mkdir()
    try:
        TARGETS[name].parse(inner, data)
    except GOOD as error:
        if not str(error).strip() or "Traceback" in str(error):
            return f"says nothing: {error!r}"
    except (Exception, Hang) as error:
        if isinstance(error, OSError) and error.filename is not None:
            return ""  # which the command line tells in a sentence
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "/benchmarks/" not in f.filename]
        own = [f for f in frames if any(f"/{package}/" in f.filename for package in PACKAGES)]
        at = own[-1] if own else frames[-1] if frames else None
        return f"{type(error).__name__} at {Path(at.filename).name}:{at.name}" if at else type(error).__name__
    finally:
        left = [path.name for path in outer.iterdir() if path != inner]
        shutil.rmtree(outer, ignore_errors=True)
    return f"left {left[0]} outside" if left else ""


def campaign(name: str, seconds: float, folder: Path, number: int = 0) -> None:
    """Runs one target for so long, in this process, and writes DIR/TARGET.json."""
    found: Counter[str] = Counter()
    kept, last = folder / "found" / name, folder / f"{name}.last"
    start, runs, written = time.monotonic(), 0, 0.0

    def hang(*_: object) -> None:
        raise Hang

    def tell() -> None:
        told = {"runs": runs, "seconds": round(time.monotonic() - start, 1), "found": dict(found)}
        (folder / f"{name}.json").write_text(json.dumps(told))

    def one(data: bytes) -> None:
        nonlocal runs, written
        runs += 1
        last.write_bytes(data)  # what C code makes of it may end the process
        signal.alarm(LIMIT)
        fault = examine(name, data)
        signal.alarm(0)
        if fault:
            if fault not in found:
                kept.mkdir(parents=True, exist_ok=True)
                (kept / hashlib.sha256(fault.encode()).hexdigest()[:16]).write_bytes(data)
            found[fault] += 1
        if time.monotonic() - written > 1 or fault:
            written = time.monotonic()
            tell()

    signal.signal(signal.SIGALRM, hang)
    folder.mkdir(parents=True, exist_ok=True)
    earlier = [path.read_bytes() for path in sorted(kept.glob("*"))] if kept.is_dir() else []
    seeds = [*TARGETS[name].seeds, *earlier]
    for data in [*seeds, b"", b"[" * 1_000_000, b"a=" + b"[" * 100_000, b"\xff\xfe\x00"]:
        one(data)
    random = Random(number)
    try:
        import atheris
    except ImportError:
        while time.monotonic() - start < seconds:
            one(spoilt(random.choice(seeds), random))
        return tell()
    corpus = folder / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for place, data in enumerate(seeds):
        (corpus / f"seed-{place}").write_bytes(data)

    def mutate(data: bytes, size: int, chance: int) -> bytes:
        own = Random(chance)
        return spoilt(data, own)[:size] if own.random() < 0.5 else atheris.Mutate(data, size)

    flags = [f"-max_total_time={max(1, int(seconds))}", f"-seed={number + 1}", "-max_len=65536", "-verbosity=0"]
    atheris.Setup(
        ["fuzz", *flags, f"-timeout={2 * LIMIT}", "-rss_limit_mb=8192", str(corpus)], one, custom_mutator=mutate
    )
    atheris.Fuzz()


def _child(name: str, seconds: float, folder: Path) -> None:
    faulthandler.enable()
    with contextlib.suppress(ImportError):
        import atheris

        with atheris.instrument_imports(include=[*PACKAGES, "tomllib", "zipfile"]):
            examine(name, TARGETS[name].seeds[0])
    examine(name, TARGETS[name].seeds[0])  # imports what it needs
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    campaign(name, seconds, folder)


def keep_last(name: str, folder: Path) -> None:
    """Keeps the input at which a target's process ended."""
    if (last := folder / f"{name}.last").is_file():
        (kept := folder / "found" / name).mkdir(parents=True, exist_ok=True)
        last.replace(kept / hashlib.sha256(last.read_bytes()).hexdigest()[:16])


def main(*words: str) -> None:
    """Prints the table; exit code 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--folder", type=Path, default=Path("fuzzed"), help="where findings are kept")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    names = given.targets or list(TARGETS)
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"there is no target {unknown[0]}; there are {', '.join(TARGETS)}")
    if given.child:
        return _child(names[0], given.seconds, given.folder)
    rows, any_found = [], False
    for name in names:
        command = [sys.executable, "-m", "tests.robustness.fuzz", name, "--child"]
        command += ["--seconds", str(given.seconds), "--folder", str(given.folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=given.seconds * 3 + 300, check=False)
        told = given.folder / f"{name}.json"
        state = json.loads(told.read_text()) if told.is_file() else {"runs": 0, "seconds": 0, "found": {}}
        faults = list(state["found"])
        if done.returncode:
            faults.append(f"the process ended with {done.returncode}: {done.stderr.strip()[:200]}")
            keep_last(name, given.folder)
        any_found |= bool(faults)
        rows.append([name, state["runs"], state["seconds"], "; ".join(faults) or "none"])
        print(f"{name}: {rows[-1][1:]}", file=sys.stderr, flush=True)
    print(tabulate(rows, ["target", "inputs", "seconds", "found"], tablefmt="pipe"))
    sys.exit(int(any_found))


if __name__ == "__main__":
    main(*sys.argv[1:])
