"""``python -m benchmarks.studies.bm25_scale``: BM25 on synthetic passages of MS MARCO's number and length.

The words are pseudo-words drawn by the law of Zipf and Mandelbrot, about 56 per passage, with stop words among the most
frequent: 190,000 distinct ones in 100,000 passages and 2.4 million in 8.8 million, about as many as MS MARCO has. Every
step runs in its own process, which gives its own CPU seconds and peak memory. bm25s and Pyserini run in the same
conditions, up to the number of documents that ``--fits`` names. Everything is removed at the end.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
from tabulate import tabulate

from harness.storage.regular_files import regular
from harness.system.environment import machine

K, VOCABULARY, WORDS = 1000, 5_000_000, 56
BLOCK = 100_000
"""Passages generated at a time."""
COMMON = """the of and a to in is for it that on or are with be as you by this from can your was at an have not which if
has but will more what their they one also been may who time about when other than used most first use how there its"""
SYLLABLES = [a + b for a in ("b", "c", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v") for b in "aeiou"]
ENDINGS = ("", "s", "ing", "ed", "er", "ion", "ness", "al")


def vocabulary() -> list[str]:
    """The words, the most frequent first."""
    words, size = COMMON.split(), len(SYLLABLES)
    for number in range(VOCABULARY - len(words)):
        stem, rest = "", number // len(ENDINGS) + size
        while rest:
            stem, rest = stem + SYLLABLES[rest % size], rest // size
        words.append(stem + ENDINGS[number % len(ENDINGS)])
    return words


def write(folder: Path, documents: int, asked: int) -> None:
    """Write documents.txt and queries.txt, one text per line."""
    words = np.array(vocabulary(), object)
    chance = np.cumsum(1 / (np.arange(VOCABULARY) + 60) ** 1.5)

    def texts(rng: np.random.Generator, lengths: np.ndarray[tuple[int], np.dtype[np.int64]]) -> str:
        drawn = words[np.searchsorted(chance, rng.random(lengths.sum()) * chance[-1])].tolist()
        ends = np.cumsum(lengths).tolist()
        return "".join(f"{' '.join(drawn[start:end])}.\n" for start, end in zip([0, *ends[:-1]], ends, strict=True))

    with (folder / "documents.txt").open("w") as stream:
        for start in range(0, documents, BLOCK):
            rng = np.random.default_rng([1, start])
            count = min(BLOCK, documents - start)
            stream.write(texts(rng, rng.lognormal(np.log(WORDS) - 0.08, 0.4, count).astype(np.int64).clip(5)))
    rng = np.random.default_rng(0)
    (folder / "queries.txt").write_text(texts(rng, rng.integers(3, 10, asked)))


def lines(file: Path) -> Iterator[str]:
    """The texts of a file."""
    with regular(file).open(encoding="utf-8") as stream:
        yield from stream


def index(folder: Path, documents: int) -> None:
    """Index with the harness."""
    from harness.types import Document
    from harness_plugins.bm25.scoring import LuceneBM25

    (folder / "index").mkdir()
    texts = enumerate(lines(folder / "documents.txt"))
    LuceneBM25(0.9, 0.4, "flat").build((Document(str(row), "", text) for row, text in texts), folder / "index")


def search(folder: Path, documents: int) -> None:
    """Search with the harness."""
    from harness.types import Query
    from harness_plugins.bm25.scoring import LuceneBM25

    queries = [Query(str(number), text) for number, text in enumerate(lines(folder / "queries.txt"))]
    digest = 0.0
    for hits in LuceneBM25(0.9, 0.4, "flat").search(folder / "index", queries, K):
        digest += float(hits.scores.sum()) + int(hits.rows.sum()) % 1000
    print(f"digest {digest!r}", file=sys.stderr)


def bm25s(folder: Path, documents: int) -> None:
    """Index and search with bm25s, in memory, as in its documentation."""
    import bm25s as library

    tokens = library.tokenize([*lines(folder / "documents.txt")], stopwords="en", show_progress=False)
    made = library.BM25(k1=0.9, b=0.4)
    made.index(tokens, show_progress=False)
    asked = library.tokenize([*lines(folder / "queries.txt")], stopwords="en", show_progress=False)
    made.retrieve(asked, k=min(K, documents), show_progress=False, n_threads=2)


def pyserini(folder: Path, documents: int) -> None:
    """Index and search with Lucene through Anserini's classes."""
    from harness.types import Document, Query
    from harness_plugins.bm25.pyserini_engine import PyseriniBM25

    (folder / "lucene").mkdir()
    engine, texts = PyseriniBM25(0.9, 0.4, "flat"), enumerate(lines(folder / "documents.txt"))
    engine.build((Document(str(row), "", text) for row, text in texts), folder / "lucene")
    queries = [Query(str(number), text) for number, text in enumerate(lines(folder / "queries.txt"))]
    for _ in engine.search(folder / "lucene", queries, K):
        pass


def peak() -> float:
    """Peak resident MiB of this process; on Linux only VmHWM leaves out that of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+)", status.read_text())):
        return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


STEPS: dict[str, Callable[[Path, int], None]] = {
    "harness, index": index,
    "harness, search": search,
    "bm25s, index and search": bm25s,
    "Pyserini, index and search": pyserini,
}


def measured(step: str, folder: Path, documents: int) -> list[str]:
    """The row of one step in its own process."""
    words = [sys.executable, "-m", "benchmarks.studies.bm25_scale", "--step", step, "--folder", str(folder)]
    done = subprocess.run([*words, "--documents", str(documents)], stdout=subprocess.PIPE, check=True)
    seconds, processor, peak = json.loads(done.stdout.splitlines()[-1])
    return [f"{documents:,}", step, f"{seconds:,.1f}", f"{processor:,.1f}", f"{peak:,.0f}"]


@click.command()
@click.option("--documents", default="1000000,8800000", show_default=True, help="Sizes, commas between.")
@click.option("--queries", "asked", default=1000, show_default=True)
@click.option("--fits", default=1_000_000, show_default=True, help="Most documents for bm25s and Pyserini.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where there is room (default: the temporary folder).")
@click.option("--only", multiple=True, type=click.Choice(list(STEPS)), help="This step; may be repeated.")
@click.option("--step", type=click.Choice(list(STEPS)), help="One step alone, as the others are run.", hidden=True)
def main(documents: str, asked: int, fits: int, folder: Path | None, only: tuple[str, ...], step: str | None) -> None:
    """Seconds, CPU seconds and peak memory of BM25 on large synthetic corpora."""
    sizes = sorted(int(size) for size in documents.split(","))
    if step and folder:
        start = time.perf_counter()
        STEPS[step](folder, sizes[0])
        usage = resource.getrusage(resource.RUSAGE_SELF)
        spent = [time.perf_counter() - start, usage.ru_utime + usage.ru_stime, peak()]
        click.echo(json.dumps(spent))
        return
    rows = []
    for size in sizes:
        place = Path(tempfile.mkdtemp(dir=folder))
        try:
            write(place, size, asked)
            for name in only or STEPS:
                if name.startswith("harness") or size <= fits:
                    rows.append(measured(name, place, size))
                    click.echo(" | ".join(rows[-1]), err=True)
            held = sum(file.stat().st_size for file in (place / "index").rglob("*") if file.is_file())
            click.echo(
                f"{size:,} documents: {(place / 'documents.txt').stat().st_size:,} bytes of text, "
                f"{held:,} of the harness's index",
                err=True,
            )
        finally:
            shutil.rmtree(place)
    click.echo(
        f"{machine()}\n\n"
        + tabulate(rows, ["documents", "step", "seconds", "CPU s", "peak MiB"], tablefmt="pipe", disable_numparse=True)
    )


if __name__ == "__main__":
    main()
