"""The whole demo suite, with the genuine models, on three nodes of a Ray cluster: the bytes that one process leaves."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.documentation import USERS_HOME
from tests.evaluation.test_resume import content
from tests.pools import threads

pytest.importorskip("ray", reason="Ray is not installed (the ray extra)")

MODELS = ("bm25", "minilm", "mpnet")
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
SOON = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_failure_threshold": 6}


def benchmarked(place: Path, *more: str) -> dict[str, bytes]:
    """What a benchmark of the suite leaves in a fresh home: vectors, indexes, results."""
    (place / "home" / "models").mkdir(parents=True)
    for name in MODELS[1:]:
        own = USERS_HOME / "models" / name
        if not own.is_dir():
            pytest.skip(f"the weights of {name} are not on this machine: harness fetch {name}")
        (place / "home" / "models" / name).symlink_to(own)
    words = [
        *(word for name in MODELS for word in ("-m", name)),
        "--suite",
        "demo",
        "--results",
        str(place / "results"),
    ]
    environment = {**threads(1), "HARNESS_HOME": str(place / "home"), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "harness", "benchmark", *words, *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = {part: content(place / part) for part in ("results", "home/vectors", "home/indexes")}
    return {f"{part}/{name}": data for part, files in made.items() for name, data in files.items()}


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_demo_suite_on_three_nodes_and_with_one_of_them_lost(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    alone = benchmarked(tmp_path / "alone")
    assert sum(name.endswith("result.json") for name in alone) == len(MODELS)
    made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False, "_system_config": SOON})
    try:
        nodes = [made.add_node(**NODE) for _ in range(2)]
        ray = ("--executor", "ray", "--address", made.address)
        assert benchmarked(tmp_path / "three", *ray) == alone
        striker = threading.Thread(target=_strike, args=(made, nodes[0], tmp_path / "two" / "home"))
        striker.start()
        assert benchmarked(tmp_path / "two", *ray) == alone
        striker.join()
        assert len(made.worker_nodes) == 1
    finally:
        made.shutdown()


def _strike(cluster: Any, node: Any, home: Path) -> None:
    """Takes a node away when a part of the first model's vectors is there."""
    waiting = threading.Event()
    while len(list((home / "vectors").glob("*/document/[0-9a-f]*.json"))) < 3:
        waiting.wait(0.1)
    cluster.remove_node(node, allow_graceful=False)
