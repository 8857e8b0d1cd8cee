"""A suite of many small datasets, computed by two processes at once."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.datasets.acquire import describe
from harness.datasets.catalog import catalogue, place
from tests import standin
from tests.conftest import write_dataset
from tests.evaluation.test_resume import SLOW, content, texts
from tests.forked import Forked

pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")
pytest.importorskip("bm25s", reason="bm25 needs the bm25 extra")

NAMES = [*catalogue().groups["cqadupstack"], "scifact", "arguana"]


class Suite(NamedTuple):
    """A suite file of 12 forums and four datasets, and the plug-in that measures it beside bm25."""

    file: Path
    plugin: Path

    def start(self, folder: Path) -> Forked:
        """The benchmark, with its home (which has the named datasets) and its results below ``folder``."""
        for spec in (catalogue().datasets[name] for name in NAMES):
            if not (target := place(spec, folder / "home")).is_dir():
                for path, data in standin.content(spec).items():
                    (target / path).parent.mkdir(parents=True, exist_ok=True)
                    (target / path).write_bytes(data)
                describe(spec, target, {"source": "tests"})
        words = ["benchmark", "-m", "bm25", "-m", "slow", "--plugin", self.plugin, "--suite", self.file, "--offline"]
        environment = {**os.environ, "HARNESS_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
        return Forked([*words, "--results", folder / "results", "--json"], environment)


def outcome(folder: Path) -> dict[str, bytes]:
    """Results, vectors and indexes; those of a corpus are named after where it lies."""
    parts = ("results", "home/vectors", "home/indexes")
    return {f"{part}/{name}": data for part in parts for name, data in content(folder / part).items()}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    folder = tmp_path_factory.mktemp("suite")
    long = {f"d{number}": text for number, text in enumerate(texts(3, 40))}  # three shards
    asked = {f"q{number}": long[f"d{number}"][:63] for number in range(5)}
    write_dataset(folder / "long", long, asked, [(q, f"d{q[1:]}", 1) for q in asked])
    write_dataset(folder / "one", {"d": "a single document"}, {"q": "document"}, [("q", "d", 1)])
    (folder / "slow_model.py").write_text(SLOW)
    (folder / "mine.toml").write_text('datasets = ["cqadupstack", "./long", "scifact", "./one", "arguana"]\n')
    return Suite(folder / "mine.toml", folder / "slow_model.py")


def test_two_processes_share_a_suite_and_compute_no_cell_twice(
    suite: Suite, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    alone = tmp_path_factory.mktemp("alone")
    done = suite.start(alone).finish()
    assert done.returncode == 0, done.stderr
    assert Counter(cell["cell"] for cell in json.loads(done.stdout)) == {"ok": 2 * 16}
    expected = outcome(alone)
    assert len([name for name in expected if name.startswith("results/")]) == 2 * 16 * 3
    assert len([name for name in expected if "/vectors/" in name and name.endswith(".npy")]) > 16
    processes = [suite.start(tmp_path) for _ in range(2)]
    both = [process.finish() for process in processes]
    assert [done.returncode for done in both] == [0, 0], [done.stderr for done in both]
    told = [cell for done in both for cell in json.loads(done.stdout)]
    ways: dict[tuple[str, str], list[str]] = {}
    for cell in told:
        ways.setdefault((cell["model"], cell["dataset"]), []).append(cell["cell"])
    assert len(ways) == 2 * 16
    assert {tuple(sorted(way)) for way in ways.values()} == {("cached", "ok")}
    assert outcome(tmp_path) == expected
