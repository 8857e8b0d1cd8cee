"""What the cells of one run share: a model is loaded once for all datasets, a dataset prepared once for all models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.datasets import beir
from tests.conftest import write_dataset

pytest.importorskip("faiss", reason="dense models need faiss (the dense extra)")

PLUGIN = """
from pathlib import Path
import numpy as np
from harness import ModelSpec, hookimpl

class Letters:
    dim, similarity = 26, "cosine"

    def encode(self, texts, *, role):
        return np.array([[text.lower().count(chr(97 + n)) for n in range(26)] for text in texts], np.float32)

def load(options):
    with Path("loads").open("a") as log:
        log.write("x")
    return Letters()

@hookimpl
def harness_models():
    for name in ("first", "second"):
        yield ModelSpec(name=name, kind="dense", summary=name, load=f"{__name__}:load")
"""


def test_models_are_loaded_once_and_datasets_prepared_once(
    harness: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    for name in ("a", "b", "c"):
        documents = {f"{name}{number}": f"text {name * number} of {number * 'z'}" for number in range(1, 6)}
        judged = [(f"q{number}", f"{name}{number}", 1) for number in (1, 2)] + [("q1", f"{name}2", 1)]
        write_dataset(tmp_path / name, documents, {"q1": "text z", "q2": "of zz"}, judged)
    clustered: list[int] = []
    cluster = beir.query_clusters
    monkeypatch.setattr(beir, "query_clusters", lambda *given: clustered.append(1) or cluster(*given))
    done = harness(
        *("benchmark", "-m", "first", "-m", "second", "--plugin", "plugin.py", "--json"),
        *(word for name in ("a", "b", "c") for word in ("-d", tmp_path / name)),
    )
    assert done.code == 0, done.err
    assert [cell["cell"] for cell in json.loads(done.out)] == ["ok"] * 6
    assert (tmp_path / "loads").read_text() == "xx"
    assert len(clustered) == 3
