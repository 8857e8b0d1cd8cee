"""What other people may put in a file's place: pipes, folders and devices, bombs, JSON of another shape, names that are
not UTF-8. And ``--force`` that is killed. Each kind as in `tests.robustness.faults.kinds`."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tests.robustness.faults.suite import Ended, Suite, Verdict, one_sentence
from tests.robustness.fuzz_seeds import NASTY, changed, gzip_bomb, parquet_bomb

ROOM = 3 << 30
"""Bytes of address space that a command may take beyond what its process has."""
COMMANDS = (["report"], ["report", "--format", "csv"], ["difficulty"], ["compare", "toy", "bm25"])


def _wrong(ended: Ended, *allowed: int) -> str:
    """What is wrong with the end of a command that met something odd; empty: it did its work, or said what it met."""
    if ended.status == -99:
        return "it hangs"
    if "Traceback" in ended.err or ended.status not in (allowed or (0, 1, 2)):
        return f"it ended with {ended.status}: {ended.err[-400:]}"
    return ""


def _commands(suite: Suite, place: Path, setup: Callable[[], object] = lambda: None) -> str:
    """Every command that reads results, then the benchmark; what is wrong with how they end."""
    results = ["--results", str(place / "results")]
    for words in COMMANDS:
        if wrong := _wrong(suite.start_words(place, [*words, *results], setup).wait()):
            return f"{' '.join(words)}: {wrong}"
    for more in ((), ("--force",)):
        if wrong := _wrong(suite.start(place, *more, setup=setup).wait()):
            return f"benchmark {' '.join(more)}: {wrong}"
    return ""


def something_else(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """A pipe, a folder, a socket or a device in the place of a file, or of a lock or a temporary file of ours."""
    shutil.copytree(suite.clean, place)
    files = [path for path in sorted(place.rglob("*")) if path.is_file() and "logs" not in path.parts]
    names = (".set1.lock", ".set1.0123abcd.tmp", ".set1.old")
    path = chance.choice([*files, *(place / "results" / "toy" / name for name in names)])
    path.unlink(missing_ok=True)
    kind = chance.choice(["pipe", "folder", "socket", "device"])
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to(chance.choice(["/dev/zero", "/dev/null"]))
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            here = os.open(path.parent, os.O_RDONLY)  # an address is short, a path is not
            bound.bind(f"/proc/self/fd/{here}/{path.name}")
            os.close(here)
    wrong = _commands(suite, place)
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()
    elif path.is_dir() and not any(path.iterdir()):
        path.rmdir()
    if "home" in path.parts:  # so that the file is needed
        shutil.rmtree(place / "results")
    wrong = wrong or suite.recovers(place)
    return Verdict(wrong and f"a {kind} at {path.relative_to(place)}: {wrong}")


def another_shape(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """A stored JSON file that is JSON still, but not what it should be; half of them with a right checksum."""
    from harness.storage.records import seal

    shutil.copytree(suite.clean, place)
    path = chance.choice([path for path in sorted(place.rglob("*.json")) if path.is_file()])
    content = json.loads(path.read_bytes())
    content.pop("checksum", None)
    content = changed(content, chance) if chance.random() < 0.7 else chance.choice(NASTY)
    try:
        content = seal(content) if chance.random() < 0.5 and isinstance(content, dict) else content
        path.write_text(json.dumps(content))
    except ValueError:  # NaN, which has no checksum
        path.write_text("null")
    if "home" in path.parts:
        shutil.rmtree(place / "results")
    wrong = _commands(suite, place) if "results" in path.parts else _wrong(suite.start(place).wait())
    return Verdict(wrong and f"{path.relative_to(place)} held {str(content)[:200]}: {wrong}")


def _bounded() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))


def bombs(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """A few kilobytes that stand for gigabytes, in results and in a dataset; the memory is bounded."""
    shutil.copytree(suite.clean, place)
    cell = place / "results" / "bm25" / "set1"
    result = json.loads((cell / "result.json").read_bytes())
    result.pop("checksum")
    name = chance.choice(["per_query.parquet", "run.trec.gz"])
    (cell / name).write_bytes(parquet_bomb(chance) if name.endswith("parquet") else gzip_bomb())
    result["manifest"]["files"][name] = hashlib.sha256((cell / name).read_bytes()).hexdigest()
    (cell / "result.json").write_text(json.dumps(result))
    if wrong := _commands(suite, place, _bounded):
        return Verdict(f"{name}: {wrong}")
    dataset = place / "bomb"
    shutil.copytree(suite.datasets[1], dataset)
    part = chance.choice(["corpus.jsonl", "queries.jsonl"])
    (dataset / part).unlink()
    (dataset / f"{part}.gz").write_bytes(gzip_bomb(b" " * 4096 + b"\n"))
    words = ["benchmark", "-m", "bm25", "-d", str(dataset), "--results", str(place / "r")]
    wrong = one_sentence(suite.start_words(place, words, _bounded).wait())
    run = place / "run.gz"
    run.write_bytes(gzip_bomb())
    words = ["import", "--run", str(run), "--model", "m", "-d", suite.datasets[0], "--results", str(place / "r")]
    wrong = wrong or one_sentence(suite.start_words(place, words, _bounded).wait())
    held = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    return Verdict(wrong or (f"{held:,} bytes were written" if held > 100 << 20 else ""), 3)


def other_names(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """A word of the command that is not UTF-8: one sentence, and nothing is done."""
    odd = os.fsdecode(bytes(chance.choice([b"caf\xe9", b"\xff", b"r\xed\xa0\x80", b"\xc3"])))
    shutil.copytree(suite.datasets[1], place / odd)
    words = chance.choice(
        [
            ["benchmark", "-m", "bm25", "-d", suite.datasets[0], "-d", str(place / odd)],
            ["benchmark", "-m", "bm25", "-d", suite.datasets[0], "--results", str(place / f"{odd}-r")],
            ["benchmark", "-m", str(place / odd), "-d", suite.datasets[0]],
            ["benchmark", "-m", "bm25", "-d", suite.datasets[0], "--plugin", str(place / f"{odd}.py")],
            ["benchmark", "-m", "bm25", "-d", suite.datasets[0], "--log", str(place / f"{odd}-log")],
            ["report", "--results", str(place / odd)],
            ["doctor", str(place / odd)],
        ]
    )
    wrong = one_sentence(suite.start_words(place, words).wait())
    left = [path.name for path in place.iterdir() if path.name != odd]
    return Verdict(wrong or (f"it left {left}" if left else ""))


def killed_force(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """``--force`` killed at a random moment, then the command without it."""
    shutil.copytree(suite.clean, place)
    process = suite.start(place, "--force")
    time.sleep(chance.uniform(0, suite.seconds * 1.1))
    process.send(signal.SIGKILL)
    killed = process.wait().status == -signal.SIGKILL
    return Verdict(suite.recovers(place), int(killed))


WORK = {
    "something else": (something_else, 150),
    "another shape": (another_shape, 150),
    "bomb": (bombs, 20),
    "other names": (other_names, 20),
    "--force killed": (killed_force, 100),
}
"""Kind -> its work, and cases for every 1,000 kills."""
