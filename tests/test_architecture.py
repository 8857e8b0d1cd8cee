"""The order of the packages, and what must not be imported to print a help text."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import SUMMARY_WIDTH, Lazy
from tests.conftest import ROOT

ORDER = (
    *("errors", "types", "storage", "system", "download", "metrics", "datasets", "registry", "results", "embeddings"),
    *("models", "search", "evaluation", "distributed", "planning", "adapters", "cli", "api"),
)
"""The modules and packages of harness/, lowest first: each imports only from itself and from those before it."""
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


@pytest.mark.parametrize("package", ORDER)
def test_a_package_imports_only_from_those_before_it(package: str) -> None:
    below = ORDER[: ORDER.index(package) + 1]
    place = ROOT / "harness" / package
    for file in place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]:
        used = {name.split(".")[1] for name in imports(file) if name.startswith("harness.")}
        assert used & set(ORDER) <= set(below), f"{file} imports {sorted(used & set(ORDER) - set(below))}"


def test_every_package_has_its_place_in_the_order() -> None:
    found = {
        path.stem for path in (ROOT / "harness").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert found - {"__init__", "__main__"} == set(ORDER)


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("harness", ("harness_plugins", "harness_training", "harness_reports")),
        ("plugins", ("harness_training", "harness_reports", "benchmarks")),
        ("reports", ("harness_plugins", "harness_training", "benchmarks")),
        ("training", ("benchmarks",)),
    ],
)
def test_other_distributions_come_in_through_hooks_alone(room: str, forbidden: tuple[str, ...]) -> None:
    for file in (ROOT / room).rglob("*.py"):
        wrong = [name for name in imports(file) if name.split(".")[0] in forbidden]
        assert not wrong, f"{file} imports {wrong}"


def test_only_four_modules_open_a_connection() -> None:
    network = {"socket", "urllib", "http", "requests", "httpx", "httpx2", "huggingface_hub", "ftplib", "fsspec"}
    allowed = [ROOT / "harness" / f"{name}.py" for name in ("download/hub", "download/http", "storage/object_store")]
    allowed.append(ROOT / "plugins" / "harness_plugins" / "endpoints" / "client.py")
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


COUNTING = """
import sys
from harness.cli.start import main
sys.argv = ["harness", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
ours = sorted(name for name in sys.modules if name.split(".")[0] in PACKAGES)
assert len(ours) <= 15, ours
assert not {"numpy", "pluggy", "rich"} & {*sys.modules}
"""


def test_the_list_of_commands_imports_few_modules_and_no_command() -> None:
    packages = ("harness", "harness_plugins", "harness_reports", "harness_training")
    program = COUNTING.replace("PACKAGES", repr(packages))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "benchmark" in done.stdout


@pytest.mark.parametrize("package", ["harness.cli", "harness_reports.cli", "harness_training.cli"])
def test_every_command_is_in_the_module_of_its_name(package: str) -> None:
    listed = importlib.import_module(package).COMMANDS
    for name, summary in listed.items():
        assert Lazy(package, summary).load(name).name == name
        assert len(summary) <= SUMMARY_WIDTH, name


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
        env={**os.environ, "HARNESS_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr


def test_the_picture_in_the_documentation_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert f"```mermaid\n{picture()}```" in page, picture()


def test_the_paths_that_the_documentation_names_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    paths = re.findall(r"`((?:harness|plugins|reports|training|tests|benchmarks)/[\w/.]+)`", page)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def picture() -> str:
    """The packages of harness/ and which package imports which, without edges that follow from others."""
    below: dict[str, set[str]] = {}
    for package in ORDER:
        place = ROOT / "harness" / package
        files = place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]
        names = {name.split(".")[1] for file in files for name in imports(file) if name.startswith("harness.")}
        below[package] = (names & set(ORDER)) - {package}
    reached: dict[str, set[str]] = {}
    lines = ["graph TD"]
    for package in ORDER:
        direct = below[package]
        reached[package] = direct | {far for near in direct for far in reached[near]}
        indirect = {far for near in direct for far in reached[near]}
        lines += [f"    {package} --> {near}" for near in ORDER if near in direct - indirect]
    return "\n".join(lines) + "\n"
