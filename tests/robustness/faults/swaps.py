"""Valid records in each other's place, and corpora replaced by others that look alike.

Nothing is damaged, and nothing may be taken for what it is not.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.robustness.faults import damage
from tests.robustness.faults.suite import Suite, Verdict, content

KEPT = ("home/vectors/", "home/corpora/unpacked/")
Pair = tuple[Path, Path]
PLACES = {
    "vectors' lists": "home/vectors/*/*/list-*.json",
    "a model's vectors": "home/vectors/*",
    "a role's vectors": "home/vectors/*/*",
    "lexical indexes": "home/indexes/*/*",
    "corpus indexes": "home/corpora/[0-9a-f]*",
    "unpacked copies": "home/corpora/unpacked/*",
    "results": "results/*/*",
    "runs": "results/*/*/run.trec.gz",
    "scores by query": "results/*/*/per_query.parquet",
}
"""What changes places -> where it lies; only what has the same parent, files among results apart."""


def swapped(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """Two files or folders of one kind, each in the other's place with its record."""
    with damage.finished(suite, place) as rich:
        kinds = {name: pairs for name in PLACES if (pairs := [*_pairs(rich.clean, name)])}
        name = chance.choice(sorted(kinds))
        first, second = chance.choice(kinds[name])
        _exchange(first, second)
        if not PLACES[name].startswith("results"):
            shutil.rmtree(rich.clean / "results")
        ended = rich.start(rich.clean).wait()
        wrong = f"it ended with {ended.status}: {ended.err[-400:]}" if ended.status else _differs(rich)
        return Verdict(wrong and f"{name} ({first.relative_to(rich.clean)} and {second.name}): {wrong}")


def _pairs(place: Path, name: str) -> Iterator[Pair]:
    """Those of a kind that differ."""
    found = sorted(path for path in place.glob(PLACES[name]) if path.name != "unpacked")
    for number, first in enumerate(found):
        for second in found[number + 1 :]:
            beside = first.parent == second.parent or name in ("runs", "scores by query", "results")
            if beside and (first.is_dir() or first.read_bytes() != second.read_bytes()):
                yield first, second


def _differs(suite: Suite) -> str:
    """What an undisturbed run has and the suite has not; shards and copies that nobody needs may stay."""
    left = content(suite.clean)
    odd = [name for name, data in suite.expected.items() if left.get(name) != data]
    odd += [name for name in left.keys() - suite.expected.keys() if not name.startswith(KEPT)]
    return f"{len(odd)} files differ from a clean run's: {sorted(odd)[:3]}" if odd else ""


def _exchange(first: Path, second: Path) -> None:
    aside = first.with_name("aside")
    for source, target in ((first, aside), (second, first), (aside, second)):
        source.rename(target)


def replaced(suite: Suite, chance: random.Random, place: Path) -> Verdict:
    """A corpus becomes another of the same size and modification time, plain or gzipped; the figures must be those of
    the new one, as a home that never saw the old one has them."""
    place.mkdir(parents=True)
    folder = shutil.copytree(suite.datasets[0], place / "data")
    corpus, packed = folder / "corpus.jsonl", chance.random() < 0.3
    records = [json.loads(line) for line in corpus.read_text().splitlines()]
    if packed:
        _write(folder, records, packed=True)
        corpus.unlink()
    words = ["--plugin", str(suite.plugin), "benchmark", "-d", str(folder), "--json"]
    words += [word for model in suite.models for word in ("-m", model)]
    if wrong := _run(suite, place, words, "before"):
        return Verdict(wrong)
    turned = chance.randint(1, len(records) - 1)
    texts = [record["text"] for record in records]
    for record, text in zip(records, [*texts[turned:], *texts[:turned]], strict=True):
        record["text"] = text
    _look_alike(
        folder / ("corpus.jsonl.gz" if packed else "corpus.jsonl"), folder, records, in_place=chance.random() < 0.5
    )
    same = ["before"] if chance.random() < 0.5 else []
    results = [*same, "after"]
    for name in results:
        if wrong := _run(suite, place, [*words, *(["--force"] if chance.random() < 0.3 else [])], name):
            return Verdict(wrong)
    fresh = place / "fresh"
    if wrong := _run(suite, fresh, words, "after"):
        return Verdict(wrong)
    expected = content(fresh / "after")
    for name in results:
        found = content(place / name)
        if odd := [file for file in expected.keys() | found.keys() if expected.get(file) != found.get(file)]:
            return Verdict(f"{name}: {len(odd)} files are not the new corpus's: {sorted(odd)[:3]}")
    return Verdict("")


def _run(suite: Suite, place: Path, words: list[str], results: str) -> str:
    """Runs the command, and says what is wrong with how it ended."""
    place.mkdir(parents=True, exist_ok=True)
    ended = suite.start_words(place, [*words, "--results", str(place / results)]).wait()
    return f"it ended with {ended.status}: {ended.err[-400:]}" if ended.status else ""


def _write(folder: Path, records: list[dict[str, str]], *, packed: bool) -> Path:
    """The records as a corpus beside the old one; packed without compression, so that equal sizes stay equal."""
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    file = folder / ("corpus.jsonl.gz" if packed else "corpus.jsonl")
    file.write_bytes(gzip.compress(text, 0, mtime=0) if packed else text)
    return file


def _look_alike(file: Path, folder: Path, records: list[dict[str, str]], *, in_place: bool) -> None:
    """Puts a corpus of these records in the file's place, with its size and modification time."""
    stamp = file.stat()
    (scratch := folder / "scratch").mkdir()
    other = _write(scratch, records, packed=file.suffix == ".gz")
    assert other.stat().st_size == stamp.st_size
    if in_place:
        file.write_bytes(other.read_bytes())
    else:
        other.replace(file)
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    shutil.rmtree(scratch)
