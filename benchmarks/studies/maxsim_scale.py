"""``python -m benchmarks.studies.maxsim_scale``: MaxSim search of 10,000 to 1,000,000 documents of 30 token vectors.

The vectors (64 dimensions, float16) are synthetic, stored in shards as those of a model, and removed at the end. Every
search runs in a process of its own, which gives its own CPU seconds and peak memory (mapped shards are counted).
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from tabulate import tabulate

from harness.embeddings.formats import MULTIVECTOR
from harness.embeddings.multivector import MultiVectors
from harness.embeddings.store import Shard, VectorStore
from harness.embeddings.token_vectors import TokenVectors
from harness.system.environment import machine

DIM, TOKENS, ASKED, SHARD = 64, 30, 32, 4096
COLLECTION = "synthetic"


def rows(texts: int, tokens: int, seed: int) -> TokenVectors:
    """Vectors of length 1 near those of 1,000 words."""
    words = np.random.default_rng(0).standard_normal((1000, DIM), np.float32)
    generator = np.random.default_rng(seed)
    made = words[generator.integers(0, 1000, texts * tokens)]
    made += generator.standard_normal(made.shape, np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return TokenVectors(made, np.arange(0, texts * tokens + 1, tokens))


def store(folder: Path) -> VectorStore:
    """Where the vectors are kept."""
    return VectorStore(folder, COLLECTION, "document", "float16", form=MULTIVECTOR)


def build(folder: Path, documents: int) -> None:
    """Write the vectors."""
    kept, shards = store(folder), []
    for start in range(0, documents, SHARD):
        made = kept.put(f"{start:064x}", rows(min(SHARD, documents - start), TOKENS, start + 1), 0, 0)
        shards.append([made.key, made.rows])
    (folder / "shards.json").write_text(json.dumps(shards))


def search(folder: Path, documents: int, queries: int, k: int) -> None:
    """Search the first documents, and print CPU seconds, peak MB and a digest of the hits."""
    import torch  # noqa: F401 (as where an encoder made the queries)

    from harness.search.maxsim import search_multivector

    listed, start = json.loads((folder / "shards.json").read_text())[: -(-documents // SHARD)], _cpu()
    shards = [Shard(key, count, DIM, "", 0, 0) for key, count in listed]
    digest = 0
    for hits in search_multivector(rows(queries, ASKED, 10**9), MultiVectors.open(store(folder), shards), k):
        digest += int(hits.rows[:10].sum())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    click.echo(json.dumps([sum(count for _, count in listed), _cpu() - start, peak, digest]))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@click.command()
@click.option("--documents", default="10000,100000,1000000", show_default=True, help="Sizes, commas between.")
@click.option("--queries", default=20, show_default=True)
@click.option("-k", default=100, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where there is room (default: the temporary folder).")
@click.option("--step", type=click.Choice(["build", "search"]), hidden=True)
def main(documents: str, queries: int, k: int, folder: Path | None, step: str | None) -> None:
    """CPU seconds and peak memory of large corpora."""
    sizes = sorted(int(size) for size in documents.split(","))
    if step and folder:
        return build(folder, sizes[0]) if step == "build" else search(folder, sizes[0], queries, k)
    table, words = (
        [],
        [sys.executable, "-m", "benchmarks.studies.maxsim_scale", "--queries", str(queries), "-k", str(k)],
    )
    with tempfile.TemporaryDirectory(dir=folder) as made:
        subprocess.run([*words, "--step", "build", "--folder", made, "--documents", str(sizes[-1])], check=True)
        for size in sizes:
            given = [*words, "--step", "search", "--folder", made, "--documents", str(size)]
            done = subprocess.run(given, stdout=subprocess.PIPE, check=True)
            searched, seconds, peak, digest = json.loads(done.stdout)
            table.append([f"{searched:,}", f"{seconds:.2f}", f"{peak:,.0f}", str(digest)])
            click.echo(" | ".join(table[-1]), err=True)
    about = machine()
    click.echo(f"{about['processor']}, {about['cores']} cores; {queries} queries of {ASKED} vectors, k = {k}\n")
    click.echo(tabulate(table, ["documents", "CPU s", "peak MB", "digest"], tablefmt="pipe", disable_numparse=True))
    return None


if __name__ == "__main__":
    main()
