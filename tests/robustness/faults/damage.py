"""A bit flipped in a stored file, or the file torn: noticed by whatever needs the file next, and mended or told."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.robustness.faults.suite import Suite, one_sentence

FILES = {
    "result": "results/*/*/result.json",
    "per query": "results/*/*/per_query.parquet",
    "run": "results/*/*/run.trec.gz",
    "vectors": "home/vectors/*/*/[0-9a-f]*.npy",
    "vectors' record": "home/vectors/*/*/[0-9a-f]*.json",
    "vectors' list": "home/vectors/*/*/list-*.json",
    "lexical index": "home/indexes/*/*/*/*",
    "lexical record": "home/indexes/*/*/harness-index.json",
    "corpus index": "home/corpora/[0-9a-f]*/*.*",
    "unpacked copy": "home/corpora/unpacked/*/*.jsonl",
    "unpacked copy's record": "home/corpora/unpacked/*/*.json",
    "weights": "home/models/*/*.safetensors",
    "hashes": "home/models/hashes.json",
    "dataset": "home/datasets/*/*.jsonl",
    "judgements": "home/datasets/*/qrels/*.tsv",
}
"""Kind of file -> where it lies."""
_RICH: dict[Path, Suite] = {}
"""Root of a suite -> one with weights and a named dataset, made when it is needed."""
OWN = ("result", "per query", "run")
"""Those that a rerun looks at; for the others the results are taken away first, so that they are needed."""


def flip(data: bytes, chance: random.Random) -> bytes:
    """The same with one bit the other way."""
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def tear(data: bytes, chance: random.Random) -> bytes:
    """Cut short, emptied, zeros from some point, or with an end that is there twice."""
    at = chance.randrange(len(data))
    ways = [data[:at], b"", data[:at] + bytes(len(data) - at), data + data[-chance.randint(1, len(data)) :]]
    return chance.choice(ways)


def case(suite: Suite, chance: random.Random, place: Path, spoil: Callable[[bytes, random.Random], bytes]) -> str:
    """Spoils one file of a finished suite; what is wrong after that, or nothing."""
    with finished(suite, place) as rich:
        return _spoilt(rich, chance, spoil)


@contextmanager
def finished(suite: Suite, place: Path) -> Iterator[Suite]:
    """A finished suite with weights, a named dataset and a gzipped one, which is as it was after the block.

    Always in the same folder, which is what the indexes of built datasets are keyed by; ``place`` keeps a copy of it.
    """
    if suite.root not in _RICH:
        (suite.root / "rich").mkdir()
        _RICH[suite.root] = Suite(suite.root / "rich", (*suite.models, "weighed"), built=True)
    rich = _RICH[suite.root]
    shutil.copytree(rich.clean, place)
    try:
        yield rich
    finally:
        shutil.rmtree(rich.clean)
        place.rename(rich.clean)


def _spoilt(suite: Suite, chance: random.Random, spoil: Callable[[bytes, random.Random], bytes]) -> str:
    place = suite.clean
    kinds = {name: found for name, where in FILES.items() if (found := sorted(place.glob(where)))}
    name = chance.choice(sorted(kinds))
    path = chance.choice(kinds[name])
    whole, stamp = path.read_bytes(), path.stat()
    spoilt = spoil(whole, chance)
    if spoilt == whole:
        return ""
    with path.open("r+b") as stream:  # the same inode; and a disk that loses a bit does not note the time
        stream.write(spoilt)
        stream.truncate()
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    wrong = _reported(suite, place, name) if name in OWN else ""
    if name not in OWN:
        shutil.rmtree(place / "results")
    if name == "dataset":  # its documents are read where their vectors and indexes are not there
        shutil.rmtree(place / "home" / "vectors")
        shutil.rmtree(place / "home" / "indexes")
    ended = suite.start(place).wait()
    if ended.status == 2 and not one_sentence(ended):
        return wrong  # told; mending it is the user's
    wrong = wrong or (f"it ended with {ended.status}: {ended.err[-400:]}" if ended.status else suite.differs(place))
    if not wrong and path.exists() and path.read_bytes() == spoilt and path.suffix != ".json":
        wrong = "nobody noticed"
    return wrong and f"{name} ({path.relative_to(place)}): {wrong}"


def _reported(suite: Suite, place: Path, name: str) -> str:
    """Whether a report says what is spoilt, or says the same as before."""
    ended = suite.start_words(place, ["report", "--results", str(place / "results"), "--json", "--baseline", "toy"])
    done = ended.wait()
    if "Traceback" in done.err or done.status not in (0, 1, 2):
        return f"{name}: the report ended with {done.status}: {done.err[-400:]}"
    if done.status == 0 and done.out != suite.report:
        return f"{name}: the report says something else and nothing of the damage"
    return ""
