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
    "spec": set(),
    "hookspecs": {"spec"},
    "bounded": {"spec"},
    "atomic": {"spec"},
    "run": {"bounded", "spec", "atomic"},
    "sealed": {"atomic", "bounded"},
    "log": set(),
    "intact": {"bounded", "spec", "atomic", "sealed"},
    "judged": {"spec", "run"},
    "measure": {"spec", "judged", "run"},
    "kilt": {"bounded", "spec", "measure"},
    "correlation": {"significance"},
    "moments": {"spec"},
    "geometry": {"moments", "vectors"},
    "hubness": set(),
    "bootstrap": set(),
    "significance": {"bootstrap"},
    "objects": {"spec", "atomic"},
    "parcel": {"sealed", "bounded", "atomic"},
    "shared": {"sealed", "bounded", "spec", "atomic", "objects", "parcel"},
    "replica": {"sealed", "spec", "atomic", "parcel", "shared"},
    "vectors": {"bounded", "spec", "atomic", "replica", "shared", "sealed"},
    "chunks": set(),
    "encode": {"chunks", "spec", "vectors"},
    "tokens": {"bounded", "spec", "atomic", "chunks"},
    "tile": set(),
    "candidates": {"tile"},
    "product": {"manifest", "tile"},
    "index": {"spec", "candidates", "product", "vectors", "manifest", "tile"},
    "corpus": {"bounded", "spec", "atomic", "records", "sealed"},
    "records": {"bounded", "spec", "run"},
    "packed": {"bounded", "spec", "atomic", "records"},
    "dataset": {"bounded", "spec", "atomic", "corpus", "packed", "records", "run"},
    "doctor": {"spec", "corpus", "dataset"},
    "weights": {"bounded", "spec", "atomic", "sealed"},
    "fetch": {"spec", "atomic", "download", "weights"},
    "composite": {"spec"},
    "expression": {"spec"},
    "modelref": {"spec", "atomic"},
    "registry": {"modelref", "spec", "atomic", "hookspecs", "catalog", "composite", "expression"},
    "catalog": {"bounded", "spec", "atomic"},
    "download": {"bounded", "spec", "atomic"},
    "archive": {"spec", "atomic", "download"},
    "parquet": {"bounded"},
    "hub": {"bounded", "spec", "atomic", "download", "parquet"},
    "delivery": {"spec", "atomic", "archive", "catalog", "download", "hub", "run", "intact"},
    "named": {"spec", "catalog", "dataset", "delivery", "expression", "registry", "intact"},
    "manifest": set(),
    "processor": set(),
    "store": {"bounded", "spec", "atomic", "measure", "parquet", "sealed"},
    "transform": {"chunks", "spec", "atomic", "composite", "moments", "vectors"},
    "adapters": {
        *("spec", "atomic", "clock", "corpus", "dataset", "encode", "index", "modelref", "mteb_tasks", "prepared"),
        *("retrieve", "run", "store"),
    },
    "imported": {"spec", "atomic", "dataset", "manifest", "measure", "mteb_tasks", "run", "store"},
    "imported_mteb": {"bounded", "spec", "atomic", "dataset", "imported", "manifest", "mteb_tasks", "store"},
    "results": {"spec", "store"},
    "mteb_tasks": {"bounded", "catalog"},
    "snapshot": {"bounded", "spec", "atomic", "download", "hub", "weights"},
    "prepared": {
        *("spec", "atomic", "composite", "vectors", "encode", "modelref", "fetch", "weights", "dataset", "transform"),
        *("snapshot", "shared", "tokens", "trial"),
    },
    "trial": {"bounded", "spec", "atomic", "log", "manifest", "modelref", "sealed"},
    "lexical": {"atomic", "corpus", "parcel", "prepared", "replica"},
    "clock": set(),
    "device": {"bounded", "spec", "catalog"},
    "workload": {"spec", "catalog", "dataset", "delivery", "named", "registry"},
    "throughput": {
        "bounded",
        *("spec", "atomic", "encode", "index", "manifest", "parcel", "prepared", "sealed", "vectors", "workload"),
    },
    "rates": {"spec", "prepared", "throughput"},
    "pace": {"snapshot", "spec", "device", "prepared", "modelref", "throughput", "weights"},
    "plan": {"index", "pace", "throughput", "workload"},
    "rerank": {"spec", "atomic", "clock", "composite", "dataset", "prepared", "shared", "vectors"},
    "retrieve": {
        "spec",
        "vectors",
        "clock",
        "dataset",
        "geometry",
        "moments",
        "index",
        "lexical",
        "prepared",
        "rerank",
        "run",
        "searched",
    },
    "check": {"spec", "composite", "encode", "prepared", "modelref", "registry", "rerank", "transform"},
    "recipe": {"spec"},
    "approximate": {"bounded", "spec", "atomic", "recipe", "vectors"},
    "indexed": {
        *("spec", "approximate", "clock", "dataset", "index", "measure", "prepared"),
        *("recipe", "retrieve", "run", "vectors"),
    },
    "journal": {"atomic"},
    "searched": {"bounded", "moments", "sealed", "spec", "atomic", "dataset", "prepared"},
    "executor": {"spec"},
    "processes": {"spec", "executor"},
    "ray_crew": {"spec", "executor", "modelref"},
    "worker": {
        *("spec", "dataset", "encode", "index", "modelref", "moments", "pipeline", "prepared", "registry", "searched"),
        "vectors",
    },
    "stretches": {"chunks", "spec", "dataset", "executor", "prepared", "vectors", "worker"},
    "schedule": {"spec", "dataset", "executor", "moments", "pipeline", "prepared", "searched", "stretches", "worker"},
    "distributed": {"dataset", "executor", "modelref", "pipeline", "schedule", "store", "worker"},
    "recorded": {"spec", "catalog", "dataset", "expression", "modelref", "named", "registry", "store"},
    "verified": {"atomic", "store"},
    "export": {"spec", "approximate", "atomic", "dataset", "prepared", "recipe"},
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
        uses = any(name.startswith("harness.pipeline") for name in imports(file))
        assert not uses or file.parent.name == "cli" or file.stem in ("distributed", "schedule", "worker"), file


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("harness", ("plugins", "training", "reports")),
        ("plugins", ("training", "reports", "benchmarks")),
        ("reports", ("plugins", "training", "benchmarks")),
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
            assert len(file.read_text().splitlines()) <= 300, f"{file} has over 300 lines"
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
