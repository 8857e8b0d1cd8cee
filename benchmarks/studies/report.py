"""``python -m benchmarks report [MODELS [DATASETS [QUERIES [FOLDER]]]]``: times reports of a synthetic results folder.

20 models, 31 datasets (those of BEIR, CQADupStack's forums one by one, and others) and 10,000 queries each unless told
otherwise: 0.3 GB of disk in ``FOLDER`` or the platform's temporary folder, removed at the end.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tabulate import tabulate

from harness.datasets.catalog import catalogue, labels
from harness.metrics.measures import MEASURES, Scores
from harness.results.schema import SCHEMA, Result
from harness.results.store import ResultStore, write_per_query
from harness.system.environment import environment
from harness.types import Query

FORMS = (
    ["--format", "markdown"],
    ["--format", "markdown", "--baseline", "model 0"],
    ["--format", "latex"],
    ["--format", "json"],
    ["--format", "csv"],
)
PANEL = ("isotropy", "isotropy_ceiling", "isotropy_debiased", "participation_ratio", "isoscore", "effective_rank")


def main(*given: str) -> None:
    """Print a Markdown table of seconds and peak memory per format, each in a process of its own."""
    models, datasets, queries = (int(n) for n in (*given[:3], *("20", "31", "10000")[len(given[:3]) :]))
    rows = []
    with tempfile.TemporaryDirectory(dir=given[3] if len(given) > 3 else None) as folder:
        write(Path(folder), models, datasets, queries)
        for form in FORMS:
            seconds, processor, peak, size = _reported(["report", "--results", folder, *form])
            figures = (f"{seconds:.1f}", f"{processor:.1f}", f"{peak / 2**10:,.0f}", f"{size:,}")
            rows.append([f"harness report {shlex.join(form)}", *figures])
    print(f"{models} models, {datasets} datasets, {queries:,} queries each\n")
    print(
        tabulate(
            rows, ["command", "seconds", "CPU seconds", "peak MiB", "bytes"], tablefmt="pipe", disable_numparse=True
        )
    )


def write(root: Path, models: int, datasets: int, queries: int) -> None:
    """Write the folder like a benchmark, without run files. A query's difficulty is shared by all models."""
    beir = [label for entry in catalogue().suites["beir18"] for label in labels(entry)]
    names = list(dict.fromkeys([*beir, *catalogue().datasets, *(f"set {n}" for n in range(datasets))]))[:datasets]
    store, rng = ResultStore(root), np.random.default_rng(0)
    asked = [Query(f"query-{n}", f"what is the meaning of number {n} in the list of numbers") for n in range(queries)]
    ids = [query.id for query in asked]
    qrels = {query: {f"document of {query}": 1} for query in ids}
    for dataset in names:
        ease = rng.normal(0.4, 0.3, queries)
        for model in range(models):
            values = np.clip(ease[:, None] + rng.normal(model / 500, 0.15, (queries, len(MEASURES))), 0, 1)
            scores = Scores(ids, tuple(MEASURES), values, 0, 0, 0)
            with store.writing(f"model {model}", dataset) as new:
                write_per_query(new.folder / "per_query.parquet", asked, qrels, scores)
                new.finish(_result(f"model {model}", dataset, scores, queries))


def _result(model: str, dataset: str, scores: Scores, queries: int) -> Result:
    side = {
        "n": queries,
        "d": 768,
        **dict.fromkeys(PANEL, 0.25),
        "eigenvalues": [float(f"{1 / (1 + n):.5e}") for n in range(768)],
    }
    return {
        "schema": SCHEMA,
        "model": model,
        "dataset": dataset,
        "split": "test",
        "status": "ok",
        "partial": False,
        "in_domain": False,
        "command": f"harness benchmark -m '{model}' --suite beir18",
        "measures": scores.mean(),
        "geometry": {"documents": side, "queries": side, "hubness": {"skewness": 1.5}},
        "seconds": {"encode_documents": 100.0, "encode_queries": 1.0, "search": 10.0, "measure": 1.0, "geometry": 1.0},
        "counts": {"documents": 100_000, "queries": queries, "judged": queries, "document_tokens": 20_000_000},
        "manifest": {
            "key": f"{model}/{dataset}",
            "model": {"kind": "dense", "similarity": "cosine", "fingerprint": {"dtype": "bfloat16"}},
            "dataset": {
                "name": dataset,
                "fingerprint": {"corpus": dataset},
                "notes": [],
                "exclude_self": False,
                "clusters": {"rule": "document", "clusters": queries, "largest": 1, "linked": 1},
            },
            "k": 1000,
            "ties": "score descending, then document id descending",
            "run": {"finished": "2026-01-01T00:00:00+00:00", "peak_memory_bytes": 1 << 30, **environment()},
        },
    }


PROGRAM = r"""
import json, pathlib, re, resource, sys
from harness.cli.main import main
try:
    main(sys.argv[1:])
finally:
    usage, status = resource.getrusage(resource.RUSAGE_SELF), pathlib.Path("/proc/self/status")
    # on Linux only VmHWM excludes the parent's peak
    peak = int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1]) if status.exists() else None
    print(json.dumps([usage.ru_utime + usage.ru_stime, peak or usage.ru_maxrss]), file=sys.stderr)
"""


def _reported(words: list[str]) -> tuple[float, float, int, int]:
    """Wall seconds, CPU seconds, peak resident KiB and output bytes of the command in its own process."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"harness {' '.join(words)} ended with {done.returncode}: {done.stderr.decode()}")
    processor, peak = json.loads(done.stderr.splitlines()[-1])
    return seconds, processor, peak, len(done.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
