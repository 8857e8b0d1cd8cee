"""The map of the rooms, kept: who may import whom, and what must not be imported to print a help text."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED: dict[str, set[str]] = {
    "leftovers": set(),
    "regular": set(),
    "spec": {"errors"},
    "hookspecs": {"spec"},
    "bounded": {"spec"},
    "atomic": {"spec"},
    "run": {"atomic", "bounded", "columns", "spec"},
    "sealed": {"atomic", "bounded"},
    "log": set(),
    "intact": {"atomic", "bounded", "sealed", "spec"},
    "judged": {"run", "spec"},
    "measure": {"judged", "run", "spec"},
    "kilt": {"bounded", "measure", "spec"},
    "correlation": {"blas", "significance"},
    "moments": {"blas", "manifest", "spec"},
    "geometry": {"blas", "moments", "vectors"},
    "hubness": set(),
    "bootstrap": {"blas"},
    "significance": {"blas", "bootstrap"},
    "objects": {"atomic", "spec"},
    "parcel": {"atomic", "bounded", "sealed"},
    "shared": {"atomic", "bounded", "objects", "parcel", "sealed", "spec"},
    "replica": {"atomic", "parcel", "sealed", "shared", "spec"},
    "vectors": {"atomic", "bounded", "replica", "sealed", "shared", "spec"},
    "chunks": set(),
    "encode": {"chunks", "errors", "spec", "vectors"},
    "tokens": {"atomic", "bounded", "chunks", "spec"},
    "tile": set(),
    "candidates": {"tile"},
    "product": {"manifest", "tile"},
    "index": {"candidates", "manifest", "product", "spec", "tile", "vectors"},
    "corpus": {"atomic", "bounded", "records", "repeats", "sealed", "spec"},
    "records": {"bounded", "columns", "run", "spec"},
    "packed": {"atomic", "bounded", "records", "sealed", "spec"},
    "dataset": {"atomic", "bounded", "corpus", "packed", "qrels", "records", "repeats", "run", "spec"},
    "doctor": {"corpus", "dataset", "spec"},
    "weights": {"atomic", "bounded", "sealed", "spec"},
    "fetch": {"atomic", "download", "spec", "weights"},
    "composite": {"spec"},
    "expression": {"spec", "values"},
    "modelref": {"atomic", "errors", "spec", "values"},
    "registry": {
        "atomic",
        "catalog",
        "composite",
        "descriptors",
        "errors",
        "expression",
        "hookspecs",
        "modelref",
        "spec",
        "values",
    },
    "catalog": {"atomic", "bounded", "errors", "spec"},
    "download": {"atomic", "bounded", "spec"},
    "archive": {"atomic", "download", "spec"},
    "parquet": {"bounded"},
    "hub": {"atomic", "bounded", "columns", "download", "parquet", "qrels", "spec"},
    "delivery": {"archive", "atomic", "catalog", "download", "hub", "intact", "qrels", "run", "spec"},
    "named": {"catalog", "dataset", "delivery", "expression", "intact", "registry", "spec"},
    "manifest": set(),
    "processor": {"manifest"},
    "store": {"atomic", "bounded", "measure", "parquet", "sealed", "spec"},
    "transform": {"atomic", "blas", "chunks", "composite", "errors", "moments", "spec", "vectors"},
    "adapters": {
        "atomic",
        "clock",
        "columns",
        "corpus",
        "dataset",
        "encode",
        "index",
        "modelref",
        "mteb_tasks",
        "prepared",
        "records",
        "retrieve",
        "run",
        "spec",
        "store",
    },
    "imported": {"atomic", "dataset", "identity", "manifest", "measure", "mteb_tasks", "run", "spec", "store"},
    "imported_mteb": {"atomic", "bounded", "dataset", "imported", "manifest", "mteb_tasks", "spec", "store"},
    "results": {"spec", "store"},
    "mteb_tasks": {"bounded", "catalog"},
    "snapshot": {"atomic", "bounded", "download", "hub", "spec", "weights"},
    "prepared": {
        "atomic",
        "composite",
        "dataset",
        "encode",
        "errors",
        "fetch",
        "modelref",
        "shared",
        "snapshot",
        "spec",
        "tokens",
        "transform",
        "trial",
        "vectors",
        "weights",
    },
    "trial": {"atomic", "bounded", "log", "manifest", "modelref", "sealed", "spec"},
    "lexical": {"atomic", "corpus", "errors", "parcel", "prepared", "replica", "spec"},
    "clock": set(),
    "device": {"bounded", "catalog", "spec"},
    "workload": {"catalog", "dataset", "delivery", "named", "registry", "spec"},
    "throughput": {
        "atomic",
        "bounded",
        "encode",
        "index",
        "manifest",
        "parcel",
        "prepared",
        "processor",
        "sealed",
        "spec",
        "vectors",
        "workload",
    },
    "rates": {"prepared", "spec", "throughput"},
    "pace": {"device", "errors", "modelref", "prepared", "snapshot", "spec", "throughput", "weights"},
    "plan": {"index", "pace", "throughput", "workload"},
    "rerank": {"atomic", "clock", "composite", "dataset", "errors", "prepared", "shared", "spec", "vectors"},
    "retrieve": {
        "clock",
        "dataset",
        "errors",
        "geometry",
        "index",
        "lexical",
        "moments",
        "prepared",
        "rerank",
        "run",
        "searched",
        "spec",
        "vectors",
    },
    "check": {
        "composite",
        "encode",
        "errors",
        "modelref",
        "prepared",
        "registry",
        "rerank",
        "spec",
        "transform",
        "values",
    },
    "recipe": {"modelref", "spec"},
    "approximate": {"atomic", "bounded", "index", "manifest", "recipe", "sealed", "spec", "vectors"},
    "indexed": {
        "approximate",
        "clock",
        "dataset",
        "index",
        "measure",
        "prepared",
        "recipe",
        "retrieve",
        "run",
        "spec",
        "vectors",
    },
    "journal": {"atomic"},
    "searched": {"atomic", "bounded", "dataset", "moments", "prepared", "sealed", "spec"},
    "executor": {"errors", "spec"},
    "processes": {"executor", "spec"},
    "ray_crew": {"executor", "modelref", "spec"},
    "worker": {
        "dataset",
        "encode",
        "index",
        "modelref",
        "moments",
        "pipeline",
        "prepared",
        "registry",
        "searched",
        "spec",
        "vectors",
    },
    "stretches": {"chunks", "dataset", "executor", "prepared", "spec", "vectors", "worker"},
    "schedule": {"dataset", "executor", "moments", "pipeline", "prepared", "searched", "spec", "stretches", "worker"},
    "distributed": {"dataset", "executor", "modelref", "pipeline", "prepared", "schedule", "store", "worker"},
    "recorded": {
        "catalog",
        "dataset",
        "expression",
        "identity",
        "modelref",
        "named",
        "registry",
        "spec",
        "store",
        "values",
    },
    "verified": {"atomic", "store"},
    "export": {"approximate", "atomic", "dataset", "prepared", "recipe", "spec"},
    "columns": {"atomic", "bounded", "spec"},
    "qrels": {"columns", "spec"},
    "blas": {"manifest"},
    "repeats": {"records", "spec"},
    "errors": set(),
    "values": {"bounded", "spec"},
    "descriptors": {"spec"},
    "depth": {"spec"},
    "identity": {"catalog", "dataset", "spec", "store", "values"},
}
"""Module of harness/ -> the modules of harness/ it may import (its package's front page and `EVERYWHERE` apart)."""
EVERYWHERE = {"leftovers", "regular"}
"""What every module may import: they open and remove files."""
HEAVY = ("torch", "faiss", "sentence_transformers", "transformers", "datasets", "pyserini", "bm25s")


def imports(file: Path) -> set[str]:
    """Dotted names a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("module", sorted(ALLOWED))
def test_modules_import_only_what_lies_below_them(module: str) -> None:
    names = {name.split(".")[1] for name in imports(ROOT / "harness" / f"{module}.py") if name.startswith("harness.")}
    ours = {name for name in names if (ROOT / "harness" / f"{name}.py").exists()}
    assert ours <= ALLOWED[module] | EVERYWHERE, f"harness/{module}.py imports {sorted(ours - ALLOWED[module])}"


def test_only_the_command_line_and_a_distributed_benchmark_import_the_pipeline() -> None:
    for file in (ROOT / "harness").rglob("*.py"):
        uses = any(name.startswith("harness.evaluation.pipeline") for name in imports(file))
        assert not uses or file.parent.name == "cli" or file.stem in ("distributed", "schedule", "worker"), file


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("harness", ("harness_plugins", "harness_training", "harness_reports")),
        ("plugins", ("harness_training", "harness_reports", "benchmarks")),
        ("reports", ("harness_plugins", "harness_training", "benchmarks")),
        ("training", ("benchmarks",)),
    ],
)
def test_rooms_come_in_through_hooks_alone(room: str, forbidden: tuple[str, ...]) -> None:
    for file in (ROOT / room).rglob("*.py"):
        wrong = [name for name in imports(file) if name.split(".")[0] in forbidden]
        assert not wrong, f"{file} imports {wrong}"


def test_only_fetch_download_and_objects_open_a_connection() -> None:
    network = {"socket", "urllib", "http", "requests", "httpx", "huggingface_hub", "ftplib", "fsspec"}
    allowed = [ROOT / "harness" / f"{name}.py" for name in ("fetch", "download", "objects")]
    for room in ("harness", "plugins", "reports", "training"):
        for file in (ROOT / room).rglob("*.py"):
            if file not in allowed:
                used = {name for name in imports(file) if not name.startswith("urllib.parse")}
                assert not {name.split(".")[0] for name in used} & network, file


def test_no_file_is_long_and_none_is_a_drawer() -> None:
    for room in ("harness", "plugins", "reports", "training", "benchmarks"):
        for file in (ROOT / room).rglob("*.py"):
            assert len(file.read_text().splitlines()) <= 500, f"{file} has over 500 lines"
            assert file.stem not in ("utils", "util", "base", "helpers", "common", "misc"), file


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["models"],
        ["datasets"],
        ["suites"],
        ["benchmark", "--help"],
        ["report", "--help"],
        ["compare", "--help"],
    ],
)
def test_listing_imports_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    program = (
        "import sys\nfrom harness.cli.main import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]\nassert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**__import__("os").environ, "HARNESS_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
