"""A benchmark on a Ray cluster of three nodes, all on this machine: the same bytes, with a node lost midway too."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.distributed import ray_pool
from tests.conftest import Done
from tests.distributed.test_executor import FAULTS, failed_alone
from tests.forked import run
from tests.pools import Place, content, left_by_one_process, make_place, threads

ray: Any = pytest.importorskip("ray", reason="Ray is not installed (the ray extra)")
pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")
pytest.importorskip("bm25s", reason="bm25 needs its extra")

MODELS = ("letters", "bm25", "rrf(letters,bm25)", "letters:pause=0.05")
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
SOON = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
"""When a node counts as lost."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = {**NODE, "include_dashboard": False, "_system_config": SOON}
        made = Cluster(initialize_head=True, head_node_args=head)
        made.add_node(**NODE)
        made.add_node(**NODE)
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = make_place(tmp_path_factory.mktemp("workers"))
    made.died.touch()
    return made


@pytest.fixture(scope="module")
def alone(place: Place, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return left_by_one_process(place, tmp_path_factory.mktemp("alone"), *MODELS, "letters:fault=kills once")


def test_faults_of_one_model_fail_its_cells_alone(
    cluster: Any, place: Place, harness: Callable[..., Done], tmp_path: Path
) -> None:
    faults = ["letters:fault=raises", "letters:fault=kills", *(f"letters:fault={fault}" for fault in FAULTS)]
    words = place.words(*faults, "bm25", results=str(tmp_path / "results"))
    done = harness(*words, "--executor", "ray", "--address", cluster.address, "--workers", "2")
    assert done.code == 1
    raised, killed, *others = json.loads(done.out)
    assert "it raised ValueError: no marks, please" in raised["reason"]
    assert "3 workers died while running" in killed["reason"]
    failed_alone(others, done.err, tmp_path / "results")


def test_every_worker_has_a_gpu_of_its_own(
    cluster: Any, place: Place, harness: Callable[..., Done], tmp_path: Path
) -> None:
    """Made-up ones, which Ray hands out as it does real ones; nodes without any get no worker."""
    node = cluster.add_node(**{**NODE, "num_cpus": 2}, num_gpus=2)
    words = place.words("letters:fault=tells,pause=0.3", results=str(tmp_path / "results"))
    try:
        done = harness(*words, "--executor", "ray", "--address", cluster.address)
    finally:
        cluster.remove_node(node)
    assert done.code == 0, done.err
    assert place.devices() == ["0", "1"]


def test_a_cluster_leaves_the_bytes_of_one_process_though_a_worker_kills_itself_and_a_node_is_lost(
    cluster: Any, place: Place, alone: dict[str, bytes], harness: Callable[..., Done], home: Path, tmp_path: Path
) -> None:
    place.died.unlink()
    victim = cluster.worker_nodes and sorted(cluster.worker_nodes, key=str)[0]

    def strike() -> None:
        place.await_shards(home, 2)
        cluster.remove_node(victim, allow_graceful=False)

    striker = threading.Thread(target=strike)
    striker.start()
    words = place.words(*MODELS, "letters:fault=kills once", results=str(tmp_path / "results"))
    try:
        done = harness(*words, "--executor", "ray", "--address", cluster.address)
    finally:
        striker.join()
        cluster.add_node(**NODE)
    assert place.died.exists()
    assert done.code == 0, done.err
    assert content(tmp_path) == alone


@pytest.mark.parametrize("lost", ["head", "node"])
def test_a_head_or_own_node_that_is_lost_ends_the_command_in_one_sentence_and_nothing_is_lost(
    lost: str, cluster: Any, place: Place, alone: dict[str, bytes], harness: Callable[..., Done], tmp_path: Path
) -> None:
    known = ray.nodes
    words = place.words(*MODELS, "letters:fault=kills once", results=str(tmp_path / "results"))
    answers = iter([True, True])
    with pytest.MonkeyPatch.context() as patch:
        if lost == "head":
            patch.setattr(ray_pool, "_answers", lambda address: next(answers, False))
        else:
            patch.setattr("ray.nodes", lambda: [{**node, "Alive": next(answers, False)} for node in known()])
        patch.setattr(ray_pool, "PROBE_SECONDS", 0.2)
        patch.setattr(ray_pool, "HEAD_TIMEOUT", 0.5)
        done = harness(*words, "--executor", "ray", "--address", cluster.address, "--workers", "1")
    assert done.code == 1
    assert f"The head of the Ray cluster ({cluster.address}), or this machine's node" in done.err.splitlines()[-1]
    done = harness(*words)
    assert done.code == 0, done.err
    assert content(tmp_path) == alone


def test_a_cluster_that_asks_for_a_token_says_so_in_one_sentence(
    cluster: Any, harness: Callable[..., Done], toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**given: Any) -> None:
        os.write(2, b"gcs_client.cc:210: Failed to get cluster ID from GCS server: Unauthenticated: RPC error\n" * 9)
        raise ConnectionError("Failed to connect to Ray cluster")

    monkeypatch.setattr("ray.init", refused)
    done = harness("benchmark", "-m", "bm25", "-d", toy, "--executor", "ray", "--address", cluster.address)
    assert done.code == 2
    assert "rejected the authentication token" in done.err.splitlines()[-1]
    assert "RAY_AUTH_MODE=token" in done.err.splitlines()[-1]
    assert "gcs_client" not in done.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--gpus-per-task", "1"), "the cluster has 0"),
        (("--cpus-per-task", "64"), "No node of the cluster has 64 cores"),
    ],
)
def test_what_the_cluster_lacks_is_told_in_one_sentence(
    cluster: Any, harness: Callable[..., Done], toy: Path, words: tuple[str, ...], sentence: str
) -> None:
    done = harness("benchmark", "-m", "bm25", "-d", toy, "--executor", "ray", "--address", cluster.address, *words)
    assert done.code == 2
    assert sentence in done.err.splitlines()[-1]


def test_a_cluster_that_does_not_answer_is_told_in_one_sentence(toy: Path, tmp_path: Path) -> None:
    words = ["benchmark", "-m", "bm25", "-d", str(toy), "--executor", "ray", "--address", "127.0.0.1:9"]
    done = run(words, {**threads(1), "HARNESS_HOME": str(tmp_path)})
    assert done.returncode == 2, done.stderr
    assert "No Ray cluster answers at 127.0.0.1:9" in done.stderr.splitlines()[-1]


def test_without_ray_the_line_that_installs_it_is_told(
    harness: Callable[..., Done], toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = harness("benchmark", "-m", "bm25", "-d", toy, "--executor", "ray")
    assert done.code == 2
    assert "--executor ray needs ray, which is not installed; type: pip install" in done.err
