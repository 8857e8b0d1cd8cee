"""``python -m benchmarks.studies.scale``: corpora of 1, 5 and 15 million documents through open, iterate and search.

Every step runs in its own process, which gives its own peak memory. The vectors (512 dimensions,
float16) and the texts are synthetic, need disk space (`needed`) and are removed at the end. The peer is
FAISS's IndexFlatL2 with the vectors in memory, as float32, in the same run, for the sizes of which it can hold them.
"""

from __future__ import annotations

import json
import random
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
from numpy.typing import NDArray
from tabulate import tabulate

from harness.embeddings.store import Shard, Vectors, VectorStore
from harness.system.environment import machine

DIM, K, SHARD = 512, 1000, 4096
TEXT_BYTES = 330
"""Bytes per document, similar to a Wikipedia passage in BEIR's HotpotQA."""
COLLECTION = "synthetic"


def needed(documents: int) -> int:
    """Bytes of disk for the largest corpus: vectors, texts (of the smaller ones too), and the index of its lines."""
    return documents * (2 * DIM + 2 * TEXT_BYTES + 60)


def vectors(folder: Path, documents: int) -> Vectors:
    """The first vectors of the file."""
    store = VectorStore(folder, COLLECTION, "document", "float16")
    listed = json.loads((folder / "shards.json").read_text())[: -(-documents // SHARD)]
    shards = [Shard(key, min(SHARD, documents - at * SHARD), DIM, "", 0, 0) for at, key in enumerate(listed)]
    return Vectors.open(store, shards)


def queries(count: int) -> NDArray[np.float32]:
    """Queries drawn from the documents' distribution."""
    return np.random.default_rng(1).standard_normal((count, DIM), np.float32) + 0.5


def build(folder: Path, documents: int, count: int) -> None:
    """Writes vectors: normal around a common mean, roughly like real embeddings."""
    store, keys = VectorStore(folder, COLLECTION, "document", "float16"), []
    for start in range(0, documents, SHARD):
        rows = min(SHARD, documents - start)
        block = np.random.default_rng(start + 2).standard_normal((rows, DIM), np.float32) + 0.5
        keys.append(store.put(f"{start:064x}", block, 0, 0).key)
    (folder / "shards.json").write_text(json.dumps(keys))


def write(folder: Path, documents: int, count: int) -> None:
    """Writes corpus.jsonl."""
    words = [f"word{number:x}" for number in range(4096)]
    chance = random.Random(0)
    with (folder / f"corpus-{documents}.jsonl").open("w") as stream:
        for number in range(documents):
            at = chance.randrange(4096 - 40)
            text = " ".join(words[at : at + 36])
            stream.write(f'{{"_id": "doc{number}", "title": "Title {number}", "text": "{text}"}}\n')


def open_corpus(folder: Path, documents: int, count: int) -> None:
    """Open the corpus; the first time reads every line, later ones use the index."""
    from harness.datasets.corpus import open_corpus

    with open_corpus(folder / f"corpus-{documents}.jsonl", folder / "cache") as corpus:
        assert len(corpus) == documents
        assert corpus[documents - 1].id == f"doc{documents - 1}"


def iterate(folder: Path, documents: int, count: int) -> None:
    """Read every document once, like encoding does."""
    from harness.datasets.corpus import open_corpus

    with open_corpus(folder / f"corpus-{documents}.jsonl", folder / "cache") as corpus:
        assert sum(1 for _ in corpus.iter()) == documents


def search(folder: Path, documents: int, count: int) -> None:
    """Exact search, vectors read from disk."""
    from harness.search.exact import search

    hits = search(queries(count), vectors(folder, documents), np.full(DIM, 0.5), min(K, documents), "euclidean")
    digest = sum(int(found.rows[:10].sum()) for found in hits)
    print(f"digest {digest}", file=sys.stderr)


def flat(folder: Path, documents: int, count: int) -> float:
    """Search with IndexFlatL2; times the search only, with vectors in memory."""
    import faiss

    index = faiss.IndexFlatL2(DIM)
    for block in vectors(folder, documents).blocks():
        index.add(block)
    start = time.perf_counter()
    index.search(queries(count), min(K, documents))
    return time.perf_counter() - start


Step = Callable[[Path, int, int], float | None]
STEPS: dict[str, Step] = {
    "build": build,
    "write": write,
    "open, first time": open_corpus,
    "open again": open_corpus,
    "iterate": iterate,
    "search": search,
    "IndexFlatL2 (in memory)": flat,
}
MEASURED = list(STEPS)[2:]
TEXTUAL = {*MEASURED[:3]}
"""Steps that need a corpus.jsonl."""


def measured(step: str, folder: Path, documents: int, count: int) -> tuple[float, float]:
    """Seconds and peak resident MB of one step in its own process."""
    words = [sys.executable, "-m", "benchmarks.studies.scale", "--step", step, "--folder", str(folder)]
    words += ["--documents", str(documents), "--queries", str(count)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    seconds, peak = json.loads(done.stdout)
    return float(seconds), float(peak)


def rows(folder: Path, sizes: list[int], count: int, fits: int, chosen: list[str]) -> Iterator[list[str]]:
    """Yield the rows of the table as the steps finish."""
    build_seconds, _ = measured("build", folder, max(sizes), count)
    click.echo(f"vectors of {max(sizes):,} documents written in {build_seconds:,.0f} s", err=True)
    for documents in sizes:
        if {*chosen} & TEXTUAL:
            measured("write", folder, documents, count)
        for step in chosen:
            if step.startswith("IndexFlatL2") and documents > fits:
                continue
            seconds, peak = measured(step, folder, documents, count)
            yield [f"{documents:,}", step, f"{seconds:,.2f}", f"{peak:,.0f}", f"{seconds / documents * 1e6:,.2f}"]
        (folder / f"corpus-{documents}.jsonl").unlink(missing_ok=True)
        shutil.rmtree(folder / "cache", ignore_errors=True)


@click.command()
@click.option("--documents", default="1000000,5000000,15000000", show_default=True, help="Sizes, commas between.")
@click.option("--queries", "count", default=1000, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where there is room (default: the temporary folder).")
@click.option("--only", multiple=True, type=click.Choice(MEASURED), help="This step; may be repeated (default: all).")
@click.option("--step", type=click.Choice(list(STEPS)), help="One step alone, as the others are run.", hidden=True)
def main(documents: str, count: int, folder: Path | None, only: tuple[str, ...], step: str | None) -> None:
    """Time and peak memory of large corpora."""
    sizes = sorted(int(size) for size in documents.split(","))
    if step and folder:
        start = time.perf_counter()
        own = STEPS[step](folder, sizes[0], count)
        seconds = time.perf_counter() - start if own is None else own
        click.echo(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
        return
    free = shutil.disk_usage(folder or tempfile.gettempdir()).free
    if free < needed(sizes[-1]) * 1.1:
        raise click.UsageError(f"{needed(sizes[-1]) / 1e9:.0f} GB of disk are needed, {free / 1e9:.0f} are free.")
    with tempfile.TemporaryDirectory(dir=folder) as made:
        about = machine()
        fits = int(about["memory_bytes"]) // 2 // (4 * DIM)
        table = []
        for row in rows(Path(made), sizes, count, fits, [name for name in MEASURED if name in (only or MEASURED)]):
            click.echo(" | ".join(row), err=True)
            table.append(row)
    click.echo(
        f"{about['processor']}, {about['cores']} cores, {about['memory_bytes'] / 2**30:.0f} GB; {count:,} queries\n"
    )
    headers = ["documents", "step", "seconds", "peak MB", "microseconds a document"]
    click.echo(tabulate(table, headers, tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
